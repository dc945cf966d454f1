-- How often each word is in the history: retrieval asks with the rare ones.
CREATE VIRTUAL TABLE message_vocabulary USING fts5vocab ('message_words', 'row');

-- What became of drafts. `way`: by hand, a card, a cloud draft. `context` is the conversation they were asked with,
-- as JSON; `edited` is what the owner sent instead.
ALTER TABLE draft ADD COLUMN way TEXT NOT NULL DEFAULT 'hand' CHECK (way IN ('hand', 'card', 'cloud'));
ALTER TABLE draft ADD COLUMN context TEXT NOT NULL DEFAULT '[]';
ALTER TABLE draft ADD COLUMN edited TEXT;
ALTER TABLE draft ADD COLUMN state TEXT NOT NULL DEFAULT 'shown'
    CHECK (state IN ('shown', 'sending', 'sent', 'edited', 'skipped', 'answered', 'replaced'));
ALTER TABLE draft ADD COLUMN state_at INTEGER;

-- Messages that were sent in the owner's name; word for word as drafted they are not his own words.
CREATE TABLE sent (
    chat_id INTEGER NOT NULL,
    message_id INTEGER NOT NULL,
    draft_id INTEGER NOT NULL REFERENCES draft (draft_id) ON DELETE CASCADE,
    line INTEGER NOT NULL,
    own_words INTEGER NOT NULL CHECK (own_words IN (0, 1)),
    PRIMARY KEY (chat_id, message_id),
    UNIQUE (draft_id, line)
) STRICT;

-- An import or a sync knows nothing of it, and must not make a draft the owner's own words.
CREATE TRIGGER sent_stays_sent AFTER UPDATE OF via_bot ON message WHEN new.via_bot IS NULL BEGIN
    UPDATE message SET via_bot = 'likeme' WHERE rowid = new.rowid AND EXISTS (
        SELECT 1 FROM sent
        WHERE sent.chat_id = new.chat_id AND sent.message_id = new.message_id AND NOT sent.own_words
    );
END;
