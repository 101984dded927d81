-- Times are microseconds since 1970, states and kinds the numbers of the model.

-- `change`: the newest change number.
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);

INSERT INTO counters (name, value) VALUES ('change', 0);

-- `page_token_key`: the key of page tokens. `place`: the cluster, database and timeline in which the
-- store was last written.
CREATE TABLE identity (
    name TEXT PRIMARY KEY,
    value BYTEA NOT NULL
);

-- The newest commit of each server, by which a server that lost its connection finds out whether its
-- last commit was made.
CREATE TABLE writers (
    id UUID PRIMARY KEY,
    number BIGINT NOT NULL,
    commit_time TIMESTAMPTZ NOT NULL
) WITH (fillfactor = 50);

CREATE SEQUENCE session_keys;

-- The columns that change with every append have no index, so that they are written in place.
CREATE TABLE sessions (
    key BIGINT PRIMARY KEY,
    id UUID NOT NULL UNIQUE,
    tenant TEXT COLLATE "C" NOT NULL,
    state SMALLINT NOT NULL,
    implicit BOOLEAN NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    -- The newest sequence, and the oldest that can still be read.
    head BIGINT NOT NULL,
    first BIGINT NOT NULL,
    -- Calls that have not ended, and all calls and follow-ups that are kept.
    live BIGINT NOT NULL,
    calls BIGINT NOT NULL,
    -- The number of binary digits of the log's length, by which long logs are found.
    log_digits SMALLINT NOT NULL,
    -- The update_time of a session that is closed (3) or implicit and has no calls: it is removed when
    -- it is old.
    done_time BIGINT,
    -- The newest sequence that was written under an earlier epoch.
    former_head BIGINT NOT NULL DEFAULT 0,
    -- Each label as one value, or nothing if there are none.
    labels BYTEA[]
) WITH (fillfactor = 60);

CREATE INDEX sessions_by_tenant ON sessions (tenant, create_time, id);
CREATE INDEX sessions_by_state ON sessions (tenant, state, create_time, id);
CREATE INDEX sessions_by_length ON sessions (log_digits);
CREATE INDEX sessions_done ON sessions (done_time) WHERE done_time IS NOT NULL;

-- The rest of a session, as JSON: written when something in it has changed.
CREATE TABLE session_bodies (
    session_key BIGINT PRIMARY KEY,
    body TEXT NOT NULL
);

CREATE TABLE events (
    session_key BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    -- The CRC-32C of the other columns, but not of the key of the session.
    checksum INTEGER NOT NULL,
    kind SMALLINT NOT NULL,
    -- Of a piece of output only. Streams: 1 standard output, 2 standard error.
    stream SMALLINT,
    call_id UUID,
    stream_offset BIGINT,
    combined_offset BIGINT,
    dropped_before BIGINT,
    length BIGINT,
    bytes BYTEA NOT NULL,
    PRIMARY KEY (session_key, sequence)
);

CREATE INDEX output_by_stream ON events (call_id, stream, stream_offset, sequence)
    WHERE stream IS NOT NULL;
CREATE INDEX output_combined ON events (call_id, combined_offset, sequence)
    WHERE stream IS NOT NULL;

-- Counts of a call's output. Without its row here a call has no output to read.
CREATE TABLE outputs (
    call_id UUID PRIMARY KEY,
    stdout_total BIGINT NOT NULL,
    stdout_kept BIGINT NOT NULL,
    stdout_cut BIGINT,
    stderr_total BIGINT NOT NULL,
    stderr_kept BIGINT NOT NULL,
    stderr_cut BIGINT,
    combined_total BIGINT NOT NULL,
    combined_kept BIGINT NOT NULL,
    combined_cut BIGINT
) WITH (fillfactor = 60);

CREATE TABLE calls (
    id UUID PRIMARY KEY,
    session_key BIGINT NOT NULL,
    tenant TEXT COLLATE "C" NOT NULL,
    -- In the background.
    is_task BOOLEAN NOT NULL,
    -- Not ended.
    live BOOLEAN NOT NULL,
    state SMALLINT NOT NULL,
    kind SMALLINT NOT NULL,
    create_time BIGINT NOT NULL,
    expire_time BIGINT,
    change_number BIGINT NOT NULL,
    labels BYTEA[],
    body TEXT NOT NULL
);

CREATE INDEX tasks_by_tenant ON calls (tenant, create_time, id) WHERE is_task;
CREATE INDEX tasks_by_tenant_state ON calls (tenant, state, create_time, id) WHERE is_task;
CREATE INDEX tasks_by_session ON calls (session_key, create_time, id) WHERE is_task;
CREATE INDEX tasks_by_session_state ON calls (session_key, state, create_time, id) WHERE is_task;
CREATE INDEX changes_by_tenant ON calls (tenant, change_number) WHERE is_task;
CREATE INDEX changes_by_session ON calls (session_key, change_number) WHERE is_task;
CREATE INDEX calls_live ON calls (session_key, create_time, id) WHERE live;
CREATE INDEX calls_ended ON calls (expire_time) WHERE NOT live AND expire_time IS NOT NULL;

CREATE TABLE requests (
    tenant TEXT COLLATE "C" NOT NULL,
    request_id TEXT COLLATE "C" NOT NULL,
    fingerprint BYTEA NOT NULL,
    effect TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    -- The call or the session with which the request is kept. With neither it expires by its age.
    call_id UUID,
    session_id UUID,
    PRIMARY KEY (tenant, request_id)
);

CREATE INDEX requests_of_call ON requests (call_id) WHERE call_id IS NOT NULL;
CREATE INDEX requests_of_session ON requests (session_id) WHERE session_id IS NOT NULL;
CREATE INDEX requests_by_age ON requests (create_time)
    WHERE call_id IS NULL AND session_id IS NULL;

-- The history of a session that an agent works in, each message as JSON.
CREATE TABLE messages (
    session_key BIGINT NOT NULL,
    number BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (session_key, number)
);

-- The records that notify agents of finished tasks. Each counts in `sessions.calls`.
CREATE TABLE follow_ups (
    -- The task. It has one follow-up at most.
    call_id UUID PRIMARY KEY,
    -- The order of the first storing.
    key BIGINT GENERATED ALWAYS AS IDENTITY,
    session_key BIGINT NOT NULL,
    session_id UUID NOT NULL,
    tenant TEXT COLLATE "C" NOT NULL,
    state SMALLINT NOT NULL,
    create_time BIGINT NOT NULL,
    -- The action that is due, and when: 1 delivery by the engine, 2 a lease, 3 the end of a lease.
    due_kind SMALLINT,
    due_time BIGINT,
    expire_time BIGINT,
    -- While it is leased: the id of the request that took it.
    lease_request TEXT COLLATE "C",
    body TEXT NOT NULL
);

CREATE INDEX follow_ups_by_tenant ON follow_ups (tenant, create_time, call_id);
CREATE INDEX follow_ups_by_tenant_state ON follow_ups (tenant, state, create_time, call_id);
CREATE INDEX follow_ups_by_session ON follow_ups (session_key, create_time, call_id);
CREATE INDEX follow_ups_by_session_state
    ON follow_ups (session_key, state, create_time, call_id);
CREATE INDEX follow_ups_to_deliver ON follow_ups (due_time, key) WHERE due_kind = 1;
CREATE INDEX follow_ups_to_lease ON follow_ups (tenant, due_time, key) WHERE due_kind = 2;
CREATE INDEX follow_ups_to_lapse ON follow_ups (due_time, key) WHERE due_kind = 3;
CREATE INDEX follow_ups_due_in_session ON follow_ups (session_key, due_kind, due_time, key)
    WHERE due_kind IS NOT NULL;
CREATE INDEX follow_ups_of_request ON follow_ups (tenant, lease_request)
    WHERE lease_request IS NOT NULL;
CREATE INDEX follow_ups_done ON follow_ups (expire_time) WHERE expire_time IS NOT NULL;

-- The task of a follow-up as it ended, as JSON: written once, however often the follow-up changes.
CREATE TABLE follow_up_tasks (
    call_id UUID PRIMARY KEY,
    body TEXT NOT NULL
);
