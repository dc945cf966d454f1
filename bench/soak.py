"""Everything likeme runs, killed with kill -9 at random moments, and what is left of it at the end.

    python bench/soak.py [kills] [--seed N] [--keep FOLDER]

One small world (sandbox/: Bot API and MTProto on loopback), and real processes over it: the bot, a model server with
a tiny random model, `likeme sync`, `likeme import`, `likeme promote`, a migration. Every round something happens, a
process is killed (SIGKILL) a random moment later, started again, and what happened must come out right: a card for
what a friend wrote, a reply sent once, a vote that counts once. At the end the books are compared: messages, votes,
feedback, versions, and SQLite's own integrity_check.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.soak_books import Books
from bench.soak_offline import Importing, Migrating
from bench.soak_sync import Syncing
from bench.soak_talk import Talk

RESULTS = Path(__file__).parent / "results" / "soak.txt"
WEIGHTS = {  # of 200 kills
    "bot: a message comes in": 35,
    "bot: a reply goes out": 35,
    "bot: a quiz answer comes in": 35,
    "model server: drafts are due": 15,
    "model server: it trains": 15,
    "bot: it trains": 10,
    "promotion": 15,
    "sync": 20,
    "import": 10,
    "migration": 10,
}


async def soak(kills: int, seed: int, folder: Path) -> Books:
    """Kill `kills` times; the books at the end."""
    chance, books = random.Random(seed), Books(kills=Counter())
    async with AsyncExitStack() as stack:
        talk = await stack.enter_async_context(Talk.start(folder / "talk", books, chance))
        syncing = await stack.enter_async_context(Syncing.start(folder / "sync", books, chance))
        rounds = {
            "bot: a message comes in": talk.receiving,
            "bot: a reply goes out": talk.sending,
            "bot: a quiz answer comes in": talk.voting,
            "model server: drafts are due": talk.drafting,
            "model server: it trains": talk.training,
            "bot: it trains": talk.watching,
            "promotion": talk.promoting,
            "sync": syncing.round,
            "import": Importing(folder / "import", books, chance).round,
            "migration": Migrating(folder / "migration", books, chance).round,
        }
        drawn = planned(kills)
        chance.shuffle(drawn)
        began, told = time.monotonic(), 0
        for number, name in enumerate(drawn, 1):
            await rounds[name]()
            books.kills[name] += 1
            spent = time.monotonic() - began
            left = spent / number * (len(drawn) - number)
            for line in books.wrong[told:]:
                sys.stderr.write(f"\nWRONG after kill {number} ({name}): {line}\n")
            told = len(books.wrong)
            sys.stderr.write(f"\r{number}/{len(drawn)} kills, {spent:.0f} s, about {left:.0f} s left   ")
            sys.stderr.flush()
        await talk.settle()
        await syncing.settle()
        books.seconds = time.monotonic() - began
    return books


def planned(kills: int) -> list[str]:
    """As many of each kind as its weight asks for, and one at least."""
    counts = Counter({name: max(1, round(weight * kills / 200)) for name, weight in WEIGHTS.items()})
    while counts.total() != kills and kills >= len(WEIGHTS):
        counts[counts.most_common(1)[0][0]] += 1 if counts.total() < kills else -1
    return list(counts.elements())


def main() -> int:
    """Soak, print and keep the books; 1 when they do not balance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", nargs="?", type=int, default=200)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--keep", type=Path, help="leave homes and logs there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as scratch:
        folder = given.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        books = asyncio.run(soak(given.kills, given.seed, folder))
    command = f"python bench/soak.py {given.kills} --seed {given.seed}"
    text = books.table(command)
    print(text)  # noqa: T201
    if given.kills >= 200:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(text + "\n", encoding="utf-8")
    return 1 if books.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
