"""A small soak of `make soak`: real processes, kill -9, nothing lost and nothing doubled."""

from pathlib import Path

import pytest

from bench.soak import soak


@pytest.mark.slow
@pytest.mark.long
async def test_twenty_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    books = await soak(kills=20, seed=11, folder=tmp_path)
    assert sum(books.kills.values()) == 20
    assert len(books.kills) == 10, "every kind of process died"
    assert books.wrong == []
