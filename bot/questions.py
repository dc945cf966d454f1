"""Quiz questions: held-out prompts answered ahead, masked, and how one looks as a poll."""

import random
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from html import escape

from bot.history import HeldOut, build_dataset, held_out, now
from bot.texts import Markup, say
from bot.voice import Voice, speaking
from storage import history, quizzes
from storage.database import Database
from storage.errors import BadInput
from storage.quizzes import Kind, NewQuestion, Question, Reply, Source
from storage.records import Chat, ChatKind
from training.dataset.pairs import Options
from training.dataset.redact import redact
from training.dataset.render import conversation

OPTION_CHARACTERS = 100  # Telegram's; longer replies go to the body as A, B, C
PROMPT_CHARACTERS = 200  # that fit a poll's question beside ours
MESSAGE_CHARACTERS = 3500  # of Telegram's 4,096, room for the frame
NAME_LETTERS = 3  # shorter words are no names to be masked
LETTERS = "ABC"
SOURCES: dict[Kind, tuple[Source, ...]] = {
    "three": ("real", "tuned", "stock"),
    "stock": ("tuned", "stock"),
    "real": ("real", "tuned"),
}
RIGHT: dict[Kind, Source] = {"three": "real", "stock": "tuned", "real": "real"}


Tell = Callable[[int, int], Awaitable[None]]  # questions ready, of how many


async def new_quiz(
    database: Database, voice: Voice, *, chat_id: int | None, n: int, kinds: Sequence[Kind] = ("three",), tell: Tell
) -> int:
    """Draw `n` prompts that have not been asked, have the models answer them, store the questions, masked."""
    model, version = await speaking(database, voice)
    if version is None:
        raise BadInput(say("quiz_no_voice"))
    prompts = await _fresh_prompts(database, n)
    if not prompts:
        raise BadInput(say("quiz_no_prompts"))
    seed = secrets.randbits(31)
    models = {"tuned": model, "stock": await voice.base_model()}
    chats = await history.chats(database)
    made = []
    for index, prompt in enumerate(prompts):
        await tell(index, len(prompts))
        kind = kinds[index % len(kinds)]
        replies = await _replies(voice, prompt, kind, models, seed + index)
        if replies is not None:
            made.append(_masked(prompt, kind, replies, chats))
    async with database.transaction():
        return await quizzes.add_quiz(database, chat_id=chat_id, model=model, seed=seed, questions=made, now=now())


def name_of(source: Source) -> str:
    """What kind of reply that is."""
    return say(f"source_{source}")


def order_for(one: Question, person: int) -> tuple[int, ...]:
    """The order in which a person (or a group) sees the replies: the same whenever he comes back."""
    indices = list(range(len(one.replies)))
    random.Random(f"{one.seed}:{one.question_id}:{person}").shuffle(indices)
    return tuple(indices)


def as_poll(one: Question, order: Sequence[int], name: str) -> tuple[str, str, list[str]]:
    """(message above, question, options): replies or a prompt too long for a poll stand above it as A, B, C."""
    texts = [one.replies[i].text for i in order]
    asked = say("quiz_question_stock" if one.kind == "stock" else "quiz_question", name=name)
    fits = all(len(text) <= OPTION_CHARACTERS for text in texts) and len(set(texts)) == len(texts)
    if fits and len(one.prompt) <= PROMPT_CHARACTERS:
        return "", f"«{one.prompt}»\n\n{asked}", texts
    body = say("quiz_body", prompt=escape(cut(one.prompt), quote=False), replies=listed(one, order))
    return body, asked, list(LETTERS[: len(texts)])


def explanation(one: Question, order: Sequence[int], name: str) -> str:
    """Who wrote which, for after the answer."""
    letters = {one.replies[i].source: LETTERS[place] for place, i in enumerate(order)}
    return say(f"quiz_explanation_{one.kind}", name=name, **letters)[:200]


def listed(one: Question, order: Sequence[int]) -> Markup:
    """The replies as A, B, C."""
    lines = (say("quiz_reply", letter=LETTERS[place], text=cut(one.replies[i].text)) for place, i in enumerate(order))
    return Markup("\n\n".join(lines))


def place_of(one: Question, order: Sequence[int], source: Source) -> int:
    """Where a source's reply stands."""
    return next(place for place, i in enumerate(order) if one.replies[i].source == source)


def cut(text: str) -> str:
    """Short enough for a message that holds four such texts."""
    most = MESSAGE_CHARACTERS // 4
    return text if len(text) <= most else text[: most - 1] + "…"


def masked(text: str, own_friend: str, others: Sequence[str]) -> str:
    """Secrets and names out of a text that others will read.

    The friend's own name goes however it is written, other people's where they begin with a capital: "will" and
    "mark" are words.
    """
    text = redact(text)[0]
    for name, flags in ((own_friend, re.IGNORECASE), *((other, re.NOFLAG) for other in others)):
        words = [re.escape(word) for word in re.findall(r"[^\W\d_]+", name) if len(word) >= NAME_LETTERS]
        if words:
            text = re.sub(rf"(?<![\w\[])(?:{'|'.join(words)})(?!\w)", "[name]", text, flags=flags)
    return text


async def _replies(voice: Voice, prompt: HeldOut, kind: Kind, models: dict[str, str], seed: int) -> list[Reply] | None:
    """None when a model stays silent."""
    found = []
    for source in SOURCES[kind]:
        if source == "real":
            found.append(Reply(source, prompt.reply))
            continue
        drawn = await voice.replies(models[source], conversation(prompt.context), 1, seed=seed)
        found += [Reply(source, text) for text in drawn[:1]]
    return found if len(found) == len(SOURCES[kind]) else None


def _masked(prompt: HeldOut, kind: Kind, replies: Sequence[Reply], chats: Sequence[Chat]) -> NewQuestion:
    people = [chat for chat in chats if chat.kind is ChatKind.PERSONAL]
    own = next((chat.name for chat in people if chat.chat_id == prompt.chat_id), "")
    others = [chat.name for chat in people if chat.chat_id != prompt.chat_id]
    hidden = tuple(Reply(reply.source, masked(reply.text, own, others)) for reply in replies)
    line = masked(prompt.context[-1].text, own, others)
    return NewQuestion(prompt.chat_id, prompt.message_id, line, hidden, kind)


async def _fresh_prompts(database: Database, n: int) -> list[HeldOut]:
    """The newest held-out prompts that no quiz has used."""
    used = await quizzes.asked_before(database)
    dataset = await build_dataset(database, Options())
    fresh = [one for one in held_out(dataset) if (one.chat_id, one.message_id) not in used]
    return fresh[-n:]
