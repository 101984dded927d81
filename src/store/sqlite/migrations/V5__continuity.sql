-- The CRC-32C of the other columns, but not of the keys. Events from before this version have none.
ALTER TABLE events ADD COLUMN checksum INTEGER;

-- `commit`: the number of commits, which is also in the file beside the database.
-- `clean`: 1 while the database holds all commits, 0 while the newest are in the write-ahead log.
-- `unchecked_events`: the largest key of an event without a checksum.
-- `former_epoch_events`: the largest key of an event that was written under an earlier epoch.
INSERT INTO counters (name, value) VALUES ('commit', 0), ('clean', 1), ('former_epoch_events', 0);
INSERT INTO counters (name, value) SELECT 'unchecked_events', coalesce(max(key), 0) FROM events;

-- `store_id`: random bytes that name this store. `page_token_key`: the key of page tokens.
CREATE TABLE identity (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;
