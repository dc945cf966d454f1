"""The MTProto sandbox as Telethon meets it, over TCP and unchanged."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from telethon import TelegramClient, errors, events, functions, types

from bot import account
from bot.sandbox.mtproto.methods import DIFFERENCE
from bot.sandbox.mtproto.server import MtprotoServer
from bot.settings import Settings
from tests.bot.conftest import until
from tests.mtproto_fixtures import PHONE
from tests.sandbox_fixtures import ANNA, BORIS, GROUP, OWNER


@pytest_asyncio.fixture
async def client(signed_in: Settings) -> AsyncIterator[TelegramClient]:
    async with account.opened(signed_in, live=True) as opened:
        yield opened.client


def talk(telegram: MtprotoServer, friend: int, n: int) -> None:
    for number in range(n):
        pair = (friend, OWNER) if number % 2 else (OWNER, friend)
        telegram.world.write(*pair, f"{friend} {number}")


async def test_history_comes_in_pages_from_either_end(telegram: MtprotoServer, client: TelegramClient) -> None:
    talk(telegram, ANNA, 250)
    await client.get_dialogs()
    whole = [message async for message in client.iter_messages(ANNA)]
    assert [m.raw_text for m in whole] == [f"{ANNA} {n}" for n in reversed(range(250))]
    assert [m.out for m in reversed(whole)] == [n % 2 == 0 for n in range(250)]
    assert telegram.calls["GetHistory"] >= 3
    later = [m.id async for m in client.iter_messages(ANNA, reverse=True, min_id=whole[100].id)]
    assert later == [m.id for m in whole[:100]][::-1]
    assert [m.id async for m in client.iter_messages(ANNA, offset_id=whole[10].id, limit=5)] == [
        m.id for m in whole[11:16]
    ]


async def test_dialogs_are_the_accounts_own_newest_first(telegram: MtprotoServer, client: TelegramClient) -> None:
    talk(telegram, BORIS, 1)
    talk(telegram, ANNA, 2)
    telegram.world.write(ANNA, BORIS, "none of the owner's business")
    telegram.world.send(ANNA, GROUP, "hello all")
    telegram.world.send(OWNER, OWNER, "/start")
    telegram.world.write(OWNER, OWNER, "a note to myself")
    bot = next(iter(telegram.world.bots.values())).user_id
    assert [dialog.id for dialog in await client.get_dialogs()] == [OWNER, bot, GROUP, ANNA, BORIS]


async def test_more_dialogs_than_fit_a_page_come_in_slices(telegram: MtprotoServer, client: TelegramClient) -> None:
    for number in range(130):
        telegram.world.add_user(5000 + number, f"Friend {number}")
        telegram.world.write(5000 + number, OWNER, "hello")
    assert len({dialog.id for dialog in await client.get_dialogs()}) == 130
    assert telegram.calls["GetDialogs"] == 2


async def test_what_happens_is_pushed_as_it_happens(telegram: MtprotoServer, client: TelegramClient) -> None:
    seen: list[Any] = []
    client.add_event_handler(seen.append, events.Raw())
    world = telegram.world
    first = world.write(ANNA, OWNER, "hello")
    world.write(OWNER, ANNA, "from the phone", reply_to=first.message_id)
    world.edit(first, text="hello!")
    world.delete(first)
    world.type_draft(OWNER, first.chat_id, "typing")
    world.write(ANNA, BORIS, "not to be seen")
    await until(lambda: len(seen) == 5)
    assert {type(update).__name__ for update in seen} == {
        "UpdateShortMessage",
        "UpdateNewMessage",
        "UpdateEditMessage",
        "UpdateDeleteMessages",
        "UpdateDraftMessage",
    }
    assert sorted(update.pts for update in seen if hasattr(update, "pts")) == [2, 3, 4, 5]


async def test_send_edit_delete_reach_the_world_once(telegram: MtprotoServer, client: TelegramClient) -> None:
    talk(telegram, ANNA, 1)
    await client.get_dialogs()
    telegram.faults.drop("SendMessage", after_work=True)  # it was done, but the answer is lost: Telethon asks again
    sent = await client.send_message(ANNA, "over the wire")
    chat = telegram.world.between(OWNER, ANNA)
    assert [m.text for m in telegram.world.history(chat.chat_id)] == [f"{ANNA} 0", "over the wire"]
    await sent.edit("changed")
    assert telegram.world.history(chat.chat_id)[-1].text == "changed"
    await sent.delete()
    assert len(telegram.world.history(chat.chat_id)) == 1
    with pytest.raises(errors.MessageIdInvalidError):
        await client.edit_message(ANNA, 99, "not there")


async def test_the_difference_tells_all_that_was_missed(telegram: MtprotoServer, client: TelegramClient) -> None:
    state = await client(functions.updates.GetStateRequest())
    talk(telegram, ANNA, DIFFERENCE + 20)
    last = telegram.world.history(telegram.world.between(OWNER, ANNA).chat_id)[-1]
    telegram.world.edit(last, text="edited")
    telegram.world.delete(last)

    async def since(pts: int) -> Any:
        return await client(functions.updates.GetDifferenceRequest(pts=pts, date=state.date, qts=0))

    part = await since(state.pts)
    assert isinstance(part, types.updates.DifferenceSlice)
    rest = await since(part.intermediate_state.pts)
    assert isinstance(rest, types.updates.Difference)
    assert len(part.new_messages) + len(rest.new_messages) == DIFFERENCE + 20
    assert [type(update).__name__ for update in rest.other_updates] == ["UpdateEditMessage", "UpdateDeleteMessages"]
    assert isinstance(await since(rest.state.pts), types.updates.DifferenceEmpty)


async def test_floods_and_lost_connections(telegram: MtprotoServer, client: TelegramClient) -> None:
    talk(telegram, ANNA, 3)
    telegram.faults.flood("GetDialogs", 7)
    with pytest.raises(errors.FloodWaitError) as flood:
        await client(functions.messages.GetDialogsRequest(None, 0, types.InputPeerEmpty(), 10, 0))
    assert flood.value.seconds == 7
    telegram.faults.drop("GetUsers")
    assert (await client.get_me()).id == OWNER
    telegram.drop_all()
    assert (await client.get_me()).id == OWNER


async def test_takeout_delay_takeout_and_an_id_that_is_over(telegram: MtprotoServer, client: TelegramClient) -> None:
    talk(telegram, ANNA, 3)
    await client.get_dialogs()
    telegram.faults.refuse("InitTakeoutSession", 420, "TAKEOUT_INIT_DELAY_86400")
    with pytest.raises(errors.TakeoutInitDelayError) as delay:
        async with client.takeout(users=True):
            pass
    assert delay.value.seconds == 86400
    async with client.takeout(users=True) as takeout:
        assert len([message async for message in takeout.iter_messages(ANNA)]) == 3
    with pytest.raises(errors.TakeoutInvalidError):
        await client(functions.InvokeWithTakeoutRequest(1, functions.updates.GetStateRequest()))


async def test_a_chat_of_others_or_a_wrong_hash_is_refused(telegram: MtprotoServer, client: TelegramClient) -> None:
    talk(telegram, ANNA, 1)
    with pytest.raises(errors.PeerIdInvalidError):
        await client.get_messages(types.InputPeerUser(ANNA, 1), limit=1)


async def test_a_key_that_the_server_does_not_know_is_told(telegram: MtprotoServer, signed_in: Settings) -> None:
    telegram._devices.clear()
    with pytest.raises(account.NotSignedIn, match="likeme login"):
        async with account.opened(signed_in):
            pass


async def test_a_second_device_sees_what_the_first_sends(
    telegram: MtprotoServer, client: TelegramClient, tmp_path: Any
) -> None:
    from tests.mtproto_fixtures import Answers, anybody, settings_for

    (tmp_path / "other").mkdir()
    other = settings_for(telegram, tmp_path / "other")
    await account.login(other, Answers(telegram.accounts[PHONE]), anybody)
    assert telegram.sessions(OWNER) == 2
    talk(telegram, ANNA, 1)
    await client.get_dialogs()
    seen: list[Any] = []
    async with account.opened(other, live=True) as second:
        second.client.add_event_handler(seen.append, events.NewMessage())
        await client.send_message(ANNA, "hello from one")
        await until(lambda: seen)
        assert seen[0].raw_text == "hello from one"
