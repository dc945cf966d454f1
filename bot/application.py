"""The bot's handler table, on one page, and its life from start to stop."""

import asyncio
import logging
import signal
from contextlib import AsyncExitStack

from telegram import BotCommandScopeAllGroupChats, BotCommandScopeChat, BotCommandScopeDefault, Update
from telegram.error import InvalidToken, TelegramError
from telegram.ext import (
    ApplicationBuilder,
    BusinessConnectionHandler,
    BusinessMessagesDeletedHandler,
    CallbackQueryHandler,
    CommandHandler,
    ContextTypes,
    MessageHandler,
    PollAnswerHandler,
    TypeHandler,
    filters,
)

from bot import (
    cards,
    chats,
    cloud_drafts,
    damage,
    drafts,
    evaluation,
    failures,
    leftovers,
    modes,
    nightly,
    overview,
    play,
    pulse,
    quiz,
    refused,
    secretary,
    sending,
    standings,
    taps,
    train,
    versions,
)
from bot import sync as syncing
from bot.alone import BOT, alone
from bot.context import App, Context, Services
from bot.drafting import Drafting
from bot.languages import listen, remembered
from bot.model_process import model_server
from bot.outgoing import Outgoing, pauses
from bot.overview import GROUP_COMMANDS, OWNER_COMMANDS, register
from bot.polling import Polling, Updates
from bot.settings import Settings
from bot.texts import say, write_to
from bot.waiting import WaitingList
from storage.database import Database
from storage.errors import BadInput, ModelError
from storage.errors import TelegramError as Refused

REFUSED = "Telegram refused BOT_TOKEN: it was revoked or mistyped. Copy it again from @BotFather into .env."

log = logging.getLogger(__name__)


def build(settings: Settings) -> App:
    """The application, its services opened at start and closed at stop."""
    stack, updates = AsyncExitStack(), Updates()

    def token_refused() -> None:
        application.bot_data["refused"] = True
        logging.getLogger("telegram.ext").setLevel(logging.CRITICAL)  # its last getUpdates will be refused as well
        updates.ending.set()

    builder = (
        ApplicationBuilder()
        .token(settings.bot_token.get_secret_value())
        .base_url(f"{settings.bot_api_url}/bot")
        .base_file_url(f"{settings.bot_api_url}/file/bot")
        .context_types(ContextTypes(context=Context))
        .rate_limiter(Outgoing(settings.owner_id, updates.ending))
        .get_updates_request(Polling(token_refused))
        .update_queue(updates)
        .concurrent_updates(False)
        .post_init(lambda app: _start(app, settings, stack))
        .post_stop(lambda app: _confirm_and_stop(app, stack))
        .post_shutdown(lambda app: _stop(app, stack))  # a start that fails is not «stopped»
    )
    application: App = builder.build()
    _handlers(application, settings.owner_id)
    return application


def run(settings: Settings) -> None:
    """Run the bot until SIGTERM or Ctrl-C. Without a network it waits for one; a refused token is a TelegramError."""
    home = settings.likeme_home
    with alone(home / BOT, BadInput(f"Another likeme run works in {home}: stop it first, or choose --home.")):
        application = build(settings)
        try:
            asyncio.run(_until_ended(application))
        except InvalidToken:  # its own text has the token in it
            raise Refused(REFUSED) from None
    if application.bot_data.get("refused"):
        raise Refused(REFUSED)


async def _until_ended(app: App) -> None:
    """Start and stay up until a signal or a refused token; whenever that comes, what has begun is ended in order.

    PTB's run_polling breaks a start off and lets its halves run on beside the stop: then one of them hangs.
    """
    assert isinstance(app.update_queue, Updates)
    ending = app.update_queue.ending
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    starting, ended = asyncio.create_task(_begin(app)), asyncio.create_task(ending.wait())
    try:
        await asyncio.wait((starting, ended), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await ended
    finally:
        for task in (starting, ended):
            task.cancel()
        await asyncio.wait((starting, ended))
        await _finish(app)


async def _begin(app: App) -> None:
    """What run_polling begins with. Without a network it waits for one."""
    assert app.post_init is not None and app.updater is not None
    for seconds in pauses():
        try:
            await app.initialize()
            break
        except InvalidToken:
            raise
        except TelegramError:
            await asyncio.sleep(seconds)

    def failed(error: TelegramError) -> None:
        app.create_task(app.process_error(None, error))

    await app.post_init(app)
    await app.updater.start_polling(allowed_updates=Update.ALL_TYPES, bootstrap_retries=-1, error_callback=failed)
    await app.start()


async def _finish(app: App) -> None:
    """What run_polling ends with."""
    assert app.post_stop is not None and app.post_shutdown is not None and app.updater is not None
    if app.updater.running:
        await app.updater.stop()
    if app.running:
        await app.stop()
        await app.post_stop(app)
    await app.shutdown()
    await app.post_shutdown(app)


def _handlers(app: App, owner_id: int) -> None:
    """Only the owner commands; anybody may answer a poll, open a quiz link and be told whose bot this is."""
    owner = filters.User(owner_id)
    private = filters.ChatType.PRIVATE
    app.add_handler(TypeHandler(Update, listen), group=-1)
    app.add_handler(CommandHandler("start", play.join, private & filters.Regex(rf"^/start {play.PAYLOAD}")))
    app.add_handler(CommandHandler("start", overview.start, owner))
    app.add_handler(CommandHandler("start", overview.stranger, ~owner & private))
    app.add_handler(CommandHandler("help", overview.help_, owner))
    app.add_handler(CommandHandler("status", overview.status, owner))
    app.add_handler(CommandHandler("sync", syncing.fetch_now, owner & private))
    app.add_handler(CommandHandler("chats", chats.chats, owner & private))
    app.add_handler(CommandHandler("forget", chats.ask_to_forget, owner & private))
    app.add_handler(CommandHandler("train", train.train, owner & private))
    app.add_handler(CommandHandler("cancel", train.cancel, owner & private))
    app.add_handler(CommandHandler("quiz", quiz.quiz, owner))
    app.add_handler(CommandHandler("standings", standings.standings, owner))
    app.add_handler(CommandHandler("report", evaluation.report, owner & private))
    app.add_handler(CommandHandler("nightly", nightly.nightly, owner & private))
    app.add_handler(CommandHandler("versions", versions.shown, owner & private))
    app.add_handler(CommandHandler("rollback", versions.rolled_back, owner & private))
    app.add_handler(CommandHandler("promote", versions.promoted, owner & private))
    app.add_handler(CommandHandler("mode", modes.mode, owner & private))
    app.add_handler(CommandHandler("quiet", modes.quiet_hours, owner & private))
    # Whose connection it is, is looked up in the handlers: a business message carries the friend as its user.
    app.add_handler(BusinessConnectionHandler(secretary.connected))
    app.add_handler(MessageHandler(filters.UpdateType.BUSINESS_MESSAGE, secretary.written))
    app.add_handler(MessageHandler(filters.UpdateType.EDITED_BUSINESS_MESSAGE, secretary.edited))
    app.add_handler(BusinessMessagesDeletedHandler(secretary.deleted))
    app.add_handler(CallbackQueryHandler(_owners(taps.tapped, owner_id), r"^card:\d+:(\d|edit|again|skip|rest)$"))
    app.add_handler(CallbackQueryHandler(_owners(modes.chosen, owner_id), r"^mode:\d+:(off|card|cloud)$"))
    app.add_handler(CallbackQueryHandler(_owners(drafts.chosen, owner_id), r"^draft:\d+:\d$"))
    app.add_handler(CallbackQueryHandler(_owners(drafts.again, owner_id), r"^again:\d+$"))
    app.add_handler(CallbackQueryHandler(_owners(quiz.approved, owner_id), r"^ask:\d+$"))
    app.add_handler(CallbackQueryHandler(_owners(quiz.approved_all, owner_id), r"^askall:\d+$"))
    app.add_handler(CallbackQueryHandler(_owners(quiz.dropped, owner_id), r"^drop:\d+$"))
    app.add_handler(CallbackQueryHandler(_owners(quiz.link, owner_id), r"^link:\d+$"))
    app.add_handler(CallbackQueryHandler(_owners(quiz.revoked, owner_id), r"^revoke:\d+$"))
    app.add_handler(CallbackQueryHandler(_owners(train.cancel, owner_id), r"^train:cancel$"))
    app.add_handler(CallbackQueryHandler(_owners(chats.pressed, owner_id), r"^chats:\d+(:-?\d+:(on|off))?$"))
    app.add_handler(CallbackQueryHandler(_owners(chats.answered_forget, owner_id), r"^forget:-?\d+:(yes|no|undo)$"))
    app.add_handler(CallbackQueryHandler(overview.unknown_button))
    app.add_handler(PollAnswerHandler(play.answered))
    app.add_handler(MessageHandler(owner & private & ~filters.COMMAND & filters.UpdateType.MESSAGE, drafts.received))
    app.add_handler(TypeHandler(Update, refused.nobody))
    app.add_error_handler(failures.failed)


def _owners(handler: overview.Handler, owner_id: int) -> overview.Handler:
    """Buttons know no filters: a press by anybody but the owner is answered and goes no further."""

    async def guarded(update: Update, context: Context) -> None:
        if update.effective_user is None or update.effective_user.id != owner_id:
            await overview.unknown_button(update, context)  # it counts him
            return
        await handler(update, context)

    return guarded


async def _start(app: App, settings: Settings, stack: AsyncExitStack) -> None:
    database = await stack.enter_async_context(Database.open(settings.likeme_home / "history.db"))
    owner = await remembered(database)
    write_to(owner)  # and so does every task that is started here

    async def tell(text: str) -> None:
        await failures.tell_owner(app, settings.owner_id, text)

    voice = await stack.enter_async_context(model_server(settings, lambda what: tell(say(f"server_{what}"))))
    drafting = Drafting(database, voice, tell)
    waiting = WaitingList(
        database,
        settings.burst_seconds,
        lambda job: (cloud_drafts if job.way == "cloud" else cards).serve(services, job),
    )
    follower = syncing.Follower(settings, database, tell, lambda own, new: cloud_drafts.heard(services, own, new))
    services = Services(app, settings, database, voice, follower, drafting, waiting, owner)
    app.bot_data["services"] = services
    services.spawn(pulse.beat(settings.likeme_home), "pulse")
    services.spawn(services.follower.run(), "following the account")
    services.spawn(_catch_up(services, tell), "catching up")
    services.spawn(sending.take_up(services), "taking up cards")
    services.spawn(sending.keep_up(services), "showing cards again")
    services.spawn(waiting.work(lambda error: app.process_error(None, error)), "drafting for those who wait")
    services.spawn(leftovers.keep_up(services), "deleting what was forgotten")
    services.spawn(play.resume(services, app.bot), "quiz")
    services.nightly = nightly.Nightly(services)
    assert app.job_queue is not None
    app.job_queue.run_repeating(nightly.look, nightly.LOOK_SECONDS, first=1, job_kwargs={"misfire_grace_time": None})
    services.spawn(_register_commands(app, settings.owner_id), "commands")
    log.info("the bot is up")


async def _catch_up(services: Services, tell: damage.Tell) -> None:
    """What ended, or went bad, while nobody watched; what is under way is watched to its end."""
    try:
        await services.voice.ready()
        await train.catch_up(services.database, services.voice)
        await damage.sound(services.database, services.voice, tell)
    except ModelError as error:
        log.warning("not caught up yet: %s", error)
    await train.follow_up(services.database, services.voice, lambda version: tell(train.done_text(version)))


async def _confirm_and_stop(app: App, stack: AsyncExitStack) -> None:
    if isinstance(app.update_queue, Updates):
        await app.update_queue.confirm(app.bot)
    await _stop(app, stack)


async def _stop(app: App, stack: AsyncExitStack) -> None:
    services = app.bot_data.get("services")
    if isinstance(services, Services):
        for task in list(services.tasks):
            task.cancel()
        await asyncio.gather(*services.tasks, return_exceptions=True)
    await stack.aclose()


async def _register_commands(app: App, owner_id: int) -> None:
    await register(app.bot, ("start",), BotCommandScopeDefault())
    await register(app.bot, GROUP_COMMANDS, BotCommandScopeAllGroupChats())
    try:
        await register(app.bot, OWNER_COMMANDS, BotCommandScopeChat(owner_id))
    except TelegramError as error:  # before the owner's first /start Telegram knows no such chat
        log.info("the owner's commands wait for his /start: %s", type(error).__name__)
