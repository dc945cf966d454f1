"""A message forwarded or pasted to the bot -> three drafts as buttons. Nothing is sent in anybody's name."""

import logging
from collections.abc import Sequence
from html import escape

from telegram import InlineKeyboardButton, InlineKeyboardMarkup, Message, MessageOriginUser, Update
from telegram.constants import ChatAction, ParseMode

from bot.context import Context, Services
from bot.history import context_of, now
from bot.texts import Markup, say
from bot.train import speaking
from bot.voice import Voice
from storage import drafts, history
from storage.database import Database
from training.dataset.pairs import Options
from training.dataset.render import Turn, conversation

log = logging.getLogger(__name__)

DRAFTS = 3
TRIES = 2  # how often the model is asked again when replies are empty or the same


async def write_drafts(
    database: Database, voice: Voice, text: str, *, n: int = DRAFTS, chat_id: int | None = None
) -> tuple[list[str], str]:
    """Up to `n` different replies to `text` in the serving voice, and the model's name."""
    model, _ = await speaking(database, voice)
    known = chat_id is not None and await history.find_chat(database, chat_id) is not None
    turns = await context_of(database, chat_id, text, Options()) if known and chat_id else (Turn("user", text),)
    found: list[str] = []
    for _ in range(TRIES):
        for reply in await voice.replies(model, conversation(turns), n - len(found)):
            if reply.casefold() not in (other.casefold() for other in found):
                found.append(reply)
        if len(found) >= n:
            break
    return found, model


async def received(update: Update, context: Context) -> None:
    """A message of the owner's: something to answer."""
    message = update.effective_message
    assert message is not None
    text = message.text or message.caption or ""
    if not text.strip():
        await message.reply_text(say("no_message"))
        return
    context.services.spawn(_answer(context.services, message, text, _chat_of(message)), "draft")


async def again(update: Update, context: Context) -> None:
    """The button under drafts that asks for others."""
    query = update.callback_query
    assert query is not None
    await query.answer()
    draft = await drafts.find(context.services.database, int((query.data or "").split(":")[1]))
    if draft is None or not isinstance(query.message, Message):
        return
    context.services.spawn(_answer(context.services, query.message, draft.prompt, draft.chat_id), "draft")


async def chosen(update: Update, context: Context) -> None:
    """A draft's button: the owner gets the words alone, to copy or forward."""
    query = update.callback_query
    assert query is not None
    _, draft_id, index = (query.data or "").split(":")
    database = context.services.database
    draft = await drafts.find(database, int(draft_id))
    if draft is None or int(index) >= len(draft.replies) or not isinstance(query.message, Message):
        await query.answer(say("draft_gone"))
        return
    async with database.transaction():
        first = await drafts.choose(database, draft.draft_id, int(index), now())
    await query.answer(None if first else say("draft_taken"))
    if first:
        for line in draft.replies[int(index)].split("\n"):
            if line.strip():
                await query.message.reply_text(line.strip())


async def _answer(services: Services, message: Message, text: str, chat_id: int | None) -> None:
    await message.get_bot().send_chat_action(message.chat_id, ChatAction.TYPING)
    replies, model = await write_drafts(services.database, services.voice, text, chat_id=chat_id)
    if not replies:
        await message.reply_text(say("no_drafts"))
        return
    async with services.database.transaction():
        draft_id = await drafts.add(
            services.database, chat_id=chat_id, prompt=text, model=model, replies=replies, now=now()
        )
    await message.reply_text(
        say("drafts", drafts=Markup(_numbered(replies)), voice=model),
        parse_mode=ParseMode.HTML,
        reply_markup=InlineKeyboardMarkup([_buttons(draft_id, len(replies))]),
    )


def _numbered(replies: Sequence[str]) -> str:
    return "\n\n".join(f"<b>{i}</b>  {escape(reply, quote=False)}" for i, reply in enumerate(replies, 1))


def _buttons(draft_id: int, count: int) -> list[InlineKeyboardButton]:
    numbers = [InlineKeyboardButton(str(i + 1), callback_data=f"draft:{draft_id}:{i}") for i in range(count)]
    return [*numbers, InlineKeyboardButton(say("button_again"), callback_data=f"again:{draft_id}")]


def _chat_of(message: Message) -> int | None:
    """The chat of the person whose message was forwarded; None when he hides his account."""
    origin = message.forward_origin
    return origin.sender_user.id if isinstance(origin, MessageOriginUser) else None
