"""What the owner asks about: start, help, status; and what strangers hear."""

from collections.abc import Callable, Coroutine
from typing import Any

from telegram import Bot, BotCommand, BotCommandScope, BotCommandScopeChat, Update

from bot.context import Context
from bot.history import summary
from bot.refused import refuse
from bot.texts import LANGUAGES, Reader, loss, say, writing_to
from storage import runs

OWNER_COMMANDS = (
    "help",
    "status",
    "mode",
    "quiet",
    "sync",
    "chats",
    "forget",
    "train",
    "cancel",
    "nightly",
    "quiz",
    "standings",
    "report",
    "versions",
    "rollback",
    "promote",
)
GROUP_COMMANDS = ("quiz", "standings")

Handler = Callable[[Update, Context], Coroutine[Any, Any, None]]


async def start(update: Update, context: Context) -> None:
    """/start of the owner's"""
    assert update.effective_message is not None and update.effective_user is not None
    await update.effective_message.reply_text(say("start", name=update.effective_user.first_name))
    # At the bot's start Telegram may not have known this chat yet.
    await register(context.bot, OWNER_COMMANDS, BotCommandScopeChat(update.effective_user.id))


async def stranger(update: Update, context: Context) -> None:
    """/start of anybody else's; his own id is all he is told"""
    assert update.effective_message is not None and update.effective_user is not None
    await update.effective_message.reply_text(say("stranger", user_id=update.effective_user.id))


async def unknown_button(update: Update, context: Context) -> None:
    """A button that is not (or no longer) known, or not this person's"""
    query = update.callback_query
    assert query is not None
    if query.from_user.id != context.services.settings.owner_id:
        refuse(context.services, "button")
    await query.answer()


async def register(bot: Bot, names: tuple[str, ...], scope: BotCommandScope) -> None:
    """Commands with their descriptions, as Telegram's menu shows them: in our first language, then in each other."""
    for language in LANGUAGES:
        with writing_to(Reader(language)):
            described = [BotCommand(name, say(f"command_{name}")) for name in names]
        await bot.set_my_commands(described, scope, language_code=language if language != LANGUAGES[0] else None)


async def help_(update: Update, context: Context) -> None:
    """/help"""
    assert update.effective_message is not None
    await update.effective_message.reply_text(say("help"))


async def status(update: Update, context: Context) -> None:
    """/status"""
    assert update.effective_message is not None
    services = context.services
    numbers = await summary(services.database)
    version = await runs.serving(services.database)
    health = await services.voice.health()
    text = say(
        "status",
        **numbers,
        voice=say("voice_version", number=version.number, loss=loss(version.metrics.get("valid_loss")))
        if version
        else say("voice_stock"),
        server=say("status_server", status=health["status"], model=health["base_model"], device=health["device"])
        if health
        else say("status_no_server"),
        training=(health or {}).get("training") or say("status_no_training"),
    )
    if services.refused:
        kinds = ", ".join(f"{what} {count}" for what, count in services.refused.most_common())
        text += "\n" + say("status_refused", kinds=kinds)
    await update.effective_message.reply_text(text)
