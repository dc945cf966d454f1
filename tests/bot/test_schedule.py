"""When nights are due: through clock changes, sleep, and changes of mind."""

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from bot.schedule import due, following, parse
from storage.errors import BadInput

BERLIN = ZoneInfo("Europe/Berlin")


def nights(at: time, zone: ZoneInfo, start: datetime, days: int, awake: object = None) -> list[datetime]:
    """What a bot that looks every minute (or only at the moments `awake`) begins."""
    minutes: Iterator[datetime] = awake or (start + timedelta(minutes=m) for m in range(days * 1440))  # type: ignore[assignment]
    begun, after = [], start
    for now in minutes:
        moment = due(at, zone, after, now)
        if moment is not None:
            begun.append(moment)
            after = moment
    return begun


@pytest.mark.parametrize("at", [time(1, 59), time(2, 0), time(2, 30), time(3, 0), time(3, 30)])
@pytest.mark.parametrize("changes", [datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)])
def test_a_clock_change_is_no_double_run_and_no_lost_night(at: time, changes: datetime) -> None:
    begun = nights(at, BERLIN, changes - timedelta(hours=36), 4)
    assert len(begun) == 4
    dates = [moment.astimezone(BERLIN).date() for moment in begun]
    assert len(set(dates)) == 4
    around = [moment for moment in begun if moment.astimezone(BERLIN).date() == changes.date()]
    assert len(around) == 1


def test_an_hour_that_does_not_exist_is_made_up_for_and_one_that_comes_twice_counts_once() -> None:
    spring = due(time(2, 30), BERLIN, datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 3, 29, 1, 30, tzinfo=UTC))
    assert spring == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30 in summer time; an hour later it is 02:30 again
    assert due(time(2, 30), BERLIN, first - timedelta(hours=5), first) == first
    assert due(time(2, 30), BERLIN, first, first + timedelta(hours=1)) is None


def test_a_machine_that_slept_makes_up_for_one_night() -> None:
    start = datetime(2026, 6, 1, 12, tzinfo=UTC)
    wakes = [start, start + timedelta(days=9), start + timedelta(days=9, minutes=1)]
    begun = nights(time(3, 30), BERLIN, start, 0, awake=wakes)
    assert begun == [datetime(2026, 6, 10, 1, 30, tzinfo=UTC)]


def test_the_time_that_has_passed_today_is_not_made_up_for_when_nights_are_switched_on() -> None:
    switched_on = datetime(2026, 6, 1, 12, tzinfo=UTC)
    assert due(time(3, 30), BERLIN, switched_on, switched_on) is None
    assert following(time(3, 30), BERLIN, switched_on) == datetime(2026, 6, 2, 1, 30, tzinfo=UTC)
    assert following(time(3, 30), BERLIN, datetime(2026, 6, 2, 1, 29, tzinfo=UTC)) == datetime(
        2026, 6, 2, 1, 30, tzinfo=UTC
    )


def test_times_of_day_are_read_and_others_refused() -> None:
    assert parse("3:30") == parse("03:30") == time(3, 30)
    assert parse("off") is parse("") is None
    for wrong in ("24:00", "3.30", "half past three", "3:60"):
        with pytest.raises(BadInput, match="write 03:30, or off"):
            parse(wrong)
