"""The list of chats, on and off, and what is left of a chat that is forgotten: nothing but its id."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bot import chats
from bot import history as sets
from bot.context import App
from bot.history import build_dataset, save_dataset
from bot.sandbox.mtproto.server import MtprotoServer
from bot.sandbox.server import Sandbox
from bot.settings import Settings
from storage import drafts, forgetting, history, positions, quizzes, runs
from storage.database import Database
from storage.errors import BadInput
from storage.ingest.export import import_export
from storage.records import Account, Chat, ChatKind, Message, MessageKind
from tests.bot.conftest import Listener, small_history
from tests.bot.test_command_line import likeme
from tests.bot.test_sync import stored, synced
from tests.sandbox_fixtures import ANNA, OWNER
from training.dataset.pairs import Options
from training.files import Files

NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def test_chats_are_listed_and_switched_by_id_or_name(tmp_path: Path) -> None:
    home = tmp_path / "home"
    await small_history(home, chats=3)
    listed = json.loads(likeme("chats", "--json", home=home).stdout)
    assert [(c["chat_id"], c["on"], c["messages"], c["own"]) for c in listed["chats"]] == [
        (2000, True, 16, 8),
        (2001, True, 16, 8),
        (2002, True, 16, 8),
    ]
    shown = likeme("chats", "--off", "friend 1", home=home)
    assert shown.returncode == 0, shown.stderr
    assert "Friend 1" in shown.stdout
    listed = json.loads(likeme("chats", "--on", "2000", "--json", home=home).stdout)
    assert [c["on"] for c in listed["chats"]] == [True, False, True]
    wrong = likeme("chats", "--off", "friend", home=home)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("3 chats are meant by friend: Friend 0 (2000), ")
    assert "There is no chat nobody" in likeme("forget", "nobody", "--yes", home=home).stderr


async def test_a_forgotten_chat_leaves_no_word_behind(tmp_path: Path) -> None:
    home = tmp_path / "home"
    settings = Settings(likeme_home=home)
    await small_history(home)
    secret = "zanzibarquokka"
    async with Database.open(home / "history.db") as database:
        async with database.transaction():
            message = Message(2003, 99, NOW, f"user{OWNER}", True, MessageKind.TEXT, f"our {secret} again")
            await history.put_messages(database, [message])
            await drafts.add(database, chat_id=2003, context=[("user", secret)], model="m", replies=[secret], now=NOW)
            await drafts.add(database, chat_id=2004, context=[("user", "other")], model="m", replies=["kept"], now=NOW)
            question = [quizzes.NewQuestion(chat, 1, secret, (), "three") for chat in (2003, 2004)]
            await quizzes.add_quiz(database, chat_id=None, model="m", seed=1, questions=question[:1], now=NOW)
            await positions.move(database, 2003, positions.Position(99, 1, True))
        dataset = await build_dataset(database, Options())
        folder = save_dataset(dataset, home / "datasets" / "one")
        uploaded = home / "files" / "file-000000000000000000000000.jsonl"
        uploaded.parent.mkdir()
        uploaded.write_text("of somebody else")
        result = Files(home / "files").keep(secret.encode(), "likeme-0001.json", "fine-tune-results")
        for page in ("evaluations/0001/report.html", "adapters/0001/evaluation.json"):
            (home / page).parent.mkdir(parents=True)
            (home / page).write_text(secret)
        await database.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        assert secret.encode() in (home / "history.db").read_bytes()
        gone = await chats.forget(settings, database, 2003)
        assert (gone.messages, gone.drafts, gone.questions) == (17, 1, 1)
        assert await history.search(database, secret) == []
        assert [m.text for m in await history.search(database, "question 4")][:1]
        await database.rows("INSERT INTO message_words (message_words) VALUES ('integrity-check')")
        assert await drafts.find(database, 2) is not None
        assert await positions.positions(database) == {}
    for path in home.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
            assert b"Friend 3" not in path.read_bytes(), path
    assert not folder.exists()
    assert uploaded.exists()
    assert Files(home / "files").get(result.id) is None


@pytest.mark.parametrize("written", [1, 2, 3])
async def test_nor_where_a_writer_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int) -> None:
    home, left, plain = tmp_path / "home", [written], sets.write_private

    def killed(path: Path, content: bytes) -> None:
        left[0] -= 1
        if left[0] < 0:
            path.with_name(f".{path.name}.part").write_bytes(content)
            raise InterruptedError
        plain(path, content)

    await small_history(home)
    monkeypatch.setattr(sets, "write_private", killed)
    async with Database.open(home / "history.db") as database:
        dataset = await build_dataset(database, Options())
        with pytest.raises(InterruptedError):
            save_dataset(dataset, home / "datasets" / "one")
        for scrap in ("files/.file-0.jsonl.part", "adapters/0001/.evaluation.json.part"):
            (home / scrap).parent.mkdir(parents=True)
            (home / scrap).write_bytes(dataset.train_jsonl())
        await chats.forget(Settings(likeme_home=home), database, 2003)
    assert [path for path in home.rglob("*") if path.is_file() and b"Question 3" in path.read_bytes()] == []


@pytest.mark.parametrize("gone", ["index.jsonl", "train.jsonl", "validation.jsonl", "manifest.json"])
async def test_a_forgetting_that_was_killed_is_ended_by_the_next(tmp_path: Path, gone: str) -> None:
    home = tmp_path / "home"
    await small_history(home)
    async with Database.open(home / "history.db") as database:
        dataset = await build_dataset(database, Options())
        save_dataset(dataset, home / "datasets" / "one")
        (home / "datasets" / "one" / gone).unlink()  # as a kill between two files leaves it
        await chats.forget(Settings(likeme_home=home), database, 2003)
    assert list((home / "datasets").iterdir()) == []


async def test_voices_trained_on_it_are_marked_and_the_next_training_is_without_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    await small_history(home)
    async with Database.open(home / "history.db") as database:
        before = await build_dataset(database, Options())
        sha = before.manifest["sha256"]
        async with database.transaction():
            for number, data in ((1, sha), (2, "of other chats")):
                version = runs.Version(number, f"likeme-{number:04}", f"job{number}", NOW, "base", data, {})
                await runs.add_version(database, version)
            await forgetting.note_training(database, sha, [e.chat_id for e in before.train])
        assert await forgetting.marked(database) == {}
        assert (await chats.forget(Settings(likeme_home=home), database, 2003)).voices == (1,)
        assert await forgetting.marked(database) == {1: 1}
        after = await build_dataset(database, Options())
        assert {e.chat_id for e in (*before.train, *before.validation)} >= {2003}
        assert 2003 not in {e.chat_id for e in (*after.train, *after.validation)}
    shown = json.loads(likeme("versions", "--json", home=home).stdout)
    assert [version["forgotten_chats"] for version in shown["versions"]] == [1, 0]
    assert "version 1 was trained on chats that you have forgotten" in likeme("versions", home=home).stdout


def export_of(path: Path) -> Path:
    def chat(chat_id: int, name: str) -> dict[str, object]:
        entry = {"id": 1, "type": "message", "date": "2025-01-01T10:00:00", "date_unixtime": "1735725600"}
        entry |= {"from": name, "from_id": f"user{chat_id}", "text": f"from {name}", "text_entities": []}
        return {"id": chat_id, "type": "personal_chat", "name": name, "messages": [entry]}

    whole = {
        "personal_information": {"user_id": OWNER, "first_name": "Owner"},
        "chats": {"list": [chat(2001, "Ann"), chat(2002, "Bob")]},
    }
    path.write_text(json.dumps(whole))
    return path


async def test_no_import_brings_it_back_until_it_is_undone(tmp_path: Path) -> None:
    path, home = export_of(tmp_path / "result.json"), tmp_path / "home"
    async with Database.open(home / "history.db") as database:
        await import_export(database, path, now=NOW)
        await chats.forget(Settings(likeme_home=home), database, 2001)
        report = await import_export(database, path, now=NOW)
        assert report.left_out == {"in a chat that you have forgotten": 1}
        assert [chat.chat_id for chat in await history.chats(database)] == [2002]
    undone = likeme("forget", "2001", "--undo", home=home)
    assert undone.returncode == 0, undone.stderr
    assert "2001 is not among the forgotten" in likeme("forget", "2001", "--undo", home=home).stderr
    async with Database.open(home / "history.db") as database:
        assert (await import_export(database, path, now=NOW)).new == 1


async def test_no_sync_brings_it_back_until_it_is_undone(telegram: MtprotoServer, signed_in: Settings) -> None:
    telegram.world.write(ANNA, OWNER, "remember me")
    await synced(signed_in)
    assert stored(signed_in) == [(ANNA, "remember me")]
    async with Database.open(signed_in.likeme_home / "history.db") as database:
        await chats.forget(signed_in, database, ANNA)
    telegram.world.write(ANNA, OWNER, "still there?")
    report, _, _ = await synced(signed_in)
    assert report.left_out == {"forgotten": 1}
    assert stored(signed_in) == []
    async with Database.open(signed_in.likeme_home / "history.db") as database:
        assert await history.chats(database) == []
        assert await chats.allow_again(database, ANNA)
    await synced(signed_in)
    assert len(stored(signed_in)) == 2


def answered(home: Path, answer: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bot", "forget", "Friend 1"],
        input=answer,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LIKEME_HOME": str(home), "COLUMNS": "200"},
    )


async def test_the_terminal_asks_before_it_forgets(tmp_path: Path) -> None:
    home = tmp_path / "home"
    await small_history(home, chats=2)
    for answer, left in (("n\n", 2), ("y\n", 1)):
        done = answered(home, answer)
        assert "Its 16 messages here go" in done.stderr
        assert done.returncode == (2 if left == 2 else 0)
        async with Database.open(home / "history.db") as database:
            assert len(await history.chats(database)) == left


async def test_a_name_that_many_have_needs_the_id(tmp_path: Path) -> None:
    async with Database.open(tmp_path / "history.db") as database:
        async with database.transaction():
            await history.set_account(database, Account(OWNER))
            for chat_id, name in ((1, "Ann"), (2, "Ann"), (3, "Anna"), (4, "4")):
                await history.put_chat(database, Chat(chat_id, ChatKind.PERSONAL, name))
        with pytest.raises(BadInput, match="2 chats are meant by Ann"):
            await chats.find(database, "Ann")
        assert (await chats.find(database, "anna")).chat_id == 3
        assert (await chats.find(database, "2")).chat_id == 2


@pytest.mark.slow
async def test_in_the_bot_a_tap_switches_and_a_tap_forgets(
    sandbox: Sandbox, settings: Settings, bot: App, owner_hears: Listener
) -> None:
    world = sandbox.world
    shown = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/chats"), lambda m: bool(m.buttons))
    assert "8 chats, I learn from 8" in shown.text
    shown = await owner_hears.after(lambda: world.tap(OWNER, shown, "✓ Friend 2"), edits=True)
    assert "I learn from 7" in shown.text
    assert any(button["text"].startswith("– Friend 2") for row in shown.buttons for button in row)
    asked = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/forget friend 5"), lambda m: bool(m.buttons))
    assert "Forget Friend 5? Its 16 messages" in asked.text
    kept = await owner_hears.after(lambda: world.tap(OWNER, asked, "keep"), edits=True)
    assert kept.text == "Nothing was changed."
    asked = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/forget 2005"), lambda m: bool(m.buttons))
    done = await owner_hears.after(lambda: world.tap(OWNER, asked, "forget"), edits=True)
    assert done.text == "Forgotten: 16 messages, 0 drafts, 0 quiz questions.\nNo voice was trained on it."
    async with Database.open(settings.likeme_home / "history.db") as database:
        assert await history.find_chat(database, 2005) is None
        assert 2005 in await forgetting.forgotten(database)
    listed = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/chats"))
    assert "Forgotten: 2005." in listed.text
    undone = await owner_hears.after(lambda: world.tap(OWNER, done, "undo"), edits=True)
    assert "may bring it back" in undone.text
    which = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/forget"))
    assert "Which one?" in which.text
    none = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/forget Nobody"))
    assert "There is no chat Nobody: /chats lists them." in none.text
