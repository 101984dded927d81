-- Ids are 16 bytes, times are microseconds since 1970, states and kinds the numbers of row.rs.
--
-- Rows come in the order of their keys and are found through indexes: a clustered key would
-- touch one page a session with every commit.

-- `change`: the newest change number.
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;

INSERT INTO counters (name, value) VALUES ('change', 0);

-- What changes with every append, in rows so small that many share a page.
CREATE TABLE sessions (
    key INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    state INTEGER NOT NULL,
    implicit INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL,
    -- The newest sequence, and the oldest that can still be read.
    head INTEGER NOT NULL,
    first INTEGER NOT NULL,
    -- Calls that haven't ended, and all that are kept.
    live INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    -- The number of binary digits of the log's length: long logs are found without looking at
    -- the short ones, and the index changes only when a log has doubled.
    log_digits INTEGER NOT NULL
) STRICT;

CREATE INDEX sessions_by_tenant ON sessions (tenant, create_time, id);
CREATE INDEX sessions_by_state ON sessions (tenant, state, create_time, id);
CREATE INDEX sessions_live ON sessions (id) WHERE live > 0;
CREATE INDEX sessions_by_length ON sessions (log_digits);
-- Closed (3) or implicit, without calls: gone when they are old.
CREATE INDEX sessions_done ON sessions (update_time)
    WHERE calls = 0 AND (state = 3 OR implicit = 1);

-- The rest of a session, as JSON: written when something in it has changed.
CREATE TABLE session_bodies (
    session_key INTEGER PRIMARY KEY,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE events (
    key INTEGER PRIMARY KEY,
    session_key INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    call_id BLOB,
    -- Of a piece of output only. Streams: 1 standard output, 2 standard error.
    stream INTEGER,
    stream_offset INTEGER,
    combined_offset INTEGER,
    dropped_before INTEGER,
    length INTEGER,
    -- Last, so that a scan that skips an event doesn't read it.
    bytes BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX events_by_sequence ON events (session_key, sequence);
CREATE INDEX output_by_stream ON events (call_id, stream, stream_offset)
    WHERE stream IS NOT NULL;
CREATE INDEX output_combined ON events (call_id, combined_offset)
    WHERE stream IS NOT NULL;

-- Counts of a call's output. Without its row here a call has no output to read.
CREATE TABLE outputs (
    key INTEGER PRIMARY KEY,
    call_id BLOB NOT NULL UNIQUE,
    stdout_total INTEGER NOT NULL,
    stdout_kept INTEGER NOT NULL,
    stdout_cut INTEGER,
    stderr_total INTEGER NOT NULL,
    stderr_kept INTEGER NOT NULL,
    stderr_cut INTEGER,
    combined_total INTEGER NOT NULL,
    combined_kept INTEGER NOT NULL,
    combined_cut INTEGER
) STRICT;

CREATE TABLE calls (
    key INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    session_key INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    -- In the background.
    is_task INTEGER NOT NULL,
    -- Not ended.
    live INTEGER NOT NULL,
    state INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    expire_time INTEGER,
    change_number INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;

CREATE INDEX tasks_by_tenant ON calls (tenant, create_time, id) WHERE is_task = 1;
CREATE INDEX tasks_by_tenant_state ON calls (tenant, state, create_time, id) WHERE is_task = 1;
CREATE INDEX tasks_by_session ON calls (session_key, create_time, id) WHERE is_task = 1;
CREATE INDEX tasks_by_session_state ON calls (session_key, state, create_time, id)
    WHERE is_task = 1;
CREATE INDEX changes_by_tenant ON calls (tenant, change_number) WHERE is_task = 1;
CREATE INDEX changes_by_session ON calls (session_key, change_number) WHERE is_task = 1;
CREATE INDEX calls_live ON calls (session_key, create_time, id) WHERE live = 1;
CREATE INDEX calls_ended ON calls (expire_time) WHERE live = 0 AND expire_time IS NOT NULL;

CREATE TABLE requests (
    key INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    request_id TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    effect TEXT NOT NULL,
    create_time INTEGER NOT NULL,
    -- What the request is kept with; with neither it goes by its age.
    call_id BLOB,
    session_id BLOB
) STRICT;

CREATE UNIQUE INDEX requests_by_id ON requests (tenant, request_id);
CREATE INDEX requests_of_call ON requests (call_id) WHERE call_id IS NOT NULL;
CREATE INDEX requests_of_session ON requests (session_id) WHERE session_id IS NOT NULL;
CREATE INDEX requests_by_age ON requests (create_time)
    WHERE call_id IS NULL AND session_id IS NULL;
