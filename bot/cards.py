"""Cards: who wrote, the last turns, numbered drafts; how they come to be, and how they look as things change."""

import time
from collections.abc import Sequence
from html import escape

from telegram import InlineKeyboardButton, InlineKeyboardMarkup, LinkPreviewOptions
from telegram.constants import ParseMode
from telegram.error import BadRequest

from bot.context import Services
from bot.drafting import RECENT, Drafted
from bot.history import now
from bot.streaming import Stream
from bot.texts import Markup, say
from storage import drafts, history, secretary
from storage.drafts import Draft
from storage.errors import ModelError
from storage.records import Message
from storage.secretary import Card, Waiting
from training.dataset.pairs import Options, context_of
from training.dataset.render import Turn

SHOWN_CHARACTERS = 400  # of a turn


async def serve(services: Services, job: Waiting) -> None:
    """Draft for a chat that waits and show the card, unless something newer has come meanwhile."""
    database = services.database
    recent = await history.newest(database, job.chat_id, RECENT)
    context = context_of(recent, Options())
    if not context:  # a sticker, a photo without words, or the owner has answered
        async with database.transaction():
            await secretary.served(database, job)
        return
    chat = await history.find_chat(database, job.chat_id)
    name = chat.name if chat else str(job.chat_id)
    top = head(name, context)
    stream = Stream(services, lambda texts: f"{top}\n\n{numbered(texts)} …", job.chat_id)
    try:
        drafted = await services.drafting.drafts(context, job.chat_id, on_text=stream.grown)
    except ModelError:
        await stream.close()
        await _put(services, job, recent, Drafted((), "", context), say("card_away"))
        raise
    await stream.close()
    await _put(services, job, recent, drafted)


async def _put(services: Services, job: Waiting, recent: Sequence[Message], drafted: Drafted, away: str = "") -> None:
    """Store and show the card of a job, instead of those before it. `away`: its drafts will take its place later."""
    database = services.database
    before = await secretary.open_cards(database, job.chat_id)
    replaced = next((card for card in before if card.draft_id == job.card_draft_id), None)
    if away and replaced is not None:
        if replaced.note != away:
            await annotate(services, replaced, "card_away")
        return
    answers = max(message.message_id for message in recent if not message.is_own)
    answered_at = max(int(message.date.timestamp()) for message in recent if not message.is_own)
    note = replaced.note if replaced and replaced.note != say("card_away") else away
    place = replaced.message_id if replaced else None
    async with database.transaction():
        if not await (secretary.stands if away else secretary.served)(database, job):
            return
        for card in before:
            await drafts.settle(database, card.draft_id, "replaced", now())
        draft_id = await _note(services, job.chat_id, drafted)
        if away:
            await secretary.put_on_card(database, job.chat_id, draft_id)
        card = Card(draft_id, job.connection_id or "", job.chat_id, answers, answered_at, place, note=note)
        await secretary.add_card(database, card)
    for old in before:
        if old.message_id != place:
            await close(services, old, say("card_replaced", name=await name_of(services, job.chat_id)))
    await show(services, card)


async def _note(services: Services, chat_id: int, drafted: Drafted) -> int:
    context = [(turn.role, turn.text) for turn in drafted.context]
    return await drafts.add(
        services.database,
        chat_id=chat_id,
        context=context,
        model=drafted.model,
        replies=drafted.replies,
        now=now(),
        way="card",
    )


async def show(services: Services, card: Card) -> None:
    """Put a card where it belongs: anew, or in the place where it, or the one before it, stands."""
    draft = await drafts.find(services.database, card.draft_id)
    if draft is None or card.draft_id in services.being_shown:
        return
    services.being_shown.add(card.draft_id)
    try:
        await _show(services, card, draft)
    finally:
        services.being_shown.discard(card.draft_id)


async def _show(services: Services, card: Card, draft: Draft) -> None:
    chat = await history.find_chat(services.database, card.chat_id)
    text, buttons = await _face(services, card, draft, chat.name if chat else str(card.chat_id))
    if card.message_id is not None and await _edit(services, card.message_id, text, buttons):
        return
    shown = await services.application.bot.send_message(
        services.settings.owner_id,
        text,
        parse_mode=ParseMode.HTML,
        reply_markup=buttons,
        link_preview_options=LinkPreviewOptions(is_disabled=True),
    )
    async with services.database.transaction():
        await secretary.place_card(services.database, card.draft_id, message_id=shown.message_id)


async def annotate(services: Services, card: Card, key: str, **values: str) -> None:
    """Let a card say what has happened; its drafts stay."""
    note = say(key, **values)
    async with services.database.transaction():
        await secretary.annotate(services.database, card.draft_id, note)
    found = await secretary.find_card(services.database, card.draft_id)
    if found is not None:
        await show(services, found)


async def draft_again(services: Services, card: Card) -> None:
    """Let a card be drafted anew, in its place."""
    clock = time.time()
    job = Waiting(card.chat_id, "card", card.connection_id, card.answers, clock, clock, card.draft_id)
    async with services.database.transaction():
        await secretary.wait(services.database, job)
    services.waiting.wake()


async def answered(services: Services, chat_id: int, text: str) -> None:
    """The owner has answered by himself: what he wrote is kept beside what was drafted."""
    for card in await secretary.open_cards(services.database, chat_id):
        async with services.database.transaction():
            await drafts.settle(services.database, card.draft_id, "answered", now(), edited=text)
        await close(services, card, say("card_answered", name=await name_of(services, chat_id)))


def numbered(replies: Sequence[str]) -> str:
    """Drafts as HTML, numbered as their buttons are."""
    return "\n\n".join(f"<b>{i}</b>  {escape(reply, quote=False)}" for i, reply in enumerate(replies, 1))


def head(name: str, context: Sequence[Turn]) -> str:
    """Who wrote, and the last turns, as HTML."""
    lines = [f"<b>{escape(name, quote=False)}</b>"]
    for turn in context:
        who = say("card_you") if turn.role == "assistant" else name
        text = turn.text if len(turn.text) <= SHOWN_CHARACTERS else f"{turn.text[:SHOWN_CHARACTERS]} …"
        lines.append(f"<i>{escape(who, quote=False)}:</i> {escape(text, quote=False)}")
    return "\n".join(lines)


async def _face(services: Services, card: Card, draft: Draft, name: str) -> tuple[str, InlineKeyboardMarkup | None]:
    """A card's text and its buttons, as things stand."""
    top = head(name, [Turn(*said) for said in draft.context])
    note = f"\n\n<i>{escape(card.note, quote=False)}</i>" if card.note else ""
    if draft.state == "shown":
        body = numbered(draft.replies) if draft.replies or card.note else say("no_drafts")
        return f"{top}\n\n{body}{note}\n\n<i>{escape(draft.model)}</i>", _buttons(draft)
    if draft.state == "sending":
        return f"{top}\n\n{escape(draft.words, quote=False)}{note}", _rest(draft)
    return say("card_done", head=Markup(top), words=draft.words, name=name), None


def _buttons(draft: Draft) -> InlineKeyboardMarkup:
    def button(label: str, what: str) -> InlineKeyboardButton:
        return InlineKeyboardButton(label, callback_data=f"card:{draft.draft_id}:{what}")

    numbers = [button(str(i + 1), str(i)) for i in range(len(draft.replies))]
    rest = [button(say(f"button_{what}"), what) for what in ("edit", "again", "skip")]
    return InlineKeyboardMarkup([numbers, rest] if numbers else [rest])


def _rest(draft: Draft) -> InlineKeyboardMarkup:
    row = [InlineKeyboardButton(say(f"button_{what}"), callback_data=f"card:{draft.draft_id}:{what}")
           for what in ("rest", "skip")]  # fmt: skip
    return InlineKeyboardMarkup([row])


async def close(services: Services, card: Card, text: str) -> None:
    """Nothing is left to be done with a card: it shrinks to a line."""
    if card.message_id is not None:
        await _edit(services, card.message_id, escape(text, quote=False), None)


async def _edit(services: Services, message_id: int, text: str, buttons: InlineKeyboardMarkup | None) -> bool:
    """False when the card is gone: the owner has deleted it."""
    try:
        await services.application.bot.edit_message_text(
            text,
            services.settings.owner_id,
            message_id,
            parse_mode=ParseMode.HTML,
            reply_markup=buttons,
            link_preview_options=LinkPreviewOptions(is_disabled=True),
        )
    except BadRequest as error:
        return "not modified" in str(error).casefold()
    return True


async def name_of(services: Services, chat_id: int) -> str:
    """Whom a chat is with."""
    chat = await history.find_chat(services.database, chat_id)
    return chat.name if chat else str(chat_id)
