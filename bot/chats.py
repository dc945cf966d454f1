"""Whose words likeme may learn from: the list of chats, on and off, and a chat taken back for good."""

import asyncio
import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from telegram import InlineKeyboardButton, InlineKeyboardMarkup, Message, Update

from bot import restore
from bot.context import Context
from bot.history import now
from bot.settings import Settings
from bot.texts import say
from storage import forgetting, history
from storage.database import Database
from storage.durable import scraps
from storage.errors import BadInput
from storage.history import ChatCount
from storage.records import Chat, ChatKind

PAGE = 10  # chats in one message of the bot's
_SHOWN = 24  # characters of a name on a button


@dataclass(frozen=True, slots=True)
class Listed:
    """The chats with their counts, and the ids that are forgotten."""

    chats: Sequence[ChatCount]
    forgotten: Sequence[int]


def is_on(chat: Chat) -> bool:
    """Whether training takes it and a sync fetches it."""
    return chat.kind is ChatKind.PERSONAL if chat.included is None else chat.included


async def listed(database: Database) -> Listed:
    """Every chat, the busiest first."""
    return Listed(await history.chat_counts(database), sorted(await forgetting.forgotten(database)))


async def find(database: Database, wanted: str) -> Chat:
    """The chat of this id or name, or of the only name that holds these words. BadInput where there is not one."""
    chats = await history.chats(database)
    exact = [chat for chat in chats if wanted in (str(chat.chat_id), chat.name)]
    close = [chat for chat in chats if wanted.casefold() in chat.name.casefold()]
    same = [chat for chat in close if chat.name.casefold() == wanted.casefold()]
    for found in (exact, same, close):
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(f"{chat.name} ({chat.chat_id})" for chat in found[:5])
            raise BadInput(say("chat_ambiguous", chats=len(found), wanted=wanted, names=names))
    raise BadInput(say("chat_unknown", wanted=wanted))


async def switch(database: Database, chat: Chat, on: bool) -> None:
    """Switch a chat on or off, for training and for syncs."""
    async with database.transaction():
        await history.set_included(database, chat.chat_id, on)


async def forget(settings: Settings, database: Database, chat_id: int) -> forgetting.Forgotten:
    """Take a chat back: its messages, drafts, quiz questions, and the training sets on disk that hold its words.

    What a model server elsewhere holds of it is owed then: bot/leftovers.py.
    """
    home = settings.likeme_home
    async with database.transaction():
        gone = await forgetting.forget(database, chat_id, now())
    await forgetting.scrub(database)
    removed = await asyncio.to_thread(_remove_training_sets, home, chat_id)
    async with database.transaction():  # of sets that were made before files were noted, or by a killed likeme
        for data_sha256, file_ids in removed.items():
            await forgetting.note_training(database, data_sha256, [chat_id])
            await forgetting.note_files(database, data_sha256, settings.model_url.rstrip("/"), file_ids)
    owed = await forgetting.owed(database)
    await asyncio.to_thread(_remove_files, home, [file.file_id for file in owed])
    async with database.transaction():
        for file in owed:
            if file.server == "":
                await forgetting.settled(database, file)
    await asyncio.to_thread(_remove_evaluations, home)
    await asyncio.to_thread(_remove_scraps, home)
    await asyncio.to_thread(restore.remove_aside, home)
    return gone


async def allow_again(database: Database, chat_id: int) -> bool:
    """Undo: what was removed comes back with the next import or sync. False: it was not forgotten."""
    async with database.transaction():
        return await forgetting.allow_again(database, chat_id)


def _remove_training_sets(home: Path, chat_id: int) -> dict[str, list[str]]:
    """A training set is rebuilt in seconds; one that holds the chat goes whole. By its hash, what the model server
    calls its files."""
    removed = {}
    for folder in (home / "datasets").glob("*"):
        index = folder / "index.jsonl"  # written first: without it, whose words lie here nobody can say
        lines = index.read_bytes().splitlines() if index.is_file() else None
        if lines is not None and not any(json.loads(line)["chat_id"] == chat_id for line in lines):
            continue
        manifest = folder / "manifest.json"
        if manifest.is_file():  # it is written last: without it nothing was uploaded
            parts = [folder / name for name in ("train.jsonl", "validation.jsonl")]
            contents = [part.read_bytes() for part in parts if part.is_file()]  # a kill may have left half of them
            names = [f"file-{hashlib.sha256(content).hexdigest()[:24]}" for content in contents]
            removed[json.loads(manifest.read_text(encoding="utf-8"))["sha256"]] = names
        shutil.rmtree(folder)
    return removed


def _remove_files(home: Path, file_ids: Sequence[str]) -> None:
    """The copies of a model server that works in this home."""
    for file_id in file_ids:
        for copy in (home / "files").glob(f"{file_id}.json*"):
            copy.unlink()


def _remove_evaluations(home: Path) -> None:
    """Their samples hold prompts of any chat; the numbers stay in the database, `likeme evaluate N` makes a new one."""
    shutil.rmtree(home / "evaluations", ignore_errors=True)
    for found in (home / "adapters").glob("*/evaluation.json"):
        found.unlink()
    for note in list((home / "files").glob("file-*.json")):
        if json.loads(note.read_text(encoding="utf-8")).get("purpose") == "fine-tune-results":
            note.with_suffix(".jsonl").unlink(missing_ok=True)
            note.unlink()


def _remove_scraps(home: Path) -> None:
    """Whose words a killed server was writing, nobody can say."""
    for scrap in (*scraps(home / "files"), *scraps(home / "adapters")):
        scrap.unlink(missing_ok=True)


async def chats(update: Update, context: Context) -> None:
    """/chats"""
    assert update.effective_message is not None
    text, buttons = await _page(context.services.database, 0)
    await update.effective_message.reply_text(text, reply_markup=buttons)


async def pressed(update: Update, context: Context) -> None:
    """chats:PAGE, or chats:PAGE:CHAT:on|off"""
    query = update.callback_query
    assert query is not None
    _, page, *change = (query.data or "").split(":")
    database = context.services.database
    if change:
        chat = await history.find_chat(database, int(change[0]))
        if chat is not None:
            await switch(database, chat, change[1] == "on")
    await query.answer()
    text, buttons = await _page(database, int(page))
    if isinstance(query.message, Message):
        await query.message.edit_text(text, reply_markup=buttons)


async def ask_to_forget(update: Update, context: Context) -> None:
    """/forget CHAT"""
    message = update.effective_message
    assert message is not None
    database = context.services.database
    wanted = " ".join(context.args or ())
    if not wanted:
        await message.reply_text(say("forget_which"))
        return
    try:
        chat = await find(database, wanted)
    except BadInput as error:
        await message.reply_text(str(error).replace("likeme chats", "/chats"))
        return
    count = next(c for c in await history.chat_counts(database) if c.chat.chat_id == chat.chat_id)
    buttons = [
        InlineKeyboardButton(say("button_forget"), callback_data=f"forget:{chat.chat_id}:yes"),
        InlineKeyboardButton(say("button_keep"), callback_data=f"forget:{chat.chat_id}:no"),
    ]
    await message.reply_text(
        say("forget_sure", name=chat.name, messages=count.messages), reply_markup=InlineKeyboardMarkup([buttons])
    )


async def answered_forget(update: Update, context: Context) -> None:
    """forget:CHAT:yes|no|undo"""
    query = update.callback_query
    assert query is not None
    await query.answer()
    if not isinstance(query.message, Message):
        return
    services = context.services
    _, chat_id, answer = (query.data or "").split(":")
    if answer == "no":
        await query.message.edit_text(say("forget_kept"))
    elif answer == "undo":
        await allow_again(services.database, int(chat_id))
        await query.message.edit_text(say("forget_undone"))
    elif await history.find_chat(services.database, int(chat_id)) is not None:
        gone = await forget(services.settings, services.database, int(chat_id))
        undo = InlineKeyboardButton(say("button_undo"), callback_data=f"forget:{chat_id}:undo")
        text = forgotten_text(gone)
        if await forgetting.owed(services.database):
            text += "\n" + say("forget_next")
            services.forgot.set()
        await query.message.edit_text(text, reply_markup=InlineKeyboardMarkup([[undo]]))


def forgotten_text(gone: forgetting.Forgotten) -> str:
    """What went, in words."""
    voices = ", ".join(map(str, gone.voices))
    return say(
        "forget_done",
        messages=gone.messages,
        drafts=gone.drafts,
        questions=gone.questions,
        voices=say("forget_voices", voices=voices) if voices else say("forget_no_voices"),
    )


async def _page(database: Database, page: int) -> tuple[str, InlineKeyboardMarkup]:
    found = await listed(database)
    last = max(0, (len(found.chats) - 1) // PAGE)
    page = min(page, last)
    rows = [_button(count, page) for count in found.chats[page * PAGE : (page + 1) * PAGE]]
    turns = [("‹", page - 1)] * (page > 0) + [("›", page + 1)] * (page < last)
    rows.append([InlineKeyboardButton(sign, callback_data=f"chats:{to}") for sign, to in turns])
    on = sum(is_on(count.chat) for count in found.chats)
    text = say("chats", chats=len(found.chats), on=on, page=page + 1, pages=last + 1)
    if found.forgotten:
        text += say("chats_forgotten", ids=", ".join(map(str, found.forgotten)))
    return text, InlineKeyboardMarkup([row for row in rows if row])


def _button(count: ChatCount, page: int) -> list[Any]:
    chat, on = count.chat, is_on(count.chat)
    label = f"{'✓' if on else '–'} {chat.name[:_SHOWN]} · {count.messages:,}"
    data = f"chats:{page}:{chat.chat_id}:{'off' if on else 'on'}"
    return [InlineKeyboardButton(label, callback_data=data)]
