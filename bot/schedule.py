"""When a night is due. Pure: the clock and the zone are arguments.

A night is known by its moment: one for each of the owner's dates, so a clock that is put forward loses none and one
that is put back doubles none. Whoever asks late is told of the newest alone: a machine that slept for a week makes up
for one night.
"""

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from storage.errors import BadInput

OFF = ("", "off")
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)")


def parse(text: str) -> time | None:
    """A time of day, or None for "off". BadInput for anything else."""
    if text.strip().lower() in OFF:
        return None
    match = _CLOCK.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError
        return time(int(match[1]), int(match[2]))
    except ValueError:
        raise BadInput(f"{text!r} is no time of day: write 03:30, or off.") from None


def due(at: time, zone: tzinfo, after: datetime, now: datetime) -> datetime | None:
    """The newest moment `at` that lies behind `after` and not ahead of `now`; None: there is none."""
    today = now.astimezone(zone).date()
    for days in (0, 1):
        moment = _moment(today - timedelta(days=days), at, zone)
        if moment <= now:
            return moment if moment > after else None
    return None


def following(at: time, zone: tzinfo, now: datetime) -> datetime:
    """The next moment `at`."""
    today = now.astimezone(zone).date()
    return next(m for days in range(3) if (m := _moment(today + timedelta(days=days), at, zone)) > now)


def _moment(day: date, at: time, zone: tzinfo) -> datetime:
    """The first of two where the clock is put back; where it is put forward over `at`, as long after midnight."""
    return datetime.combine(day, at.replace(fold=0), zone).astimezone(UTC)
