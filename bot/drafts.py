"""A message forwarded or pasted to the bot -> three drafts as buttons. Nothing is sent in anybody's name."""

from telegram import InlineKeyboardButton, InlineKeyboardMarkup, Message, MessageOriginUser, Update
from telegram.constants import ChatAction, ParseMode

from bot import taps
from bot.cards import numbered
from bot.context import Context, Services
from bot.drafting import context_in
from bot.history import now
from bot.texts import Markup, say
from storage import drafts


async def received(update: Update, context: Context) -> None:
    """A message of the owner's: something to answer."""
    message = update.effective_message
    assert message is not None
    if await taps.own_words(context.services, message):
        return
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
    context = await context_in(services.database, chat_id, text, now())
    drafted = await services.drafting.drafts(context, chat_id)
    if not drafted.replies:
        await message.reply_text(say("no_drafts"))
        return
    said = [(turn.role, turn.text) for turn in context]
    async with services.database.transaction():
        draft_id = await drafts.add(
            services.database, chat_id=chat_id, context=said, model=drafted.model, replies=drafted.replies, now=now()
        )
    await message.reply_text(
        say("drafts", drafts=Markup(numbered(drafted.replies)), voice=drafted.model),
        parse_mode=ParseMode.HTML,
        reply_markup=InlineKeyboardMarkup([_buttons(draft_id, len(drafted.replies))]),
    )


def _buttons(draft_id: int, count: int) -> list[InlineKeyboardButton]:
    numbers = [InlineKeyboardButton(str(i + 1), callback_data=f"draft:{draft_id}:{i}") for i in range(count)]
    return [*numbers, InlineKeyboardButton(say("button_again"), callback_data=f"again:{draft_id}")]


def _chat_of(message: Message) -> int | None:
    """The chat of the person whose message was forwarded; None when he hides his account."""
    origin = message.forward_origin
    return origin.sender_user.id if isinstance(origin, MessageOriginUser) else None
