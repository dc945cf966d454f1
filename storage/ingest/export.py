"""A Telegram Desktop export -> records in the database.

The file streams through: memory does not grow with it. Each batch is one transaction, so a kill
leaves whole batches, and importing again completes them: what stands already is not added twice.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ijson

from storage import history
from storage.database import Database
from storage.errors import BadInput, NotAnExport
from storage.ingest.json_stream import JsonStream
from storage.records import Account, Chat, ChatKind, Message, MessageKind

BATCH = 4000
_MESSAGES = ("chats.list.item.messages.item", "left_chats.list.item.messages.item", "messages.item")
HOW_TO_EXPORT = (
    "In Telegram Desktop: Settings → Advanced → Export Telegram data, tick your personal chats, "
    "choose the format «Machine-readable JSON»."
)
_CHAT_KINDS = {
    "personal_chat": ChatKind.PERSONAL,
    "bot_chat": ChatKind.BOT,
    "saved_messages": ChatKind.SAVED,
    "private_group": ChatKind.GROUP,
    "private_supergroup": ChatKind.SUPERGROUP,
    "public_supergroup": ChatKind.SUPERGROUP,
    "private_channel": ChatKind.CHANNEL,
    "public_channel": ChatKind.CHANNEL,
}
_MEDIA = {
    "sticker": MessageKind.STICKER,
    "animation": MessageKind.ANIMATION,
    "video_file": MessageKind.VIDEO,
    "video_message": MessageKind.VIDEO_NOTE,
    "voice_message": MessageKind.VOICE,
    "audio_file": MessageKind.AUDIO,
}
_PARTS = (
    ("photo", MessageKind.PHOTO),
    ("poll", MessageKind.POLL),
    ("location_information", MessageKind.LOCATION),
    ("contact_information", MessageKind.CONTACT),
    ("game_title", MessageKind.GAME),
    ("invoice_information", MessageKind.INVOICE),
    ("file", MessageKind.FILE),
)


@dataclass(slots=True)
class ImportReport:
    """What an import did. `damage` names the place where a broken file ended, or is ""."""

    owner: Account | None = None
    chats: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    new: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    damage: str = ""
    seconds: float = 0.0

    def lines(self) -> list[str]:
        """The report for people."""
        total = sum(self.messages.values())
        out = [
            f"{total:,} messages in {sum(self.chats.values()):,} chats ({_counts(self.chats)})",
            f"by kind: {_counts(self.messages) or 'none'}",
            f"{self.new:,} new, {self.updated:,} updated, {self.unchanged:,} unchanged, "
            f"{self.deleted:,} marked as deleted by the account, in {self.seconds:.1f} s",
        ]
        if self.left_out:
            out.append(f"left out: {_counts(self.left_out)}")
        if self.notes:
            out.append(f"to know: {_counts(self.notes)}")
        if self.damage:
            out.append(f"the file is damaged: {self.damage}. What stands before that came in.")
        return out


async def import_export(
    database: Database,
    path: Path,
    *,
    me: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    now: datetime,
) -> ImportReport:
    """Import an export: result.json, .json.gz, or the folder that holds it. `me` is the owner's id where
    the file does not tell it (a one-chat export). Raises NotAnExport and BadInput with what to do."""
    started = time.monotonic()
    report = ImportReport()
    stream = JsonStream(_file(path), on_progress)
    try:
        writer = _Writer(database, report, me, path, now)
        for item in _Reader(stream, path, report).items():
            await writer.take(item)
            await asyncio.sleep(0) if isinstance(item, Chat) else None
        await writer.finish()
    finally:
        stream.close()
    report.seconds = time.monotonic() - started
    return report


def _file(path: Path) -> Path:
    if path.is_dir():
        found = [path / name for name in ("result.json", "result.json.gz") if (path / name).is_file()]
        if not found and (path / "messages.html").is_file():
            raise NotAnExport(f"{path} is an export as HTML, which loses too much. {HOW_TO_EXPORT}")
        if not found:
            raise NotAnExport(f"{path} holds no result.json: name the folder that Telegram Desktop exported into.")
        return found[0]
    if not path.exists():
        raise BadInput(f"{path} does not exist: name a result.json, or the folder it lies in.")
    if path.stat().st_size == 0:
        raise NotAnExport(f"{path} is empty: export again. {HOW_TO_EXPORT}")
    return path


@dataclass(frozen=True, slots=True)
class _RawMessage:
    chat: Chat
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _ChatEnd:
    chat: Chat
    whole: bool


_Item = Account | Chat | _RawMessage | _ChatEnd


class _Reader:
    """JSON events -> the account, chats, and raw messages, in the file's order."""

    def __init__(self, stream: JsonStream, path: Path, report: ImportReport) -> None:
        self._stream = stream
        self._path = path
        self._report = report
        self._head: dict[str, Any] = {}  # the running chat's own fields
        self._held: list[dict[str, Any]] = []  # messages that came before their chat's id
        self._chat: Chat | None = None
        self._person: dict[str, Any] = {}
        self._last = 0
        self._seen_anything = False

    def items(self) -> Iterator[_Item]:
        """Everything up to the end, or to the damage, which is noted in the report."""
        try:
            yield from self._walk()
        except (ijson.JSONError, UnicodeDecodeError, ValueError, RecursionError) as error:
            yield from self._broken(error)
        if self._stream.damage and not self._report.damage:
            self._report.damage = f"{self._stream.damage}, {self._where()}"
        if not self._seen_anything:
            raise NotAnExport(f"{self._path} is JSON, but no Telegram export. {HOW_TO_EXPORT}")

    def _walk(self) -> Iterator[_Item]:
        builder: Any = None
        depth_prefix = ""
        events = ijson.parse(self._stream, use_float=True, multiple_values=False)
        for prefix, event, value in events:
            if builder is not None:
                builder.event(event, value)
                if prefix == depth_prefix and event == "end_map":
                    yield from self._message(builder.value)
                    builder = None
                continue
            if event == "start_map" and prefix in _MESSAGES:
                builder, depth_prefix = ijson.ObjectBuilder(), prefix
                builder.event(event, value)
            elif prefix.endswith("messages.item") and event == "null":
                self._report.left_out["empty entry"] += 1
            else:
                yield from self._outside(prefix, event, value)

    def _outside(self, prefix: str, event: str, value: Any) -> Iterator[_Item]:
        parent, _, name = prefix.rpartition(".")
        if parent == "personal_information" and event in ("string", "number"):
            self._person[name] = value
        elif prefix == "personal_information" and event == "end_map" and "user_id" in self._person:
            self._seen_anything = True
            yield _account(self._person)
        elif parent in ("chats.list.item", "left_chats.list.item", "") and name in ("id", "name", "type"):
            if event in ("string", "number", "null"):
                self._head[name] = value
        elif prefix in ("chats.list", "left_chats.list") and event == "start_array":
            self._seen_anything = True
        elif prefix.endswith("messages") and event == "start_array" and prefix.count(".") in (0, 3):
            yield from self._begin()
        elif event == "end_map" and prefix in ("chats.list.item", "left_chats.list.item", ""):
            yield from self._end(whole=True)

    def _begin(self) -> Iterator[_Item]:
        chat = _chat(self._head)
        if chat is not None:
            self._seen_anything = True
            self._chat = chat
            yield chat

    def _message(self, fields: dict[str, Any]) -> Iterator[_Item]:
        if self._chat is None:
            self._held.append(fields)
            return
        if isinstance(identity := fields.get("id"), int):
            self._last = identity
        yield _RawMessage(self._chat, fields)

    def _end(self, whole: bool) -> Iterator[_Item]:
        if self._chat is None and self._held:
            yield from self._begin()
        if self._chat is not None:
            for fields in self._held:
                yield _RawMessage(self._chat, fields)
            yield _ChatEnd(self._chat, whole)
        elif self._held:
            self._report.left_out["in a chat without an id"] += len(self._held)
        self._head, self._held, self._chat = {}, [], None

    def _broken(self, error: Exception) -> Iterator[_Item]:
        if not self._seen_anything:
            raise NotAnExport(_what_it_is(self._path)) from error
        where = self._where()
        yield from self._end(whole=False)
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        self._report.damage = f"{where} ({reason})"

    def _where(self) -> str:
        if self._chat is None:
            return "between two chats"
        return f"in chat {self._chat.chat_id} after message {self._last}"


class _Writer:
    """Items -> the database, in batches."""

    def __init__(self, database: Database, report: ImportReport, me: int | None, path: Path, now: datetime) -> None:
        self._database = database
        self._report = report
        self._me = me
        self._path = path
        self._now = now
        self._batch: list[Message] = []
        self._seen: set[int] = set()

    async def take(self, item: _Item) -> None:
        if isinstance(item, Account):
            await self._owner(item)
        elif isinstance(item, Chat):
            await self._start(item)
        elif isinstance(item, _RawMessage):
            message = self._record(item)
            if message is not None:
                self._seen.add(message.message_id)
                self._batch.append(message)
                if len(self._batch) >= BATCH:
                    await self._flush()
        else:
            await self._flush()
            if item.whole:
                async with self._database.transaction():
                    gone = await history.mark_deleted(self._database, item.chat.chat_id, self._seen, self._now)
                self._report.deleted += gone
            self._seen = set()

    async def finish(self) -> None:
        await self._flush()

    async def _owner(self, owner: Account) -> None:
        if self._me is not None and self._me != owner.user_id:
            raise BadInput(f"{self._path} is user {owner.user_id}'s export, not {self._me}'s: leave --me out.")
        self._me = owner.user_id
        self._report.owner = owner
        async with self._database.transaction():
            await history.set_account(self._database, owner)

    async def _start(self, chat: Chat) -> None:
        if self._me is None:
            known = await history.account(self._database)
            if known is None:
                raise BadInput(
                    f"{self._path} is the export of one chat and does not say who you are: add --me with your "
                    "user id (the number in from_id of a message of yours, «user123» → --me 123)."
                )
            self._me = known.user_id
        if self._report.owner is None:
            await self._owner(Account(self._me))
        self._report.chats[chat.kind.value] += 1
        async with self._database.transaction():
            await history.put_chat(self._database, chat)

    def _record(self, raw: _RawMessage) -> Message | None:
        fields = raw.fields
        identity, sent = fields.get("id"), _date(fields, "date")
        if not isinstance(identity, int) or isinstance(identity, bool) or not -(2**62) < identity < 2**62:
            self._report.left_out["without an id"] += 1
            return None
        if sent is None:
            reason = "unsupported by the exporter" if fields.get("type") == "unsupported" else "without a date"
            self._report.left_out[reason] += 1
            return None
        if "date_unixtime" not in fields:
            self._report.notes["dates without a zone, taken as UTC"] += 1
        message = _message(raw.chat, fields, identity, sent, f"user{self._me}")
        self._report.messages[message.kind.value] += 1
        return message

    async def _flush(self) -> None:
        if not self._batch:
            return
        async with self._database.transaction():
            stored = await history.put_messages(self._database, self._batch)
        self._report.new += stored.new
        self._report.updated += stored.updated
        self._report.unchanged += stored.unchanged
        twice = len(self._batch) - stored.new - stored.updated - stored.unchanged
        if twice:
            self._report.notes["ids that stand twice in the file (the later one counts)"] += twice
        self._batch = []


def _account(person: dict[str, Any]) -> Account:
    def text(name: str) -> str:
        return str(person.get(name) or "")

    return Account(int(person["user_id"]), text("first_name"), text("last_name"), text("username").lstrip("@"))


def _chat(head: dict[str, Any]) -> Chat | None:
    identity = head.get("id")
    if not isinstance(identity, int):
        return None
    kind = _CHAT_KINDS.get(str(head.get("type")), ChatKind.OTHER)
    if kind is ChatKind.GROUP:
        identity = -abs(identity)
    elif kind in (ChatKind.SUPERGROUP, ChatKind.CHANNEL):
        identity = -(10**12) - abs(identity)
    fallback = "Saved messages" if kind is ChatKind.SAVED else "Deleted account"
    return Chat(identity, kind, str(head.get("name") or fallback))


def _message(chat: Chat, fields: dict[str, Any], identity: int, sent: datetime, me: str) -> Message:
    sender = _sender(fields.get("from_id", fields.get("actor_id")))
    text, entities = _text(fields)
    reply_to = fields.get("reply_to_message_id")
    forwarded = fields.get("forwarded_from", fields.get("forwarded_from_id"))
    if forwarded is None and ("forwarded_from" in fields or "saved_from" in fields):
        forwarded = fields.get("saved_from") or "deleted account"
    return Message(
        chat_id=chat.chat_id,
        message_id=identity,
        date=sent,
        sender=sender,
        is_own=sender == me,
        kind=_kind(fields),
        text=text,
        emoji=_plain(fields.get("sticker_emoji")),
        reply_to=reply_to if isinstance(reply_to, int) else None,
        forwarded_from=None if forwarded is None else _plain(forwarded),
        via_bot=None if fields.get("via_bot") is None else _plain(fields["via_bot"]),
        edited_at=_date(fields, "edited"),
        entities=entities,
    )


def _kind(fields: dict[str, Any]) -> MessageKind:
    if fields.get("type") == "service":
        return MessageKind.SERVICE
    if fields.get("type") not in (None, "message"):
        return MessageKind.OTHER
    media = _MEDIA.get(str(fields.get("media_type")))
    if media is not None:
        return media
    return next((kind for name, kind in _PARTS if name in fields), MessageKind.TEXT)


def _text(fields: dict[str, Any]) -> tuple[str, str]:
    """The words, and Telegram's entities as JSON where there are any."""
    raw = fields.get("text")
    parts = raw if isinstance(raw, list) else [raw if raw is not None else ""]
    text = "".join(part if isinstance(part, str) else _plain(part.get("text")) for part in parts if _is_part(part))
    entities = fields.get("text_entities")
    if not isinstance(entities, list):
        entities = [part for part in parts if isinstance(part, dict)]
    formatted = [e for e in entities if isinstance(e, dict) and e.get("type") != "plain"]
    return _storable(text), _storable(json.dumps(entities, ensure_ascii=False)) if formatted else ""


def _is_part(part: Any) -> bool:
    return isinstance(part, str | dict)


def _sender(value: Any) -> str | None:
    if isinstance(value, bool) or value is None:
        return None
    return f"user{value}" if isinstance(value, int) else _plain(value)  # exports of 2019 have bare numbers


def _date(fields: dict[str, Any], name: str) -> datetime | None:
    try:
        if (seconds := fields.get(f"{name}_unixtime")) is not None:
            return datetime.fromtimestamp(int(seconds), UTC)
        if isinstance(fields.get(name), str):
            when = datetime.fromisoformat(fields[name])
            return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except (ValueError, OverflowError, OSError, TypeError):
        return None
    return None


def _plain(value: Any) -> str:
    return _storable(value if isinstance(value, str) else "" if value is None else str(value))


def _storable(text: str) -> str:
    """SQLite takes no lone surrogates, and a NUL would end the text for many readers."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")


def _what_it_is(path: Path) -> str:
    start = path.open("rb").read(512).lstrip() if path.is_file() else b""
    if start.startswith(b"<"):
        return f"{path} is HTML, not JSON. {HOW_TO_EXPORT}"
    return f"{path} is no Telegram export in JSON. {HOW_TO_EXPORT}"


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{n:,} {what.replace('_', ' ')}" for what, n in counts.most_common())
