"""What a newcomer does on the page, in a real browser: the bot and the account behind it are the real ones."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from bot.context import App, Services
from bot.sandbox.mtproto.server import MtprotoServer
from bot.sandbox.server import Sandbox
from bot.settings import Settings
from storage import drafts, history
from tests.bot.conftest import running
from tests.browser_fixtures import Windows, bubble, say, until
from tests.mtproto_fixtures import followed, with_account
from tests.sandbox_fixtures import ANNA, BORIS, GROUP, OWNER
from tests.voice_fixtures import Script

pytestmark = pytest.mark.slow


@pytest_asyncio.fixture
async def services(
    sandbox: Sandbox, settings: Settings, scripted_url: str, mtproto: MtprotoServer, tmp_path: Path
) -> AsyncIterator[Services]:
    """The bot, up, with the owner's account followed, and a model that says what a test wants."""
    sandbox.world.write(OWNER, ANNA, "long ago")
    sandbox.world.write(OWNER, BORIS, "long ago")
    scripted = settings.model_copy(update={"model_url": scripted_url})
    async with running(await with_account(scripted, mtproto, tmp_path)) as app:
        yield await followed(app)


async def test_a_friend_writes_the_owner_taps_2_and_the_friend_reads_it(
    sandbox: Sandbox, services: Services, windows: Windows
) -> None:
    owner = await windows.open(OWNER)
    await owner.click("text=Start")
    await bubble(owner, "Hello Owner").wait_for()
    assert await owner.evaluate("document.getElementById('words').clientHeight") > 30
    await owner.check("#lent input")
    await bubble(owner, "You are connected").wait_for()
    anna = await windows.open(ANNA, sandbox.world.between(OWNER, ANNA).chat_id)
    await say(anna, "are you coming?")
    card = bubble(owner, "are you coming?")
    await card.get_by_role("button", name="2", exact=True).wait_for()
    second = re.split(r"\n\n\d  ", await card.locator(".text").inner_text())[2]
    await card.get_by_role("button", name="2", exact=True).click()
    await bubble(anna, second).wait_for()
    await bubble(owner, "Sent to Anna").wait_for()
    draft = await drafts.find(services.database, 1)
    assert draft is not None
    assert (draft.state, draft.words) == ("sent", second)


async def test_the_owner_s_own_words_go_where_the_edit_button_asks_for_them(
    sandbox: Sandbox, services: Services, windows: Windows
) -> None:
    sandbox.world.send(OWNER, OWNER, "/start")
    sandbox.world.connect(OWNER)
    owner = await windows.open(OWNER)
    await bubble(owner, "You are connected").wait_for()
    sandbox.world.write(ANNA, OWNER, "are you coming?")
    await bubble(owner, "are you coming?").get_by_role("button", name="edit").click()
    await owner.wait_for_selector("#context:not([hidden])")
    await say(owner, "on foot, so late")
    anna = await windows.open(ANNA, sandbox.world.between(OWNER, ANNA).chat_id)
    await bubble(anna, "on foot, so late").wait_for()


async def test_a_draft_lies_in_the_input_line_is_changed_and_sent(
    sandbox: Sandbox, services: Services, windows: Windows
) -> None:
    chat = sandbox.world.between(OWNER, BORIS).chat_id
    owner, boris = await windows.open(OWNER, chat), await windows.open(BORIS, chat)
    await say(boris, "coming?")
    await owner.wait_for_selector("#cloud:not([hidden])")
    lying = await owner.input_value("#words")
    kept = await drafts.find(services.database, 1)
    assert kept is not None and kept.replies[0] == lying
    await owner.press("#words", "End")
    await owner.type("#words", " haha")
    await owner.press("#words", "Enter")
    await bubble(boris, f"{lying} haha").wait_for()
    assert await owner.input_value("#words") == ""
    async with asyncio.timeout(30):
        while (kept := await drafts.find(services.database, 1)) is None or kept.state == "shown":
            await asyncio.sleep(0.02)
    assert (kept.state, kept.edited) == ("edited", f"{lying} haha")


async def test_what_one_types_is_a_draft_everywhere_and_nobody_overwrites_it(
    sandbox: Sandbox, services: Services, windows: Windows, script: Script
) -> None:
    chat = sandbox.world.between(OWNER, ANNA).chat_id
    owner = await windows.open(OWNER, chat)
    anna = await windows.open(ANNA, chat)
    await owner.type("#words", "I am just")
    await anna.wait_for_selector("#subtitle.typing")
    second = await windows.open(OWNER, chat)
    await until(second, "document.getElementById('words').value === 'I am just'")
    await say(anna, "hello?")
    async with asyncio.timeout(30):
        while (kept := await drafts.find(services.database, 1)) is None or kept.state != "skipped":
            await asyncio.sleep(0.02)
    assert await owner.input_value("#words") == "I am just"


async def test_forget_takes_a_chat_back_after_a_tap(sandbox: Sandbox, services: Services, windows: Windows) -> None:
    sandbox.world.send(OWNER, OWNER, "/start")
    owner = await windows.open(OWNER)
    await say(owner, "/forget Friend 3")
    await bubble(owner, "Forget Friend 3?").get_by_role("button", name="forget").click()
    await bubble(owner, "Forgotten: 16 messages").get_by_role("button", name="undo").wait_for()
    assert await history.find_chat(services.database, 2003) is None


async def test_he_trains_friends_guess_and_the_standings_come_as_a_picture(
    sandbox: Sandbox, bot: App, windows: Windows
) -> None:
    sandbox.world.send(OWNER, OWNER, "/start")
    owner = await windows.open(OWNER)
    await owner.type("#words", "/tra")
    await owner.wait_for_selector("#suggestions li >> text=/train")
    await owner.press("#words", "Enter")
    await owner.wait_for_selector(".bubble:has-text('Version 1 is ready') img")
    assert await _loaded(owner) == 1
    friends = [await windows.open(person, GROUP) for person in (OWNER, ANNA, BORIS)]
    await say(friends[0], "/quiz 1")
    await owner.get_by_role("button", name="send all").click()
    poll = next(iter([await _poll(sandbox)]))
    right, wrong = poll.correct[0], (poll.correct[0] + 1) % 3
    await friends[1].locator(".option").nth(right).click()
    await friends[1].wait_for_selector(".explanation >> text=Right!")
    await friends[2].locator(".option").nth(wrong).click()
    await friends[2].wait_for_selector(".explanation >> text=Not this time.")
    assert await friends[2].locator(".result.right").count() == 1
    assert "was really Owner" in await friends[2].locator(".explanation").inner_text()
    assert await friends[0].locator(".option").count() == 3, "who has not answered does not see who is right"
    await say(owner, "/standings")
    await owner.wait_for_selector(".bubble:has-text('the real reply: 50% (1 of 2') img")
    assert await _loaded(owner) == 2


async def _loaded(page: Any) -> int:
    await until(page, "[...document.images].every(image => image.complete)")
    return int(await page.evaluate("[...document.images].filter(i => i.naturalWidth > 300).length"))


async def _poll(sandbox: Sandbox) -> Any:
    async with asyncio.timeout(60):
        while True:
            found = [m.poll for m in sandbox.world.messages.values() if m.poll is not None and m.chat_id == GROUP]
            if found:
                return found[0]
            await asyncio.sleep(0.02)
