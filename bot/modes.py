"""/mode and /quiet: where the owner wants drafts, and when not."""

from telegram import InlineKeyboardButton, InlineKeyboardMarkup, Update
from telegram.error import BadRequest

from bot import quiet
from bot.context import Context, Services
from bot.texts import say
from storage import secretary
from storage.errors import BadInput
from storage.secretary import Mode

CHATS = 12  # the last ones he wrote in
MODES: tuple[Mode, ...] = ("off", "card", "cloud")


async def mode(update: Update, context: Context) -> None:
    """/mode"""
    message = update.effective_message
    assert message is not None
    keyboard = await _keyboard(context.services)
    await message.reply_text(say("modes" if keyboard else "modes_none"), reply_markup=keyboard)


async def chosen(update: Update, context: Context) -> None:
    """A button `mode:1234:card`; chat 0 stands for all others."""
    query, services = update.callback_query, context.services
    assert query is not None
    _, chat, wanted = (query.data or "").split(":")
    async with services.database.transaction():
        await secretary.set_mode(services.database, int(chat) or None, next(m for m in MODES if m == wanted))
        if wanted == "off":
            await secretary.no_longer(services.database, int(chat))
    await query.answer(say(f"mode_{wanted}"))
    try:
        await query.edit_message_reply_markup(await _keyboard(services))
    except BadRequest:
        pass  # it stands so already


async def quiet_hours(update: Update, context: Context) -> None:
    """/quiet, /quiet 23-7, /quiet off"""
    message, services = update.effective_message, context.services
    assert message is not None
    given = " ".join(context.args or [])
    if given:
        try:
            span = "" if given == "off" else given
            if span:
                quiet.parse(span)
        except BadInput as error:
            await message.reply_text(str(error))
            return
        async with services.database.transaction():
            await secretary.set_preference(services.database, "quiet", span)
        services.waiting.wake()
    span = await secretary.preference(services.database, "quiet")
    await message.reply_text(say("quiet_is", span=span) if span else say("quiet_none"))


async def _keyboard(services: Services) -> InlineKeyboardMarkup | None:
    chats = await secretary.recent_chats(services.database, CHATS)
    rows = []
    for chat_id, name in [*chats, (0, say("modes_all"))] if chats else []:
        now = await secretary.mode(services.database, chat_id)
        rows.append([InlineKeyboardButton(name[:40], callback_data=f"mode:{chat_id}:{now}")])
        rows.append([_button(chat_id, one, one == now) for one in MODES])
    return InlineKeyboardMarkup(rows) if rows else None


def _button(chat_id: int, one: Mode, is_now: bool) -> InlineKeyboardButton:
    return InlineKeyboardButton(f"{'● ' if is_now else ''}{say(f'mode_{one}')}", callback_data=f"mode:{chat_id}:{one}")
