"""Quiet hours."""

from datetime import datetime, timedelta, timezone

import pytest

from bot import quiet
from storage.errors import BadInput

ZONE = timezone(timedelta(hours=2))


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 5, day, hour, minute, tzinfo=ZONE)


@pytest.mark.parametrize(
    ("span", "now", "until"),
    [
        ("23-7", at(4, 22, 59), None),
        ("23-7", at(4, 23), at(5, 7)),
        ("23-7", at(5, 6, 59), at(5, 7)),
        ("23-7", at(5, 7), None),
        ("13:15-14:45", at(5, 14), at(5, 14, 45)),
        ("13:15-14:45", at(5, 12), None),
        ("8-8", at(5, 8), None),
        ("0-24", at(5, 8), None),
        ("", at(5, 3), None),
    ],
)
def test_when_they_end(span: str, now: datetime, until: datetime | None) -> None:
    assert quiet.ends(span, now) == until


@pytest.mark.parametrize("text", ["nonsense", "25", "1-2-3", "7:99-8", ""])
def test_what_is_no_span_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadInput, match="23-7"):
        quiet.parse(text)
