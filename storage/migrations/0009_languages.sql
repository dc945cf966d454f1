-- What a friend who came by a link reads: he is written to after a restart, too.
ALTER TABLE invitation ADD COLUMN language TEXT NOT NULL DEFAULT 'en';
