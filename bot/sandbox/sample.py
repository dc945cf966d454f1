"""The sample history: chats written for likeme (sample/*.txt) as a Telegram Desktop export.

A script's first line names the chat: `# Mira | personal_chat | 2001`. Then:

    == 2025-03-04 18:20           a session begins; each line is a minute or so later
    < Are you home?               the friend (in a group `< Ben: …`)
    > yep                         the owner; lines in a row are a burst
    < {sticker 😂}   > {photo}    media; {voice}, {forward Name} words, {via gif} words, {call}, {pin}
    > words {edited}              a message that was edited
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

OWNER_ID, OWNER_FIRST, OWNER_LAST = 7001, "Jonas", "Weller"

_MARK = re.compile(r"\{(\w+)(?: ([^}]*))?\}\s*")


def write_export(path: Path) -> None:
    """Write the sample as result.json."""
    path.write_text(json.dumps(export(), ensure_ascii=False, indent=1), encoding="utf-8")


def export() -> dict[str, Any]:
    """The whole account, in the shape that Telegram Desktop writes."""
    scripts = sorted(files("bot.sandbox").joinpath("sample").iterdir(), key=lambda entry: entry.name)
    chats: list[dict[str, Any]] = []
    first = 0  # an account counts the messages of all its personal chats in one row
    for entry in scripts:
        if entry.name.endswith(".txt"):
            chats.append(_chat(entry.read_text(encoding="utf-8"), first))
            first = chats[-1]["messages"][-1]["id"]
    return {
        "about": "Here is the data you requested. (A sample, written for likeme.)",
        "personal_information": {
            "user_id": OWNER_ID,
            "first_name": OWNER_FIRST,
            "last_name": OWNER_LAST,
            "phone_number": "+44 20 7946 0000",
            "username": "@jonas_sample",
            "bio": "",
        },
        "chats": {"about": "This page lists all chats from this export.", "list": chats},
    }


def _chat(script: str, first: int) -> dict[str, Any]:
    head, *lines = script.splitlines()
    name, kind, chat_id = (part.strip() for part in head.lstrip("# ").split("|"))
    return {
        "name": name,
        "type": kind,
        "id": int(chat_id),
        "messages": list(_messages(lines, name, int(chat_id), first)),
    }


def _messages(lines: list[str], name: str, chat_id: int, first: int) -> Iterator[dict[str, Any]]:
    when = datetime(2025, 1, 1, tzinfo=UTC)
    previous = ""
    for number, line in enumerate((line.strip() for line in lines if line.strip()), 1):
        if line.startswith("=="):
            when = datetime.strptime(line[2:].strip(), "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
            previous = ""
            continue
        side, words = line[0], line[1:].strip()
        seconds = 11 if side == previous else 50 + (number * 37) % 120  # a burst comes quickly
        when += timedelta(seconds=seconds if previous else 0)
        previous = side
        author, author_id = (f"{OWNER_FIRST} {OWNER_LAST}", OWNER_ID) if side == ">" else (name, chat_id)
        if side == "<" and (member := re.match(r"(\w+): ", words)) and name.startswith("the "):
            author, words = member[1], words[member.end() :]
            author_id = chat_id * 10 + sum(map(ord, author)) % 10
        yield _message(first + number, when, author, author_id, words)


def _message(number: int, when: datetime, author: str, author_id: int, words: str) -> dict[str, Any]:
    message: dict[str, Any] = {
        "id": number,
        "type": "message",
        "date": when.strftime("%Y-%m-%dT%H:%M:%S"),
        "date_unixtime": str(int(when.timestamp())),
        "from": author,
        "from_id": f"user{author_id}",
    }
    for mark, value in _MARK.findall(words):
        _apply(message, mark, value, when)
    text = _MARK.sub("", words).strip()
    message["text"] = text
    message["text_entities"] = [{"type": "plain", "text": text}] if text else []
    return message


def _apply(message: dict[str, Any], mark: str, value: str, when: datetime) -> None:
    """What stands in braces, as the export's own fields."""
    not_included = "(File not included. Change data exporting settings to download.)"
    if mark in ("call", "pin"):
        action = {"call": "phone_call", "pin": "pin_message"}[mark]
        message |= {"type": "service", "actor": message.pop("from"), "actor_id": message.pop("from_id")}
        message["action"] = action
    elif mark == "sticker":
        message |= {"file": not_included, "media_type": "sticker", "sticker_emoji": value}
    elif mark == "photo":
        message |= {"photo": not_included, "width": 1280, "height": 960}
    elif mark == "voice":
        message |= {"file": not_included, "media_type": "voice_message", "duration_seconds": 9}
    elif mark == "forward":
        message["forwarded_from"] = value
    elif mark == "via":
        message["via_bot"] = f"@{value}"
    elif mark == "edited":
        later = when + timedelta(minutes=1)
        message |= {"edited": later.strftime("%Y-%m-%dT%H:%M:%S"), "edited_unixtime": str(int(later.timestamp()))}
    else:
        raise ValueError(f"unknown mark {mark!r} in the sample")
