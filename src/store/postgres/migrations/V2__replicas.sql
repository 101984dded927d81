-- The servers that share the database, each with a new id at each start. States: 1 serving, 2 restarting,
-- 3 gone. A replica that is gone never serves again under its id.
CREATE TABLE replicas (
    id UUID PRIMARY KEY,
    -- The data folder, which stays the same from one start to the next.
    home UUID NOT NULL,
    address TEXT NOT NULL,
    version TEXT NOT NULL,
    state SMALLINT NOT NULL,
    start_time TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    lease_until TIMESTAMPTZ NOT NULL
) WITH (fillfactor = 50);

-- The replica that works on the session, or nothing if none does or one server has the database alone.
ALTER TABLE sessions ADD COLUMN owner UUID;
-- The number of times that the session was claimed.
ALTER TABLE sessions ADD COLUMN claim BIGINT NOT NULL DEFAULT 0;

CREATE INDEX sessions_by_owner ON sessions (owner) WHERE owner IS NOT NULL;
