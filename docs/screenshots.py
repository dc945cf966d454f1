"""`make screenshots`: the pictures in docs/images, taken of the real demo while it plays, in a real browser.

python docs/screenshots.py [--home DIR]    needs Chromium (CHROMIUM names another one)
"""

import argparse
import asyncio
import io
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from PIL import Image
from playwright.async_api import Browser, Page, async_playwright

from bot.sandbox import sample

IMAGES = Path(__file__).parent / "images"
DESKTOP, PHONE = {"width": 1060, "height": 700}, {"width": 390, "height": 780}
PATIENCE_MS = 1_800_000  # a busy machine trains for minutes
# A question whose replies are short enough to be the poll's own options, in the middle of what is seen
SHORT_QUIZ = """(() => {
  const polls = [...document.querySelectorAll('.bubble:has(.explanation)')];
  const short = polls.filter(poll => !/^A$/m.test(poll.querySelector('.result').innerText));
  (short.at(-1) ?? polls.at(-1)).scrollIntoView({ block: 'center' });
})()"""
OWNER, MIRA, LENA = sample.OWNER_ID, 2001, 2003


async def main(home: Path) -> None:
    """Start the demo and take the pictures as it goes."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    async with demo(home) as (url, ended), async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        watching = asyncio.create_task(pictures(browser, url))
        await asyncio.wait((watching, ended), return_when=asyncio.FIRST_COMPLETED)
        if not watching.done():
            raise SystemExit(f"The demo has ended: {home}/bot.log and serve.log tell why.")
        await watching
        await browser.close()


async def pictures(browser: Browser, url: str) -> None:
    """One after the other, as the demo goes on."""
    page = await opened(browser, url, OWNER, chat="likeme", size=PHONE)
    await page.wait_for_selector(".bubble:has-text('tokens/s')")
    await taken(page, "training-phone.png")
    page = await opened(browser, url, MIRA, chat="The friends")
    await page.wait_for_selector(".explanation >> nth=2")
    await page.wait_for_timeout(5000)  # until the others have voted, too
    await page.evaluate(SHORT_QUIZ)
    await taken(page, "quiz-light.png")
    page = await opened(browser, url, OWNER, chat="likeme", scheme="dark")
    picture = page.locator(".bubble:has-text('Picked as the real one') img")
    await picture.evaluate("image => image.scrollIntoView()")
    await taken(page, "standings-dark.png")
    page = await opened(browser, url, OWNER, chat="likeme")
    await page.wait_for_selector(".row:has-text('likeme-0001'):has(.inline)")
    await taken(page, "cards-light.png")
    page = await opened(browser, url, OWNER, chat="Lena Hart", scheme="dark")
    await page.fill("#words", "")  # what the stock model had put there: in its place comes the tuned voice's
    await page.wait_for_timeout(2000)
    lena = await opened(browser, url, LENA, chat="Jonas Weller")
    await lena.fill("#words", "what do you bring on saturday? 🐟")
    await lena.press("#words", "Enter")
    await page.wait_for_selector(".bubble:has-text('what do you bring')")
    await page.wait_for_selector("#cloud:not([hidden])")
    await taken(page, "draft-dark.png")


@asynccontextmanager
async def demo(home: Path) -> AsyncIterator[tuple[str, asyncio.Future[bytes]]]:
    """A running demo: the address of its page, and what is done when it ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bot", "demo", "--home", str(home)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "CI": "1", "COLUMNS": "160"},
    )
    assert process.stdout is not None
    try:
        while not (found := re.search(r"http://127\S+/page/\S+", (await process.stdout.readline()).decode())):
            if process.stdout.at_eof():
                raise SystemExit("The demo did not start.")
        yield found[0], asyncio.ensure_future(process.stdout.read())
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)  # as Ctrl-C: it takes its bot along
        await process.wait()


async def opened(
    browser: Browser, url: str, person: int, *, chat: str = "", size: object = None, scheme: object = "light"
) -> Page:
    """Somebody's window."""
    context = await browser.new_context(viewport=size or DESKTOP, color_scheme=scheme, device_scale_factor=1.5)  # type: ignore[arg-type]
    page = await context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    await page.goto(f"{url}#{person}")
    if chat:
        await page.click(f"#chats a:has(b:text('{chat}'))")
    return page


async def taken(page: Page, name: str) -> None:
    """A picture, small: in as many colours as it needs."""
    await page.wait_for_timeout(600)  # for what moves
    whole = Image.open(io.BytesIO(await page.screenshot()))
    whole.convert("RGB").quantize(256, kmeans=2, dither=Image.Dither.NONE).save(IMAGES / name, optimize=True)
    await page.context.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=Path("build/screenshots"))
    asyncio.run(main(parser.parse_args().home))
