"""What a person can do on the page: JSON in, something happens in the world or a `Refused` says why not."""

from collections.abc import Callable
from typing import Any

from bot.sandbox.things import Chat, Message
from bot.sandbox.world import World

TEXT = 4096  # Telegram's

Act = dict[str, Any]


class Refused(Exception):
    """What can't be done; its text is for the person."""


def act(world: World, body: Act) -> int:
    """Let somebody do something: {"as": his id, "do": what, "chat": …}; returns who it was."""
    me = _number(body, "as")
    if me not in world.users or world.users[me].is_bot:
        raise Refused("Nobody here has this id.")
    known: dict[str, Callable[[World, int, Act], None]] = {
        "send": _send,
        "edit": _edit,
        "delete": _delete,
        "forward": _forward,
        "tap": _tap,
        "vote": _vote,
        "draft": _draft,
        "type": lambda world, me, body: world.stream(me, _chat(world, me, body).chat_id),
        "connect": _connect,
    }
    done = known.get(str(body.get("do")))
    if done is None:
        raise Refused("Nothing of that kind can be done here.")
    done(world, me, body)
    return me


def _send(world: World, me: int, body: Act) -> None:
    chat, text = _chat(world, me, body), _text(body).strip()
    reply_to = _number(body, "reply_to") or None
    if not text:
        raise Refused("There are no words in it.")
    if reply_to is not None and (chat.chat_id, reply_to) not in world.messages:
        raise Refused("The message to be answered is gone.")
    _clear_draft(world, me, chat)
    world.send(me, chat.chat_id, text, reply_to=reply_to)


def _edit(world: World, me: int, body: Act) -> None:
    message, text = _own(world, me, body), _text(body).strip()
    if not text:
        raise Refused("There are no words in it.")
    if text != message.text:
        world.edit(message, text=text)


def _delete(world: World, me: int, body: Act) -> None:
    world.delete(_own(world, me, body))


def _forward(world: World, me: int, body: Act) -> None:
    """To the bot, as people hand it a message to be answered."""
    message = _message(world, me, body)
    world.forward(me, world.private(me).chat_id, message.text, message.sender)


def _tap(world: World, me: int, body: Act) -> None:
    message, data = _message(world, me, body), body.get("data")
    if all(button.get("callback_data") != data for row in message.buttons for button in row):
        raise Refused("This button is gone.")
    world.tap_data(me, message, str(data))


def _vote(world: World, me: int, body: Act) -> None:
    poll, option = _message(world, me, body).poll, _number(body, "option") if "option" in body else -1
    if poll is None or not 0 <= option < len(poll.options):
        raise Refused("There is no such answer.")
    if not world.vote(me, poll, [option]):
        raise Refused("This poll takes no more answers of yours.")


def _draft(world: World, me: int, body: Act) -> None:
    chat, text = _chat(world, me, body), _text(body)
    standing = world.drafts.get((me, chat.chat_id))
    if text != (standing.text if standing else ""):
        world.type_draft(me, chat.chat_id, text)


def _connect(world: World, me: int, body: Act) -> None:
    """Settings → Telegram Business → Chatbots."""
    world.connect(me, can_reply=bool(body.get("can_reply")), is_enabled=bool(body.get("is_enabled")))


def _clear_draft(world: World, me: int, chat: Chat) -> None:
    standing = world.drafts.get((me, chat.chat_id))
    if standing is not None and standing.text:
        world.type_draft(me, chat.chat_id, "")


def _chat(world: World, me: int, body: Act) -> Chat:
    found = world.chats.get(_number(body, "chat"))
    if found is None or me not in found.members:
        raise Refused("This chat is not one of his.")
    return found


def _message(world: World, me: int, body: Act) -> Message:
    found = world.messages.get((_chat(world, me, body).chat_id, _number(body, "message")))
    if found is None:
        raise Refused("This message is gone.")
    return found


def _own(world: World, me: int, body: Act) -> Message:
    message = _message(world, me, body)
    if message.sender != me:
        raise Refused("Only who wrote it can change it.")
    return message


def _number(body: Act, name: str) -> int:
    """0 where there is none."""
    found = body.get(name) or 0
    if not isinstance(found, int):
        raise Refused(f"{name} is no number.")
    return found


def _text(body: Act) -> str:
    text = body.get("text")
    if not isinstance(text, str):
        raise Refused("There are no words in it.")
    if len(text.encode("utf-16-le")) // 2 > TEXT:
        raise Refused(f"A message holds {TEXT:,} characters at most.")
    return text
