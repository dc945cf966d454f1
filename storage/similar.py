"""What was said before: messages like this one (FTS5, BM25), and words said in other chats."""

import re
import unicodedata

from storage.database import Database
from storage.history import message_of
from storage.records import Message
from storage.rows import COLUMNS

_WORD = re.compile(r"[^\W_]+")
WORDS = 6  # of a question, the rarest: common ones would drag half the history through the ranking


async def similar(
    database: Database, text: str, *, chat_id: int | None, same_chat: bool, limit: int
) -> list[tuple[int, int]]:
    """(chat id, message id) of what others wrote like `text` in personal chats, the most similar first."""
    words = await _rarest(database, text)
    if not words:
        return []
    rows = await database.rows(
        "SELECT message.chat_id, message.message_id FROM message_words "
        "JOIN message ON message.rowid = message_words.rowid JOIN chat USING (chat_id) "
        "WHERE message_words MATCH ? AND NOT message.is_own AND message.deleted_at IS NULL "
        "AND chat.kind = 'personal' AND (message.chat_id = ?) = ? AND ifnull(chat.included, 1) "
        "ORDER BY message_words.rank LIMIT ?",
        (" OR ".join(_quoted(word) for word in words), chat_id or 0, int(same_chat), limit),
    )
    return [(row["chat_id"], row["message_id"]) for row in rows]


async def around(database: Database, chat_id: int, message_id: int, before: int, after: int) -> list[Message]:
    """A message with its neighbours, in the order of their ids."""
    rows = await database.rows(
        f"SELECT {COLUMNS} FROM (SELECT * FROM message WHERE chat_id = ?1 AND message_id <= ?2 "
        "ORDER BY message_id DESC LIMIT ?3) UNION ALL "
        f"SELECT {COLUMNS} FROM (SELECT * FROM message WHERE chat_id = ?1 AND message_id > ?2 "
        "ORDER BY message_id LIMIT ?4) ORDER BY message_id",
        (chat_id, message_id, before + 1, after),
    )
    return [message_of(row) for row in rows]


async def said_elsewhere(database: Database, text: str, chat_id: int | None, run_words: int) -> bool:
    """Whether the owner wrote `run_words` words of `text` in a row in another chat."""
    words = _WORD.findall(text)
    for start in range(len(words) - run_words + 1):
        row = await database.row(
            "SELECT 1 FROM message_words JOIN message ON message.rowid = message_words.rowid "
            "WHERE message_words MATCH ? AND message.is_own AND message.chat_id <> ? LIMIT 1",
            (_quoted(" ".join(words[start : start + run_words])), chat_id or 0),
        )
        if row is not None:
            return True
    return False


async def _rarest(database: Database, text: str) -> list[str]:
    """The words of `text` that are in the index, the rarest few."""
    words = list(dict.fromkeys(_plain(word) for word in _WORD.findall(text)))
    marks = ", ".join("?" * len(words))
    rows = await database.rows(f"SELECT term FROM message_vocabulary WHERE term IN ({marks}) ORDER BY doc", words)
    return [row["term"] for row in rows[:WORDS]]


def _plain(word: str) -> str:
    """As the index's tokenizer folds it."""
    return "".join(c for c in unicodedata.normalize("NFD", word.lower()) if not unicodedata.combining(c))


def _quoted(words: str) -> str:
    return '"' + words.replace('"', '""') + '"'
