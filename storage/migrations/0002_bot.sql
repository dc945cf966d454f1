-- Dates are Unix seconds, UTC. Lists are JSON.
CREATE TABLE version (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    job_id TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    base_model TEXT NOT NULL,
    data_sha256 TEXT NOT NULL,
    metrics TEXT NOT NULL
) STRICT;

-- Which voice speaks; no row: the stock model.
CREATE TABLE serving (
    only_one INTEGER PRIMARY KEY CHECK (only_one = 1),
    number INTEGER NOT NULL REFERENCES version (number)
) STRICT;

CREATE TABLE draft (
    draft_id INTEGER PRIMARY KEY,
    created_at INTEGER NOT NULL,
    chat_id INTEGER,
    prompt TEXT NOT NULL,
    model TEXT NOT NULL,
    replies TEXT NOT NULL,
    chosen INTEGER,
    chosen_at INTEGER
) STRICT;

CREATE TABLE quiz (
    quiz_id INTEGER PRIMARY KEY,
    created_at INTEGER NOT NULL,
    chat_id INTEGER,
    model TEXT NOT NULL,
    seed INTEGER NOT NULL
) STRICT;

CREATE TABLE question (
    question_id INTEGER PRIMARY KEY,
    quiz_id INTEGER NOT NULL REFERENCES quiz (quiz_id) ON DELETE CASCADE,
    source_chat_id INTEGER NOT NULL,
    source_message_id INTEGER NOT NULL,
    prompt TEXT NOT NULL,
    replies TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('candidate', 'approved', 'dropped', 'asked')),
    poll_id TEXT UNIQUE
) STRICT;

CREATE TABLE vote (
    question_id INTEGER NOT NULL REFERENCES question (question_id) ON DELETE CASCADE,
    voter_id INTEGER NOT NULL,
    voter_name TEXT NOT NULL,
    is_owner INTEGER NOT NULL CHECK (is_owner IN (0, 1)),
    source TEXT NOT NULL,
    voted_at INTEGER NOT NULL,
    PRIMARY KEY (question_id, voter_id)
) STRICT;
