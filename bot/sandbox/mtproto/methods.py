"""messages.*, users.* and updates.*: what a signed-in client may ask, over the world."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from telethon.tl import types

from bot.sandbox.mtproto import objects
from bot.sandbox.mtproto.accounts import Account, Happening
from bot.sandbox.mtproto.faults import RpcRefusal
from bot.sandbox.mtproto.sign_in import Device
from bot.sandbox.things import Chat, Message
from bot.sandbox.world import World

PAGE, TEXT = 100, 4096
DIFFERENCE, FORGOTTEN = 100, 10_000  # happenings in one answer; how far back Telegram remembers


class Methods:
    """The methods, by their names in the schema."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sent: dict[int, Message] = {}  # by random_id: a request that is repeated is not done twice

    def methods(self) -> dict[str, Any]:
        """What a signed-in client may call."""
        return {
            "GetUsers": self._users,
            "GetDialogs": self._dialogs,
            "GetPeerDialogs": self._peer_dialogs,
            "GetHistory": self._history,
            "SendMessage": self._send,
            "EditMessage": self._edit,
            "DeleteMessages": self._delete,
            "SaveDraft": self._save_draft,
            "GetAllDrafts": self._all_drafts,
            "GetState": lambda device, request: _state(_signed_in(device)),
            "GetDifference": self._difference,
        }

    def _users(self, device: Device, request: Any) -> list[Any]:
        me = _signed_in(device).user_id
        wanted = [me if isinstance(one, types.InputUserSelf) else one.user_id for one in request.id]
        return [objects.user(self._world, person, me) for person in wanted if person in self._world.users]

    def _dialogs(self, device: Device, request: Any) -> Any:
        me = _signed_in(device).user_id
        tops = sorted(self._tops(me), key=_recency, reverse=True)
        before = request.offset_date, request.offset_id
        left = [top for top in tops if not request.offset_date.timestamp() or _recency(top) < before]
        page = left[: min(request.limit, PAGE)]
        chats = [self._world.chats[top.chat_id] for top in page]
        found = [self._dialog(chat, top.message_id, me) for chat, top in zip(chats, page, strict=True)]
        messages = [objects.message(self._world, top, me) for top in page]
        users, groups = objects.around(self._world, chats, me)
        if len(page) == len(tops):
            return types.messages.Dialogs(found, messages, groups, users)
        return types.messages.DialogsSlice(len(tops), found, messages, groups, users)

    def _tops(self, me: int) -> Iterable[Message]:
        tops = {message.chat_id: message for message in self._world.messages.values()}
        return [top for top in tops.values() if has(self._world.chats.get(top.chat_id), me)]

    def _dialog(self, chat: Chat, top: int, me: int) -> Any:
        return types.Dialog(
            peer=objects.peer(self._world, chat, me),
            top_message=top,
            read_inbox_max_id=top,
            read_outbox_max_id=top,
            unread_count=0,
            unread_mentions_count=0,
            unread_reactions_count=0,
            unread_poll_votes_count=0,
            notify_settings=types.PeerNotifySettings(),
            draft=objects.draft(self._world.drafts.get((me, chat.chat_id))),
        )

    def _peer_dialogs(self, device: Device, request: Any) -> Any:
        me = _signed_in(device)
        chats = [self._chat(me.user_id, one.peer) for one in request.peers]
        tops = [self._world.history(chat.chat_id)[-1:] for chat in chats]
        found = [
            self._dialog(chat, top[0].message_id if top else 0, me.user_id)
            for chat, top in zip(chats, tops, strict=True)
        ]
        messages = [objects.message(self._world, top[0], me.user_id) for top in tops if top]
        users, groups = objects.around(self._world, chats, me.user_id)
        return types.messages.PeerDialogs(found, messages, groups, users, _state(me))

    def _history(self, device: Device, request: Any) -> Any:
        """https://core.telegram.org/api/offsets"""
        me = _signed_in(device).user_id
        chat = self._chat(me, request.peer)
        whole = self._world.history(chat.chat_id)[::-1]
        newer = [m for m in whole if request.offset_id and m.message_id >= request.offset_id]
        start = len(newer) + request.add_offset
        ids = range(request.min_id + 1, request.max_id or 1 << 31)
        page = [m for m in whole[max(0, start) : max(0, start + min(request.limit, PAGE))] if m.message_id in ids]
        messages = [objects.message(self._world, one, me) for one in page]
        users, groups = objects.around(self._world, [chat], me, page)
        if len(page) == len(whole):
            return types.messages.Messages(messages, [], groups, users)
        return types.messages.MessagesSlice(len(whole), messages, [], groups, users)

    def _send(self, device: Device, request: Any) -> Any:
        account = _signed_in(device)
        chat = self._chat(account.user_id, request.peer)
        if not request.message.strip() or len(request.message) > TEXT:
            raise RpcRefusal(400, "MESSAGE_TOO_LONG" if request.message.strip() else "MESSAGE_EMPTY")
        if request.random_id not in self._sent:
            reply_to = getattr(request.reply_to, "reply_to_msg_id", None)
            self._sent[request.random_id] = self._world.post(
                account.user_id, chat.chat_id, text=request.message, reply_to=reply_to
            )
            if request.clear_draft:
                self._world.type_draft(account.user_id, chat.chat_id, "")
        sent = self._sent[request.random_id]
        number = types.UpdateMessageID(id=sent.message_id, random_id=request.random_id)
        return self._own(account, chat, [number, types.UpdateNewMessage(self._as(sent, account), account.pts, 1)])

    def _edit(self, device: Device, request: Any) -> Any:
        account = _signed_in(device)
        chat = self._chat(account.user_id, request.peer)
        message = self._world.messages.get((chat.chat_id, request.id))
        if message is None or message.sender != account.user_id:
            raise RpcRefusal(400, "MESSAGE_ID_INVALID")
        if message.text == request.message:
            raise RpcRefusal(400, "MESSAGE_NOT_MODIFIED")
        self._world.edit(message, text=request.message)
        return self._own(account, chat, [types.UpdateEditMessage(self._as(message, account), account.pts, 1)])

    def _delete(self, device: Device, request: Any) -> Any:
        account = _signed_in(device)
        mine = [m for m in self._world.messages.values() if has(self._world.chats.get(m.chat_id), account.user_id)]
        found = [message for message in mine if message.message_id in set(request.id)]
        for message in found:
            self._world.delete(message)
        return types.messages.AffectedMessages(account.pts, len(found))

    def _save_draft(self, device: Device, request: Any) -> bool:
        me = _signed_in(device).user_id
        self._world.type_draft(me, self._chat(me, request.peer).chat_id, request.message)
        return True

    def _all_drafts(self, device: Device, request: Any) -> Any:
        me = _signed_in(device).user_id
        written = [one for one in self._world.drafts.values() if one.user == me and one.text]
        chats = [self._world.chats[one.chat_id] for one in written]
        found = [
            types.UpdateDraftMessage(objects.peer(self._world, chat, me), objects.draft(one))
            for chat, one in zip(chats, written, strict=True)
        ]
        return updates(self._world, me, chats, found)

    def _difference(self, device: Device, request: Any) -> Any:
        account = _signed_in(device)
        missed = account.since(request.pts)
        if not missed:
            return types.updates.DifferenceEmpty(date=datetime.now(UTC), seq=0)
        if len(missed) > FORGOTTEN:
            return types.updates.DifferenceTooLong(pts=account.pts)
        part = missed[:DIFFERENCE]
        me = account.user_id
        new = {h.message.message_id: self._as(h.message, account) for h in part if h.kind == "message"}
        other = [update_of(self._world, h, me) for h in part if h.kind != "message"]
        chats = {h.message.chat_id: self._world.chats[h.message.chat_id] for h in part}
        users, groups = objects.around(self._world, chats.values(), me, [h.message for h in part])
        content: tuple[Any, ...] = (list(new.values()), [], other, groups, users)
        if len(part) < len(missed):
            return types.updates.DifferenceSlice(*content, _state(account, part[-1].pts))
        return types.updates.Difference(*content, _state(account))

    def _as(self, message: Message, account: Account) -> Any:
        return objects.message(self._world, message, account.user_id)

    def _own(self, account: Account, chat: Chat, found: Sequence[Any]) -> Any:
        return updates(self._world, account.user_id, [chat], found)

    def _chat(self, me: int, peer: Any) -> Chat:
        if isinstance(peer, types.InputPeerSelf):
            return self._world.between(me, me)
        if isinstance(peer, types.InputPeerUser) and peer.user_id in self._world.users:
            if peer.access_hash != objects.access_hash(me, peer.user_id):
                raise RpcRefusal(400, "PEER_ID_INVALID")
            is_bot = self._world.users[peer.user_id].is_bot
            return self._world.private(me) if is_bot else self._world.between(me, peer.user_id)
        chat = self._world.chats.get(-peer.chat_id) if isinstance(peer, types.InputPeerChat) else None
        if chat is None or not has(chat, me):
            raise RpcRefusal(400, "PEER_ID_INVALID")
        return chat


def has(chat: Chat | None, person: int) -> bool:
    """Whether somebody sees a chat."""
    return chat is not None and person in chat.members


def update_of(world: World, happening: Happening, viewer: int) -> Any:
    """UpdateNewMessage, UpdateEditMessage or UpdateDeleteMessages."""
    if happening.kind == "deleted":
        return types.UpdateDeleteMessages([happening.message.message_id], happening.pts, 1)
    kind = types.UpdateNewMessage if happening.kind == "message" else types.UpdateEditMessage
    return kind(objects.message(world, happening.message, viewer), happening.pts, 1)


def updates(world: World, viewer: int, chats: Iterable[Chat], found: Sequence[Any]) -> Any:
    """Updates"""
    users, groups = objects.around(world, chats, viewer)
    return types.Updates(updates=list(found), users=users, chats=groups, date=datetime.now(UTC), seq=0)


def _signed_in(device: Device) -> Account:
    assert device.account is not None, "the server lets nobody else through"
    return device.account


def _state(account: Account, pts: int | None = None) -> Any:
    return types.updates.State(pts=pts or account.pts, qts=0, date=datetime.now(UTC), seq=0, unread_count=0)


def _recency(message: Message) -> tuple[datetime, int]:
    return message.date.replace(microsecond=0), message.message_id
