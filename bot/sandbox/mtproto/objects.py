"""The world's things as TL objects, as one person (`viewer`) sees them."""

import hashlib
from collections.abc import Iterable
from typing import Any

from telethon.tl import types

from bot.sandbox.things import Chat, CloudDraft, Message
from bot.sandbox.world import World

_ENTITIES = {
    "bold": types.MessageEntityBold,
    "italic": types.MessageEntityItalic,
    "underline": types.MessageEntityUnderline,
    "strikethrough": types.MessageEntityStrike,
    "code": types.MessageEntityCode,
    "spoiler": types.MessageEntitySpoiler,
    "bot_command": types.MessageEntityBotCommand,
    "url": types.MessageEntityUrl,
    "mention": types.MessageEntityMention,
}


def access_hash(viewer: int, other: int) -> int:
    """Telegram's proof that `viewer` has met `other`: needed to name him."""
    digest = hashlib.sha256(f"{viewer}:{other}".encode()).digest()
    return int.from_bytes(digest[:8], "little", signed=True)


def user(world: World, person: int, viewer: int) -> Any:
    """User"""
    found = world.users[person]
    return types.User(
        id=person,
        is_self=person == viewer,
        bot=found.is_bot,
        bot_info_version=1 if found.is_bot else None,
        access_hash=access_hash(viewer, person),
        first_name=found.first_name,
        last_name=found.last_name or None,
        username=found.username or None,
    )


def other_side(world: World, chat: Chat, viewer: int) -> int:
    """Whom a personal chat, or the chat with the bot, is with."""
    if chat.kind == "private":
        return next(iter(world.bots.values())).user_id
    return next((member for member in chat.members if member != viewer), viewer)


def peer(world: World, chat: Chat, viewer: int) -> Any:
    """Peer"""
    return types.PeerChat(-chat.chat_id) if chat.kind == "group" else types.PeerUser(other_side(world, chat, viewer))


def message(world: World, sent: Message, viewer: int) -> Any:
    """Message; between two people Telegram leaves out who wrote it: `out` tells."""
    chat = world.chats[sent.chat_id]
    return types.Message(
        id=sent.message_id,
        peer_id=peer(world, chat, viewer),
        from_id=types.PeerUser(sent.sender) if chat.kind == "group" else None,
        date=sent.date,
        message=sent.text,
        out=sent.sender == viewer,
        fwd_from=_forward(sent),
        reply_to=types.MessageReplyHeader(reply_to_msg_id=sent.reply_to) if sent.reply_to else None,
        media=_media(sent),
        entities=entities(sent) or None,
        edit_date=sent.edited,
        via_business_bot_id=sent.business_bot,
    )


def is_plain(sent: Message) -> bool:
    """Whether Telegram would push it in the short form."""
    rich = sent.photo or sent.poll or sent.entities or sent.forwarded_from or sent.forwarded_name
    return not rich and sent.business_bot is None and not sent.reply_to


def entities(sent: Message) -> list[Any]:
    """MessageEntity…"""
    return [
        _ENTITIES[found["type"]](found["offset"], found["length"])
        for found in sent.entities
        if found["type"] in _ENTITIES
    ]


def draft(written: CloudDraft | None) -> Any:
    """DraftMessage, or DraftMessageEmpty"""
    if written is None or not written.text:
        return types.DraftMessageEmpty(date=written.date if written else None)
    return types.DraftMessage(message=written.text, date=written.date)


def around(
    world: World, chats: Iterable[Chat], viewer: int, messages: Iterable[Message] = ()
) -> tuple[list[Any], list[Any]]:
    """The users and groups that an answer about `chats` and `messages` brings along."""
    people = {viewer} | {sent.forwarded_from for sent in messages if sent.forwarded_from is not None}
    groups = []
    for chat in chats:
        if chat.kind == "group":
            people.update(chat.members)
            groups.append(
                types.Chat(
                    id=-chat.chat_id,
                    title=chat.title,
                    photo=types.ChatPhotoEmpty(),
                    participants_count=len(chat.members),
                    date=None,
                    version=1,
                )
            )
        else:
            people.add(other_side(world, chat, viewer))
    return [user(world, person, viewer) for person in sorted(people)], groups


def _forward(sent: Message) -> Any:
    if sent.forwarded_from is not None:
        return types.MessageFwdHeader(date=sent.date, from_id=types.PeerUser(sent.forwarded_from))
    return types.MessageFwdHeader(date=sent.date, from_name=sent.forwarded_name) if sent.forwarded_name else None


def _media(sent: Message) -> Any:
    if sent.photo is not None:
        return types.MessageMediaPhoto(photo=types.PhotoEmpty(id=sent.message_id))
    if sent.poll is None:
        return None
    answers = [
        types.PollAnswer(text=types.TextWithEntities(option.text, []), option=bytes([number]))
        for number, option in enumerate(sent.poll.options)
    ]
    question = types.TextWithEntities(sent.poll.question, [])
    poll = types.Poll(id=int(sent.poll.poll_id), question=question, answers=answers, hash=0)
    return types.MessageMediaPoll(poll=poll, results=types.PollResults())
