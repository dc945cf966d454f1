"""`likeme backup` while a bot writes, and `likeme restore`: whole, checked, and with a way back."""

import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from bot import backup, restore
from storage import copying
from storage.database import Database
from storage.errors import BadInput, StorageError
from tests.bot.conftest import small_history
from tests.bot.test_command_line import likeme
from tests.small_disk import SmallDisk

NOW = datetime(2026, 11, 24, 20, 30, tzinfo=UTC)


def silent(done: int, total: int) -> None:
    """Nobody watches."""


@pytest_asyncio.fixture
async def home(tmp_path: Path) -> Path:
    """A home with a history, a voice, a running job, the sign-in, a base model, logs."""
    home = tmp_path / "home"
    await small_history(home)
    for name, content in {
        "adapters/0001/adapter_model.safetensors": os.urandom(300_000),
        "adapters/0001/manifest.json": b"{}",
        "adapters/.publishing-x/adapter_model.safetensors": b"half",
        "evaluations/0001/report.html": b"<p>",
        "files/file-1.jsonl": b"{}\n",
        "runs/ftjob-1/job.json": b"{}",
        "runs/ftjob-1/checkpoint.pt": b"big",
        "runs/ftjob-1/adapter/adapter_model.safetensors": b"big",
        "models/smollm2/model.safetensors": b"base",
        "account.session": b"the key to the account",
        "serve.log": b"log",
    }.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(content)
    return home


def packed(home: Path, name: str = "b.tar.gz") -> Path:
    return backup.back_up(home, home.parent / name, NOW, silent).path


def names(file: Path) -> set[str]:
    with tarfile.open(file) as archive:
        return set(archive.getnames())


def messages(home: Path) -> int:
    with closing(sqlite3.connect(home / "history.db")) as connection:
        return int(connection.execute("SELECT count(*) FROM message").fetchone()[0])


def test_it_holds_what_can_t_be_had_again_and_no_key_to_the_account(home: Path) -> None:
    file = packed(home)
    assert file.stat().st_mode & 0o777 == 0o600
    assert names(file) == {
        "history.db", "adapters/0001/adapter_model.safetensors", "adapters/0001/manifest.json",
        "evaluations/0001/report.html", "files/file-1.jsonl", "runs/ftjob-1/job.json", "manifest.json",
    }  # fmt: skip
    assert list(file.parent.glob(".*")) == [], "no scratch is left"


def test_while_another_process_writes_it_is_one_moment_of_the_history(home: Path) -> None:
    stop, wrote = threading.Event(), threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(home / "history.db", isolation_level=None)) as connection:
            number = 10_000
            while not stop.is_set():
                connection.execute("BEGIN IMMEDIATE")
                for _ in range(2):  # two at a time: a torn copy would have an odd one
                    number += 1
                    connection.execute(
                        "INSERT INTO message (chat_id, message_id, date, is_own, kind, text) VALUES (2000, ?, 1, 0, "
                        "'text', 'while it is packed')", (number,),
                    )  # fmt: skip
                connection.execute("COMMIT")
                wrote.set()

    writer = threading.Thread(target=write)
    writer.start()
    shares: list[float] = []
    try:
        wrote.wait(20)
        made = backup.back_up(home, home.parent / "b.tar.gz", NOW, lambda done, total: shares.append(done / total))
    finally:
        stop.set()
        writer.join()
    assert made.messages % 2 == 0
    assert 128 < made.messages <= messages(home)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    fresh = home.parent / "fresh"
    fresh.mkdir()
    assert restore.restore(fresh, made.path, NOW, force=False).messages == made.messages
    assert copying.look(fresh / "history.db").messages == made.messages


def test_a_backup_is_not_overwritten_and_needs_a_home(home: Path, tmp_path: Path) -> None:
    packed(home)
    with pytest.raises(BadInput, match="not overwritten"):
        packed(home)
    with pytest.raises(BadInput, match="nothing in"):
        backup.back_up(tmp_path / "nowhere", tmp_path / "c.tar.gz", NOW, silent)


def test_a_full_disk_leaves_nothing_of_it(home: Path, small_disk: SmallDisk) -> None:
    small_disk.fill(but=200_000)
    with pytest.raises(StorageError, match="more room"):
        backup.back_up(home, small_disk.path / "b.tar.gz", NOW, silent)
    assert [path.name for path in small_disk.path.iterdir()] == ["filler"]


def test_a_home_in_use_is_set_aside_only_by_force_and_comes_back(home: Path) -> None:
    file = packed(home)
    with closing(sqlite3.connect(home / "history.db")) as connection, connection:
        connection.execute("DELETE FROM message WHERE chat_id = 2001")
    (home / "adapters/0002").mkdir()
    with pytest.raises(BadInput, match="--force"):
        restore.restore(home, file, NOW, force=False)
    assert messages(home) == 112
    done = restore.restore(home, file, NOW, force=True)
    assert (done.messages, messages(home)) == (128, 128)
    assert not (home / "adapters/0002").exists()
    assert (home / "account.session").read_bytes() == b"the key to the account", "of the same account: it stays"
    assert (home / "models/smollm2/model.safetensors").exists()
    restore.undo(home, NOW + timedelta(seconds=1))
    assert messages(home) == 112
    assert (home / "adapters/0002").is_dir()
    restore.undo(home, NOW + timedelta(seconds=2))
    assert messages(home) == 128
    for path in ((home / "history.db"), *(home / "adapters").rglob("*")):
        assert path.stat().st_mode & 0o077 == 0


async def test_another_account_s_sign_in_goes_aside(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    await small_history(other)
    with closing(sqlite3.connect(other / "history.db")) as connection, connection:
        connection.execute("UPDATE account SET user_id = 77")
    done = restore.restore(home, packed(other), NOW, force=True)
    assert done.aside is not None
    assert not (home / "account.session").exists()
    assert (done.aside / "account.session").exists()


@pytest.mark.parametrize("harm", ["cut off", "changed", "no manifest", "no archive", "a link", "newer"])
def test_what_is_no_whole_backup_changes_nothing(home: Path, harm: str) -> None:
    file = packed(home)
    content = file.read_bytes()
    bad = home.parent / "bad.tar.gz"
    if harm == "cut off":
        bad.write_bytes(content[: len(content) // 2])
    elif harm == "no archive":
        bad.write_bytes(b"hello" * 100)
    else:
        _repacked(file, bad, harm)
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file() and "history" not in path.name}
    with pytest.raises((BadInput, StorageError)):
        restore.restore(home, bad, NOW, force=True)
    assert messages(home) == 128
    assert all(path.read_bytes() == kept for path, kept in before.items())
    assert not (home / restore.INCOMING).exists()


def _repacked(file: Path, bad: Path, harm: str) -> None:
    with tarfile.open(file) as old, tarfile.open(bad, "w:gz") as new:
        for member in old:
            content = old.extractfile(member)
            assert content is not None
            data = content.read()
            if harm == "no manifest" and member.name == "manifest.json":
                continue
            if harm == "changed" and member.name.endswith("safetensors"):
                data = data[:-1] + b"x"
            if harm == "newer" and member.name == "history.db":
                data = data[:60] + (999).to_bytes(4, "big") + data[64:]
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
        if harm == "a link":
            link = tarfile.TarInfo("adapters/0001/elsewhere")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            new.addfile(link)


@pytest.mark.parametrize("kept", range(8))
def test_a_kill_among_the_moves_is_made_good_by_the_next_command(home: Path, kept: int) -> None:
    file = packed(home)
    with closing(sqlite3.connect(home / "history.db")) as connection, connection:
        connection.execute("DELETE FROM message WHERE chat_id = 2001")
    code = (  # a real process, killed by its own hand before the kept-th move
        "import os, signal, sys\nfrom datetime import datetime, UTC\nfrom pathlib import Path\n"
        "from bot import restore\n"
        f"real, left = os.rename, [{kept}]\n"
        "def rename(*a):\n    left[0] -= 1\n    left[0] < 0 and os.kill(os.getpid(), signal.SIGKILL)\n    real(*a)\n"
        "restore.os.rename = rename\n"
        "restore.restore(Path(sys.argv[1]), Path(sys.argv[2]), datetime.now(UTC), force=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(home), str(file)], capture_output=True, check=False)
    assert done.returncode in (-signal.SIGKILL, 0), done.stderr
    restore.finish(home)
    assert messages(home) == 128
    assert (home / "adapters/0001/manifest.json").exists()
    [aside] = home.glob("before-restore-*")
    assert messages(aside) == 112
    assert not (home / restore.MOVES).exists()


def test_moves_that_can_t_be_noted_leave_the_way_back_open(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = packed(home)
    with closing(sqlite3.connect(home / "history.db")) as connection, connection:
        connection.execute("DELETE FROM message WHERE chat_id = 2001")
    restore.restore(home, file, NOW, force=True)

    def full(path: Path, content: bytes) -> None:
        raise StorageError("make room")

    monkeypatch.setattr(restore, "write_private", full)
    with pytest.raises(StorageError):
        restore.restore(home, file, NOW + timedelta(seconds=1), force=True)
    monkeypatch.undo()
    restore.undo(home, NOW + timedelta(seconds=2))
    assert messages(home) == 112


async def test_a_chat_that_was_forgotten_since_stays_forgotten_and_leaves_no_word(home: Path) -> None:
    file = packed(home)
    forgot = likeme("forget", "2001", "--yes", home=home)
    assert forgot.returncode == 0, forgot.stderr
    back = likeme("restore", str(file), "--force", home=home)
    assert back.returncode == 0, back.stderr
    assert "1 chats stay forgotten" in back.stdout
    async with Database.open(home / "history.db") as database:
        assert await database.rows("SELECT 1 FROM message WHERE chat_id = 2001") == []
        assert len(await database.rows("SELECT 1 FROM message WHERE chat_id = 2002")) == 16
    words = b"Question 1 3, are you there?"
    assert _holding(home, words) == []


def _holding(home: Path, words: bytes) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file() and words in path.read_bytes()]


def test_the_command_line_packs_and_restores(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.tar.gz"
    made = json.loads(likeme("backup", str(file), "--json", home=home).stdout)
    assert made["messages"] == 128
    fresh = tmp_path / "fresh"
    back = likeme("restore", str(file), home=fresh)
    assert (back.returncode, "128 messages" in back.stdout) == (0, True), back.stderr
    assert fresh.stat().st_mode & 0o077 == 0
    again = likeme("restore", str(file), home=fresh)
    assert again.returncode == 2
    assert "--force sets its content aside" in again.stderr
    assert likeme("restore", home=fresh).returncode == 2


def test_a_running_bot_is_not_pulled_from_under_itself(home: Path) -> None:
    from bot.alone import BOT, alone

    file = packed(home)
    with alone(home / BOT, BadInput("")), pytest.raises(BadInput, match="stop it first"):
        restore.restore(home, file, NOW, force=True)
    (home / "serve.json").write_text(json.dumps({"pid": os.getpid()}))
    with pytest.raises(BadInput, match="model server works"):
        restore.restore(home, file, NOW, force=True)
