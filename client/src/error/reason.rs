//! The stable reasons of server errors.

use std::{convert::Infallible, fmt, str::FromStr};

use crate::v1::ErrorReason;

/// The prefix of the values of [`ErrorReason`], which the reason of an error lacks.
const PREFIX: &str = "ERROR_REASON_";

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident,)*) => {
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
                    $(Self::$variant => text(ErrorReason::$variant),)*
                    Self::Other(text) => text,
                }
            }

            /// Returns the reason with this value of the contract, or `None` if it is not set.
            const fn known(value: ErrorReason) -> Option<Self> {
                // No wildcard: the compiler names a reason that is missing here.
                match value {
                    ErrorReason::Unspecified => None,
                    $(ErrorReason::$variant => Some(Self::$variant),)*
                }
            }
        }

        #[cfg(test)]
        const KNOWN: &[Reason] = &[$(Reason::$variant,)*];
    };
}

reasons! {
    /// INVALID_ARGUMENT: the arguments do not satisfy the schema of the tool.
    ArgumentsInvalid,
    /// CANCELLED: the caller cancelled the request.
    Cancelled,
    /// UNAUTHENTICATED: the API key or the JSON Web Token has expired. It also ends open streams, for good.
    CredentialsExpired,
    /// UNAUTHENTICATED: the server does not accept the token or the API key.
    CredentialsInvalid,
    /// UNAUTHENTICATED: the request carries no credentials.
    CredentialsMissing,
    /// UNAUTHENTICATED: the API key was revoked. It also ends open streams, for good.
    CredentialsRevoked,
    /// DEADLINE_EXCEEDED: the deadline of the caller passed.
    DeadlineExceeded,
    /// UNAVAILABLE: the server is about to stop, or ends a stream because of its age.
    Draining,
    /// FAILED_PRECONDITION: only a dead-lettered follow-up can be retried.
    FollowUpNotDeadLettered,
    /// NOT_FOUND: there is no such follow-up.
    FollowUpNotFound,
    /// INTERNAL: a defect of the server.
    Internal,
    /// INVALID_ARGUMENT: at least one field of the request is invalid.
    InvalidField,
    /// FAILED_PRECONDITION: the lease has expired.
    LeaseExpired,
    /// INVALID_ARGUMENT: the request is not a valid encoding of its message.
    MalformedMessage,
    /// RESOURCE_EXHAUSTED: the request is larger than the server accepts.
    MessageTooLarge,
    /// NOT_FOUND: there is no such model.
    ModelNotFound,
    /// UNAVAILABLE: another server has taken over the session.
    NotOwner,
    /// INVALID_ARGUMENT: the page token does not belong to this request.
    PageTokenInvalid,
    /// RESOURCE_EXHAUSTED: the tenant has reached a limit of what it may have at the same time.
    QuotaExceeded,
    /// RESOURCE_EXHAUSTED: the tenant has sent more requests per second than it may.
    RateLimited,
    /// ALREADY_EXISTS: the request id was used with other content.
    RequestIdReused,
    /// PERMISSION_DENIED: the credentials lack the scope that the method requires.
    ScopeMissing,
    /// OUT_OF_RANGE: the requested sequence is beyond the head of the log.
    SequenceAhead,
    /// OUT_OF_RANGE: the requested events are no longer kept.
    SequenceTrimmed,
    /// The server that ran a task stopped or failed. Part of a task's outcome, not of an RPC error.
    ServerLost,
    /// DATA_LOSS: the stored record is damaged.
    RecordDamaged,
    /// ABORTED: the session already runs a turn or has a live task.
    SessionBusy,
    /// FAILED_PRECONDITION: the session is closed.
    SessionClosed,
    /// NOT_FOUND: there is no such session.
    SessionNotFound,
    /// RESOURCE_EXHAUSTED: the disk of the server is full.
    StorageFull,
    /// UNAVAILABLE: the store of the server cannot be used.
    StoreUnavailable,
    /// OUT_OF_RANGE: the log has another epoch than the request.
    StreamEpochMismatch,
    /// RESOURCE_EXHAUSTED: the maximum number of live tasks of the session is reached.
    TaskLimit,
    /// NOT_FOUND: there is no such task.
    TaskNotFound,
    /// FAILED_PRECONDITION: the task has not finished.
    TaskRunning,
    /// PERMISSION_DENIED: the session does not allow the tool.
    ToolNotAllowed,
    /// NOT_FOUND: there is no such tool.
    ToolNotFound,
    /// UNIMPLEMENTED: the server has no such method.
    UnknownMethod,
    /// UNIMPLEMENTED: the server does not support the compression of the request.
    UnsupportedEncoding,
}

fn text(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix(PREFIX).unwrap_or(name)
}

impl From<&str> for Reason {
    fn from(text: &str) -> Self {
        ErrorReason::from_str_name(&format!("{PREFIX}{text}"))
            .and_then(Self::known)
            .unwrap_or_else(|| Self::Other(text.to_owned()))
    }
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
        // The value of a field that is not set is no reason.
        assert_eq!(Reason::from("UNSPECIFIED"), Reason::Other("UNSPECIFIED".to_owned()));
    }

    #[test]
    fn all_reasons_of_the_contract_are_known() {
        let numbers = (1..1_000).filter_map(|n| ErrorReason::try_from(n).ok());
        let texts: Vec<_> = numbers.map(text).collect();
        assert_eq!(texts.len(), KNOWN.len(), "{texts:?}");
        for text in texts {
            assert!(!matches!(Reason::from(text), Reason::Other(_)), "{text}");
        }
    }
}
