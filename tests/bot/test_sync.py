"""The live account's history over the wire: complete, once, and resumable, whatever goes wrong."""

import asyncio
import json
import os
import signal
import sqlite3
import sys
from asyncio.subprocess import PIPE, Process
from datetime import UTC, datetime, timedelta

import pytest

from bot import account
from bot.sandbox.mtproto.server import MtprotoServer
from bot.settings import Settings
from bot.sync import fetch
from storage import drafts, history, positions
from storage.database import Database
from storage.errors import NotSignedIn
from storage.ingest.sync.pages import PAGE, Progress, SyncReport
from storage.ingest.sync.patience import Notice, Patient
from storage.records import BUSINESS_BOT, ChatKind
from tests.sandbox_fixtures import ANNA, BORIS, GROUP, OWNER

START = datetime(2025, 3, 1, tzinfo=UTC)


def fill(telegram: MtprotoServer, chats: int, messages: int) -> set[tuple[int, str]]:
    """Chats of the owner's with friends, their messages mixed in time; what each chat holds."""
    world = telegram.world
    for chat in range(chats):
        world.add_user(5000 + chat, f"Friend {chat}")
    for number in range(messages):
        for friend in range(5000, 5000 + chats):
            pair = (OWNER, friend) if number % 3 else (friend, OWNER)
            world.write(*pair, f"{friend} says {number}", date=START + timedelta(minutes=number, seconds=friend % 60))
    return {(friend, f"{friend} says {number}") for friend in range(5000, 5000 + chats) for number in range(messages)}


async def synced(settings: Settings) -> tuple[SyncReport, list[Notice], list[Progress]]:
    """`likeme sync` in this process."""
    notices: list[Notice] = []
    seen: list[Progress] = []
    async with (
        account.opened(settings) as own,
        Database.open(settings.likeme_home / "history.db") as database,
    ):
        return await fetch(database, own, notices.append, seen.append), notices, seen


def stored(settings: Settings) -> list[tuple[int, str]]:
    path = settings.likeme_home / "history.db"
    if not path.exists():
        return []
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT chat_id, text FROM message WHERE deleted_at IS NULL").fetchall()
    except sqlite3.OperationalError:  # not yet migrated
        return []
    finally:
        connection.close()


async def likeme(settings: Settings, *arguments: str) -> Process:
    """`likeme …` as a process of its own."""
    environment = {
        **os.environ,
        "LIKEME_HOME": str(settings.likeme_home),
        "API_ID": str(settings.api_id),
        "API_HASH": settings.api_hash.get_secret_value(),
        "MTPROTO_SERVER": settings.mtproto_server,
        "MTPROTO_KEY": settings.mtproto_key,
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment
    )


@pytest.mark.slow
async def test_5000_messages_come_once_each_through_floods_drops_and_a_kill(
    telegram: MtprotoServer, signed_in: Settings
) -> None:
    expected = fill(telegram, chats=20, messages=250)
    faults = telegram.faults
    faults.let_pass("GetHistory", 6)
    faults.flood("GetHistory", 1, times=7)
    for after_work in (False, True, False):
        faults.let_pass("GetHistory", 6)
        faults.drop("GetHistory", after_work=after_work)
    faults.let_pass("GetHistory", 4)
    faults.flood("GetHistory", 3600)
    first = await likeme(signed_in, "sync")
    assert first.stderr is not None
    async with asyncio.timeout(60):
        said = b""
        while b"Telegram asks to wait 1 hr 0 min" not in said:
            said += await first.stderr.read(4096)
    assert not faults.planned["GetHistory"]
    here = len(stored(signed_in))
    assert 2000 <= here < 3500, "it has to be killed halfway"
    first.send_signal(signal.SIGKILL)
    assert await first.wait() == -signal.SIGKILL

    for after_work in (True, False, True):
        faults.let_pass("GetHistory", 5)
        faults.drop("GetHistory", after_work=after_work)
    before = telegram.calls["GetHistory"]
    second = await likeme(signed_in, "sync", "--json")
    out, error = await second.communicate()
    assert second.returncode == 0, error.decode()
    found = stored(signed_in)
    assert len(found) == 5000
    assert set(found) == expected
    assert json.loads(out)["new"] == 5000 - here
    assert json.loads(out)["takeout"] is True
    pages = 20 * 3  # of 100, 100 and 50 messages; those that are here are all of 100
    assert telegram.calls["GetHistory"] - before == pages - here / PAGE + 3, "only what the three drops lost came twice"


async def test_the_first_round_brings_the_newest_of_every_chat(telegram: MtprotoServer, signed_in: Settings) -> None:
    fill(telegram, chats=3, messages=220)
    telegram.faults.let_pass("GetHistory", 3)
    telegram.faults.refuse("GetHistory", 401, "SESSION_REVOKED")
    with pytest.raises(NotSignedIn):
        await synced(signed_in)
    newest = {(5000 + chat, f"{5000 + chat} says {number}") for chat in range(3) for number in range(120, 220)}
    assert set(stored(signed_in)) == newest


async def test_later_only_what_is_new_is_asked_for(telegram: MtprotoServer, signed_in: Settings) -> None:
    expected = fill(telegram, chats=4, messages=130)
    report, _, progress = await synced(signed_in)
    assert (report.new, report.chats, report.takeout) == (520, 4, True)
    assert progress[-1] == Progress(4, 4, 520, 520)
    telegram.calls.clear()
    report, _, _ = await synced(signed_in)
    assert (report.new, telegram.calls["GetHistory"], telegram.calls["InitTakeoutSession"]) == (0, 0, 0)
    chat = telegram.world.between(OWNER, 5001)
    for number in range(250):  # more than Telegram's own difference has in one answer
        telegram.world.write(5001, OWNER, f"later {number}")
    async with Database.open(signed_in.likeme_home / "history.db") as database, database.transaction():
        await database.execute("DELETE FROM account_clock")  # as if Telegram had forgotten the events
    report, _, _ = await synced(signed_in)
    assert report.new == 250
    assert telegram.calls["GetHistory"] == 3
    assert set(stored(signed_in)) == expected | {(5001, f"later {number}") for number in range(250)}
    assert len(telegram.world.history(chat.chat_id)) == 380


async def test_a_takeout_delay_is_told_and_the_sync_goes_on_without(
    telegram: MtprotoServer, signed_in: Settings
) -> None:
    fill(telegram, chats=1, messages=5)
    telegram.faults.refuse("InitTakeoutSession", 420, "TAKEOUT_INIT_DELAY_86400")
    report, notices, _ = await synced(signed_in)
    assert notices == [Notice("takeout_delay", 86400)]
    assert (report.new, report.takeout) == (5, False)


async def test_a_takeout_that_telegram_has_ended_is_no_obstacle(telegram: MtprotoServer, signed_in: Settings) -> None:
    fill(telegram, chats=1, messages=120)
    telegram.faults.let_pass("GetHistory", 1)
    telegram.faults.refuse("GetHistory", 400, "TAKEOUT_INVALID")
    report, _, _ = await synced(signed_in)
    assert report.new == 120


async def test_a_flood_over_a_minute_is_told_and_waited_out(telegram: MtprotoServer, signed_in: Settings) -> None:
    fill(telegram, chats=1, messages=3)
    slept: list[float] = []
    async with account.opened(signed_in) as own:

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            own.client._flood_waited_requests.clear()  # Telethon's own note of the hour that we only pretend to wait

        notices: list[Notice] = []
        ask = Patient(own.client, notices.append, sleep)
        telegram.faults.flood("GetUsers", 3600)
        telegram.faults.flood("GetUsers", 60, times=7)
        from telethon import functions, types

        assert await ask(functions.users.GetUsersRequest([types.InputUserSelf()]))
    assert notices == [Notice("flood", 3600)]
    assert slept == [3600, *[60] * 7]
    assert ask.waited_seconds == 4020


async def test_edits_and_deletions_since_the_last_sync_come_too(telegram: MtprotoServer, signed_in: Settings) -> None:
    fill(telegram, chats=1, messages=150)
    await synced(signed_in)
    sent = telegram.world.history(telegram.world.between(OWNER, 5000).chat_id)
    telegram.world.edit(sent[3], text="changed")
    telegram.world.delete(sent[4])
    report, _, _ = await synced(signed_in)
    assert (report.new, report.updated, report.deleted) == (0, 1, 1)
    texts = {text for _, text in stored(signed_in)}
    assert "changed" in texts
    assert texts.isdisjoint({"5000 says 3", "5000 says 4"})


async def test_what_an_import_brought_and_the_account_has_no_more_is_marked(
    telegram: MtprotoServer, signed_in: Settings
) -> None:
    fill(telegram, chats=1, messages=230)
    await synced(signed_in)
    sent = telegram.world.history(telegram.world.between(OWNER, 5000).chat_id)
    for message in (sent[20], sent[100], sent[129], sent[130], sent[200]):  # page ends among them
        telegram.world.delete(message)
    async with Database.open(signed_in.likeme_home / "history.db") as database, database.transaction():
        await database.execute("DELETE FROM account_clock")
        await database.execute("DELETE FROM sync_position")  # as after an import
    report, _, _ = await synced(signed_in)
    assert (report.new, report.deleted) == (0, 5)
    assert len(stored(signed_in)) == 225


async def test_only_personal_chats_come_unless_the_owner_switches_others_on(
    telegram: MtprotoServer, signed_in: Settings
) -> None:
    world = telegram.world
    world.write(ANNA, OWNER, "personal")
    world.send(BORIS, GROUP, "in the group")
    world.send(OWNER, OWNER, "/start")
    world.write(OWNER, OWNER, "a note")
    report, _, _ = await synced(signed_in)
    assert stored(signed_in) == [(ANNA, "personal")]
    assert report.left_out == {"of the kind group": 1, "of the kind bot": 1, "of the kind saved": 1}
    async with Database.open(signed_in.likeme_home / "history.db") as database:
        kinds = {chat.chat_id: chat.kind for chat in await history.chats(database)}
        bot = next(iter(world.bots.values())).user_id
        assert kinds == {
            ANNA: ChatKind.PERSONAL,
            GROUP: ChatKind.GROUP,
            bot: ChatKind.BOT,
            OWNER: ChatKind.SAVED,
        }
        async with database.transaction():
            await history.set_included(database, GROUP, True)
            await history.set_included(database, ANNA, False)
    world.write(ANNA, OWNER, "not any more")
    await synced(signed_in)
    assert set(stored(signed_in)) == {(ANNA, "personal"), (GROUP, "in the group")}


async def test_what_the_bot_sent_in_his_name_is_told_apart(telegram: MtprotoServer, signed_in: Settings) -> None:
    telegram.world.write(ANNA, OWNER, "coming?")
    telegram.world.write(OWNER, ANNA, "sure thing", business_bot=4242)
    telegram.world.write(OWNER, ANNA, "by hand")
    await synced(signed_in)
    async with Database.open(signed_in.likeme_home / "history.db") as database:
        found = [(m.text, m.is_own, m.via_bot) for m in await history.messages(database, ANNA)]
    assert found == [
        ("coming?", False, None),
        ("sure thing", True, f"{BUSINESS_BOT}4242"),
        ("by hand", True, None),
    ]


async def test_what_the_owner_worded_himself_stays_his_though_the_bot_sent_it(
    telegram: MtprotoServer, signed_in: Settings
) -> None:
    sent = telegram.world.write(OWNER, ANNA, "my own wording", business_bot=4242)
    async with Database.open(signed_in.likeme_home / "history.db") as database:
        async with database.transaction():
            said = [("user", "coming?")]
            draft = await drafts.add(database, chat_id=ANNA, context=said, model="m", replies=["yes"], now=START)
            await drafts.note_sent(database, draft, 0, ANNA, sent.message_id, own_words=True)
        for _ in range(2):
            await synced(signed_in)
            assert [(m.text, m.via_bot) for m in await history.messages(database, ANNA)] == [("my own wording", None)]


async def test_a_revoked_session_ends_with_one_clear_line(telegram: MtprotoServer, signed_in: Settings) -> None:
    telegram.revoke(OWNER)
    process = await likeme(signed_in, "sync")
    _, error = await process.communicate()
    assert process.returncode == 5
    assert error.decode().strip() == "Telegram has ended this session: likeme login signs in again."


async def test_a_chat_that_telegram_refuses_does_not_stop_the_others(
    telegram: MtprotoServer, signed_in: Settings
) -> None:
    fill(telegram, chats=3, messages=4)
    telegram.faults.refuse("GetHistory", 400, "PEER_ID_INVALID")
    report, _, _ = await synced(signed_in)
    assert report.new == 8
    assert report.left_out == {"refused by Telegram": 1}


async def test_positions_and_messages_are_one_transaction(telegram: MtprotoServer, signed_in: Settings) -> None:
    fill(telegram, chats=2, messages=150)
    await synced(signed_in)
    async with Database.open(signed_in.likeme_home / "history.db") as database:
        for chat_id, position in (await positions.positions(database)).items():
            ids = [message.message_id for message in await history.messages(database, chat_id)]
            assert (position.oldest, position.newest, position.is_whole) == (min(ids), max(ids), True)
