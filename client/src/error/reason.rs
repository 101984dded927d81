//! The stable reasons of server errors.

use std::{convert::Infallible, fmt, str::FromStr};

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// The stable reason of a server error: more precise than its code, and unlike its message
        /// never reworded.
        ///
        /// ```
        /// use callpark_client::Reason;
        ///
        /// assert_eq!(Reason::from("TASK_NOT_FOUND"), Reason::TaskNotFound);
        /// assert_eq!(Reason::TaskNotFound.as_str(), "TASK_NOT_FOUND");
        /// // The reason of a newer server.
        /// assert_eq!(Reason::from("OUT_OF_TEA"), Reason::Other("OUT_OF_TEA".to_owned()));
        /// ```
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
            /// A reason that this version of the client does not know.
            Other(String),
        }

        impl Reason {
            /// Returns the reason as the contract writes it, such as `TASK_NOT_FOUND`.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other(text) => text,
                }
            }
        }

        impl From<&str> for Reason {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)*
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        #[cfg(test)]
        const KNOWN: &[Reason] = &[$(Reason::$variant,)*];
    };
}

reasons! {
    /// FAILED_PRECONDITION: the call does not ask for this approval, or no longer.
    ApprovalNotOpen = "APPROVAL_NOT_OPEN",
    /// INVALID_ARGUMENT: the arguments do not satisfy the schema of the tool.
    ArgumentsInvalid = "ARGUMENTS_INVALID",
    /// CANCELLED: the caller cancelled the request.
    Cancelled = "CANCELLED",
    /// UNAUTHENTICATED: the server does not accept the token.
    CredentialsInvalid = "CREDENTIALS_INVALID",
    /// UNAUTHENTICATED: the request carries no token.
    CredentialsMissing = "CREDENTIALS_MISSING",
    /// DEADLINE_EXCEEDED: the deadline of the caller passed.
    DeadlineExceeded = "DEADLINE_EXCEEDED",
    /// UNAVAILABLE: the server is about to stop, or ends a stream because of its age.
    Draining = "DRAINING",
    /// FAILED_PRECONDITION: only a dead-lettered follow-up can be retried.
    FollowUpNotDeadLettered = "FOLLOW_UP_NOT_DEAD_LETTERED",
    /// NOT_FOUND: there is no such follow-up.
    FollowUpNotFound = "FOLLOW_UP_NOT_FOUND",
    /// ABORTED: another consumer has leased the follow-up.
    FollowUpTaken = "FOLLOW_UP_TAKEN",
    /// The host of a task failed and left no result. Part of a task's outcome, not of an RPC error.
    HostLost = "HOST_LOST",
    /// INTERNAL: a defect of the server.
    Internal = "INTERNAL",
    /// INVALID_ARGUMENT: at least one field of the request is invalid.
    InvalidField = "INVALID_FIELD",
    /// FAILED_PRECONDITION: the lease has expired.
    LeaseExpired = "LEASE_EXPIRED",
    /// INVALID_ARGUMENT: the request is not a valid encoding of its message.
    MalformedMessage = "MALFORMED_MESSAGE",
    /// RESOURCE_EXHAUSTED: the request is larger than the server accepts.
    MessageTooLarge = "MESSAGE_TOO_LARGE",
    /// NOT_FOUND: there is no such model.
    ModelNotFound = "MODEL_NOT_FOUND",
    /// UNIMPLEMENTED: the server does not offer the RPC.
    NotImplemented = "NOT_IMPLEMENTED",
    /// UNAVAILABLE: another server has taken over the session.
    NotOwner = "NOT_OWNER",
    /// INVALID_ARGUMENT: the page token does not belong to this request.
    PageTokenInvalid = "PAGE_TOKEN_INVALID",
    /// RESOURCE_EXHAUSTED: the caller sends too many requests.
    RateLimited = "RATE_LIMITED",
    /// ALREADY_EXISTS: the request id was used with other content.
    RequestIdReused = "REQUEST_ID_REUSED",
    /// OUT_OF_RANGE: the requested sequence is beyond the head of the log.
    SequenceAhead = "SEQUENCE_AHEAD",
    /// OUT_OF_RANGE: the requested events are no longer kept.
    SequenceTrimmed = "SEQUENCE_TRIMMED",
    /// The server that ran a task stopped or failed. Part of a task's outcome, not of an RPC error.
    ServerLost = "SERVER_LOST",
    /// ABORTED: the session already runs a turn or has a live task.
    SessionBusy = "SESSION_BUSY",
    /// FAILED_PRECONDITION: the session is closed.
    SessionClosed = "SESSION_CLOSED",
    /// RESOURCE_EXHAUSTED: the maximum number of sessions is reached.
    SessionLimit = "SESSION_LIMIT",
    /// NOT_FOUND: there is no such session.
    SessionNotFound = "SESSION_NOT_FOUND",
    /// RESOURCE_EXHAUSTED: the disk of the server is full.
    StorageFull = "STORAGE_FULL",
    /// UNAVAILABLE: the store of the server cannot be used.
    StoreUnavailable = "STORE_UNAVAILABLE",
    /// OUT_OF_RANGE: the log has another epoch than the request.
    StreamEpochMismatch = "STREAM_EPOCH_MISMATCH",
    /// RESOURCE_EXHAUSTED: the maximum number of live tasks of the session is reached.
    TaskLimit = "TASK_LIMIT",
    /// NOT_FOUND: there is no such task.
    TaskNotFound = "TASK_NOT_FOUND",
    /// FAILED_PRECONDITION: the task has not finished.
    TaskRunning = "TASK_RUNNING",
    /// PERMISSION_DENIED: the session does not allow the tool.
    ToolNotAllowed = "TOOL_NOT_ALLOWED",
    /// NOT_FOUND: there is no such tool.
    ToolNotFound = "TOOL_NOT_FOUND",
    /// UNIMPLEMENTED: the server has no such method.
    UnknownMethod = "UNKNOWN_METHOD",
    /// UNIMPLEMENTED: the server does not support the compression of the request.
    UnsupportedEncoding = "UNSUPPORTED_ENCODING",
}

impl From<String> for Reason {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl FromStr for Reason {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::from(text))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_reason_is_read_as_it_is_written() {
        for reason in KNOWN {
            assert_eq!(Reason::from(reason.as_str()), *reason);
            assert_eq!(reason.to_string().parse(), Ok(reason.clone()));
        }
        let texts: HashSet<_> = KNOWN.iter().map(Reason::as_str).collect();
        assert_eq!(texts.len(), KNOWN.len());
    }

    #[test]
    fn an_unknown_reason_is_kept() {
        let reason = Reason::from("OUT_OF_TEA");
        assert_eq!(reason, Reason::Other("OUT_OF_TEA".to_owned()));
        assert_eq!(reason.as_str(), "OUT_OF_TEA");
    }
}
