"""The bot's own share of a card's latency: a friend's message in, the card out, the model answered by a stub at once.

    python bench/bot_latency.py [seconds]      20 messages a second from as many friends, 30 seconds

The bot is the real one, a process of its own (`likeme run`, burst wait 0, history of 200 chats); Telegram is the
sandbox and the model server a stub, both over HTTP in this process. Timed here, from the message's birth in the sandbox
to the card's arrival there: long polling, SQLite with synchronous=FULL, retrieval and both HTTP calls are in it.
"""

import asyncio
import itertools
import os
import random
import resource
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bot.sandbox.server import Sandbox  # noqa: E402
from bot.sandbox.things import Event  # noqa: E402
from bot.sandbox.world import World  # noqa: E402
from storage import history  # noqa: E402
from storage.database import Database  # noqa: E402
from storage.records import Account, Chat, ChatKind, Message, MessageKind  # noqa: E402
from tests.voice_fixtures import Script, scripted_server  # noqa: E402

A_SECOND = 20
OWNER, TOKEN = 1001, "4242:" + "A" * 35
FRIENDS, WARM = 100_000, 40
CHATS, LINES = 200, 100
VOCABULARY = 4000  # words, as often as Zipf has it


async def main() -> None:
    """See above."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        await _history(home)
        taken, behind = await _run(home, seconds)
    taken.sort()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    each = (used.ru_utime + used.ru_stime) / (len(taken) + WARM) * 1e3
    lines = [
        f"python bench/bot_latency.py {seconds}: {len(taken)} cards at {A_SECOND} messages a second, "
        f"{CHATS * LINES:,} messages of history, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "message in -> card out, ms: "
        + ", ".join(f"p{p} {taken[min(len(taken) - 1, int(len(taken) * p / 100))]:.1f}" for p in (50, 90, 95, 99))
        + f", worst {taken[-1]:.1f}; {behind} never came; {each:.0f} ms of CPU a card, the bot's start included",
    ]
    print("\n".join(lines))  # noqa: T201
    out = Path(os.environ.get("OUT", ROOT / "bench" / "results"))
    (out / "bot-latency.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


async def _run(home: Path, seconds: int) -> tuple[list[float], int]:
    world = World()
    world.add_user(OWNER, "Owner")
    bot = world.add_bot(TOKEN, "likeme_bench_bot", "likeme")
    count = WARM + seconds * A_SECOND
    for friend in range(FRIENDS, FRIENDS + count):
        world.add_user(friend, f"Friend {friend}")
    born: dict[str, float] = {}
    taken: list[float] = []

    def arrived(event: Event) -> None:
        if event.kind == "message" and event.what.sender == bot.user_id and event.what.buttons:
            taken.append((time.perf_counter() - born.pop(event.what.text.split("\n")[0])) * 1e3)

    async with Sandbox.start(world) as sandbox, scripted_server(Script()) as model:
        world.send(OWNER, OWNER, "/start")
        process = await _bot(home, sandbox.url, model)
        try:
            await world.wait_for(lambda e: e.kind == "message" and e.what.sender == bot.user_id)
            world.connect(OWNER)
            await world.wait_for(lambda e: e.kind == "message" and e.what.sender == bot.user_id)
            world.observe(arrived)
            chance = random.Random(0)
            for number in range(count):
                friend = FRIENDS + number
                if number == WARM:
                    await asyncio.sleep(3)
                    taken.clear()
                next_at = time.perf_counter() + 1 / A_SECOND
                born[f"Friend {friend}"] = time.perf_counter()
                world.write(friend, OWNER, _words(chance, 8) + "?")
                await asyncio.sleep(max(0, next_at - time.perf_counter()))
            with suppress(TimeoutError):
                async with asyncio.timeout(20):
                    while born:  # noqa: ASYNC110 - what is waited for is in another process
                        await asyncio.sleep(0.05)
        finally:
            process.terminate()
            await process.wait()
    return taken, len(born)


async def _bot(home: Path, telegram: str, model: str) -> asyncio.subprocess.Process:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "BOT_TOKEN": TOKEN,
        "OWNER_ID": str(OWNER),
        "BOT_API_URL": telegram,
        "MODEL_URL": model,
        "LIKEME_HOME": str(home),
        "BURST_SECONDS": "0",
        "LOG_LEVEL": "WARNING",
    }
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "bot", "run", env=environment)


def _words(chance: random.Random, count: int) -> str:
    ranks = chance.choices(range(VOCABULARY), cum_weights=_ZIPF, k=count)
    return " ".join("".join("aeiostnrlm"[int(digit)] for digit in str(rank)) for rank in ranks)


_ZIPF = list(itertools.accumulate(1 / (rank + 2) for rank in range(VOCABULARY)))


async def _history(home: Path) -> None:
    chance = random.Random(1)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    async with Database.open(home / "history.db") as database, database.transaction():
        await history.set_account(database, Account(OWNER, "Owner"))
        for chat in range(1, CHATS + 1):
            await history.put_chat(database, Chat(chat, ChatKind.PERSONAL, f"Old friend {chat}"))
            said = []
            for number in range(LINES):
                own = number % 2 == 1
                when = start + timedelta(hours=number // 4, minutes=number % 4)
                text = _words(chance, chance.randint(2, 9))
                sender = f"user{OWNER if own else chat}"
                said.append(Message(chat, number + 1, when, sender, own, MessageKind.TEXT, text))
            await history.put_messages(database, said)


if __name__ == "__main__":
    asyncio.run(main())
