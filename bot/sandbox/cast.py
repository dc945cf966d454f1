"""Who is in the demo's Telegram: the owner with his past, three friends to be played, a bot, a group of them all."""

import re
from collections.abc import Sequence
from importlib.resources import files

from bot.sandbox.box import new_token
from bot.sandbox.friends import Friend
from bot.sandbox.judges import ways
from bot.sandbox.world import World
from storage import history
from storage.database import Database
from storage.records import Account, Chat, ChatKind, Message, MessageKind
from training.dataset.pairs import Options, pairs_of

GROUP, GROUP_TITLE = -1000, "The friends"
STRANGERS = ((9001, "Ada"), (9002, "Bela"), (9003, "Cleo"))  # where the owner has fewer friends than three
SCRIPT_TURNS = 5
EXTRAS, PAST = 30, 60  # other chats that are shown, and messages of each


async def seed(world: World, database: Database, owner: Account, *, past: int = PAST) -> list[Friend]:
    """Fill an empty world from the owner's history; the friends with what they will write."""
    world.add_user(owner.user_id, owner.first_name or "Owner", owner.last_name, owner.username)
    bot = world.add_bot(new_token(), "likeme_demo_bot", "likeme")
    people = [count.chat for count in await history.chat_counts(database) if count.chat.kind is ChatKind.PERSONAL]
    script = _script()
    known = {(chat.chat_id, chat.name): chat for chat in people}
    friends = [known[one] for one in script] if set(script) <= set(known) else people[:3]
    for chat in [*friends, *[chat for chat in people if chat not in friends][:EXTRAS]]:
        await _add(world, database, owner, chat, past, is_extra=chat not in friends)
    choosing = ways(await _own_words(database), owner.user_id)
    played = []
    for place, (user_id, name) in enumerate([*((c.chat_id, c.name) for c in friends), *STRANGERS][:3]):
        if user_id not in world.users:
            world.add_user(user_id, name)
        world.private(user_id)
        turns = script.get((user_id, name)) or await _past_turns(database, user_id)
        about, choose = choosing[place]
        first = world.users[user_id].first_name
        played.append(Friend(user_id, first, turns, choose, f"{first} {about}"))
    world.private(owner.user_id)
    world.add_group(GROUP, GROUP_TITLE, [owner.user_id, *(friend.user_id for friend in played), bot.user_id])
    return played


async def _add(world: World, database: Database, owner: Account, chat: Chat, past: int, *, is_extra: bool) -> None:
    """Somebody the owner has written with, and the words of it. Ids are kept: to a sync they are the same messages."""
    first, _, last = (chat.name or f"User {chat.chat_id}").partition(" ")
    world.add_user(chat.chat_id, first, last, is_extra=is_extra)
    place = world.between(owner.user_id, chat.chat_id).chat_id
    for message in await history.newest(database, chat.chat_id, past):
        if _is_plain(message):
            sender = owner.user_id if message.is_own else chat.chat_id
            world.post(sender, place, message.date, message.message_id, text=message.text)


def _is_plain(message: Message) -> bool:
    odd = message.forwarded_from is not None or message.via_bot is not None or message.edited_at is not None
    return message.kind is MessageKind.TEXT and bool(message.text) and not odd


async def _past_turns(database: Database, chat_id: int) -> list[list[str]]:
    """What somebody wrote before, where nobody has written him a script: the newest words that were answered."""
    chat = await history.find_chat(database, chat_id)
    if chat is None:
        return [["Are you there?"]]
    pairs = pairs_of(chat, await history.messages(database, chat_id), Options()).pairs
    return [pair.context[-1].text.splitlines()[-3:] for pair in pairs[-SCRIPT_TURNS:]]


async def _own_words(database: Database) -> Sequence[str]:
    words: list[str] = []
    for chat in await history.chats(database):
        words += [m.text for m in await history.messages(database, chat.chat_id) if m.is_own and m.text]
    return words


def _script() -> dict[tuple[int, str], list[list[str]]]:
    """script.txt: the turns by (id, name)."""
    text = files("bot.sandbox").joinpath("script.txt").read_text(encoding="utf-8")
    found = {}
    for name, number, body in re.findall(r"^# ([^|\n]+?) \| (\d+)\n(.*?)(?=^# |\Z)", text, re.MULTILINE | re.DOTALL):
        found[int(number), name] = [turn.splitlines() for turn in body.strip().split("\n\n")]
    return found
