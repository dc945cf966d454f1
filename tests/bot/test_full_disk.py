"""On a full disk, and on a history that somebody else holds: a clear word, nothing lost, nothing half-written."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bot import history as sets
from bot.sandbox.sample import write_export
from storage import history
from storage.database import Database
from storage.errors import StorageError
from tests.bot.conftest import BOT, small_history, until
from tests.bot.test_command_line import likeme
from tests.desk_fixtures import Desk
from tests.sandbox_fixtures import ANNA, OWNER
from tests.small_disk import SmallDisk
from tests.voice_fixtures import Script

pytestmark = pytest.mark.slow


@pytest.fixture
def model_url(scripted_url: str) -> str:
    """A model that says what a test wants."""
    return scripted_url


@pytest.fixture
def owner_home(small_disk: SmallDisk, monkeypatch: pytest.MonkeyPatch) -> Path:
    """It lies on the small disk, whose bot is impatient."""
    monkeypatch.setattr("bot.waiting.AGAIN_SECONDS", 0.3)
    monkeypatch.setattr("bot.polling.LONGEST_SECONDS", 0.5)
    return small_disk.path / "home"


async def test_what_a_friend_writes_on_a_full_disk_is_taken_in_when_there_is_room(
    desk: Desk, small_disk: SmallDisk, script: Script
) -> None:
    def told() -> list[str]:
        mine = [m for m in desk.world.messages.values() if (m.sender, m.chat_id) == (BOT, OWNER)]
        return [m.text for m in mine if "The disk is full" in m.text]

    small_disk.fill()
    desk.world.write(ANNA, OWNER, "friday? " * 400)
    await until(told)
    await asyncio.sleep(2)
    assert len(told()) == 1, "once, not with every try"
    assert "make room" in told()[0]
    assert script.asked == []
    small_disk.free()
    await until(lambda: any("friday?" in m.text and m.buttons for m in desk.world.messages.values()))
    kept = await history.messages(desk.services.database, ANNA)
    assert [m.text for m in kept] == ["friday? " * 400]


def test_an_import_on_a_full_disk_says_so_and_goes_on_when_there_is_room(small_disk: SmallDisk, tmp_path: Path) -> None:
    export, home = tmp_path / "result.json", small_disk.path / "home"
    write_export(export)
    small_disk.fill(but=120_000)
    full = likeme("import", str(export), home=home)
    assert full.returncode == 3
    assert full.stderr.strip().splitlines()[-1].startswith("The disk is full")
    small_disk.free()
    again = likeme("import", str(export), home=home)
    assert again.returncode == 0, again.stderr
    with closing(sqlite3.connect(home / "history.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM message").fetchone()[0] > 1000


async def test_a_training_set_that_does_not_fit_is_not_half_there(small_disk: SmallDisk, tmp_path: Path) -> None:
    await small_history(tmp_path / "home")
    async with Database.open(tmp_path / "home" / "history.db") as database:
        built = await sets.build_dataset(database, sets.Options())
    small_disk.fill(but=8192)
    with pytest.raises(StorageError, match="make room"):
        sets.save_dataset(built, small_disk.path / "set")
    assert not (small_disk.path / "set" / "manifest.json").exists()
    assert list((small_disk.path / "set").glob(".*")) == []


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Path]:
    """A home whose history another program has locked."""
    home = tmp_path / "home"
    asyncio.run(small_history(home))
    with closing(sqlite3.connect(home / "history.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield home


def test_a_locked_history_is_told_with_what_to_do(held: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.database.BUSY_TIMEOUT_SECONDS", 0.2)

    async def write() -> None:
        async with Database.open(held / "history.db") as database, database.transaction():
            raise AssertionError("it was locked")

    with pytest.raises(StorageError, match="locked by another program: stop the other likeme"):
        asyncio.run(write())


async def test_a_database_of_a_newer_likeme_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE of_the_future (x)")
        connection.execute("PRAGMA user_version = 999")
    before = path.read_bytes()
    with pytest.raises(StorageError, match="newer likeme"):
        async with Database.open(path):
            pass
    assert path.read_bytes() == before
