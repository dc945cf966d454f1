"""The sandbox's page in a real browser."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from bot.sandbox.server import Sandbox

CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
DESKTOP, PHONE = {"width": 1100, "height": 720}, {"width": 390, "height": 760}


class Windows:
    """The page, opened as often as a test has people before it. What goes wrong in a page fails the test."""

    def __init__(self, sandbox: Sandbox, browser: Any) -> None:
        self._url, self._browser = sandbox.page.url, browser
        self.faults: list[str] = []

    async def open(self, person: int, chat: int = 0, *, size: Any = DESKTOP, scheme: Any = "light") -> Any:
        """A window in which somebody sits before a chat (0: the first)."""
        page = await self._browser.new_page(viewport=size, color_scheme=scheme)
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda said: self.faults.append(said.text) if said.type == "error" else None)
        await page.goto(f"{self._url}#{person}/{chat}" if chat else f"{self._url}#{person}")
        await page.wait_for_selector("#people input:checked", state="attached")
        return page


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Any]:
    """A Chromium of this machine."""
    playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here: apt-get install chromium, or name one in CHROMIUM")
    async with playwright.async_playwright() as driver:
        running = await driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # root has none
        yield running
        await running.close()


@pytest_asyncio.fixture
async def windows(sandbox: Sandbox, browser: Any) -> AsyncIterator[Windows]:
    """The small world's page; everybody in it has found the bot."""
    for user in [user for user in sandbox.world.users.values() if not user.is_bot]:
        sandbox.world.private(user.user_id)
    found = Windows(sandbox, browser)
    yield found
    assert found.faults == []


async def say(page: Any, words: str) -> None:
    """Type into the input line and send with Enter."""
    await page.fill("#words", words)
    await page.press("#words", "Enter")


def bubble(page: Any, words: str) -> Any:
    """The newest bubble with these words."""
    return page.locator(".row", has_text=words).last


async def until(page: Any, holds: str) -> None:
    """Wait for a JavaScript expression; Playwright's own way would need eval, which the page forbids."""
    async with asyncio.timeout(60):
        while not await page.evaluate(holds):
            await asyncio.sleep(0.03)
