"""docs/history.md says what the code does: each of its tables is made again here, through a real import."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest_asyncio

from storage import history
from storage.database import Database
from storage.ingest import entries, export, reading
from storage.records import Chat, ChatKind, MessageKind
from training.dataset.pairs import ChatPairs, Options, pairs_of

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "history.md"
ME, FRIEND = 7001, 2001
Entry = dict[str, Any]

KINDS: dict[str, tuple[str, Entry]] = {  # what it is -> (how the export tells it, its fields)
    "text": ("`text`", {"text": "words"}),
    "sticker": (
        "`media_type: sticker`, `sticker_emoji`",
        {"media_type": "sticker", "sticker_emoji": "😂", "file": "f"},
    ),
    "photo": ("`photo`", {"photo": "f"}),
    "photo with a caption": ("`photo`, `text`", {"photo": "f", "text": "words"}),
    "video": ("`media_type: video_file`", {"media_type": "video_file", "file": "f"}),
    "animation": ("`media_type: animation`", {"media_type": "animation", "file": "f"}),
    "voice": ("`media_type: voice_message`", {"media_type": "voice_message", "file": "f"}),
    "video_note": ("`media_type: video_message`", {"media_type": "video_message", "file": "f"}),
    "audio": ("`media_type: audio_file`", {"media_type": "audio_file", "file": "f"}),
    "file": ("`file`", {"file": "f"}),
    "poll": ("`poll`", {"poll": {"question": "?"}}),
    "location": ("`location_information`, `place_name`", {"location_information": {}}),
    "contact": ("`contact_information`", {"contact_information": {}}),
    "game": ("`game_title`", {"game_title": "Chess"}),
    "invoice": ("`invoice_information`", {"invoice_information": {}}),
    "service": ("`type: service` (calls, pins, joins …)", {"type": "service", "action": "phone_call"}),
    "other": ("any newer `media_type`, giveaways, to-do lists", {"media_type": "hologram"}),
    "forwarded": ("`forwarded_from`", {"text": "words", "forwarded_from": "The Paper"}),
    "via a bot": ("`via_bot`", {"text": "words", "via_bot": "@gif"}),
}
CHATS = (
    "personal_chat", "bot_chat", "saved_messages", "private_group", "private_supergroup", "public_supergroup",
    "private_channel", "public_channel", "replies", "verification_codes",
)  # fmt: skip
ANSWERS: dict[str, list[tuple[bool, Entry]]] = {  # what happens -> messages (own or not)
    "words": [(False, {"text": "hm?"}), (True, {"text": "ok then"})],
    "several messages in a row": [(False, {"text": "hm?"}), (True, {"text": "ok"}), (True, {"text": "then"})],
    "a link and nothing else": [(False, {"text": "hm?"}), (True, {"text": "https://example.org/x"})],
    "a command to a bot": [(False, {"text": "hm?"}), (True, {"text": "/start"})],
    "a secret and nothing else": [(False, {"text": "hm?"}), (True, {"text": "anna@example.org"})],
    "more than 1,000 characters": [(False, {"text": "hm?"}), (True, {"text": "word " * 300})],
    "words nobody asked for": [(True, {"text": "hello there"})],
    "an answer to a forwarded message": [
        (False, {"text": "news", "forwarded_from": "The Paper"}),
        (True, {"text": "oh"}),
    ],
}


@pytest_asyncio.fixture
async def database(tmp_path: Path) -> Any:
    """An empty home's."""
    async with Database.open(tmp_path / "history.db") as opened:
        yield opened


async def test_the_table_of_kinds_is_what_becomes_of_them(database: Database, tmp_path: Path) -> None:
    assert set(MessageKind) <= set(KINDS)
    found = await brought_in(database, tmp_path, [scene for _, fields in KINDS.values() for scene in scenes(fields)])
    rows = [
        "| kind | in the export | a friend's, beside words | a friend's, alone | your own |",
        "|---|---|---|---|---|",
    ]
    for number, (kind, (told, _)) in enumerate(KINDS.items()):
        beside, alone, own = (found[f"personal_chat {3 * number + scene}"] for scene in range(3))
        shown = beside.pairs[0].context[-1].text.removeprefix("look").strip() if beside.pairs else ""
        cells = [f"`{shown}`" if shown else "nothing", outcome(alone, context=True), outcome(own)]
        rows.append(f"| {kind} | {told} | {' | '.join(cells)} |")
    assert_stands_in_document(rows)


async def test_the_table_of_chats_is_what_becomes_of_them(database: Database, tmp_path: Path) -> None:
    talk = [(False, {"text": "hm?"}), (True, {"text": "ok then", "reply_to_message_id": 1})]
    await brought_in(database, tmp_path, [talk] * len(CHATS), CHATS)
    rows = ["| chat in the export | kind | learned from | once switched on |", "|---|---|---|---|"]
    by_name = {chat.name: chat for chat in await history.chats(database)}
    for number, kind in enumerate(CHATS):
        chat = by_name[f"{kind} {number}"]
        messages = await history.messages(database, chat.chat_id)
        learned = [
            "yes" if pairs_of(Chat(chat.chat_id, chat.kind, "", on), messages, Options()).pairs else "no"
            for on in (None, True)
        ]
        if chat.kind in (ChatKind.GROUP, ChatKind.SUPERGROUP):
            learned[1] += ", replies alone"
        rows.append(f"| {kind} | {chat.kind.value} | {' | '.join(learned)} |")
    assert_stands_in_document(rows)


async def test_the_table_of_answers_is_what_becomes_of_them(database: Database, tmp_path: Path) -> None:
    found = await brought_in(database, tmp_path, list(ANSWERS.values()))
    rows = ["| you write | what becomes of it |", "|---|---|"]
    rows += [f"| {what} | {outcome(found[f'personal_chat {n}'])} |" for n, what in enumerate(ANSWERS)]
    assert_stands_in_document(rows)


def test_every_reason_for_leaving_an_entry_out_is_told() -> None:
    text = " ".join(DOCUMENT.read_text(encoding="utf-8").split())
    reasons = (entries.EMPTY, entries.NO_ID, entries.NO_DATE, entries.UNSUPPORTED, reading.TWICE, reading.NO_CHAT_ID)
    for reason in (*reasons, export.NO_CHAT, export.ZONELESS):
        assert reason in text


def scenes(fields: Entry) -> list[list[tuple[bool, Entry]]]:
    """A kind beside a friend's words, alone, and as the owner's own."""
    answer = (True, {"text": "ok then"})
    return [
        [(False, {"text": "look"}), (False, fields), answer],
        [(False, fields), answer],
        [(False, {"text": "hm?"}), (True, fields)],
    ]


async def brought_in(
    database: Database, folder: Path, talks: Sequence[list[tuple[bool, Entry]]], kinds: Sequence[str] = ()
) -> dict[str, ChatPairs]:
    """Import each talk as a chat of its own; the pairs of each, by its name."""
    listed = []
    for number, talk in enumerate(talks):
        kind = kinds[number] if kinds else "personal_chat"
        messages = [message(n, own, fields) for n, (own, fields) in enumerate(talk, 1)]
        listed.append({"name": f"{kind} {number}", "type": kind, "id": FRIEND + number, "messages": messages})
    path = folder / "result.json"
    path.write_text(json.dumps({"personal_information": {"user_id": ME}, "chats": {"list": listed}}), encoding="utf-8")
    await export.import_export(database, path, now=datetime(2026, 3, 1, tzinfo=UTC))
    chats = await history.chats(database)
    return {chat.name: pairs_of(chat, await history.messages(database, chat.chat_id), Options()) for chat in chats}


def message(number: int, own: bool, fields: Entry) -> Entry:
    """As Telegram Desktop writes it."""
    sender = f"user{ME if own else FRIEND}"
    entry = {"id": number, "type": "message", "date_unixtime": str(1_700_000_000 + number), "from_id": sender}
    return entry | {"text": "", "text_entities": []} | fields


def outcome(found: ChatPairs, context: bool = False) -> str:
    """The words that a pair has of it, or why there is no pair."""
    if found.pairs:
        text = found.pairs[0].context[-1].text if context else found.pairs[0].reply
        return f"`{text}`".replace("\n", "⏎")
    return "no pair: " + ", ".join(found.left_out)


def assert_stands_in_document(rows: list[str]) -> None:
    """The table is in the document, line for line."""
    table = "\n".join(rows)
    assert table in DOCUMENT.read_text(encoding="utf-8"), f"docs/history.md should have:\n{table}"
