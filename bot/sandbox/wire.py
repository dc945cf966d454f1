"""The world's things as the Bot API's JSON."""

import struct
from typing import Any

from bot.sandbox.things import Chat, Connection, Event, Message, Poll, Tap, User, Vote
from bot.sandbox.world import World


def user(person: User) -> dict[str, Any]:
    """User"""
    out: dict[str, Any] = {"id": person.user_id, "is_bot": person.is_bot, "first_name": person.first_name}
    if person.last_name:
        out["last_name"] = person.last_name
    if person.username:
        out["username"] = person.username
    if not person.is_bot:
        out["language_code"] = person.language
    return out


def chat(world: World, place: Chat, viewer: int = 0) -> dict[str, Any]:
    """Chat; a personal one as `viewer` sees it."""
    if place.kind == "group":
        return {"id": place.chat_id, "type": "group", "title": place.title}
    with_whom = next(m for m in place.members if m != viewer) if place.kind == "personal" else place.chat_id
    person = world.users[with_whom]
    out: dict[str, Any] = {"id": with_whom, "type": "private", "first_name": person.first_name}
    if person.username:
        out["username"] = person.username
    return out


def message(world: World, sent: Message, depth: int = 0, connection: Connection | None = None) -> dict[str, Any]:
    """Message; of a personal chat it is told through a business `connection`."""
    out: dict[str, Any] = {
        "message_id": sent.message_id,
        "from": user(world.users[sent.sender]),
        "chat": chat(world, world.chats[sent.chat_id], connection.user if connection else 0),
        "date": int(sent.date.timestamp()),
    }
    if connection is not None:
        out["business_connection_id"] = connection.connection_id
    if sent.business_bot is not None:
        out["sender_business_bot"] = user(world.users[sent.business_bot])
    if sent.photo is not None:
        out["photo"] = [photo_size(sent.photo.file_id, sent.photo.content)]
        if sent.text:
            out["caption"] = sent.text
    elif sent.poll is not None:
        out["poll"] = poll(sent.poll)
    else:
        out["text"] = sent.text
    if sent.entities:
        out["caption_entities" if sent.photo else "entities"] = sent.entities
    if sent.edited is not None:
        out["edit_date"] = int(sent.edited.timestamp())
    if sent.buttons:
        out["reply_markup"] = {"inline_keyboard": sent.buttons}
    if sent.forwarded_from is not None or sent.forwarded_name:
        out["forward_origin"] = _origin(world, sent)
    replied = world.messages.get((sent.chat_id, sent.reply_to)) if sent.reply_to else None
    if replied is not None and depth == 0:
        out["reply_to_message"] = message(world, replied, depth + 1, connection)
    return out


def _origin(world: World, sent: Message) -> dict[str, Any]:
    date = int(sent.date.timestamp())
    if sent.forwarded_from is not None:
        return {"type": "user", "date": date, "sender_user": user(world.users[sent.forwarded_from])}
    return {"type": "hidden_user", "date": date, "sender_user_name": sent.forwarded_name}


def poll(asked: Poll) -> dict[str, Any]:
    """Poll"""
    out: dict[str, Any] = {
        "id": asked.poll_id,
        "question": asked.question,
        "options": [
            {"persistent_id": option.key, "text": option.text, "voter_count": len(option.voters)}
            for option in asked.options
        ],
        "total_voter_count": len(asked.voters),
        "is_closed": asked.is_closed,
        "is_anonymous": asked.is_anonymous,
        "type": "quiz" if asked.is_quiz else "regular",
        "allows_multiple_answers": asked.allows_multiple,
        "allows_revoting": not asked.is_quiz,
        "members_only": False,
    }
    if asked.is_quiz:
        out["correct_option_ids"] = list(asked.correct)
        out["explanation"] = asked.explanation
    return out


def photo_size(file_id: str, content: bytes) -> dict[str, Any]:
    """PhotoSize, with the real size of a PNG."""
    is_png = content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24]) if is_png else (640, 480)
    return {
        "file_id": file_id,
        "file_unique_id": file_id[:16],
        "width": width,
        "height": height,
        "file_size": len(content),
    }


def update(world: World, bot: User, event: Event) -> dict[str, Any] | None:
    """The update that `bot` gets of an event (without its id), or None."""
    what = event.what
    if event.kind == "connection":
        return {"business_connection": business_connection(world, what)} if what.bot == bot.user_id else None
    if isinstance(what, Message) and (place := world.chats[what.chat_id]).kind == "personal":
        return _in_business(world, bot, event.kind, what, place)
    if event.kind in ("message", "edited") and isinstance(what, Message) and what.sender != bot.user_id:
        if not _sees(world, bot, what.chat_id):
            return None
        return {"message" if event.kind == "message" else "edited_message": message(world, what)}
    if event.kind == "tap" and isinstance(what, Tap) and what.message.sender == bot.user_id:
        return {"callback_query": _callback(world, what)}
    if event.kind == "vote" and isinstance(what, Vote) and not what.poll.is_anonymous:
        if _asked(world, what.poll) == bot.user_id:
            return {"poll_answer": _answer(world, what)}
    if event.kind == "poll" and isinstance(what, Poll) and _asked(world, what) == bot.user_id:
        return {"poll": poll(what)}
    return None


def business_connection(world: World, connection: Connection) -> dict[str, Any]:
    """BusinessConnection"""
    return {
        "id": connection.connection_id,
        "user": user(world.users[connection.user]),
        "user_chat_id": connection.user,
        "date": int(connection.date.timestamp()),
        "rights": {"can_reply": True} if connection.can_reply else {},
        "is_enabled": connection.is_enabled,
    }


def _in_business(world: World, bot: User, kind: str, what: Message, place: Chat) -> dict[str, Any] | None:
    """What a bot hears of a personal chat: only where one of the two has lent it his account."""
    lent = (c for c in world.connections.values() if c.bot == bot.user_id and c.is_enabled and c.user in place.members)
    connection = next(lent, None)
    if connection is None:
        return None
    if kind == "deleted":
        told = {"chat": chat(world, place, connection.user), "message_ids": [what.message_id]}
        return {"deleted_business_messages": {"business_connection_id": connection.connection_id, **told}}
    name = {"message": "business_message", "edited": "edited_business_message"}.get(kind)
    return {name: message(world, what, connection=connection)} if name else None


def _callback(world: World, tap: Tap) -> dict[str, Any]:
    return {
        "id": tap.tap_id,
        "from": user(world.users[tap.user]),
        "message": message(world, tap.message),
        "chat_instance": str(tap.message.chat_id),
        "data": tap.data,
    }


def _answer(world: World, vote: Vote) -> dict[str, Any]:
    return {
        "poll_id": vote.poll.poll_id,
        "user": user(world.users[vote.user]),
        "option_ids": list(vote.chosen),
        "option_persistent_ids": [vote.poll.options[index].key for index in vote.chosen],
    }


def _asked(world: World, asked: Poll) -> int | None:
    return next((m.sender for m in world.messages.values() if m.poll is asked), None)


def _sees(world: World, bot: User, chat_id: int) -> bool:
    place = world.chats.get(chat_id)
    return place is not None and (place.kind == "private" or bot.user_id in place.members)
