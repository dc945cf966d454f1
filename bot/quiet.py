"""Quiet hours, as "23-7" or "22:30-6:45" in the machine's own time zone."""

import re
from datetime import datetime, time, timedelta

from bot.texts import say
from storage.errors import BadInput

_SPAN = re.compile(r"(\d{1,2})(?::(\d\d))?\s*[-–]\s*(\d{1,2})(?::(\d\d))?")


def parse(text: str) -> tuple[time, time]:
    """From and until. BadInput for anything else."""
    match = _SPAN.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError
        return time(int(match[1]) % 24, int(match[2] or 0)), time(int(match[3]) % 24, int(match[4] or 0))
    except ValueError:
        raise BadInput(say("quiet_wrong")) from None


def ends(span: str, now: datetime) -> datetime | None:
    """When the quiet hours that `now` lies in are over; None outside of them. "" has none."""
    if not span:
        return None
    begin, end = parse(span)
    if begin == end:
        return None
    clock = now.time().replace(tzinfo=None)
    inside = begin <= clock < end if begin < end else clock >= begin or clock < end
    if not inside:
        return None
    until = now.replace(hour=end.hour, minute=end.minute, second=0, microsecond=0)
    return until if until > now else until + timedelta(days=1)
