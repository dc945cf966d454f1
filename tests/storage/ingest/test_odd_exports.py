"""Odd but honest exports: what other versions and other programs write, and what training takes of it."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bot.history import build_dataset
from storage import history
from storage.database import Database
from storage.errors import NotAnExport
from storage.ingest.export import ImportReport, import_export
from storage.records import MessageKind
from training.dataset.pairs import Options

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ME, FRIEND = 7001, 2001


def message(number: int, own: bool, text: Any, **more: Any) -> dict[str, Any]:
    """One message as Telegram Desktop writes it today."""
    when = 1_700_000_000 + 60 * number
    fields = {"id": number, "type": "message", "date_unixtime": str(when), "from_id": f"user{ME if own else FRIEND}"}
    return fields | {"text": text, "text_entities": []} | more


def account(*chats: dict[str, Any]) -> dict[str, Any]:
    """A whole account's export."""
    return {"personal_information": {"user_id": ME, "first_name": "Jo"}, "chats": {"list": list(chats)}}


def chat(messages: list[Any], chat_id: int = FRIEND, kind: str = "personal_chat") -> dict[str, Any]:
    """One chat's object."""
    return {"name": "Ben", "type": kind, "id": chat_id, "messages": messages}


async def bring_in(home: Path, data: Any) -> ImportReport:
    """Import a document, or the text of one."""
    path = home / "result.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    async with Database.open(home / "history.db") as database:
        return await import_export(database, path, now=NOW)


async def test_an_export_of_2019_names_people_by_numbers_and_times_without_a_zone(tmp_path: Path) -> None:
    def old(number: int, sender: int, text: Any) -> dict[str, Any]:
        when = f"2019-05-05T10:{number:02}:00"
        return {"id": number, "type": "message", "date": when, "edited": "1970-01-01T03:00:00", "from_id": sender,
                "text": text}  # fmt: skip

    first = [old(1, (1 << 32) + FRIEND, "hi"), old(2, (1 << 32) + ME, ["look: ", {"type": "link", "text": "x.org"}])]
    report = await bring_in(tmp_path, account(chat(first, (1 << 32) + FRIEND)))
    assert (report.new, report.own) == (2, 1)
    assert report.notes == {"dates without a zone, taken as UTC": 2}
    newer = [message(n, n == 2, "hi", date_unixtime=str(1_557_039_600 + 60 * n)) for n in (1, 2)]
    again = await bring_in(tmp_path, account(chat(newer)))
    assert (again.new, again.updated, again.deleted) == (0, 2, 0), "the exact dates replace those without a zone"
    async with Database.open(tmp_path / "history.db") as database:
        stored = await history.messages(database, FRIEND)
    assert [m.sender for m in stored] == [f"user{FRIEND}", f"user{ME}"]
    assert stored[0].date == datetime.fromtimestamp(1_557_039_660, UTC)
    assert all(m.edited_at is None for m in stored)


async def test_escapes_that_are_no_json_and_halves_of_characters_are_kept_as_text(tmp_path: Path) -> None:
    texts = (r"a\x0Bb", r"a\\x0Bb", r"\ud83d", r"\ud83d\ude00", r"\ude00\ud83d", r"nul\u0000nul", "tab\tline\nend")
    document = json.dumps(account(chat([message(n, False, f"@{n}@") for n in range(len(texts))])))
    for number, text in enumerate(texts):
        document = document.replace(f"@{number}@", text)
    report = await bring_in(tmp_path, document)
    async with Database.open(tmp_path / "history.db") as database:
        stored = [m.text for m in await history.messages(database, FRIEND)]
    assert stored == ["a\x0bb", r"a\x0Bb", "\ufffd", "😀", "\ufffd\ufffd", "nulnul", "tab\tline\nend"]
    assert report.notes == {"raw control characters, mended": 2}


async def test_ids_and_keys_that_stand_twice_come_in_once_and_the_later_state_counts(tmp_path: Path) -> None:
    first = [message(1, False, "hi"), message(2, True, "first"), message(2, True, "second"), message(1, False, "hi")]
    later = [message(2, True, "third", edited_unixtime="1700009999"), message(3, True, "new")]
    document = json.dumps(account(chat(first), chat([], 9), chat(later)))
    report = await bring_in(tmp_path, document.replace('"text": "new"', '"text": "old", "text": "new"'))
    assert (report.seen, report.new, sum(report.messages.values())) == (6, 3, 3)
    assert report.left_out == {"ids that stand twice in the file (the later state counts)": 3}
    async with Database.open(tmp_path / "history.db") as database:
        assert [m.text for m in await history.messages(database, FRIEND)] == ["hi", "third", "new"]


async def test_what_the_account_has_deleted_stays_and_is_marked(tmp_path: Path) -> None:
    everything = [message(n, n % 2 == 0, f"words {n}") for n in range(1, 7)]
    await bring_in(tmp_path, account(chat(everything)))
    report = await bring_in(tmp_path, account(chat([m for m in everything if m["id"] not in (3, 4)])))
    assert (report.new, report.updated, report.unchanged, report.deleted) == (0, 0, 4, 2)
    async with Database.open(tmp_path / "history.db") as database:
        rows = await database.rows("SELECT message_id, text FROM message WHERE deleted_at IS NOT NULL")
        assert [tuple(row) for row in rows] == [(3, "words 3"), (4, "words 4")]
        assert len(await history.messages(database, FRIEND)) == 4
    back = await bring_in(tmp_path, account(chat([*everything, message(7, False, "words 7")])))
    assert (back.new, back.updated) == (1, 2), "a newer export that has them again takes the marks away"


async def test_groups_are_learned_from_by_replies_alone_and_only_when_opted_in(tmp_path: Path) -> None:
    talk = [
        message(1, False, "who brings the tent on friday?", from_id="user3"),
        message(2, False, "and who has the stove?", from_id="user4"),
        message(3, True, "the tent is in my van already", reply_to_message_id=1),
        message(4, True, "anybody seen my hat"),
    ]
    one = [message(1, False, "are you coming to lunch?"), message(2, True, "ten minutes, the bus is late")]
    await bring_in(tmp_path, account(chat(talk, 50, "private_group"), chat(one)))
    async with Database.open(tmp_path / "history.db") as database:
        before = (await build_dataset(database, Options())).manifest
        assert before["pairs_found"] == 1
        assert before["left_out"] == {"chat is no personal one (group)": 4}
        async with database.transaction():
            await history.set_included(database, -50, True)
        after = await build_dataset(database, Options())
    group = [e for e in after.train + after.validation if e.chat_id == -50]
    assert [m["content"] for e in group for m in e.messages[1:]] == [
        "who brings the tent on friday?",
        "the tent is in my van already",
    ]
    assert after.manifest["left_out"] == {"in a group, no reply to anybody": 1}


async def test_a_folder_of_html_is_told_how_to_export_json(tmp_path: Path) -> None:
    (tmp_path / "messages.html").write_text("<html>")
    async with Database.open(tmp_path / "history.db") as database:
        with pytest.raises(NotAnExport, match="Machine-readable JSON"):
            await import_export(database, tmp_path, now=NOW)


async def test_everything_later_work_needs_is_kept_of_a_message(tmp_path: Path) -> None:
    entities = [{"type": "bold", "text": "so"}, {"type": "plain", "text": " it is"}]
    full = message(
        8, True, ["so", " it is"], text_entities=entities, reply_to_message_id=7, forwarded_from="The Paper",
        via_bot="@gif", edited_unixtime="1700001000", media_type="sticker", sticker_emoji="🙃",
    )  # fmt: skip
    await bring_in(tmp_path, account(chat([message(7, False, "hm"), full])))
    async with Database.open(tmp_path / "history.db") as database:
        [_, kept] = await history.messages(database, FRIEND)
    assert (kept.kind, kept.emoji, kept.reply_to, kept.sender) == (MessageKind.STICKER, "🙃", 7, f"user{ME}")
    assert (kept.forwarded_from, kept.via_bot, kept.text) == ("The Paper", "@gif", "so it is")
    assert kept.edited_at == datetime.fromtimestamp(1_700_001_000, UTC)
    assert json.loads(kept.entities) == entities
