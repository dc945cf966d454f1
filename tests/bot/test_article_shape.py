"""The article's numbers: 1,047 chats, at most 12 pairs of each, 6,128 to train on and 322 held out."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bot.history import build_dataset
from storage.database import Database
from storage.ingest.export import import_export
from training.dataset.pairs import Options

OWNER, CHATS, KEPT = 7001, 1047, 6450
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def pairs_by_chat(rng: Random, cap: int) -> list[int]:
    """How many pairs each chat holds: few with hundreds, most with a handful, `KEPT` once they are capped."""
    sizes = [min(400, int(rng.paretovariate(0.8)) + rng.randrange(6)) for _ in range(CHATS)]
    while (missing := KEPT - sum(min(cap, size) for size in sizes)) != 0:
        place = rng.randrange(CHATS)
        if 1 < sizes[place] < cap:
            sizes[place] += 1 if missing > 0 else -1
    return sizes


class Account:
    """An export of that shape; every sentence is said once."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.sizes = pairs_by_chat(rng, Options().max_pairs_per_chat or 0)
        letters = "abcdefghijklmnopqrstuvwxyz"
        self.words = sorted({"".join(rng.choices(letters, k=rng.randint(3, 9))) for _ in range(6000)})

    def export(self) -> dict[str, Any]:
        """As Telegram Desktop writes it."""
        chats = [
            {
                "name": f"Friend {n}",
                "type": "personal_chat",
                "id": 10_000 + n,
                "messages": list(self._messages(n, size)),
            }
            for n, size in enumerate(self.sizes)
        ]
        return {"personal_information": {"user_id": OWNER, "first_name": "Jo"}, "chats": {"list": chats}}

    def _messages(self, chat: int, pairs: int) -> Iterator[dict[str, Any]]:
        when, number = 1_600_000_000 + chat * 977, 0
        for _ in range(pairs):
            when += self.rng.choice((90, 600, 4000, 40_000, 400_000))
            for own in (False, True):
                for _ in range(self.rng.choice((1, 1, 1, 2, 3))):
                    when, number = when + self.rng.randrange(2, 40), number + 1
                    yield self._message(number, when, OWNER if own else 10_000 + chat, self._sentence())
            if self.rng.random() < 0.1:  # what gives no pair: a sticker of the owner's own after a silence
                when, number = when + 100_000, number + 1
                yield self._message(number, when, OWNER, "") | {"media_type": "sticker", "sticker_emoji": "😂"}
                when += 100_000

    def _sentence(self) -> str:
        return " ".join(self.rng.sample(self.words, self.rng.randint(3, 16)))

    def _message(self, number: int, when: int, sender: int, text: str) -> dict[str, Any]:
        return {
            "id": number,
            "type": "message",
            "date_unixtime": str(when),
            "from_id": f"user{sender}",
            "text": text,
            "text_entities": [{"type": "plain", "text": text}] if text else [],
        }


@pytest.mark.slow
async def test_the_article_s_chats_give_the_article_s_counts(tmp_path: Path) -> None:
    account, options = Account(Random(11)), Options()
    path = tmp_path / "result.json"
    path.write_text(json.dumps(account.export(), ensure_ascii=False), encoding="utf-8")
    async with Database.open(tmp_path / "history.db") as database:
        await import_export(database, path, now=NOW)
        manifest = (await build_dataset(database, options)).manifest
    assert (manifest["chats"], options.max_pairs_per_chat, options.validation_share) == (1047, 12, 0.05)
    assert manifest["pairs_found"] == sum(account.sizes) > 2 * KEPT, "the cap has something to do"
    assert manifest["pairs_left_out"] == {"over the cap": sum(account.sizes) - KEPT}
    assert (manifest["train"], manifest["validation"]) == (6128, 322)
