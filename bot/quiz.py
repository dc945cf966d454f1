"""The blind quiz: which of these did he really write?

Questions are held-out prompts with the real reply, the tuned voice's and the stock model's, in an
order drawn from a stored seed. The owner sees each one first: nothing reaches the group before his tap.
"""

import asyncio
import random
import secrets
from collections.abc import Sequence
from html import escape
from typing import Any, cast, get_args

from telegram import Bot, InlineKeyboardButton, InlineKeyboardMarkup, Message, Update
from telegram.constants import ParseMode
from telegram.error import Forbidden

from bot import charts
from bot.context import Context, Services
from bot.history import HeldOut, build_dataset, held_out, now
from bot.statistics import SMALL, Share, wilson
from bot.texts import Markup, say
from bot.voice import Voice, speaking
from storage import history, quizzes
from storage.database import Database
from storage.errors import BadInput, LikemeError
from storage.quizzes import NewQuestion, Question, Reply, Source
from training.dataset.pairs import Options
from training.dataset.render import conversation

QUESTIONS = 5
MOST_QUESTIONS = 20
OPTION_CHARACTERS = 100  # Telegram's; longer replies go to the body as A, B, C
MESSAGE_CHARACTERS = 3500  # of Telegram's 4,096, room for the frame
LETTERS = "ABC"
NAMES = {"real": "the real reply", "tuned": "the tuned voice", "stock": "the stock model"}


async def new_quiz(database: Database, voice: Voice, *, chat_id: int | None, n: int = QUESTIONS) -> int:
    """Draw `n` prompts that have not been asked, have both models answer them, store the questions."""
    model, version = await speaking(database, voice)
    if version is None:
        raise BadInput(say("quiz_no_voice"))
    prompts = await _fresh_prompts(database, n)
    if not prompts:
        raise BadInput(say("quiz_no_prompts"))
    seed = secrets.randbits(31)
    order = random.Random(seed)
    stock = await voice.base_model()
    made = [await question(voice, prompt, tuned=model, stock=stock, order=order) for prompt in prompts]
    async with database.transaction():
        return await quizzes.add_quiz(
            database,
            chat_id=chat_id,
            model=model,
            seed=seed,
            questions=[one for one in made if one is not None],
            now=now(),
        )


async def question(
    voice: Voice, prompt: HeldOut, *, tuned: str, stock: str, order: random.Random
) -> NewQuestion | None:
    """The three replies to a prompt, shuffled; None when a model stays silent."""
    messages = conversation(prompt.context)
    answers = [("real", prompt.reply)]
    for source, model in (("tuned", tuned), ("stock", stock)):
        replies = await voice.replies(model, messages, 1, seed=order.randrange(2**31))
        answers += [(source, reply) for reply in replies]
    if len(answers) < 3:
        return None
    order.shuffle(answers)
    replies_in_order = tuple(Reply(source, text) for source, text in answers)  # type: ignore[arg-type]
    return NewQuestion(prompt.chat_id, prompt.message_id, prompt.context[-1].text, replies_in_order)


async def standings_rows(database: Database, model: str | None = None) -> list[tuple[str, Share]]:
    """How often each source was picked, over all versions or one."""
    picks = await quizzes.picks(database)
    chosen = [counts for name, counts in picks.items() if model in (None, name)]
    total = sum(sum(counts.values()) for counts in chosen)
    sources: tuple[Source, ...] = get_args(Source)
    return [(NAMES[source], wilson(sum(counts[source] for counts in chosen), total)) for source in sources]


def standings_text(rows: Sequence[tuple[str, Share]]) -> str:
    """The standings in words, with a clear one when they say nothing yet."""
    n = rows[0][1].n
    lines = [say("standings_title", n=n)]
    lines += [
        say("standings_line", name=name, share=s.share, picks=s.picks, n=s.n, low=s.low, high=s.high)
        for name, s in rows
    ]
    return "\n".join(lines + ([say("standings_small", n=n)] if n < SMALL else []))


async def quiz(update: Update, context: Context) -> None:
    """/quiz [N], in a group"""
    message = update.effective_message
    assert message is not None and update.effective_chat is not None
    if update.effective_chat.type == "private":
        await message.reply_text(say("quiz_group_only"))
        return
    wanted = int(context.args[0]) if context.args and context.args[0].isdigit() else QUESTIONS
    n = max(1, min(wanted, MOST_QUESTIONS))
    group = update.effective_chat
    context.services.spawn(_prepare(context.services, message, group.id, group.title or "", n), "quiz")


async def _prepare(services: Services, message: Message, group: int, title: str, n: int) -> None:
    bot, owner = message.get_bot(), services.settings.owner_id
    try:
        await bot.send_message(owner, say("quiz_preparing", n=n))
    except Forbidden:
        await message.reply_text(say("quiz_write_me"))
        return
    try:
        quiz_id = await new_quiz(services.database, services.voice, chat_id=group, n=n)
    except LikemeError as error:
        await bot.send_message(owner, str(error))
        return
    asked = await quizzes.questions(services.database, quiz_id)
    for number, one in enumerate(asked, 1):
        await bot.send_message(
            owner,
            _candidate(one, number, title),
            parse_mode=ParseMode.HTML,
            reply_markup=InlineKeyboardMarkup(
                [
                    [
                        InlineKeyboardButton(say("button_send"), callback_data=f"ask:{one.question_id}"),
                        InlineKeyboardButton(say("button_drop"), callback_data=f"drop:{one.question_id}"),
                    ]
                ]
            ),
        )
    button = InlineKeyboardButton(say("button_send_all"), callback_data=f"askall:{quiz_id}")
    ready = say("quiz_ready", n=len(asked), group=title)
    await bot.send_message(owner, ready, reply_markup=InlineKeyboardMarkup([[button]]))


async def approved(update: Update, context: Context) -> None:
    """The owner's tap on 'send to the group'"""
    query = update.callback_query
    assert query is not None
    question_id = int((query.data or "").split(":")[1])
    sent = await _ask(context.services, query.get_bot(), question_id)
    await query.answer(say("quiz_sent") if sent else say("quiz_gone"))
    if sent:
        await query.edit_message_reply_markup(None)


async def approved_all(update: Update, context: Context) -> None:
    """The owner's tap on 'send all'"""
    query = update.callback_query
    assert query is not None
    await query.answer()
    for one in await quizzes.questions(context.services.database, int((query.data or "").split(":")[1])):
        if one.state in ("candidate", "approved"):
            await _ask(context.services, query.get_bot(), one.question_id)
    await query.edit_message_reply_markup(None)


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


async def _ask(services: Services, bot: Bot, question_id: int) -> bool:
    """Send a question's poll to its group. False when it is not to be asked (any more)."""
    database = services.database
    async with database.transaction():
        # A tap takes it; one that was taken but never sent (the bot was killed) may be taken again.
        taken = await quizzes.move(database, question_id, "candidate", "approved") or await quizzes.move(
            database, question_id, "approved", "approved"
        )
    one = await quizzes.find(database, question_id)
    if not taken or one is None or one.chat_id is None:
        return False
    owner = await history.account(database)
    name = owner.first_name if owner and owner.first_name else "he"
    options, body = poll_options(one)
    if body:
        await bot.send_message(one.chat_id, body, parse_mode=ParseMode.HTML)
    asked = say("quiz_question", name=name)
    sent = await bot.send_poll(
        one.chat_id,
        asked if body else poll_question(one.prompt, asked),
        options,
        type="quiz",
        is_anonymous=False,
        correct_option_ids=cast(Any, [index_of(one, "real")]),
        explanation=explanation(one, name),
    )
    assert sent.poll is not None
    async with database.transaction():
        await quizzes.set_poll(database, question_id, sent.poll.id)
        await quizzes.move(database, question_id, "approved", "asked")
    return True


async def answered(update: Update, context: Context) -> None:
    """Somebody's answer to a poll"""
    answer = update.poll_answer
    assert answer is not None
    database = context.services.database
    one = await quizzes.find_by_poll(database, answer.poll_id)
    if one is None or answer.user is None or len(answer.option_ids) != 1:
        return
    async with database.transaction():
        await quizzes.vote(
            database,
            one.question_id,
            voter_id=answer.user.id,
            voter_name=answer.user.first_name,
            is_owner=answer.user.id == context.services.settings.owner_id,
            source=one.replies[answer.option_ids[0]].source,
            now=now(),
        )


async def standings(update: Update, context: Context) -> None:
    """/standings"""
    message = update.effective_message
    assert message is not None
    rows = await standings_rows(context.services.database)
    if rows[0][1].n == 0:
        await message.reply_text(say("standings_none"))
        return
    title = say("standings_title", n=rows[0][1].n)
    picture = await asyncio.to_thread(charts.standings, title, rows)
    await message.reply_photo(picture, caption=standings_text(rows))


def poll_options(one: Question) -> tuple[list[str], str]:
    """The options of the poll, and the body above it where a reply or the prompt is too long for them."""
    texts = [reply.text for reply in one.replies]
    fits = all(len(text) <= OPTION_CHARACTERS for text in texts) and len(set(texts)) == len(texts)
    if fits and len(one.prompt) <= 200:
        return texts, ""
    return list(LETTERS), _body(one)


def poll_question(prompt: str, asked: str) -> str:
    """Prompt and question in the 300 characters of a poll."""
    return f"«{prompt}»\n\n{asked}"


def explanation(one: Question, name: str) -> str:
    """Who wrote which, for after the answer."""
    letters = {reply.source: LETTERS[i] for i, reply in enumerate(one.replies)}
    text = say("quiz_explanation", name=name, letter=letters["real"], tuned=letters["tuned"], stock=letters["stock"])
    return text[:200]


def index_of(one: Question, source: str) -> int:
    """Where a source's reply stands."""
    return next(i for i, reply in enumerate(one.replies) if reply.source == source)


async def _fresh_prompts(database: Database, n: int) -> list[HeldOut]:
    """The newest held-out prompts that no quiz has used."""
    used = await quizzes.asked_before(database)
    dataset = await build_dataset(database, Options())
    fresh = [one for one in held_out(dataset) if (one.chat_id, one.message_id) not in used]
    return fresh[-n:]


def _candidate(one: Question, number: int, group: str) -> str:
    return say(
        "quiz_candidate",
        number=str(number),
        group=group,
        prompt=_cut(one.prompt),
        replies=Markup(_replies(one)),
        real=LETTERS[index_of(one, "real")],
    )


def _body(one: Question) -> str:
    return say("quiz_body", prompt=escape(_cut(one.prompt), quote=False), replies=_replies(one))


def _replies(one: Question) -> str:
    return "\n\n".join(
        say("quiz_reply", letter=letter, text=_cut(reply.text))
        for letter, reply in zip(LETTERS, one.replies, strict=True)
    )


def _cut(text: str) -> str:
    most = MESSAGE_CHARACTERS // 4
    return text if len(text) <= most else text[: most - 1] + "…"
