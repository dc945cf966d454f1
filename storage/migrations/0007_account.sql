-- What the owner's own account is up to. Dates are Unix seconds, UTC.

-- Of each chat the messages from `oldest` to `newest` are here; `is_whole`: nothing is older than `oldest`.
CREATE TABLE sync_position (
    chat_id INTEGER PRIMARY KEY,
    newest INTEGER NOT NULL,
    oldest INTEGER NOT NULL,
    is_whole INTEGER NOT NULL CHECK (is_whole IN (0, 1))
) STRICT;

-- How far the account's own sequence of events has been taken in (https://core.telegram.org/api/updates).
CREATE TABLE account_clock (
    only_one INTEGER PRIMARY KEY CHECK (only_one = 1),
    pts INTEGER NOT NULL,
    qts INTEGER NOT NULL,
    date INTEGER NOT NULL
) STRICT;

-- Chats that no import and no sync may bring back. Nothing but the id is kept of them.
CREATE TABLE forgotten (
    chat_id INTEGER PRIMARY KEY,
    forgotten_at INTEGER NOT NULL
) STRICT;

-- Which chats' words were in which training set: a voice trained on a forgotten chat is known by it.
CREATE TABLE trained_on (
    data_sha256 TEXT NOT NULL,
    chat_id INTEGER NOT NULL,
    PRIMARY KEY (data_sha256, chat_id)
) STRICT;
