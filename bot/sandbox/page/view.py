"""The world's things as the page's JSON. Who may see what is the page's affair: it shows one person at a time."""

from typing import Any

from bot.sandbox import wire
from bot.sandbox.things import Chat, CloudDraft, Connection, Event, Message, Poll, Tap, Typing, User, Vote
from bot.sandbox.world import World

Told = dict[str, Any]


def whole(world: World) -> Told:
    """Everything there is, for a page that has just been opened."""
    return {
        "kind": "world",
        "people": [person(user) for user in world.users.values()],
        "chats": [chat(place) for place in world.chats.values()],
        "messages": [message(sent) for sent in world.messages.values()],
        "drafts": [draft(words) for words in world.drafts.values() if words.text],
        "connections": [connection(lent) for lent in world.connections.values()],
        "commands": {scope: listed for (_, scope), listed in world.commands.items()},
        "started": sorted(user for user, _ in world.started),
        "since": int(world.since.timestamp()),
    }


def told(world: World, event: Event, tapped: dict[str, int]) -> Told | None:
    """What a page is told of an event. `tapped`: who pressed which button, kept from the tap to its answer."""
    what = event.what
    if isinstance(what, Tap):
        tapped[what.tap_id] = what.user
        return None
    if event.kind == "answer":
        return {"kind": "answer", "user": tapped.pop(what[0], None), "text": what[1]}
    if event.kind == "commands":
        return {"kind": "commands", "scope": what[0], "commands": what[1]}
    if isinstance(what, Vote | Poll):
        poll = what.poll if isinstance(what, Vote) else what
        asked = next((sent for sent in world.messages.values() if sent.poll is poll), None)
        return None if asked is None else {"kind": "message", "message": message(asked)}
    if isinstance(what, Message):
        if event.kind == "deleted":
            return {"kind": "deleted", "chat": what.chat_id, "id": what.message_id}
        return {"kind": "message", "message": message(what), "chat": chat(world.chats[what.chat_id])}
    if isinstance(what, Typing):
        return {"kind": "typing", "from": what.sender, "chat": what.chat_id, "text": what.text}
    if isinstance(what, CloudDraft):
        return {"kind": "draft", **draft(what)}
    if isinstance(what, Connection):
        return {"kind": "connection", **connection(what)}
    return None


def person(user: User) -> Told:
    """A person or a bot."""
    name = f"{user.first_name} {user.last_name}".strip()
    told = {"id": user.user_id, "name": name, "username": user.username}
    return {**told, "is_bot": user.is_bot, "is_extra": user.is_extra}


def chat(place: Chat) -> Told:
    """A chat and who is in it."""
    return {"id": place.chat_id, "kind": place.kind, "title": place.title, "members": place.members}


def draft(words: CloudDraft) -> Told:
    """What somebody has typed and not sent."""
    return {"user": words.user, "chat": words.chat_id, "text": words.text}


def connection(lent: Connection) -> Told:
    """An account lent to the bot."""
    return {"user": lent.user, "is_enabled": lent.is_enabled, "can_reply": lent.can_reply}


def message(sent: Message) -> Told:
    """A message with all that a bubble shows."""
    return {
        "chat": sent.chat_id,
        "id": sent.message_id,
        "from": sent.sender,
        "date": int(sent.date.timestamp()),
        "text": sent.text,
        "entities": sent.entities,
        "reply_to": sent.reply_to,
        "forwarded": sent.forwarded_from or sent.forwarded_name or None,
        "buttons": sent.buttons,
        "poll": _poll(sent.poll) if sent.poll else None,
        "photo": wire.photo_size(sent.photo.file_id, sent.photo.content) if sent.photo else None,
        "edited": sent.edited is not None,
        "business_bot": sent.business_bot,
        "asks_reply": sent.asks_reply,
    }


def _poll(poll: Poll) -> Told:
    return {
        "question": poll.question,
        "options": [{"text": option.text, "voters": option.voters} for option in poll.options],
        "is_quiz": poll.is_quiz,
        "is_anonymous": poll.is_anonymous,
        "is_closed": poll.is_closed,
        "correct": poll.correct,
        "explanation": poll.explanation,
    }
