"""Playing the quiz: questions put into a group or to one friend by his own link, and everybody's answers.

A friend's link is his alone, expires and can be revoked; questions out of his own chat never come to him. Whatever
he was asked is stored before it is sent: after a restart, or when he comes back, he goes on where he was.
"""

import contextlib
import logging
from typing import Any, cast

from telegram import Bot, PollAnswer, Update
from telegram.constants import ChatMemberStatus, ParseMode
from telegram.error import BadRequest, Forbidden, TelegramError

from bot import texts
from bot.context import Context, Services
from bot.history import now
from bot.questions import RIGHT, as_poll, explanation, order_for, place_of
from bot.refused import refuse
from bot.texts import say
from storage import history, invitations, quizzes
from storage.database import Database
from storage.invitations import Asking, Invitation
from storage.quizzes import Question

PAYLOAD = "quiz_"  # of a deep link, before the token
PRESENT = (
    ChatMemberStatus.OWNER,
    ChatMemberStatus.ADMINISTRATOR,
    ChatMemberStatus.MEMBER,
    ChatMemberStatus.RESTRICTED,
)

log = logging.getLogger(__name__)


async def ask_group(services: Services, bot: Bot, question_id: int) -> str:
    """Put a question into its quiz's group; what to tell the owner about it."""
    database = services.database
    one = await quizzes.find(database, question_id)
    if one is None or one.chat_id is None:
        return say("quiz_gone")
    if await _is_there(bot, one.chat_id, one.source_chat_id):
        return say("quiz_own_chat")
    async with database.transaction():
        # A tap takes it; one that was taken but never sent (the bot was killed) may be taken again.
        taken = await quizzes.move(database, question_id, "candidate", "approved") or await quizzes.move(
            database, question_id, "approved", "approved"
        )
    if not taken:
        return say("quiz_gone")
    await _put(services, bot, one, one.chat_id, None)
    async with database.transaction():
        await quizzes.move(database, question_id, "approved", "asked")
    return say("quiz_sent")


async def join(update: Update, context: Context) -> None:
    """/start with a quiz link's token"""
    message, user = update.effective_message, update.effective_user
    assert message is not None and user is not None
    services = context.services
    token = (context.args or [""])[0].removeprefix(PAYLOAD)
    found = await invitations.find_by_token(services.database, token)
    if found is not None and user.id == services.settings.owner_id:
        await message.reply_text(say("link_own"))
        return
    if found is None:
        refuse(services, "quiz link")
    if found is None or not found.is_open(now()):
        await message.reply_text(say("link_closed"))
        return
    async with services.database.transaction():
        mine = await invitations.take(services.database, found.invitation_id, user.id, texts.reading().language)
    if not mine:
        refuse(services, "quiz link")
        await message.reply_text(say("link_taken"))
        return
    if found.taken_by is None:
        await message.reply_text(say("link_welcome", name=await _owner_name(services.database)))
    await go_on(services, message.get_bot(), found.invitation_id)


async def answered(update: Update, context: Context) -> None:
    """Somebody's answer to a poll: the first counts; too late, twice or to an unknown poll harms nothing."""
    answer = update.poll_answer
    assert answer is not None
    database = context.services.database
    async with context.services.asking:  # an answer can be faster than the poll's id
        asking = await invitations.find_by_poll(database, answer.poll_id) or await _adopted(database, answer)
    if asking is None or answer.user is None or len(answer.option_ids) != 1:
        return
    one = await quizzes.find(database, asking.question_id)
    invitation = await invitations.find(database, asking.invitation_id) if asking.invitation_id else None
    if one is None or not 0 <= answer.option_ids[0] < len(asking.order):
        return
    if invitation is not None and (not invitation.is_open(now()) or answer.user.id != invitation.taken_by):
        refuse(context.services, "quiz answer")  # too late, or somebody to whom the poll was forwarded
        return
    async with database.transaction():
        counted = await quizzes.vote(
            database,
            one.question_id,
            voter_id=answer.user.id,
            voter_name=answer.user.first_name,
            is_owner=answer.user.id == context.services.settings.owner_id,
            source=one.replies[asking.order[answer.option_ids[0]]].source,
            now=now(),
        )
    if counted and invitation is not None:
        context.services.spawn(go_on(context.services, context.bot, invitation.invitation_id), "quiz")


async def _adopted(database: Database, answer: PollAnswer) -> Asking | None:
    """A poll that Telegram took while we were killed has no id here: the friend's only question without one is it."""
    if answer.user is None:
        return None
    unplaced = await invitations.without_poll(database, answer.user.id)
    if len({asking.question_id for asking in unplaced}) != 1:
        return None
    async with database.transaction():
        await invitations.set_poll(database, unplaced[0].asking_id, answer.poll_id, None)
    return unplaced[0]


async def go_on(services: Services, bot: Bot, invitation_id: int) -> None:
    """Put the next question to a friend, or thank him; before the owner has let one through, ask him to wait.

    One that he left unanswered comes again beside its old poll, which stays open: stopping a quiz shows its answer.
    """
    database = services.database
    invitation = await invitations.find(database, invitation_id)
    if invitation is None or invitation.taken_by is None or not invitation.is_open(now()):
        return
    left = await invitations.unanswered(database, invitation)
    try:
        with texts.writing_to(texts.Reader(invitation.language)):
            if not left:
                await bot.send_message(invitation.taken_by, await _thanks(database, invitation))
                return
            one = await quizzes.find(database, left[0])
            assert one is not None
            await _put(services, bot, one, invitation.taken_by, invitation_id)
    except Forbidden:
        log.info("a friend has blocked the bot; his link stays open")


async def resume(services: Services, bot: Bot) -> None:
    """Friends who wait get their next question: one that a restart kept back, or one that was let through now."""
    for invitation in await invitations.taken(services.database):
        waiting = await invitations.open_polls(services.database, invitation.invitation_id)
        if invitation.is_open(now()) and not waiting and await invitations.unanswered(services.database, invitation):
            await go_on(services, bot, invitation.invitation_id)


async def close(bot: Bot, database: Database, invitation_id: int) -> bool:
    """Revoke a link and stop its polls. False: it was closed already."""
    async with database.transaction():
        closed = await invitations.revoke(database, invitation_id, now())
    for asking in await invitations.open_polls(database, invitation_id):
        if asking.message_id is not None:
            with contextlib.suppress(BadRequest):  # stopped before, or deleted by him
                await bot.stop_poll(asking.chat_id, asking.message_id)
    return closed


async def _put(services: Services, bot: Bot, one: Question, chat_id: int, invitation_id: int | None) -> None:
    """Store, then send a question; the poll's id is noted as soon as Telegram has given it one."""
    database = services.database
    name = await _owner_name(database)
    order = order_for(one, chat_id)
    body, asked, options = as_poll(one, order, name)
    async with database.transaction():
        asking = await invitations.add_asking(
            database,
            question_id=one.question_id,
            chat_id=chat_id,
            invitation_id=invitation_id,
            order=order,
            now=now(),
        )
    if body:
        await bot.send_message(chat_id, body, parse_mode=ParseMode.HTML)
    async with services.asking:
        sent = await bot.send_poll(
            chat_id,
            asked,
            options,
            type="quiz",
            is_anonymous=False,
            correct_option_ids=cast(Any, [place_of(one, order, RIGHT[one.kind])]),
            explanation=explanation(one, order, name),
            protect_content=True,
        )
        assert sent.poll is not None
        async with database.transaction():
            await invitations.set_poll(database, asking, sent.poll.id, sent.message_id)


async def _thanks(database: Database, invitation: Invitation) -> str:
    of_quiz = {one.question_id: one for one in await quizzes.questions(database, invitation.quiz_id)}
    mine = [
        a for a in await quizzes.answers(database) if a.voter_id == invitation.taken_by and a.question_id in of_quiz
    ]
    if not mine:
        return say("link_wait")
    right = sum(answer.source == RIGHT[answer.kind] for answer in mine)
    return say("link_done", right=right, n=len(mine), name=await _owner_name(database))


async def _is_there(bot: Bot, group: int, person: int) -> bool:
    """Whether the friend whose words a question shows could read it in the group."""
    try:
        return (await bot.get_chat_member(group, person)).status in PRESENT
    except TelegramError:
        return False  # Telegram knows nobody of this id there


async def _owner_name(database: Database) -> str:
    owner = await history.account(database)
    return owner.first_name if owner and owner.first_name else say("owner_unnamed")
