-- three: real, tuned and stock; stock: tuned against stock; real: tuned against real.
ALTER TABLE question ADD COLUMN kind TEXT NOT NULL DEFAULT 'three' CHECK (kind IN ('three', 'stock', 'real'));

-- A friend's own way into a quiz: whoever opens the link first takes it, nobody after him.
CREATE TABLE invitation (
    invitation_id INTEGER PRIMARY KEY,
    token TEXT NOT NULL UNIQUE,
    quiz_id INTEGER NOT NULL REFERENCES quiz (quiz_id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER,
    taken_by INTEGER
) STRICT;

-- A question as it was put to somebody: `order_shown` is a list of indices into its replies. One that was put
-- to him again (he came back) is another row; the poll's id comes when Telegram has taken it.
CREATE TABLE asking (
    asking_id INTEGER PRIMARY KEY,
    question_id INTEGER NOT NULL REFERENCES question (question_id) ON DELETE CASCADE,
    chat_id INTEGER NOT NULL,
    invitation_id INTEGER REFERENCES invitation (invitation_id) ON DELETE CASCADE,
    order_shown TEXT NOT NULL,
    asked_at INTEGER NOT NULL,
    poll_id TEXT UNIQUE,
    message_id INTEGER
) STRICT;

CREATE INDEX asking_of_invitation ON asking (invitation_id);

INSERT INTO asking (question_id, chat_id, order_shown, asked_at, poll_id)
    SELECT question_id, quiz.chat_id, '[0, 1, 2]', quiz.created_at, poll_id
    FROM question JOIN quiz USING (quiz_id) WHERE poll_id IS NOT NULL AND quiz.chat_id IS NOT NULL;
