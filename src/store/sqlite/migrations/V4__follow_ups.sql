-- What agents must hear of tasks that ended. Each counts in `sessions.calls`, as a call that is
-- kept does: its session stays as long as it does, though the task may be gone.

CREATE TABLE follow_ups (
    key INTEGER PRIMARY KEY,
    -- The task. It has one follow-up at most.
    call_id BLOB NOT NULL UNIQUE,
    session_key INTEGER NOT NULL,
    session_id BLOB NOT NULL,
    tenant TEXT NOT NULL,
    state INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    -- What is due, and when: 1 the engine delivers it, 2 somebody may lease it, 3 its lease has
    -- run out. Without both of them nothing is.
    due_kind INTEGER,
    due_time INTEGER,
    expire_time INTEGER,
    -- While it is leased: the id of the request that took it.
    lease_request TEXT,
    -- Last, so that a walk that skips a row doesn't read it.
    body TEXT NOT NULL
) STRICT;

CREATE INDEX follow_ups_by_tenant ON follow_ups (tenant, create_time, call_id);
CREATE INDEX follow_ups_by_tenant_state ON follow_ups (tenant, state, create_time, call_id);
CREATE INDEX follow_ups_by_session ON follow_ups (session_key, create_time, call_id);
CREATE INDEX follow_ups_by_session_state
    ON follow_ups (session_key, state, create_time, call_id);
CREATE INDEX follow_ups_to_deliver ON follow_ups (due_time) WHERE due_kind = 1;
CREATE INDEX follow_ups_to_lease ON follow_ups (tenant, due_time) WHERE due_kind = 2;
CREATE INDEX follow_ups_to_lapse ON follow_ups (due_time) WHERE due_kind = 3;
CREATE INDEX follow_ups_due_in_session ON follow_ups (session_key, due_kind, due_time)
    WHERE due_kind IS NOT NULL;
CREATE INDEX follow_ups_of_request ON follow_ups (tenant, lease_request)
    WHERE lease_request IS NOT NULL;
CREATE INDEX follow_ups_done ON follow_ups (expire_time) WHERE expire_time IS NOT NULL;

-- The task of the follow-up with the same key as it ended, as JSON: written once, however often
-- the follow-up changes.
CREATE TABLE follow_up_tasks (
    key INTEGER PRIMARY KEY,
    body TEXT NOT NULL
) STRICT;
