"""Exports on their way in, from the files of a real disk to rows that can be searched."""

import asyncio
import gzip
import json
import sys
from asyncio.subprocess import DEVNULL
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bot.sandbox.sample import export as sample_export
from storage import history
from storage.database import Database
from storage.errors import BadInput, LikemeError, NotAnExport, StorageError
from storage.ingest.export import import_export
from storage.records import ChatKind, MessageKind

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SHARED = Path(__file__).resolve().parents[3] / "shared" / "corpora"


async def bring_in(home: Path, path: Path, me: int | None = None) -> Any:
    async with Database.open(home / "history.db") as database:
        return await import_export(database, path, me=me, now=NOW)


def written(path: Path, data: Any) -> Path:
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    return path


async def test_every_kind_of_message_comes_in_and_again_adds_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "result.json", sample_export())
    first = await bring_in(tmp_path, path)
    total = sum(len(chat["messages"]) for chat in sample_export()["chats"]["list"])
    assert first.new == total
    again = await bring_in(tmp_path, path)
    assert (again.new, again.updated, again.unchanged, again.deleted) == (0, 0, total, 0)
    async with Database.open(tmp_path / "history.db") as database:
        kinds = {chat.kind for chat in await history.chats(database)}
        assert {ChatKind.PERSONAL, ChatKind.GROUP, ChatKind.SAVED, ChatKind.BOT, ChatKind.CHANNEL} <= kinds
        ben = await history.messages(database, 2002)
        assert any(m.kind is MessageKind.STICKER and m.emoji == "😂" for m in ben)
        assert any(m.kind is MessageKind.SERVICE for m in ben)
        assert any(m.forwarded_from == "Mill Lane Festival" for m in ben)
        assert any(m.via_bot == "@gif" for m in ben)
        assert any(m.edited_at is not None for m in ben)
        found = await history.search(database, "festival toilets")
        assert found
        assert all("toilets" in m.text.casefold() for m in found)


@pytest.mark.parametrize("form", ["gz", "folder", "bom", "utf-16", "escapes"])
async def test_the_forms_in_which_a_disk_holds_it(tmp_path: Path, form: str) -> None:
    text = json.dumps(sample_export(), ensure_ascii=False)
    path = tmp_path / "result.json"
    if form == "gz":
        path = tmp_path / "result.json.gz"
        path.write_bytes(gzip.compress(text.encode()))
    elif form == "bom":
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    elif form == "utf-16":
        path.write_bytes(text.encode("utf-16"))
    elif form == "escapes":
        path.write_text(text.replace("quietdrums77", r"quiet\x0Bdrums\\x77 \ud83d"), encoding="utf-8")
    else:
        path.write_text(text, encoding="utf-8")
        path = tmp_path
    report = await bring_in(tmp_path, path)
    assert report.new > 1000
    assert report.damage == ""


async def test_a_newer_export_adds_applies_edits_and_marks_what_is_gone(tmp_path: Path) -> None:
    old = sample_export()
    new = json.loads(json.dumps(old))
    chat = new["chats"]["list"][0]["messages"]
    chat[3] |= {"text": "changed", "edited_unixtime": "1780000000"}
    gone = chat.pop(5)
    chat.append({**chat[-1], "id": 9999, "text": "new words"})
    await bring_in(tmp_path, written(tmp_path / "old.json", old))
    report = await bring_in(tmp_path, written(tmp_path / "new.json", new))
    assert (report.new, report.updated, report.deleted) == (1, 1, 1)
    back = await bring_in(tmp_path, tmp_path / "old.json")
    assert (back.new, back.deleted) == (0, 0), "an older export deletes nothing"
    async with Database.open(tmp_path / "history.db") as database:
        stored = {m.message_id: m for m in await history.messages(database, 2001)}
        assert stored[chat[3]["id"]].text == "changed", "an older export undoes no edit"
        assert stored[9999].text == "new words"
        assert gone["id"] not in stored


async def test_a_cut_file_gives_what_stands_before_the_cut_and_names_the_place(tmp_path: Path) -> None:
    text = json.dumps(sample_export(), ensure_ascii=False).encode()
    path = tmp_path / "cut.json"
    path.write_bytes(text[: len(text) // 2])
    report = await bring_in(tmp_path, path)
    assert 300 < report.new < 1500
    assert "after message" in report.damage
    packed = gzip.compress(text)
    (tmp_path / "cut.json.gz").write_bytes(packed[: len(packed) // 2])
    assert (await bring_in(tmp_path / "b", tmp_path / "cut.json.gz")).damage


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b'{"a": 1}', "no Telegram export"),
        (b"\x89PNG\r\n\x1a\n\0\0", "no Telegram export"),
        (b"[1, 2", "no Telegram export"),
    ],
)
async def test_what_is_no_export_gets_one_line_that_says_how(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(content)
    with pytest.raises(NotAnExport, match=says) as caught:
        await bring_in(tmp_path, path)
    assert "JSON" in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_one_chat_s_export_asks_who_the_owner_is(tmp_path: Path) -> None:
    path = written(tmp_path / "result.json", sample_export()["chats"]["list"][0])
    with pytest.raises(BadInput, match="--me"):
        await bring_in(tmp_path, path)
    report = await bring_in(tmp_path, path, me=7001)
    assert report.new > 50


async def test_somebody_else_s_export_is_refused(tmp_path: Path) -> None:
    await bring_in(tmp_path, written(tmp_path / "a.json", sample_export()))
    other = sample_export()
    other["personal_information"]["user_id"] = 1
    with pytest.raises(BadInput, match="another folder with --home"):
        await bring_in(tmp_path, written(tmp_path / "b.json", other))


@pytest.mark.parametrize("name", ["old_2019_format", "single_chat", "telegram_x_escapes", "truncated_midstring"])
async def test_the_broken_samples_come_in(tmp_path: Path, name: str) -> None:
    path = SHARED / "broken" / f"{name}.result.json"
    if not path.is_file():
        pytest.skip("the broken exports are not beside the project (../shared/corpora/broken)")
    report = await bring_in(tmp_path, path, me=1001 if name == "single_chat" else None)
    assert report.new > 10
    assert bool(report.damage) == (name == "truncated_midstring")


@pytest.mark.slow
async def test_an_import_killed_at_any_moment_is_completed_by_the_next(tmp_path: Path) -> None:
    data = sample_export()
    base = data["chats"]["list"][0]["messages"]
    data["chats"]["list"][0]["messages"] = [{**base[i % len(base)], "id": i + 1} for i in range(30_000)]
    path = written(tmp_path / "result.json", data)
    total = sum(len(chat["messages"]) for chat in data["chats"]["list"])
    for delay in (0.5, 0.9, 1.3):
        arguments = ("-m", "bot", "import", str(path), "--home", str(tmp_path / "home"))
        process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=DEVNULL, stderr=DEVNULL)
        await asyncio.sleep(delay)
        if process.returncode is None:
            process.kill()
        await process.wait()
    report = await bring_in(tmp_path / "home", path)
    assert report.new + report.unchanged == total
    async with Database.open(tmp_path / "home" / "history.db") as database:
        row = await database.row("PRAGMA integrity_check")
        assert row is not None
        assert row[0] == "ok"
        counts = await history.chat_counts(database)
        assert sum(count.messages for count in counts) == total


async def test_a_locked_or_foreign_file_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "history.db").write_bytes(b"this is no database at all, it is a text" * 30)
    with pytest.raises(LikemeError, match="no likeme database"):
        async with Database.open(tmp_path / "history.db"):
            pass


async def test_a_full_disk_is_told_in_one_line_and_loses_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "result.json", sample_export())

    async def with_little_room() -> None:
        async with Database.open(tmp_path / "history.db") as database:
            await database.rows("PRAGMA max_page_count = 60")
            await import_export(database, path, now=NOW)

    with pytest.raises(StorageError, match="disk is full"):
        await with_little_room()
    report = await bring_in(tmp_path, path)
    assert report.new == report.seen > 1000
