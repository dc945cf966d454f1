-- Files that a model server holds of a training set (trained_on names its chats): the set itself, what was measured with
-- it. `server`: its address; '' is the one that works in this home.
CREATE TABLE model_file (
    file_id TEXT NOT NULL,
    server TEXT NOT NULL,
    data_sha256 TEXT NOT NULL,
    PRIMARY KEY (file_id, server, data_sha256)
) STRICT;
