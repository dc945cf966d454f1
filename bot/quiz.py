"""The owner's side of the quiz: questions made, looked at, let through; links for friends.

A question shows somebody's private words: nothing reaches a friend before the owner's tap.
"""

import contextlib
import secrets
import time
from collections.abc import Sequence
from datetime import timedelta

from telegram import Bot, InlineKeyboardButton, InlineKeyboardMarkup, Message, Update
from telegram.constants import ParseMode
from telegram.error import BadRequest, Forbidden
from telegram.helpers import create_deep_linked_url

from bot import play
from bot.context import Context, Services
from bot.history import now
from bot.questions import LETTERS, RIGHT, cut, listed, new_quiz, place_of
from bot.texts import left, say
from bot.train import EDIT_SECONDS
from storage import invitations, quizzes
from storage.errors import LikemeError
from storage.quizzes import Kind, Question

QUESTIONS = 10
MOST_QUESTIONS = 30
LINK_DAYS = 7
KINDS: dict[str, tuple[Kind, ...]] = {"three": ("three",), "duel": ("stock", "real")}


async def quiz(update: Update, context: Context) -> None:
    """/quiz [N] [duel], in a group or in private"""
    message = update.effective_message
    assert message is not None and update.effective_chat is not None
    words = context.args or []
    wanted = next((int(word) for word in words if word.isdigit()), QUESTIONS)
    kinds = next((KINDS[word] for word in words if word in KINDS), KINDS["three"])
    n = max(1, min(wanted, MOST_QUESTIONS))
    where = update.effective_chat
    group = None if where.type == "private" else where.id
    context.services.spawn(_prepare(context.services, message, group, where.title or "", n, kinds), "quiz")


async def _prepare(
    services: Services, message: Message, group: int | None, title: str, n: int, kinds: Sequence[Kind]
) -> None:
    bot, owner = message.get_bot(), services.settings.owner_id
    try:
        shown = await bot.send_message(owner, say("quiz_preparing", n=n))
    except Forbidden:
        await message.reply_text(say("quiz_write_me"))
        return
    progress = _Progress(shown)
    try:
        quiz_id = await new_quiz(services.database, services.voice, chat_id=group, n=n, kinds=kinds, tell=progress.tell)
    except LikemeError as error:
        await bot.send_message(owner, str(error))
        return
    asked = await quizzes.questions(services.database, quiz_id)
    for number, one in enumerate(asked, 1):
        let = InlineKeyboardButton(
            say("button_send" if group else "button_approve"), callback_data=f"ask:{one.question_id}"
        )
        drop = InlineKeyboardButton(say("button_drop"), callback_data=f"drop:{one.question_id}")
        text = _candidate(one, number, title or say("quiz_by_link"))
        await bot.send_message(owner, text, parse_mode=ParseMode.HTML, reply_markup=InlineKeyboardMarkup([[let, drop]]))
    buttons = [
        [
            InlineKeyboardButton(
                say("button_send_all" if group else "button_approve_all"), callback_data=f"askall:{quiz_id}"
            )
        ],
        [InlineKeyboardButton(say("button_link"), callback_data=f"link:{quiz_id}")],
    ]
    ready = say("quiz_ready", n=len(asked), group=title or say("quiz_by_link"))
    await bot.send_message(owner, ready, reply_markup=InlineKeyboardMarkup(buttons))


async def approved(update: Update, context: Context) -> None:
    """The owner's tap on 'send to the group' or 'approve'"""
    query = update.callback_query
    assert query is not None
    told = await _let_through(context.services, query.get_bot(), int((query.data or "").split(":")[1]))
    await query.answer(told)
    if told != say("quiz_own_chat"):
        await query.edit_message_reply_markup(None)
    context.services.spawn(play.resume(context.services, query.get_bot()), "quiz")


async def approved_all(update: Update, context: Context) -> None:
    """The owner's tap on 'send all' or 'approve all'"""
    query = update.callback_query
    assert query is not None
    await query.answer()
    kept_back = 0
    for one in await quizzes.questions(context.services.database, int((query.data or "").split(":")[1])):
        if one.state in ("candidate", "approved"):
            told = await _let_through(context.services, query.get_bot(), one.question_id)
            kept_back += told == say("quiz_own_chat")
    if kept_back:
        await query.get_bot().send_message(context.services.settings.owner_id, say("quiz_kept_back", n=kept_back))
    context.services.spawn(play.resume(context.services, query.get_bot()), "quiz")


async def dropped(update: Update, context: Context) -> None:
    """The owner's tap on 'drop'"""
    query = update.callback_query
    assert query is not None
    database = context.services.database
    async with database.transaction():
        gone = await quizzes.move(database, int((query.data or "").split(":")[1]), "candidate", "dropped")
    await query.answer(say("quiz_dropped") if gone else say("quiz_gone"))
    if gone:
        await query.edit_message_reply_markup(None)


async def link(update: Update, context: Context) -> None:
    """The owner's tap on 'a link for a friend': a new one, for one friend"""
    query = update.callback_query
    assert query is not None
    await query.answer()
    services, bot = context.services, query.get_bot()
    token = secrets.token_urlsafe(16)
    async with services.database.transaction():
        invitation_id = await invitations.add(
            services.database,
            token=token,
            quiz_id=int((query.data or "").split(":")[1]),
            now=now(),
            expires_at=now() + timedelta(days=LINK_DAYS),
        )
    button = InlineKeyboardButton(say("button_revoke"), callback_data=f"revoke:{invitation_id}")
    url = create_deep_linked_url(context.bot.username, play.PAYLOAD + token)
    await bot.send_message(
        services.settings.owner_id,
        say("link_new", url=url, days=LINK_DAYS),
        reply_markup=InlineKeyboardMarkup([[button]]),
    )


async def revoked(update: Update, context: Context) -> None:
    """The owner's tap on 'revoke'"""
    query = update.callback_query
    assert query is not None
    closed = await play.close(query.get_bot(), context.services.database, int((query.data or "").split(":")[1]))
    await query.answer(say("link_revoked") if closed else say("link_closed"))
    if closed:
        await query.edit_message_reply_markup(None)


async def _let_through(services: Services, bot: Bot, question_id: int) -> str:
    """Into the group at once; without a group, ready for the links."""
    one = await quizzes.find(services.database, question_id)
    if one is not None and one.chat_id is not None:
        return await play.ask_group(services, bot, question_id)
    async with services.database.transaction():
        taken = await quizzes.move(services.database, question_id, "candidate", "approved")
    return say("quiz_approved") if taken else say("quiz_gone")


class _Progress:
    """The message that says how many questions are ready, edited at a rate that Telegram allows."""

    def __init__(self, message: Message) -> None:
        self._message, self._started = message, time.monotonic()
        self._edited = self._started

    async def tell(self, done: int, n: int) -> None:
        now_ = time.monotonic()
        if done and now_ - self._edited >= EDIT_SECONDS:
            self._edited = now_
            eta = left(now_ - self._started, done / n)
            with contextlib.suppress(BadRequest):  # the owner has deleted it
                await self._message.edit_text(say("quiz_progress", done=done, n=n, eta=eta))


def _candidate(one: Question, number: int, where: str) -> str:
    order = range(len(one.replies))
    return say(
        "quiz_candidate",
        number=str(number),
        group=where,
        prompt=cut(one.prompt),
        replies=listed(one, order),
        right=say(f"quiz_right_{RIGHT[one.kind]}", letter=LETTERS[place_of(one, order, RIGHT[one.kind])]),
    )
