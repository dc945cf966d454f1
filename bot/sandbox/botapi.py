"""The Bot API's methods over the world: parameters in, result or Telegram's own refusal out.

Limits and error texts are Telegram's; what this sandbox does not have answers 404, as an unknown
method does there.
"""

import secrets
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

from bot.sandbox import wire
from bot.sandbox.things import Connection, Message, Option, Poll, User
from bot.sandbox.world import World

TEXT, CAPTION, CALLBACK_DATA_BYTES, CALLBACK_ANSWER = 4096, 1024, 64, 200
QUESTION, OPTIONS, OPTION, EXPLANATION, EXPLANATION_LINES = 300, 12, 100, 200, 2

Parameters = dict[str, Any]


class Refusal(Exception):
    """Telegram's error answer."""

    def __init__(self, code: int, description: str, retry_after: int | None = None) -> None:
        super().__init__(description)
        self.code, self.description, self.retry_after = code, description, retry_after


@dataclass(slots=True)
class Faults:
    """What a test wants to go wrong: the next calls of a method (or of any, "") are refused so."""

    planned: dict[str, deque[Refusal]] = field(default_factory=lambda: defaultdict(deque))

    def flood(self, method: str, retry_after: int, times: int = 1) -> None:
        """Answer the next `times` calls with 429."""
        text = f"Too Many Requests: retry after {retry_after}"
        self.planned[method].extend(Refusal(429, text, retry_after) for _ in range(times))

    def fail(self, method: str, code: int, description: str, times: int = 1) -> None:
        """Answer the next `times` calls with an error."""
        self.planned[method].extend(Refusal(code, description) for _ in range(times))

    def check(self, method: str) -> None:
        """Raise what is planned for this call."""
        for name in (method, ""):
            if self.planned[name]:
                raise self.planned[name].popleft()


class BotApi:
    """One bot's view of the world."""

    def __init__(self, world: World, bot: User) -> None:
        self.world = world
        self.bot = bot

    def call(self, method: str, parameters: Parameters) -> Any:
        """The result of a method; Refusal where Telegram would refuse."""
        known: dict[str, Callable[[Parameters], Any]] = {
            "getme": lambda p: {**wire.user(self.bot), "can_join_groups": True, "can_read_all_group_messages": True},
            "sendmessage": self._send_message,
            "sendphoto": self._send_photo,
            "sendpoll": self._send_poll,
            "stoppoll": self._stop_poll,
            "editmessagetext": self._edit_text,
            "editmessagereplymarkup": self._edit_buttons,
            "deletemessage": self._delete,
            "answercallbackquery": self._answer_tap,
            "sendmessagedraft": self._stream,
            "sendchataction": self._act,
            "getbusinessconnection": lambda p: wire.business_connection(self.world, self._connection(p)),
            "setmycommands": self._set_commands,
            "getmycommands": lambda p: self.world.commands.get(self._scope(p), []),
            "deletemycommands": lambda p: self.world.commands.pop(self._scope(p), None) is not None or True,
            "getfile": self._get_file,
            "deletewebhook": lambda p: True,
            "getwebhookinfo": lambda p: {"url": "", "has_custom_certificate": False, "pending_update_count": 0},
            "getchatmember": self._member,
        }
        if method.lower() not in known:
            raise Refusal(404, "Not Found: method not found")
        return known[method.lower()](parameters)

    def _send_message(self, p: Parameters) -> Any:
        text, entities = _formatted(p.get("text", ""), p)
        _length(text, TEXT, "message")
        if p.get("business_connection_id"):
            return self._send_in_business(p, text, entities)
        return self._posted(self._place(p), p, text=text, entities=entities)

    def _send_in_business(self, p: Parameters, text: str, entities: list[dict[str, Any]]) -> Any:
        """In the name of the person whose account it is; Telegram's refusals by their names."""
        connection = self._connection(p)
        if not connection.can_reply:
            raise Refusal(400, "Bad Request: BUSINESS_CONNECTION_NOT_ALLOWED")
        place = self._lent(connection, p)
        theirs = [m for m in self.world.history(place.chat_id) if m.sender != connection.user]
        if not theirs or self.world.now() - theirs[-1].date > timedelta(days=1):
            raise Refusal(400, "Bad Request: BUSINESS_PEER_USAGE_MISSING")
        sent = self.world.post(
            connection.user, place.chat_id, text=text, entities=entities, business_bot=self.bot.user_id
        )
        return wire.message(self.world, sent, connection=connection)

    def _connection(self, p: Parameters) -> Connection:
        connection = self.world.connections.get(p["business_connection_id"])
        if connection is None or connection.bot != self.bot.user_id or not connection.is_enabled:
            raise Refusal(400, "Bad Request: BUSINESS_CONNECTION_INVALID")
        return connection

    def _lent(self, connection: Connection, p: Parameters) -> Any:
        friend = int(p.get("chat_id", 0))
        if friend not in self.world.users or friend == connection.user:
            raise Refusal(400, "Bad Request: BUSINESS_PEER_INVALID")
        return self.world.between(connection.user, friend)

    def _act(self, p: Parameters) -> bool:
        business = p.get("business_connection_id")
        place = self._lent(self._connection(p), p) if business else self._place(p)
        self.world.stream(self._connection(p).user if business else self.bot.user_id, place.chat_id)
        return True

    def _stream(self, p: Parameters) -> bool:
        place = self._place(p)
        text, _ = _formatted(p.get("text", ""), p)
        _length(text, TEXT, "message")
        if place.kind != "private" or not p.get("draft_id"):
            raise Refusal(400, "Bad Request: PEER_ID_INVALID")
        self.world.stream(self.bot.user_id, place.chat_id, text)
        return True

    def _send_photo(self, p: Parameters) -> Any:
        place = self._place(p)
        text, entities = _formatted(p.get("caption", ""), p)
        if len(text) > CAPTION:
            raise Refusal(400, "Bad Request: message caption is too long")
        photo = p.get("photo")
        if isinstance(photo, str):
            found = self.world.photos.get(photo)
            if found is None:
                raise Refusal(400, "Bad Request: wrong file identifier/HTTP URL specified")
        elif isinstance(photo, tuple):
            found = self.world.add_photo(photo[1], photo[0])
        else:
            raise Refusal(400, "Bad Request: there is no photo in the request")
        return self._posted(place, p, text=text, entities=entities, photo=found)

    def _send_poll(self, p: Parameters) -> Any:
        place = self._place(p)
        options = [o["text"] if isinstance(o, dict) else o for o in p.get("options", [])]
        if not 1 <= len(p.get("question", "")) <= QUESTION:
            raise Refusal(400, f"Bad Request: poll question must be 1-{QUESTION} characters long")
        if not 1 <= len(options) <= OPTIONS:
            raise Refusal(400, "Bad Request: poll must have at least 1 option and at most 12")
        if any(not 1 <= len(option) <= OPTION for option in options):
            raise Refusal(400, f"Bad Request: poll options length must not exceed {OPTION}")
        explanation = p.get("explanation", "")
        if len(explanation) > EXPLANATION or explanation.count("\n") > EXPLANATION_LINES:
            raise Refusal(400, "Bad Request: message is too long")
        quiz = p.get("type") == "quiz"
        correct = tuple(p.get("correct_option_ids", ()))
        if quiz and (not correct or any(not 0 <= index < len(options) for index in correct)):
            raise Refusal(400, "Bad Request: wrong correct option ID specified")
        poll = Poll(
            poll_id=str(secrets.randbits(60)),
            question=p["question"],
            options=[Option(secrets.token_hex(4), option) for option in options],
            is_quiz=quiz,
            is_anonymous=p.get("is_anonymous", True),
            correct=correct,
            explanation=explanation,
            allows_multiple=p.get("allows_multiple_answers", False),
        )
        return self._posted(place, p, poll=poll)

    def _stop_poll(self, p: Parameters) -> Any:
        message = self._own(p, "poll")
        if message.poll is None:
            raise Refusal(400, "Bad Request: message with poll to stop not found")
        if message.poll.is_closed:
            raise Refusal(400, "Bad Request: poll has already been closed")
        return wire.poll(self.world.close_poll(message.poll))

    def _edit_text(self, p: Parameters) -> Any:
        message = self._own(p, "message")
        text, entities = _formatted(p.get("text", ""), p)
        _length(text, TEXT, "message")
        buttons = _buttons(p)
        if (text, entities, buttons) == (message.text, message.entities, message.buttons):
            raise Refusal(
                400,
                "Bad Request: message is not modified: specified new message content and reply markup are exactly "
                "the same as a current content and reply markup of the message",
            )
        return wire.message(self.world, self.world.edit(message, text=text, entities=entities, buttons=buttons))

    def _edit_buttons(self, p: Parameters) -> Any:
        message = self._own(p, "message")
        return wire.message(self.world, self.world.edit(message, buttons=_buttons(p)))

    def _delete(self, p: Parameters) -> bool:
        self.world.delete(self._own(p, "message to delete"))
        return True

    def _answer_tap(self, p: Parameters) -> bool:
        if len(p.get("text", "")) > CALLBACK_ANSWER:
            raise Refusal(400, "Bad Request: MESSAGE_TOO_LONG")
        self.world.answer_tap(p["callback_query_id"], p.get("text", ""))
        return True

    def _set_commands(self, p: Parameters) -> bool:
        bot, scope = self._scope(p)
        language = f":{p['language_code']}" if p.get("language_code") else ""
        self.world.set_commands(bot, scope + language, p["commands"])
        return True

    def _scope(self, p: Parameters) -> tuple[int, str]:
        scope = p.get("scope") or {"type": "default"}
        return self.bot.user_id, ":".join(str(scope[name]) for name in sorted(scope, reverse=True))

    def _get_file(self, p: Parameters) -> Any:
        photo = self.world.photos.get(p.get("file_id", ""))
        if photo is None:
            raise Refusal(400, "Bad Request: invalid file_id")
        size = wire.photo_size(photo.file_id, photo.content)
        return {
            "file_id": photo.file_id,
            "file_unique_id": size["file_unique_id"],
            "file_size": len(photo.content),
            "file_path": f"photos/{photo.file_id}",
        }

    def _member(self, p: Parameters) -> Any:
        place = self._place(p)
        if p["user_id"] not in place.members and p["user_id"] != self.bot.user_id:
            raise Refusal(400, "Bad Request: user not found")
        return {"status": "member", "user": wire.user(self.world.users[p["user_id"]])}

    def _place(self, p: Parameters) -> Any:
        chat_id = int(p.get("chat_id", 0))
        place = self.world.chats.get(chat_id)
        if chat_id in self.world.users and (chat_id, self.bot.user_id) not in self.world.started:
            raise Refusal(403, "Forbidden: bot can't initiate conversation with a user")
        if place is None:
            raise Refusal(400, "Bad Request: chat not found")
        if place.kind == "group" and self.bot.user_id not in place.members:
            raise Refusal(403, "Forbidden: bot is not a member of the group chat")
        return place

    def _own(self, p: Parameters, what: str) -> Message:
        message = self.world.messages.get((int(p.get("chat_id", 0)), int(p.get("message_id", 0))))
        if message is None:
            raise Refusal(400, f"Bad Request: {what} not found")
        if message.sender != self.bot.user_id:
            raise Refusal(400, "Bad Request: message can't be edited")
        return message

    def _posted(self, place: Any, p: Parameters, **content: Any) -> Any:
        reply = (p.get("reply_parameters") or {}).get("message_id")
        if reply is not None and (place.chat_id, reply) not in self.world.messages:
            raise Refusal(400, "Bad Request: message to be replied not found")
        content |= {"reply_to": reply, "buttons": _buttons(p), "asks_reply": _asks_reply(p)}
        sent = self.world.post(self.bot.user_id, place.chat_id, **content)
        return wire.message(self.world, sent)


def _length(text: str, most: int, what: str) -> None:
    if not text.strip():
        raise Refusal(400, f"Bad Request: {what} text is empty")
    if len(text) > most:
        raise Refusal(400, f"Bad Request: {what} is too long")


def _buttons(p: Parameters) -> list[list[dict[str, Any]]]:
    rows: list[list[dict[str, Any]]] = (p.get("reply_markup") or {}).get("inline_keyboard", [])
    for row in rows:
        for button in row:
            if len(button.get("callback_data", "x").encode()) not in range(1, CALLBACK_DATA_BYTES + 1):
                raise Refusal(400, "Bad Request: BUTTON_DATA_INVALID")
    return rows


def _asks_reply(p: Parameters) -> str | None:
    """ForceReply: the hint of the input line."""
    markup = p.get("reply_markup") or {}
    return str(markup.get("input_field_placeholder", "")) if markup.get("force_reply") else None


def _formatted(text: str, p: Parameters) -> tuple[str, list[dict[str, Any]]]:
    """The text and its entities; parse_mode HTML is read, as the bot writes it."""
    if p.get("parse_mode") != "HTML":
        return text, p.get("entities") or p.get("caption_entities") or []
    parser = _Html()
    parser.feed(text)
    parser.close()
    if parser.open:
        raise Refusal(400, "Bad Request: can't parse entities: Can't find end tag corresponding to start tag")
    return parser.text, parser.entities


_TAGS = {
    "b": "bold",
    "strong": "bold",
    "i": "italic",
    "em": "italic",
    "u": "underline",
    "s": "strikethrough",
    "code": "code",
    "pre": "pre",
    "blockquote": "blockquote",
}


class _Html(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.entities: list[dict[str, Any]] = []
        self.open: list[tuple[str, int]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _TAGS:
            raise Refusal(400, f'Bad Request: can\'t parse entities: Unsupported start tag "{tag}"')
        self.open.append((tag, self._units()))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1][0] != tag:
            raise Refusal(400, "Bad Request: can't parse entities: Unexpected end tag")
        _, start = self.open.pop()
        if (length := self._units() - start) > 0:
            self.entities.append({"type": _TAGS[tag], "offset": start, "length": length})

    def handle_data(self, data: str) -> None:
        self.text += data

    def _units(self) -> int:
        return len(self.text.encode("utf-16-le")) // 2  # Telegram counts UTF-16
