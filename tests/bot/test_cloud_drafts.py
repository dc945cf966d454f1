"""Cloud drafts over the wire: the owner's account by MTProto, the bot, and a model that says what a test wants."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from bot import account
from bot.context import Services
from bot.sandbox.mtproto.server import MtprotoServer
from bot.sandbox.server import Sandbox
from bot.settings import Settings
from storage import drafts, history, secretary
from storage.drafts import Draft
from tests.bot.conftest import running
from tests.mtproto_fixtures import PHONE, Answers, anybody, settings_for
from tests.sandbox_fixtures import ANNA, BORIS, GROUP, OWNER, TOKEN
from tests.voice_fixtures import Script

pytestmark = pytest.mark.slow


@pytest_asyncio.fixture
async def mtproto(sandbox: Sandbox) -> AsyncIterator[MtprotoServer]:
    """The MTProto side of the same world that the Bot API sandbox has."""
    async with MtprotoServer.start(sandbox.world) as telegram:
        telegram.add_account(OWNER, PHONE)
        yield telegram


@pytest_asyncio.fixture
async def settings(sandbox: Sandbox, mtproto: MtprotoServer, scripted_url: str, tmp_path: Path) -> Settings:
    """Signed in; Telegram on both sides and the model on loopback."""
    ours: dict[str, Any] = {
        "bot_token": TOKEN,
        "owner_id": OWNER,
        "bot_api_url": sandbox.url,
        "model_url": scripted_url,
        "burst_seconds": 0.2,
    }
    made = Settings(**{**settings_for(mtproto, tmp_path).model_dump(), **ours})
    sandbox.world.send(OWNER, OWNER, "/start")
    sandbox.world.write(OWNER, ANNA, "long ago")
    sandbox.world.write(OWNER, BORIS, "long ago")
    await account.login(made, Answers(mtproto.accounts[PHONE]), anybody)
    return made


class Line:
    """The input line of the owner's chat with a friend."""

    def __init__(self, sandbox: Sandbox, services: Services, friend: int) -> None:
        self.world, self.services = sandbox.world, services
        self.friend, self.chat = friend, sandbox.world.between(OWNER, friend).chat_id

    @property
    def text(self) -> str:
        draft = self.world.drafts.get((OWNER, self.chat))
        return draft.text if draft else ""

    async def until(self, holds: Callable[[], Any]) -> None:
        async with asyncio.timeout(15):
            while not holds():
                await asyncio.sleep(0.01)

    async def draft(self, number: int, state: str) -> Draft:
        async with asyncio.timeout(15):
            while True:
                found = await drafts.find(self.services.database, number)
                if found is not None and found.state == state:
                    return found
                await asyncio.sleep(0.01)


@asynccontextmanager
async def following(settings: Settings) -> AsyncIterator[Services]:
    async with running(settings) as app:
        services = app.bot_data["services"]
        assert isinstance(services, Services)
        async with asyncio.timeout(15):
            while services.follower.own is None:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)  # until the first difference has come
        yield services


@pytest_asyncio.fixture
async def services(settings: Settings) -> AsyncIterator[Services]:
    """The bot, up, with the account followed."""
    async with following(settings) as found:
        yield found


async def test_the_best_draft_lies_in_the_input_line_and_goes_when_he_answers(
    sandbox: Sandbox, services: Services, script: Script
) -> None:
    line = Line(sandbox, services, ANNA)
    sandbox.world.write(ANNA, OWNER, "hey")
    sandbox.world.write(ANNA, OWNER, "coming?")
    await line.until(lambda: line.text)
    kept = await line.draft(1, "shown")
    assert line.text == kept.replies[0]
    assert kept.way == "cloud"
    assert kept.context[-1] == ("user", "hey\ncoming?")
    assert len(script.asked) == 1
    sandbox.world.write(OWNER, ANNA, "something else entirely, by thumb")
    answered = await line.draft(1, "answered")
    assert answered.edited == "something else entirely, by thumb"
    await line.until(lambda: not line.text)
    own = [m.via_bot for m in await history.messages(services.database, ANNA) if m.is_own]
    assert set(own) == {None}


async def test_sent_as_it_was_it_is_no_word_of_his_own_and_changed_it_is(sandbox: Sandbox, services: Services) -> None:
    line = Line(sandbox, services, ANNA)
    sandbox.world.write(ANNA, OWNER, "coming?")
    await line.until(lambda: line.text)
    as_it_was = line.text
    sandbox.world.write(OWNER, ANNA, as_it_was)
    assert (await line.draft(1, "sent")).words == as_it_was
    await line.until(lambda: not line.text)
    found = {m.text: m.via_bot for m in await history.messages(services.database, ANNA)}
    assert found[as_it_was] == "likeme"
    sandbox.world.write(ANNA, OWNER, "and tomorrow?")
    await line.until(lambda: line.text)
    changed = f"{line.text} haha"
    sandbox.world.write(OWNER, ANNA, changed)
    assert (await line.draft(2, "edited")).edited == changed
    found = {m.text: m.via_bot for m in await history.messages(services.database, ANNA)}
    assert found[changed] is None


async def test_what_he_is_typing_is_never_touched(sandbox: Sandbox, services: Services, script: Script) -> None:
    line = Line(sandbox, services, ANNA)
    sandbox.world.type_draft(OWNER, line.chat, "I am just")
    sandbox.world.write(ANNA, OWNER, "coming?")
    await line.draft(1, "skipped")
    assert line.text == "I am just"
    assert await secretary.cloud_draft(services.database, ANNA) is None


async def test_a_newer_message_brings_a_newer_draft_in_the_place_of_ours(
    sandbox: Sandbox, services: Services, script: Script
) -> None:
    line = Line(sandbox, services, ANNA)
    sandbox.world.write(ANNA, OWNER, "coming?")
    await line.until(lambda: line.text)
    script.reply = lambda asked, i: ["in that case sure", "why", "how"][i % 3]
    sandbox.world.write(ANNA, OWNER, "Boris drives")
    await line.until(lambda: line.text in ("in that case sure", "why", "how"))
    assert (await line.draft(1, "replaced")).way == "cloud"
    sandbox.world.type_draft(OWNER, line.chat, "no, I'd rather")  # he has changed it by hand
    sandbox.world.write(ANNA, OWNER, "hello?")
    await line.draft(3, "skipped")
    assert line.text == "no, I'd rather"


async def test_groups_chats_that_are_off_and_quiet_hours_get_none(
    sandbox: Sandbox, services: Services, script: Script
) -> None:
    async with services.database.transaction():
        await secretary.set_mode(services.database, BORIS, "off")
    sandbox.world.send(ANNA, GROUP, "anybody?")
    sandbox.world.write(BORIS, OWNER, "coming?")
    await asyncio.sleep(0.8)
    assert script.asked == []


async def test_a_restart_keeps_what_is_ours_ours(sandbox: Sandbox, settings: Settings, script: Script) -> None:
    async with following(settings) as services:
        line = Line(sandbox, services, ANNA)
        sandbox.world.write(ANNA, OWNER, "coming?")
        await line.until(lambda: line.text)
    sandbox.world.write(OWNER, ANNA, "yes")  # while the bot is down
    async with following(settings) as services:
        line.services = services
        assert (await line.draft(1, "answered")).edited == "yes"
        await line.until(lambda: not line.text)
