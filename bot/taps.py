"""What the owner does with a card: send a draft, or his own words instead, ask for others, skip."""

from telegram import ForceReply, Message, Update

from bot import cards, sending
from bot.context import Context, Services
from bot.history import now
from bot.texts import say
from storage import drafts, secretary
from storage.drafts import Draft
from storage.secretary import Card

PLACEHOLDER = 64  # Telegram's limit of an input field's hint


async def tapped(update: Update, context: Context) -> None:
    """A button of a card: `card:17:0`, `card:17:edit` …"""
    query, services = update.callback_query, context.services
    assert query is not None
    _, number, what = (query.data or "").split(":")
    card = await secretary.find_card(services.database, int(number))
    draft = await drafts.find(services.database, int(number))
    if card is None or draft is None:
        await query.answer(say("draft_gone"))
    elif what == "rest" and draft.state == "sending":
        await query.answer()
        sending.begin(services, card, draft)
    elif what == "rest" or draft.state not in ("shown", "sending"):
        await query.answer(say("draft_taken"))
    elif what.isdecimal():
        await query.answer(None if await take(services, card, int(what), None) else say("draft_taken"))
    elif what == "edit":
        await query.answer()
        await _ask_words(services, card, draft)
    elif what == "again":
        await query.answer(say("drafting"))
        await cards.draft_again(services, card)
    else:
        await query.answer(say("card_skipped_short"))
        await _skip(services, card)


async def take(services: Services, card: Card, index: int | None, words: str | None) -> bool:
    """Send a draft, or the owner's own words instead. False when something was taken before."""
    draft = await drafts.find(services.database, card.draft_id)
    if draft is None or (index is not None and index >= len(draft.replies)):
        return False
    if words in draft.replies:  # retyped word for word: not his own after all
        index, words = draft.replies.index(words), None
    async with services.database.transaction():
        if not await drafts.claim(services.database, card.draft_id, index, words, now()):
            return False
    claimed = await drafts.find(services.database, card.draft_id)
    assert claimed is not None
    sending.begin(services, card, claimed)
    return True


async def own_words(services: Services, message: Message) -> bool:
    """Whether a message of the owner's answers a card: then it is what is sent."""
    asked = message.reply_to_message
    if asked is None:
        return False
    card = await secretary.card_at(services.database, asked.message_id) or await _named_by(services, asked)
    if card is None:
        return False
    text = (message.text or "").strip()
    if not text:
        await message.reply_text(say("no_message"))
    elif not await take(services, card, None, text):
        await message.reply_text(say("draft_taken"))
    return True


async def _named_by(services: Services, asked: Message) -> Card | None:
    """The card that a message's buttons name: we were killed before we knew its place, or it is a moment old."""
    for row in asked.reply_markup.inline_keyboard if asked.reply_markup else ():
        for button in row:
            kind, _, rest = str(button.callback_data).partition(":")
            if kind == "card":
                return await secretary.find_card(services.database, int(rest.split(":")[0]))
    return None


async def _ask_words(services: Services, card: Card, draft: Draft) -> None:
    hint = draft.replies[0].replace("\n", " ")[:PLACEHOLDER] if draft.replies else None
    asked = await services.application.bot.send_message(
        services.settings.owner_id,
        say("card_your_words", name=await cards.name_of(services, card.chat_id)),
        reply_markup=ForceReply(input_field_placeholder=hint or None),
    )
    async with services.database.transaction():
        await secretary.place_card(services.database, card.draft_id, prompt_id=asked.message_id)


async def _skip(services: Services, card: Card) -> None:
    async with services.database.transaction():
        await drafts.settle(services.database, card.draft_id, "skipped", now())
    await cards.close(services, card, say("card_skipped", name=await cards.name_of(services, card.chat_id)))
