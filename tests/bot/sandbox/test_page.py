"""The page by itself: who may reach it, what it makes of odd words, and whether it does without a mouse."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from bot.sandbox.page.acts import Refused, act
from bot.sandbox.server import Sandbox
from tests.browser_fixtures import PHONE, Windows, bubble, say, until
from tests.sandbox_fixtures import ANNA, BORIS, GROUP, OWNER

HOSTILE = (
    "<img src=x onerror=hacked()>",
    "<script>hacked()</script>",
    '"><svg onload=hacked()>',
    "javascript:hacked() https://example.org/\"onmouseover='hacked()'",
    "</textarea><b id=hacked>",
)


@pytest_asyncio.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    sandbox.world.private(OWNER)
    async with httpx.AsyncClient(base_url=sandbox.page.url) as found:
        yield found


def from_page(sandbox: Sandbox) -> dict[str, str]:
    return {"Origin": sandbox.url, "Content-Type": "application/json"}


async def test_an_act_of_the_page_itself_is_done_and_a_wrong_one_is_refused_in_words(
    sandbox: Sandbox, client: httpx.AsyncClient
) -> None:
    body = {"as": OWNER, "do": "send", "chat": OWNER, "text": "hello"}
    done = await client.post("act", json=body, headers=from_page(sandbox))
    assert done.json() == {"ok": True}
    assert [m.text for m in sandbox.world.history(OWNER)] == ["hello"]
    for wrong, why in (
        ({**body, "as": ANNA}, "not one of his"),
        ({**body, "as": 4242}, "Nobody here"),
        ({**body, "text": " "}, "no words"),
        ({**body, "text": "x" * 4097}, "4,096"),
        ({**body, "text": 3}, "no words"),
        ({**body, "do": "rob"}, "Nothing of that kind"),
        ({**body, "chat": [1]}, "no number"),
        ({"as": OWNER, "do": "edit", "chat": OWNER, "message": 99, "text": "x"}, "gone"),
        ({"as": OWNER, "do": "tap", "chat": OWNER, "message": 1, "data": "card:1:0"}, "button is gone"),
        ({"as": OWNER, "do": "vote", "chat": OWNER, "message": 1}, "no such answer"),
        ([], "nothing a page would send"),
    ):
        refused = await client.post("act", content=json.dumps(wrong), headers=from_page(sandbox))
        assert refused.status_code == 400
        assert why in refused.json()["error"]
    assert len(sandbox.world.history(OWNER)) == 1


async def test_no_other_web_site_reads_the_page_or_acts_on_it(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    act_ = {"content": '{"as": 1001, "do": "send", "chat": 1001, "text": "robbed"}'}
    json_type = {"Content-Type": "application/json"}
    for headers in (
        {**json_type, "Origin": "https://evil.example"},
        {**json_type, "Origin": "null"},
        json_type,
        {"Origin": sandbox.url, "Content-Type": "text/plain"},
        {**from_page(sandbox), "Host": "evil.example"},
        {**from_page(sandbox), "Host": "evil.example", "Origin": "http://evil.example"},
    ):
        assert (await client.post("act", **act_, headers=headers)).status_code == 403
    elsewhere = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "script"}
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}, elsewhere):
        for path in ("", "events", "page.js", "photo/1"):
            assert (await client.get(path, headers=headers)).status_code == 403
    assert sandbox.world.history(OWNER) == []
    for path in ("", "events", "page.js"):
        assert (await client.get(f"{sandbox.url}/page/guessed/{path}")).status_code == 404


async def test_the_page_loads_nothing_from_elsewhere_and_may_not_be_framed(client: httpx.AsyncClient) -> None:
    page = await client.get("")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["referrer-policy"] == "no-referrer"
    for name in ("", "page.css", "page.js", "state.js", "bubbles.js", "compose.js", "talk.js", "side.js", "wire.js"):
        text = (await client.get(name)).text
        assert "http://" not in text.replace("http://www.w3.org", "")
        assert "innerHTML" not in text
    for name in ("%2e%2e/routes.py", "nothing.js"):
        assert (await client.get(name)).status_code == 404


def test_nobody_changes_what_somebody_else_wrote(sandbox: Sandbox) -> None:
    world = sandbox.world
    theirs = world.write(ANNA, OWNER, "mine")
    for what in ("edit", "delete"):
        body = {"as": OWNER, "do": what, "chat": theirs.chat_id, "message": theirs.message_id, "text": "yours"}
        with pytest.raises(Refused, match="Only who wrote it"):
            act(world, body)
    assert theirs.text == "mine"


async def test_words_are_shown_as_words_whatever_they_hold(sandbox: Sandbox, windows: Windows) -> None:
    world = sandbox.world
    world.chats[GROUP].members.append(world.add_user(1099, HOSTILE[0]).user_id)
    group_text = "bold 🙂 code"
    entities = [
        {"type": "bold", "offset": 0, "length": 4},
        {"type": "code", "offset": 8, "length": 4},
        {"type": "italic", "offset": 6, "length": 99},
    ]
    for words in HOSTILE:
        world.send(1099, GROUP, words)
    world.post(BORIS, GROUP, text=group_text, entities=entities)
    world.post(BORIS, GROUP, text=HOSTILE[0], buttons=[[{"text": HOSTILE[1], "callback_data": "x"}]])
    page = await windows.open(OWNER, GROUP)
    await page.wait_for_selector(f".row:nth-of-type({len(HOSTILE) + 3})")
    shown = await page.locator(".text").all_inner_texts()
    assert shown == [*HOSTILE, group_text, HOSTILE[0]]
    world.type_draft(OWNER, GROUP, HOSTILE[4])
    world.stream(1099, GROUP, HOSTILE[0])
    await until(page, "document.getElementById('words').value.length > 5")
    await page.wait_for_selector(".growing")
    assert (
        await page.locator("#log img, #log svg, #log script, #hacked, [onerror], [onload], [onmouseover]").count() == 0
    )
    assert await page.locator(".text b").inner_text() == "bold"
    assert await page.locator(".text code").inner_text() == "code"
    assert [await link.get_attribute("href") for link in await page.locator(".text a").all()] == [
        "https://example.org/"
    ]


async def test_what_happens_is_seen_at_once(sandbox: Sandbox, windows: Windows) -> None:
    world, chat = sandbox.world, sandbox.world.between(OWNER, ANNA).chat_id
    page = await windows.open(OWNER, chat)
    world.stream(ANNA, chat)
    await page.wait_for_selector("#subtitle.typing >> text=typing …")
    sent = world.write(ANNA, OWNER, "helo")
    await bubble(page, "helo").wait_for()
    assert await page.locator(".growing").count() == 0
    world.edit(sent, text="hello")
    await bubble(page, "edited").wait_for()
    assert await page.locator(".text").all_inner_texts() == ["hello"]
    world.delete(sent)
    await until(page, "document.querySelectorAll('.text').length === 0")
    world.write(BORIS, OWNER, "elsewhere")
    await page.wait_for_selector("#chats a:has-text('Boris') .badge >> text=1")
    bot = next(iter(world.bots.values())).user_id
    world.stream(bot, OWNER, "1  sure, see")
    await page.click("#chats a:has-text('likeme')")
    await page.wait_for_selector(".growing >> text=1  sure, see")


async def test_the_keyboard_is_enough(sandbox: Sandbox, windows: Windows) -> None:
    world = sandbox.world
    for friend, words in ((ANNA, "first"), (BORIS, "second")):
        world.write(friend, OWNER, words)
    page = await windows.open(OWNER, world.between(OWNER, BORIS).chat_id)
    await until(page, "document.activeElement.id === 'words'")
    await page.keyboard.type("two")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("lines")
    await page.keyboard.press("Enter")
    await bubble(page, "two\nlines").wait_for()
    await page.keyboard.press("ArrowUp")
    await page.keyboard.type("!")
    await page.keyboard.press("Enter")
    await bubble(page, "lines!").wait_for()
    await page.keyboard.press("ArrowUp")
    await page.keyboard.press("Escape")
    assert await page.input_value("#words") == ""
    await page.keyboard.press("Alt+ArrowDown")
    await until(page, f"!location.hash.endsWith('/{world.between(OWNER, BORIS).chat_id}')")
    await page.focus("#people input:checked")
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.closest('#chats') !== null")
    assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    await page.keyboard.press("End")
    await page.keyboard.press("Home")
    await page.keyboard.press("Enter")
    await page.wait_for_selector("#chats a:first-child[aria-current=page]")
    await page.focus("#people input:checked")
    await page.keyboard.press("ArrowRight")
    await until(page, f"location.hash.startsWith('#{ANNA}')")
    nameless = await page.evaluate(
        "[...document.querySelectorAll('button, a, input, textarea')].filter(e => e.checkVisibility() && "
        "!(e.ariaLabel || e.innerText?.trim() || e.labels?.length || e.placeholder)).map(e => e.outerHTML)"
    )
    assert nameless == []


async def test_a_phone_shows_the_chats_or_one_of_them(sandbox: Sandbox, windows: Windows) -> None:
    world = sandbox.world
    world.write(ANNA, OWNER, "long " * 60)
    page = await windows.open(OWNER, size=PHONE, scheme="dark")
    assert not await page.is_visible("main")
    await page.click("#chats a:has-text('Anna')")
    await bubble(page, "long").wait_for()
    assert not await page.is_visible("#side")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await say(page, "short")
    await bubble(page, "short").wait_for()
    await page.click("#back")
    await page.wait_for_selector("#side", state="visible")
    back = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = await windows.open(OWNER, size=PHONE)
    assert await light.evaluate("getComputedStyle(document.body).backgroundColor") != back


async def test_a_stream_that_breaks_off_is_taken_up_by_the_page(sandbox: Sandbox, windows: Windows) -> None:
    page = await windows.open(OWNER, sandbox.world.between(OWNER, ANNA).chat_id)
    sandbox.page.close()
    await page.wait_for_selector("#subtitle >> text=The demo is not there")
    sandbox.world.write(ANNA, OWNER, "while you were away")
    await bubble(page, "while you were away").wait_for()


async def test_a_forwarded_message_goes_to_the_bot_and_a_link_of_the_quiz_opens_it(
    sandbox: Sandbox, windows: Windows
) -> None:
    world = sandbox.world
    world.write(ANNA, OWNER, "coming?")
    page = await windows.open(OWNER, world.between(OWNER, ANNA).chat_id)
    await bubble(page, "coming?").hover()
    await bubble(page, "coming?").locator(".more").click()
    await page.get_by_role("menuitem", name="Forward to likeme").click()
    await bubble(page, "Forwarded from").wait_for()
    assert world.history(OWNER)[-1].forwarded_from == ANNA
    world.write(OWNER, ANNA, "https://t.me/likeme_test_bot?start=quiz_abc")
    anna = await windows.open(ANNA, world.between(OWNER, ANNA).chat_id)
    await anna.click(".link")
    async with asyncio.timeout(20):
        while [m.text for m in world.history(ANNA)] != ["/start quiz_abc"]:
            await asyncio.sleep(0.02)
