-- What was measured of a version, as JSON; NULL: not evaluated.
ALTER TABLE version ADD COLUMN evaluation TEXT;

-- Who was let speak when, and why. `number` NULL: the stock model.
CREATE TABLE promotion (
    promotion_id INTEGER PRIMARY KEY,
    promoted_at INTEGER NOT NULL,
    number INTEGER REFERENCES version (number),
    how TEXT NOT NULL CHECK (how IN ('gate', 'forced', 'rollback')),
    reason TEXT NOT NULL
) STRICT;
