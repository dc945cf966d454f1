"""Cloud drafts over the wire: the owner's account by MTProto, the bot, and a model that says what a test wants."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from bot.context import Services
from bot.sandbox.mtproto.server import MtprotoServer
from bot.sandbox.server import Sandbox
from bot.settings import Settings
from storage import history, secretary
from storage.drafts import Draft
from tests.bot.conftest import running, until
from tests.desk_fixtures import draft_in
from tests.mtproto_fixtures import followed, with_account
from tests.sandbox_fixtures import ANNA, BORIS, GROUP, OWNER
from tests.voice_fixtures import Script

pytestmark = pytest.mark.slow


@pytest.fixture
def model_url(scripted_url: str) -> str:
    """A model that says what a test wants."""
    return scripted_url


@pytest_asyncio.fixture
async def settings(sandbox: Sandbox, settings: Settings, mtproto: MtprotoServer, tmp_path: Path) -> Settings:
    """Signed in; Telegram on both sides."""
    sandbox.world.send(OWNER, OWNER, "/start")
    sandbox.world.write(OWNER, ANNA, "long ago")
    sandbox.world.write(OWNER, BORIS, "long ago")
    return await with_account(settings, mtproto, tmp_path)


class Line:
    """The input line of the owner's chat with a friend."""

    def __init__(self, sandbox: Sandbox, services: Services, friend: int) -> None:
        self.world, self.services = sandbox.world, services
        self.friend, self.chat = friend, sandbox.world.between(OWNER, friend).chat_id

    @property
    def text(self) -> str:
        draft = self.world.drafts.get((OWNER, self.chat))
        return draft.text if draft else ""

    async def draft(self, number: int, state: str) -> Draft:
        return await draft_in(self.services, number, state)


@asynccontextmanager
async def following(settings: Settings) -> AsyncIterator[Services]:
    async with running(settings) as app:
        yield await followed(app)


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
    await until(lambda: line.text)
    kept = await line.draft(1, "shown")
    assert line.text == kept.replies[0]
    assert kept.way == "cloud"
    assert kept.context[-1] == ("user", "hey\ncoming?")
    assert len(script.asked) == 1
    sandbox.world.write(OWNER, ANNA, "something else entirely, by thumb")
    answered = await line.draft(1, "answered")
    assert answered.edited == "something else entirely, by thumb"
    await until(lambda: not line.text)
    own = [m.via_bot for m in await history.messages(services.database, ANNA) if m.is_own]
    assert set(own) == {None}


async def test_sent_as_it_was_it_is_no_word_of_his_own_and_changed_it_is(sandbox: Sandbox, services: Services) -> None:
    line = Line(sandbox, services, ANNA)
    sandbox.world.write(ANNA, OWNER, "coming?")
    await until(lambda: line.text)
    as_it_was = line.text
    sandbox.world.write(OWNER, ANNA, as_it_was)
    assert (await line.draft(1, "sent")).words == as_it_was
    await until(lambda: not line.text)
    found = {m.text: m.via_bot for m in await history.messages(services.database, ANNA)}
    assert found[as_it_was] == "likeme"
    sandbox.world.write(ANNA, OWNER, "and tomorrow?")
    await until(lambda: line.text)
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
    await until(lambda: line.text)
    script.reply = lambda asked, i: ["in that case sure", "why", "how"][i % 3]
    sandbox.world.write(ANNA, OWNER, "Boris drives")
    await until(lambda: line.text in ("in that case sure", "why", "how"))
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
        await until(lambda: line.text)
    sandbox.world.write(OWNER, ANNA, "yes")  # while the bot is down
    async with following(settings) as services:
        line.services = services
        assert (await line.draft(1, "answered")).edited == "yes"
        await until(lambda: not line.text)
