"""The sandbox as python-telegram-bot meets it, over the wire and unchanged."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio
from telegram import Bot, BotCommand, BotCommandScopeChat, InlineKeyboardButton, InlineKeyboardMarkup, Update
from telegram.error import BadRequest, Conflict, Forbidden, InvalidToken, RetryAfter
from telegram.ext import ApplicationBuilder

from bot.outgoing import Outgoing
from bot.sandbox.server import Sandbox
from tests.sandbox_fixtures import ANNA, BORIS, CLARA, GROUP, OWNER, TOKEN

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x20\0\0\0\x10" + b"picture" * 400


@pytest_asyncio.fixture
async def api(sandbox: Sandbox) -> AsyncIterator[Bot]:
    sandbox.world.send(OWNER, OWNER, "/start")
    async with Bot(TOKEN, base_url=f"{sandbox.url}/bot", base_file_url=f"{sandbox.url}/file/bot") as bot:
        yield bot


async def updates(api: Bot, after: int = 0, seconds: int = 0) -> list[Update]:
    return list(await api.get_updates(offset=after, timeout=seconds, allowed_updates=Update.ALL_TYPES))


async def test_what_people_do_arrives_as_updates_until_it_is_confirmed(sandbox: Sandbox, api: Bot) -> None:
    sandbox.world.send(ANNA, GROUP, "hello all")
    first = await updates(api)
    assert [u.message.text for u in first if u.message] == ["/start", "hello all"]
    assert [u.update_id for u in await updates(api)] == [u.update_id for u in first], "unconfirmed ones come again"
    assert await updates(api, after=first[-1].update_id + 1) == []


async def test_a_long_poll_wakes_when_something_happens(sandbox: Sandbox, api: Bot) -> None:
    start = (await updates(api))[-1].update_id + 1
    waiting = asyncio.create_task(updates(api, after=start, seconds=20))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    sandbox.world.send(ANNA, GROUP, "now")
    assert [u.message.text for u in await waiting if u.message] == ["now"]


async def test_a_second_reader_ends_the_first_with_a_conflict(sandbox: Sandbox, api: Bot) -> None:
    start = (await updates(api))[-1].update_id + 1
    waiting = asyncio.create_task(updates(api, after=start, seconds=20))
    await asyncio.sleep(0.1)
    async with Bot(TOKEN, base_url=f"{sandbox.url}/bot") as other:
        await updates(other, after=start)
    with pytest.raises(Conflict):
        await waiting


async def test_buttons_edits_and_taps(sandbox: Sandbox, api: Bot) -> None:
    markup = InlineKeyboardMarkup([[InlineKeyboardButton("one", callback_data="a:1")]])
    sent = await api.send_message(OWNER, "<b>bold</b> &amp; plain", parse_mode="HTML", reply_markup=markup)
    assert sent.text == "bold & plain"
    assert sent.entities[0].length == 4
    shown = sandbox.world.messages[OWNER, sent.message_id]
    tap = sandbox.world.tap(OWNER, shown, "one")
    query = next(u.callback_query for u in await updates(api) if u.callback_query)
    assert (query.data, query.from_user.id) == ("a:1", OWNER)
    told = asyncio.create_task(sandbox.world.wait_for(lambda e: e.kind == "answer"))
    await asyncio.sleep(0)
    await query.answer("thanks")
    assert (await told).what == (tap.tap_id, "thanks")
    edited = await query.edit_message_text("changed")
    assert edited.text == "changed"  # type: ignore[union-attr]
    with pytest.raises(BadRequest, match="not modified"):
        await api.edit_message_text("changed", OWNER, sent.message_id)


async def test_a_photo_comes_back_byte_for_byte(sandbox: Sandbox, api: Bot) -> None:
    sent = await api.send_photo(OWNER, PNG, caption="look")
    assert (sent.photo[0].width, sent.photo[0].height) == (32, 16)
    file = await api.get_file(sent.photo[0].file_id)
    assert bytes(await file.download_as_bytearray()) == PNG


async def test_a_quiz_poll_tells_who_answered_what_and_can_be_stopped(sandbox: Sandbox, api: Bot) -> None:
    sent = await api.send_poll(
        GROUP, "Which?", ["a", "b", "c"], type="quiz", is_anonymous=False, correct_option_ids=[1], explanation="b!"
    )
    poll = sandbox.world.messages[GROUP, sent.message_id].poll
    assert poll is not None
    for user, choice in ((ANNA, 1), (BORIS, 0), (CLARA, 1)):
        assert sandbox.world.vote(user, poll, [choice])
    assert not sandbox.world.vote(ANNA, poll, [0])
    answers = [u.poll_answer for u in await updates(api) if u.poll_answer]
    assert [(a.user.id, a.option_ids) for a in answers if a.user] == [(ANNA, (1,)), (BORIS, (0,)), (CLARA, (1,))]
    closed = await api.stop_poll(GROUP, sent.message_id)
    assert closed.is_closed
    assert [option.voter_count for option in closed.options] == [1, 2, 0]
    assert not sandbox.world.vote(OWNER, poll, [1])
    with pytest.raises(BadRequest, match="already been closed"):
        await api.stop_poll(GROUP, sent.message_id)


async def test_telegram_s_limits_are_kept(api: Bot) -> None:
    with pytest.raises(BadRequest, match="too long"):
        await api.send_message(OWNER, "x" * 4097)
    with pytest.raises(BadRequest, match="caption is too long"):
        await api.send_photo(OWNER, PNG, caption="x" * 1025)
    with pytest.raises(BadRequest, match="options length"):
        await api.send_poll(GROUP, "Which?", ["x" * 101, "b"])
    with pytest.raises(BadRequest, match="question"):
        await api.send_poll(GROUP, "x" * 301, ["a", "b"])
    with pytest.raises(BadRequest, match="rong correct option"):
        await api.send_poll(GROUP, "Which?", ["a", "b"], type="quiz")
    markup = InlineKeyboardMarkup([[InlineKeyboardButton("b", callback_data="x" * 65)]])
    with pytest.raises(BadRequest, match="utton_data_invalid"):
        await api.send_message(OWNER, "x", reply_markup=markup)
    with pytest.raises(BadRequest, match="hat not found"):
        await api.send_message(-777, "x")
    with pytest.raises(Forbidden, match="can't initiate"):
        await api.send_message(ANNA, "x")


async def test_a_wrong_token_is_refused(sandbox: Sandbox) -> None:
    bot = Bot("1:" + "B" * 35, base_url=f"{sandbox.url}/bot")
    with pytest.raises(InvalidToken):
        await bot.initialize()
    await bot.shutdown()


async def test_a_flood_is_told_with_its_time_and_waited_out_by_the_rate_limiter(sandbox: Sandbox, api: Bot) -> None:
    sandbox.faults.flood("sendMessage", retry_after=7)
    with pytest.raises(RetryAfter) as flood:
        await api.send_message(OWNER, "x")
    assert flood.value.retry_after == timedelta(seconds=7)
    sandbox.faults.flood("sendMessage", retry_after=1)
    builder = ApplicationBuilder().token(TOKEN).base_url(f"{sandbox.url}/bot")
    app = builder.rate_limiter(Outgoing(OWNER, asyncio.Event())).build()
    async with app.bot:
        assert (await app.bot.send_message(OWNER, "through")).text == "through"


async def test_commands_are_kept_by_scope(api: Bot) -> None:
    await api.set_my_commands([BotCommand("a", "first")])
    await api.set_my_commands([BotCommand("b", "second")], BotCommandScopeChat(OWNER))
    assert [c.command for c in await api.get_my_commands()] == ["a"]
    assert [c.command for c in await api.get_my_commands(BotCommandScopeChat(OWNER))] == ["b"]


async def test_a_forwarded_message_names_its_origin(sandbox: Sandbox, api: Bot) -> None:
    sandbox.world.forward(OWNER, OWNER, "hi there", ANNA)
    sandbox.world.forward(OWNER, OWNER, "hidden", "Somebody")
    origins = [u.message.forward_origin for u in await updates(api) if u.message and u.message.forward_origin]
    assert [origin.type for origin in origins] == ["user", "hidden_user"]
