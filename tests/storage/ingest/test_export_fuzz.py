"""Whatever bytes a disk holds: a report whose counts add up, or one clear line. Never a traceback."""

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.database import Database
from storage.errors import LikemeError
from storage.ingest.export import ImportReport, import_export
from storage.ingest.overview import Overview
from storage.ingest.passes import read_through
from storage.ingest.reading import Batch, Owner, Reading
from tests.storage.ingest.broken_exports import OWNER, Pairs, broken_files, documents, quirky_documents, written

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SAMPLES = Path(__file__).resolve().parents[4] / "shared" / "corpora" / "broken"


@pytest.fixture(scope="module")
def samples() -> list[str]:
    """The real odd exports, shortened so that many damages can be tried on each."""
    if not SAMPLES.is_dir():
        pytest.skip("the broken exports are not beside the project (../shared/corpora/broken)")
    return [path.read_bytes().decode("utf-8", "replace")[:6000] for path in sorted(SAMPLES.iterdir())]


async def outcome_of(data: bytes, me: int | None = OWNER, times: int = 1) -> ImportReport | LikemeError:
    """What importing these bytes ends in; with `times`, what importing them again ends in."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        path.write_bytes(data)
        async with Database.open(Path(folder) / "history.db") as database:
            try:
                for _ in range(times):
                    report = await import_export(database, path, me=me, now=NOW)
            except LikemeError as error:
                return one_line(error, path)
            row = await database.row("SELECT count(*) AS stored FROM message")
            assert row is not None
            adds_up(report, row["stored"])
    return report


def one_line(error: LikemeError, path: Path) -> LikemeError:
    """The error says in one line which file it is about."""
    assert "\n" not in str(error)
    assert str(path) in str(error)
    return error


def adds_up(report: ImportReport, stored: int) -> None:
    """In and left out are all that was seen, and what came in is there."""
    came = sum(report.messages.values())
    assert report.seen == came + sum(report.left_out.values())
    assert came == report.new + report.updated + report.unchanged == stored
    assert all(count > 0 for counts in (report.chats, report.messages, report.left_out) for count in counts.values())
    assert report.lines()


@given(data=broken_files(quirky_documents()))
async def test_any_bytes_end_in_a_report_or_one_clear_line(data: bytes) -> None:
    await outcome_of(data)


@given(document=documents())
async def test_a_sound_file_with_odd_values_is_counted_to_the_last_entry(document: Pairs) -> None:
    report = await outcome_of(written(document).encode("utf-8", "replace"))
    assert isinstance(report, ImportReport)
    listed = [dict(chat)["messages"] for chat in dict(dict(document)["chats"])["list"]]
    assert report.seen == sum(map(len, listed))
    assert not report.damage


@given(data=broken_files(quirky_documents()))
async def test_the_same_bytes_again_add_and_change_nothing(data: bytes) -> None:
    again = await outcome_of(data, times=2)
    if isinstance(again, ImportReport):
        assert (again.new, again.updated, again.deleted) == (0, 0, 0)


@given(data=st.data())
async def test_real_odd_exports_with_any_damage_end_the_same_way(samples: list[str], data: st.DataObject) -> None:
    await outcome_of(data.draw(broken_files(st.sampled_from(samples))))


@given(data=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-16")))
async def test_bytes_that_are_no_export_get_one_line(data: bytes) -> None:
    assert isinstance(await outcome_of(data), LikemeError)


SMALL: Pairs = [
    ("personal_information", [("user_id", OWNER), ("first_name", "T\u00e9o \U0001f600")]),
    (
        "chats",
        [
            (
                "list",
                [
                    [
                        ("name", "Mira"),
                        ("type", "personal_chat"),
                        ("id", 5 + chat),
                        (
                            "messages",
                            [
                                [
                                    ("id", number),
                                    ("type", "message"),
                                    ("date_unixtime", str(1_700_000_000 + number)),
                                    ("from_id", f"user{OWNER}"),
                                    ("text", 'a "b"\\ \n\u00e9'),
                                    ("text_entities", [[("type", "plain"), ("text", 'a "b"\\ \n\u00e9')]]),
                                ]
                                for number in range(1, 4)
                            ],
                        ),
                    ]
                    for chat in range(2)
                ],
            )
        ],
    ),
]


def cut_short(path: Path) -> tuple[int, str]:
    """How many messages the reader gives of a file, and the damage it tells of; without a database, for speed."""
    batches: list[Batch] = []
    overview = Overview()
    overview.finish(read_through(path, overview, lambda: lambda position: None).root)
    reading = Reading(Owner(path, OWNER, None), {}, overview, batches.append)
    outcome = read_through(path, reading, lambda: lambda position: None)
    reading.end()
    return sum(len(batch.rows) for batch in batches), outcome.damage


PACKED: dict[str, Callable[[str], bytes]] = {
    "utf-8": str.encode,
    "utf-16": lambda text: text.encode("utf-16"),
    "gzip": lambda text: gzip.compress(text.encode(), mtime=0),
}


@pytest.mark.parametrize("form", PACKED)
def test_a_file_cut_at_any_byte_gives_what_stands_before_the_cut(tmp_path: Path, form: str) -> None:
    whole, path, before = PACKED[form](written(SMALL)), tmp_path / "result.json", 0
    for end in range(1, len(whole)):
        path.write_bytes(whole[:end])
        came, damage = cut_short(path)
        assert damage
        assert came >= before, f"cut at byte {end} of {len(whole)} less comes in than at the byte before"
        before = came
    assert before == 6


def test_the_generator_writes_what_json_reads() -> None:
    assert json.loads(written(SMALL))["chats"]["list"][1]["messages"][2]["id"] == 3
