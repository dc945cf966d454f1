"""A running bot and the owner's account, both over the wire and over one world: events flow in, gaps are filled."""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

import pytest
import pytest_asyncio

from bot import account
from bot.sandbox.mtproto.server import MtprotoServer
from bot.sandbox.server import Sandbox
from bot.settings import Settings
from storage import history
from storage.database import Database
from tests.bot.conftest import Listener, running, until
from tests.bot.test_sync import stored, synced
from tests.mtproto_fixtures import PHONE, Answers, anybody, followed, settings_for
from tests.sandbox_fixtures import ANNA, BORIS, CLARA, OWNER, TOKEN

pytestmark = pytest.mark.slow
NO_MODEL = "http://127.0.0.1:9"


@pytest_asyncio.fixture
async def bot_settings(sandbox: Sandbox, mtproto: MtprotoServer, tmp_path: Path) -> Settings:
    """A bot whose owner has signed in, and has synced two messages."""
    values = settings_for(mtproto, tmp_path).model_dump()
    settings = Settings(
        **{**values, "bot_token": TOKEN, "owner_id": OWNER, "bot_api_url": sandbox.url, "model_url": NO_MODEL}
    )
    sandbox.world.write(ANNA, OWNER, "hello")
    sandbox.world.write(OWNER, ANNA, "hi")
    await account.login(settings, Answers(mtproto.accounts[PHONE]), anybody)
    await synced(settings)
    return settings


def texts(settings: Settings) -> set[str]:
    return {text for _, text in stored(settings)}


async def test_new_edited_and_deleted_messages_flow_in(mtproto: MtprotoServer, bot_settings: Settings) -> None:
    world = mtproto.world
    async with running(bot_settings) as app:
        await followed(app)
        first = world.write(ANNA, OWNER, "are you there?")
        world.write(OWNER, ANNA, "from my phone", reply_to=first.message_id)
        gone = world.write(ANNA, OWNER, "oops")
        world.write(CLARA, OWNER, "a first word of mine")
        world.write(ANNA, OWNER, "of somebody's", forwarded_from=BORIS)
        await until(lambda: "of somebody's" in texts(bot_settings))
        world.edit(first, text="are you coming?")
        world.delete(gone)
        await until(lambda: "are you coming?" in texts(bot_settings) and "oops" not in texts(bot_settings))
        services = app.bot_data["services"]
        found = {m.text: m for m in await history.messages(services.database, ANNA)}
        assert found["from my phone"].is_own
        assert found["from my phone"].reply_to == first.message_id
        assert found["are you coming?"].edited_at is not None
        assert found["of somebody's"].forwarded_from == "Boris"
        assert [m.text for m in await history.messages(services.database, CLARA)] == ["a first word of mine"]
        assert [m.text for m in await history.search(services.database, "coming")] == ["are you coming?"]


async def test_what_a_lost_connection_swallowed_comes_with_the_next_message(
    mtproto: MtprotoServer, bot_settings: Settings
) -> None:
    world = mtproto.world
    async with running(bot_settings) as app:
        await followed(app)
        mtproto.drop_all()
        lost = world.write(ANNA, OWNER, "said into the void")
        world.edit(lost, text="edited in the void")
        seen = mtproto.calls["GetUsers"]
        await until(lambda: mtproto.calls["GetUsers"] > seen)  # Telethon is back
        await asyncio.sleep(0.3)
        world.write(ANNA, OWNER, "hello again")
        await until(lambda: {"edited in the void", "hello again"} <= texts(bot_settings))


async def test_a_bot_that_was_killed_catches_up_with_100_messages_edits_and_deletions(
    sandbox: Sandbox, mtproto: MtprotoServer, bot_settings: Settings
) -> None:
    environment = {
        **os.environ,
        "BOT_TOKEN": TOKEN,
        "OWNER_ID": str(OWNER),
        "BOT_API_URL": sandbox.url,
        "MODEL_URL": NO_MODEL,
        "LIKEME_HOME": str(bot_settings.likeme_home),
        "API_ID": str(bot_settings.api_id),
        "API_HASH": bot_settings.api_hash.get_secret_value(),
        "MTPROTO_SERVER": bot_settings.mtproto_server,
        "MTPROTO_KEY": bot_settings.mtproto_key,
    }
    log = (bot_settings.likeme_home / "run.log").open("wb")

    async def start() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bot", "run", env=environment, stdout=log, stderr=log
        )

    world = mtproto.world
    process = await start()
    world.write(ANNA, OWNER, "while it is up")
    await until(lambda: "while it is up" in texts(bot_settings))
    process.send_signal(signal.SIGKILL)
    await process.wait()
    missed = [world.write(ANNA if n % 2 else OWNER, OWNER if n % 2 else ANNA, f"missed {n}") for n in range(100)]
    for number in range(10):
        world.edit(missed[number], text=f"edited {number}")
        world.delete(missed[20 + number])
    process = await start()
    expected = {f"edited {n}" for n in range(10)} | {f"missed {n}" for n in range(10, 100) if not 20 <= n < 30}
    await until(lambda: texts(bot_settings) == expected | {"hello", "hi", "while it is up"})
    assert len(stored(bot_settings)) == 93
    await Listener(sandbox, OWNER).after(lambda: world.send(OWNER, OWNER, "/help"))
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 30) == 0
    log.close()
    written = (bot_settings.likeme_home / "run.log").read_text()
    for secret in ("missed 5", "edited 5", "while it is up", PHONE, environment["API_HASH"], TOKEN):
        assert secret not in written


async def test_a_session_that_is_revoked_meanwhile_is_told_and_a_new_one_is_noticed(
    sandbox: Sandbox, mtproto: MtprotoServer, bot_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.sync.QUIET_SECONDS", 0.5)
    sandbox.world.send(OWNER, OWNER, "/start")
    async with running(bot_settings) as app:
        await followed(app)
        told = await Listener(sandbox, OWNER).after(lambda: mtproto.revoke(OWNER), lambda m: "likeme login" in m.text)
        assert told.text.startswith("Telegram has ended this session")
        await account.login(bot_settings, Answers(mtproto.accounts[PHONE]), anybody)
        await followed(app)
        mtproto.world.write(ANNA, OWNER, "and on")
        await until(lambda: "and on" in texts(bot_settings))


async def test_sync_in_the_chat_fetches_and_tells(
    sandbox: Sandbox, mtproto: MtprotoServer, bot_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with running(bot_settings) as app:
        await followed(app)
        for number in range(150):
            mtproto.world.write(BORIS, OWNER, f"b {number}", date=mtproto.world.now())
        services = app.bot_data["services"]
        done = await Listener(sandbox, OWNER).after(
            lambda: mtproto.world.send(OWNER, OWNER, "/sync"), lambda m: "chats in" in m.text, edits=True
        )
        assert "2 chats in" in done.text
        assert len(await history.messages(services.database, BORIS)) == 150


async def test_sync_without_an_account_says_what_to_do(
    sandbox: Sandbox, mtproto: MtprotoServer, bot_settings: Settings
) -> None:
    await account.logout(bot_settings)
    async with running(bot_settings):
        answer = await Listener(sandbox, OWNER).after(lambda: mtproto.world.send(OWNER, OWNER, "/sync"))
        assert "likeme login" in answer.text


async def test_the_terminal_is_told_that_the_running_bot_has_the_account(bot_settings: Settings) -> None:
    from tests.bot.test_sync import likeme

    async with running(bot_settings) as app:
        await followed(app)
        process = await likeme(bot_settings, "sync")
        _, error = await process.communicate()
        assert b"Another likeme holds the account" in error
        assert process.returncode == 5
        async with Database.open(bot_settings.likeme_home / "history.db") as database:
            assert len(await history.messages(database, ANNA)) == 2
