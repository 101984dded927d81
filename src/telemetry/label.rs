//! The values of labels of metrics.

use crate::model::enum_table;

enum_table! {
    /// The reason why a connection was closed before it could be used.
    pub enum ConnectionRefusal {
        /// The server has as many connections as it may.
        TooManyConnections => "too_many_connections",
        /// The peer has as many connections as it may.
        TooManyFromPeer => "too_many_from_peer",
        /// Too many handshakes are under way.
        TooManyHandshakes => "too_many_handshakes",
        /// The handshake took too long.
        HandshakeTimeout => "handshake_timeout",
        /// The peer disconnected during the handshake.
        HandshakeAborted => "handshake_cut",
        /// The TLS handshake failed.
        Tls => "tls",
        /// The peer doesn't speak HTTP/2.
        NotHttp2 => "not_http2",
    }
}

enum_table! {
    /// A service of callpark's on HTTP/1, or beside it.
    pub enum HttpService {
        /// The pages for operators.
        Admin => "admin",
        /// The tools for agents that speak MCP over HTTP.
        Agents => "agents",
        /// The tools for agents that reach them through a bridge.
        Bridges => "bridges",
    }
}

enum_table! {
    /// The reason why a connection of an [`HttpService`] was closed by the server.
    pub enum HttpRefusal {
        /// The service has as many connections as it may, and all of them are in use.
        TooManyConnections => "too_many_connections",
        /// A newer connection needed the place.
        Displaced => "displaced",
        /// The first request, or the credentials, did not arrive in time.
        Timeout => "timeout",
        /// The credentials were wrong.
        Unauthenticated => "unauthenticated",
    }
}

enum_table! {
    /// The limit for which a call was refused.
    pub enum CallCap {
        /// The live calls of its session.
        LiveTasks => "live_tasks",
        /// The session was busy, and the call wasn't to wait.
        Concurrency => "concurrency",
        /// The server is stopping.
        Draining => "draining",
        /// The disk is full.
        Storage => "storage",
    }
}

enum_table! {
    /// A limit of a tenant, named as its key in the configuration.
    pub enum TenantLimit {
        /// Requests per second that start something.
        StartsPerSecond => "starts_per_second",
        /// All other requests per second.
        RequestsPerSecond => "requests_per_second",
        /// Open streams.
        Streams => "max_streams",
        /// Calls and turns that have not ended.
        LiveCalls => "max_live_calls",
        /// Calls that run.
        RunningCalls => "max_running_calls",
        /// Open sessions.
        OpenSessions => "max_open_sessions",
    }
}

enum_table! {
    /// The source of a page of a log.
    pub enum LogSource {
        /// The store.
        Store => "store",
        /// The cache in memory.
        Memory => "memory",
    }
}

enum_table! {
    /// The kind of a stored record that cannot be read back.
    pub enum RecordKind {
        /// A background task.
        Task => "task",
        /// A session.
        Session => "session",
        /// A follow-up.
        FollowUp => "follow_up",
    }
}

enum_table! {
    /// The outcome of a request that was forwarded to another replica.
    pub enum ForwardOutcome {
        /// The replica has answered it.
        Answered => "answered",
        /// The replica does not own the session any more.
        NotOwner => "not_owner",
        /// The replica has not processed it.
        Unreachable => "unreachable",
        /// The connection was lost before the end of the answer.
        Lost => "lost",
        /// The caller has gone, or its deadline has passed, before the answer.
        Cancelled => "cancelled",
    }
}
