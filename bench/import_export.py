"""How fast an export comes in, beside a bare ijson iteration of the same file, and in how much memory.

    python bench/import_export.py [messages]

Writes a whole-account export (1,000,000 messages, about 500 MB, the same every time) into a temporary folder,
then measures, each in a process of its own and in turn: `ijson.items` over every message, which is what a bare
iteration means here, `ijson.basic_parse` over every event, and the import with its index. Beside the time on the
clock stands the processors' (all threads together), which tells a busy machine from a slow program. The export is
written in a process of its own as well: a process inherits the peak memory of the one that starts it.
"""

import asyncio
import json
import random
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import ijson

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from storage.database import Database
from storage.ingest.export import import_export

MESSAGES, CHATS, ROUNDS = 1_000_000, 1_047, 3
OWNER = 577083081
RESULTS = Path(__file__).parent / "results" / "import.txt"
_ITEM = "chats.list.item.messages.item"


def main() -> None:
    """Generate, measure in turn, print and keep the table."""
    if len(sys.argv) == 4:
        write_export(Path(sys.argv[2]), int(sys.argv[3]), random.Random(0))
        return
    if len(sys.argv) == 3:
        print(json.dumps(_MEASURES[sys.argv[1]](Path(sys.argv[2]))))  # noqa: T201
        return
    messages = int(sys.argv[1]) if len(sys.argv) == 2 else MESSAGES
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        _note(f"writing {messages:,} messages …")
        _in_a_process("write", str(path), str(messages))
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in _MEASURES}
        for number in range(ROUNDS):
            for name in _MEASURES:
                _note(f"round {number + 1} of {ROUNDS}: {name} …")
                rounds[name].append(json.loads(_in_a_process(name, str(path))))
        table = _table(rounds, messages, path.stat().st_size)
    print(table)  # noqa: T201
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(table + "\n", encoding="utf-8")


def write_export(path: Path, messages: int, rng: random.Random) -> None:
    """A whole account as Telegram Desktop writes it: few busy chats, many quiet ones."""
    words = _words(rng)
    weights = [1 / (rank + 3) for rank in range(CHATS)]
    sizes = [max(1, round(weight / sum(weights) * messages)) for weight in weights]
    sizes[0] += messages - sum(sizes)
    rng.shuffle(sizes)
    with path.open("w", encoding="utf-8") as out:
        out.write(
            '{\n "about": "Here is the data you requested.",\n "personal_information": {\n'
            f'  "user_id": {OWNER},\n  "first_name": "Tom",\n  "last_name": "Harlan"\n }},\n'
            ' "chats": {\n  "about": "This page lists all chats from this export.",\n  "list": ['
        )
        for number, size in enumerate(sizes):
            friend = 100_000_000 + number
            out.write(
                f'{"," if number else ""}\n   {{\n    "name": "Friend {number}",\n    "type": "personal_chat",\n'
                f'    "id": {friend},\n    "messages": ['
            )
            out.write(",".join(_messages(friend, number, size, words, rng)))
            out.write("\n    ]\n   }")
        out.write("\n  ]\n }\n}")


def _messages(friend: int, number: int, size: int, words: list[str], rng: random.Random) -> Iterator[str]:
    when, message_id = 1_300_000_000 + number * 1000, number * 10
    for _ in range(size):
        when += rng.randrange(1, 900)
        message_id += rng.randrange(1, 4)
        own = rng.random() < 0.45
        name, sender = ("Tom Harlan", OWNER) if own else (f"Friend {number}", friend)
        date = datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        fields = {"id": message_id, "type": "message", "date": date, "date_unixtime": str(when)}
        fields |= _edited(when, rng) | {"from": name, "from_id": f"user{sender}"} | _extras(message_id, rng)
        length = 0 if "sticker_emoji" in fields else min(120, 1 + int(rng.expovariate(1 / 12)))
        text = " ".join(rng.choices(words, k=length))
        parts = [{"type": "plain", "text": text}] if text else []
        if rng.random() < 0.05:
            parts.append({"type": "link", "text": f"https://example.org/{message_id}"})
        plain = len(parts) == 1 and parts[0]["type"] == "plain"
        fields |= {"text": text if plain or not parts else parts, "text_entities": parts}
        yield "\n     " + json.dumps(fields, ensure_ascii=False, indent=1).replace("\n", "\n     ")


def _edited(when: int, rng: random.Random) -> dict[str, str]:
    if rng.random() > 0.03:
        return {}
    date = datetime.fromtimestamp(when + 60, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return {"edited": date, "edited_unixtime": str(when + 60)}


def _extras(message_id: int, rng: random.Random) -> dict[str, object]:
    draw = rng.random()
    missing = "(File not included. Change data exporting settings to download.)"
    if draw < 0.10:
        return {"reply_to_message_id": message_id - rng.randrange(1, 30)}
    if draw < 0.14:
        return {"file": missing, "media_type": "sticker", "sticker_emoji": "😂", "width": 512, "height": 512}
    if draw < 0.17:
        return {"photo": missing, "width": 1280, "height": 960}
    if draw < 0.19:
        return {"file": missing, "media_type": "voice_message", "mime_type": "audio/ogg", "duration_seconds": 4}
    return {"forwarded_from": "A channel"} if draw < 0.21 else {}


def _words(rng: random.Random) -> list[str]:
    """30,000 words in two alphabets, the frequent ones frequent (Zipf)."""
    latin = ["ka", "lo", "mi", "ter", "an", "so", "ver", "ni", "du", "pel", "ro", "est", "ing", "ha", "gu"]
    cyrillic = ["ко", "ра", "ни", "сто", "де", "ла", "при", "во", "мен", "ты", "ши", "да", "ет", "ск", "ол"]
    found = ["".join(rng.choices(rng.choice((latin, latin, cyrillic)), k=1 + n % 4)) for n in range(30_000)]
    return [word for rank, word in enumerate(found) for _ in range(1 + 8000 // (rank + 4))]


def _bare(path: Path) -> dict[str, float]:
    return _timed(lambda: sum(1 for _ in ijson.items(path.open("rb"), _ITEM)))


def _events(path: Path) -> dict[str, float]:
    return _timed(lambda: sum(1 for _ in ijson.basic_parse(path.open("rb"))))


def _import(path: Path) -> dict[str, float]:
    async def run(home: Path) -> int:
        async with Database.open(home / "history.db") as database:
            return (await import_export(database, path, now=datetime(2026, 1, 1, tzinfo=UTC))).new

    with tempfile.TemporaryDirectory() as home:
        found = _timed(lambda: asyncio.run(run(Path(home))))
        size = (Path(home) / "history.db").stat().st_size
        database = sqlite3.connect(Path(home) / "history.db")
        asked = time.perf_counter()
        query = "SELECT rowid FROM message_words WHERE message_words MATCH ? ORDER BY rank LIMIT 20"
        hits = len(database.execute(query, ("kalo mi",)).fetchall())
        found |= {"database": size, "hits": hits, "search_seconds": time.perf_counter() - asked}
        database.execute("INSERT INTO message_words (message_words, rank) VALUES ('integrity-check', 1)")
        return found


def _timed(work: Callable[[], int]) -> dict[str, float]:
    started, worked = time.perf_counter(), time.process_time()
    count = work()
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "cpu": cpu, "count": count, "rss": rss}


_MEASURES: dict[str, Callable[[Path], dict[str, float]]] = {"bare": _bare, "events": _events, "import": _import}


def _in_a_process(*arguments: str) -> str:
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def _table(rounds: dict[str, list[dict[str, float]]], messages: int, size: int) -> str:
    seconds = {name: statistics.median(found["seconds"] for found in runs) for name, runs in rounds.items()}
    ratios = [i["seconds"] / b["seconds"] for i, b in zip(rounds["import"], rounds["bare"], strict=True)]
    last = rounds["import"][-1]
    assert all(found["count"] == messages for found in rounds["import"] + rounds["bare"])

    def line(name: str, what: str) -> str:
        every = " ".join(f"{found['seconds']:6.2f}" for found in rounds[name])
        cpu = statistics.median(found["cpu"] for found in rounds[name])
        rss = max(found["rss"] for found in rounds[name]) / 1e6
        ratio = seconds[name] / seconds["bare"]
        return f"{what:<52}{seconds[name]:7.2f} s  ({every})  {ratio:5.2f}×  {cpu:6.2f} s  {rss:6.0f} MB"

    return "\n".join(
        [
            f"{messages:,} messages in {CHATS:,} chats, {size / 1e6:,.0f} MB; Python {sys.version.split()[0]}, "
            f"ijson {ijson.__version__} ({ijson.backend}), SQLite {sqlite3.sqlite_version}; medians of {ROUNDS} rounds",
            "",
            f"{'':<52}{'time':>9}  {'(rounds)':<22}{'ratio':>6}  {'CPU':>8}  {'peak':>9}",
            line("bare", f"ijson.items(file, '{_ITEM}')"),
            line("events", "ijson.basic_parse(file)"),
            line("import", "import_export, searchable (FTS5), synchronous=FULL"),
            "",
            f"import against the bare iteration of its round: {', '.join(f'{ratio:.2f}×' for ratio in ratios)}",
            f"database {last['database'] / 1e6:,.0f} MB; the first search in it {last['search_seconds'] * 1000:.0f} ms "
            f"({last['hits']} hits); FTS5's integrity check finds every message's words in the index",
        ]
    )


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
