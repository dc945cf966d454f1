-- Secretary Mode: the owner's business connections with the bot.
CREATE TABLE connection (
    connection_id TEXT PRIMARY KEY,
    can_reply INTEGER NOT NULL CHECK (can_reply IN (0, 1)),
    is_enabled INTEGER NOT NULL CHECK (is_enabled IN (0, 1))
) STRICT;

-- What the owner wants in a chat; no row: what `preference` says for all.
CREATE TABLE chat_mode (
    chat_id INTEGER PRIMARY KEY,
    mode TEXT NOT NULL CHECK (mode IN ('off', 'card', 'cloud'))
) STRICT;

CREATE TABLE preference (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

-- Chats that wait for drafts: one row each, a newer message moves it.
CREATE TABLE waiting (
    chat_id INTEGER PRIMARY KEY,
    way TEXT NOT NULL CHECK (way IN ('card', 'cloud')),
    connection_id TEXT,
    newest INTEGER NOT NULL,
    since REAL NOT NULL,
    due REAL NOT NULL,
    card_draft_id INTEGER
) STRICT;

-- A card in the owner's chat with the bot. `answers` is the friend's newest message when it was drafted.
CREATE TABLE card (
    draft_id INTEGER PRIMARY KEY REFERENCES draft (draft_id) ON DELETE CASCADE,
    connection_id TEXT NOT NULL,
    chat_id INTEGER NOT NULL,
    answers INTEGER NOT NULL,
    answered_at INTEGER NOT NULL,
    message_id INTEGER,
    prompt_id INTEGER,
    note TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX card_of_chat ON card (chat_id);

-- What stands in a chat's input box because we put it there.
CREATE TABLE cloud_draft (
    chat_id INTEGER PRIMARY KEY,
    draft_id INTEGER NOT NULL REFERENCES draft (draft_id) ON DELETE CASCADE,
    text TEXT NOT NULL
) STRICT;

CREATE TRIGGER nothing_waits_in_a_removed_chat AFTER DELETE ON chat BEGIN
    DELETE FROM waiting WHERE chat_id = old.chat_id;
    DELETE FROM chat_mode WHERE chat_id = old.chat_id;
END;
