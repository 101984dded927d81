-- The history of a session that an agent works in: what its model is shown again.
CREATE TABLE messages (
    key INTEGER PRIMARY KEY,
    session_key INTEGER NOT NULL,
    number INTEGER NOT NULL,
    -- As JSON.
    body TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX messages_by_number ON messages (session_key, number);
