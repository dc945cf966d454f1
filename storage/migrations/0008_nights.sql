-- How a version came about: the one it went on from (NULL: the base model), and the newest reply of the history then.
ALTER TABLE version ADD COLUMN started_from INTEGER REFERENCES version (number);
ALTER TABLE version ADD COLUMN data_until INTEGER;
-- Its files were removed to make room, or found damaged.
ALTER TABLE version ADD COLUMN removed_at INTEGER;
ALTER TABLE version ADD COLUMN damaged_at INTEGER;

-- Replies (by the first message of each) that no voice may ever be trained on: what all voices are measured by.
CREATE TABLE held_out (
    chat_id INTEGER NOT NULL,
    message_id INTEGER NOT NULL,
    PRIMARY KEY (chat_id, message_id)
) STRICT;

CREATE TRIGGER nothing_is_held_out_of_a_removed_chat AFTER DELETE ON chat BEGIN
    DELETE FROM held_out WHERE chat_id = old.chat_id;
END;

-- A night's work and how far it is. Dates are Unix seconds, UTC. `due_at` NULL: the owner asked for it.
CREATE TABLE night (
    night_id INTEGER PRIMARY KEY,
    due_at INTEGER UNIQUE,
    started_at INTEGER NOT NULL,
    step TEXT NOT NULL CHECK (step IN ('begun', 'fetched', 'training', 'ended')),
    anew INTEGER CHECK (anew IN (0, 1)),
    messages INTEGER,
    pairs INTEGER,
    job_id TEXT,
    outcome TEXT CHECK (outcome IN ('promoted', 'kept', 'few', 'cancelled', 'failed')),
    reason TEXT NOT NULL DEFAULT '',
    number INTEGER REFERENCES version (number),
    loss_before REAL,
    loss_after REAL,
    dollars REAL,
    ended_at INTEGER,
    told_at INTEGER
) STRICT;
