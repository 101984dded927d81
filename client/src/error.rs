//! What can go wrong.

use std::{collections::HashMap, error::Error as StdError, time::Duration};

use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt as _;

/// Why a call failed or a stream ended.
///
/// [`Display`](std::fmt::Display) says in one line what happened and what to do about it.
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    rpc: &'static str,
    origin: Origin,
    code: Code,
    message: String,
    details: Details,
    tries: u32,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Where an error comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// The server answered with it.
    Server,
    /// The connection couldn't be made, or was cut.
    Transport,
    /// A stream was silent for three heartbeats.
    Silence,
    /// A stream ended OK before it had reached its end.
    EndedEarly,
    /// The caller's deadline passed.
    Deadline,
    /// No token could be had.
    Token,
    /// The options that the client was built from are no good.
    Options,
    /// The answer isn't one that the contract allows.
    Answer,
}

/// The typed details of an error that the server answered with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Details {
    /// The stable name of the error, such as `TASK_NOT_FOUND`. Empty: the server gave none.
    pub reason: String,
    /// What the server says of the reason, by name.
    pub metadata: HashMap<String, String>,
    /// The fields of the request that are bad.
    pub fields: Vec<Violation>,
    /// What the state of the server forbids, by subject.
    pub preconditions: Vec<Violation>,
    /// The quotas that are used up, by subject.
    pub quotas: Vec<Violation>,
    /// How long to wait before the next try.
    pub retry_delay: Option<Duration>,
    /// What wasn't found.
    pub resource: Option<Resource>,
    /// The server's own id of the request, for its log. Empty: it gave none.
    pub request_id: String,
}

/// One thing that a request does wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The field or the subject.
    pub subject: String,
    /// What is wrong with it.
    pub description: String,
}

/// A thing that an error is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resource {
    /// Its sort.
    pub kind: String,
    /// Its id or name.
    pub name: String,
    /// What the server says of it.
    pub description: String,
}

impl Error {
    /// The RPC, as `Service.Method`. Empty when the client couldn't be built.
    pub fn rpc(&self) -> &'static str {
        self.inner.rpc
    }

    /// Where the error comes from.
    pub fn origin(&self) -> Origin {
        self.inner.origin
    }

    /// The code of gRPC. It is the server's for [`Origin::Server`], UNAVAILABLE for a cut,
    /// DEADLINE_EXCEEDED, UNAUTHENTICATED for a token that can't be had, INVALID_ARGUMENT for options
    /// and INTERNAL for an answer outside the contract.
    pub fn code(&self) -> Code {
        self.inner.code
    }

    /// The stable name of the error, such as `TASK_NOT_FOUND`. Empty: it doesn't come from the
    /// server.
    pub fn reason(&self) -> &str {
        &self.inner.details.reason
    }

    /// What happened, in the words of who noticed it.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// The typed details of the server's answer.
    pub fn details(&self) -> &Details {
        &self.inner.details
    }

    /// The fields of the request that are bad.
    pub fn field_violations(&self) -> &[Violation] {
        &self.inner.details.fields
    }

    /// How long the server asks to wait before the next try.
    pub fn retry_delay(&self) -> Option<Duration> {
        self.inner.details.retry_delay
    }

    /// What wasn't found.
    pub fn resource(&self) -> Option<&Resource> {
        self.inner.details.resource.as_ref()
    }

    /// The same request may succeed when it is sent again later: after a cut, after UNAVAILABLE, and
    /// wherever the server names a delay.
    pub fn retryable(&self) -> bool {
        self.passes() || self.retry_delay().is_some()
    }

    /// How many tries there were. 0: the request was never sent.
    pub fn tries(&self) -> u32 {
        self.inner.tries
    }

    /// The client sends the request again by itself.
    pub(crate) fn passes(&self) -> bool {
        match self.inner.origin {
            Origin::Transport | Origin::Silence | Origin::EndedEarly => true,
            Origin::Server => self.inner.code == Code::Unavailable,
            Origin::Deadline | Origin::Token | Origin::Options | Origin::Answer => false,
        }
    }

    /// There was a connection, and it was cut: unlike one that couldn't be made, or whose other
    /// end doesn't even answer pings.
    pub(crate) fn was_connected(&self) -> bool {
        let source = self.inner.source.as_deref().map(|source| source as &(dyn StdError + 'static));
        let mut causes = std::iter::successors(source, |cause| StdError::source(*cause));
        let never = |cause: &(dyn StdError + 'static)| {
            cause.is::<tonic::ConnectError>()
                || cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_timeout)
        };
        self.inner.origin == Origin::Transport && !causes.any(never)
    }

    pub(crate) fn new(origin: Origin, code: Code, message: impl Into<String>) -> Self {
        let inner = Inner {
            rpc: "",
            origin,
            code,
            message: message.into(),
            details: Details::default(),
            tries: 0,
            source: None,
        };
        Self { inner: Box::new(inner) }
    }

    pub(crate) fn options(message: impl Into<String>) -> Self {
        Self::new(Origin::Options, Code::InvalidArgument, message)
    }

    pub(crate) fn answer(message: impl Into<String>) -> Self {
        Self::new(Origin::Answer, Code::Internal, message)
    }

    pub(crate) fn deadline() -> Self {
        Self::new(Origin::Deadline, Code::DeadlineExceeded, "the caller's deadline passed")
    }

    pub(crate) fn silence() -> Self {
        Self::new(Origin::Silence, Code::Unavailable, "the server was silent for three heartbeats")
    }

    pub(crate) fn ended_early() -> Self {
        Self::new(Origin::EndedEarly, Code::Unavailable, "the stream ended before its end")
    }

    pub(crate) fn draining(retry_delay: Option<Duration>) -> Self {
        let mut error =
            Self::new(Origin::Server, Code::Unavailable, "the server is about to end the stream");
        error.inner.details.reason = DRAINING.to_owned();
        error.inner.details.retry_delay = retry_delay;
        error
    }

    pub(crate) fn other_epoch() -> Self {
        let mut error =
            Self::new(Origin::Server, Code::OutOfRange, "the log has another epoch by now");
        error.inner.details.reason = STREAM_EPOCH_MISMATCH.to_owned();
        error
    }

    /// The log isn't the one that the cursor counts in.
    pub(crate) fn is_other_epoch(&self) -> bool {
        self.reason() == STREAM_EPOCH_MISMATCH
    }

    /// The server said that it ends the stream in good order.
    pub(crate) fn is_draining(&self) -> bool {
        self.passes() && self.reason() == DRAINING
    }

    #[must_use]
    pub(crate) fn of(mut self, rpc: &'static str, tries: u32) -> Self {
        self.inner.rpc = rpc;
        self.inner.tries = tries;
        self
    }

    #[must_use]
    pub(crate) fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.inner.source = Some(source.into());
        self
    }
}

/// The reason of a server that is about to stop, or that ends a stream for its age.
const DRAINING: &str = "DRAINING";
/// The reason of a log that has another epoch than the request.
const STREAM_EPOCH_MISMATCH: &str = "STREAM_EPOCH_MISMATCH";

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let mut error = match origin(&status) {
            Origin::Deadline => Self::deadline(),
            Origin::Transport => Self::new(Origin::Transport, Code::Unavailable, story(&status)),
            _ => {
                let mut error = Self::new(Origin::Server, status.code(), status.message());
                error.inner.details = details(&status);
                error
            }
        };
        error.inner.source = Some(Box::new(status));
        error
    }
}

/// Tells the server's own words from what the transport makes up. Codes don't: a connection that is
/// cut gives UNKNOWN, CANCELLED, INTERNAL or RESOURCE_EXHAUSTED. What was read from the wire has no
/// source; what the transport made up has one, except for an answer that lacks its status, which is
/// a bare UNKNOWN. The server itself never answers without details.
fn origin(status: &Status) -> Origin {
    let mut causes = causes(status);
    if causes.clone().any(|cause| cause.is::<TimeoutExpired>()) {
        return Origin::Deadline;
    }
    let transport = causes.any(|cause| {
        cause.is::<tonic::ConnectError>()
            || cause.is::<tonic::transport::Error>()
            || cause.is::<hyper::Error>()
            || cause.is::<std::io::Error>()
    });
    let truncated = status.code() == Code::Unknown && status.details().is_empty();
    if transport || truncated { Origin::Transport } else { Origin::Server }
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn StdError + 'static)> + Clone {
    std::iter::successors(StdError::source(status), |cause| StdError::source(*cause))
}

/// The message of a status with those of its causes that add something.
fn story(status: &Status) -> String {
    let mut story = status.message().to_owned();
    for cause in causes(status).map(|cause| cause.to_string()) {
        if !story.contains(&cause) {
            story.push_str(": ");
            story.push_str(&cause);
        }
    }
    story
}

fn details(status: &Status) -> Details {
    let details = status.get_error_details();
    let info = details.error_info();
    let violation = |subject: &String, description: &String| Violation {
        subject: subject.clone(),
        description: description.clone(),
    };
    Details {
        reason: info.map_or_else(String::new, |info| info.reason.clone()),
        metadata: info.map_or_else(HashMap::new, |info| info.metadata.clone()),
        fields: details.bad_request().map_or_else(Vec::new, |bad| {
            bad.field_violations.iter().map(|v| violation(&v.field, &v.description)).collect()
        }),
        preconditions: details.precondition_failure().map_or_else(Vec::new, |failure| {
            failure.violations.iter().map(|v| violation(&v.subject, &v.description)).collect()
        }),
        quotas: details.quota_failure().map_or_else(Vec::new, |failure| {
            failure.violations.iter().map(|v| violation(&v.subject, &v.description)).collect()
        }),
        retry_delay: details.retry_info().and_then(|info| info.retry_delay),
        resource: details.resource_info().map(|info| Resource {
            kind: info.resource_type.clone(),
            name: info.resource_name.clone(),
            description: info.description.clone(),
        }),
        request_id: details.request_info().map_or_else(String::new, |info| info.request_id.clone()),
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let source = self.inner.source.as_deref();
        source.map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, FieldViolation};

    use super::*;

    #[test]
    fn says_what_happened_and_what_to_do() {
        let mut details = ErrorDetails::new();
        details.set_error_info("INVALID_FIELD", "callpark", HashMap::new());
        details.set_bad_request(vec![FieldViolation::new("tool", "is required")]);
        let status = Status::with_error_details(Code::InvalidArgument, "1 bad field", details);
        let error = Error::from(status).of("ToolRunner.RunTool", 1);
        assert_eq!(
            error.to_string(),
            "ToolRunner.RunTool: 1 bad field (INVALID_ARGUMENT, INVALID_FIELD); tool: is required. \
             Correct the request."
        );
        assert_eq!(error.origin(), Origin::Server);
        assert!(!error.retryable());
    }

    #[test]
    fn a_rate_limit_is_retryable_but_not_by_the_client() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(2)));
        let error =
            Error::from(Status::with_error_details(Code::ResourceExhausted, "slow down", details));
        assert!(error.retryable());
        assert!(!error.passes());
        assert!(error.to_string().ends_with("The server asks to wait for 2s."), "{error}");
    }

    #[test]
    fn the_words_of_a_message_decide_nothing() {
        for code in [Code::Internal, Code::Cancelled, Code::ResourceExhausted] {
            let error = Error::from(Status::new(code, "h2 protocol error: connection reset"));
            assert_eq!((error.origin(), error.code()), (Origin::Server, code));
            assert!(!error.passes());
        }
    }

    #[test]
    fn what_the_transport_makes_up_is_a_cut() {
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let error = Error::from(Status::from_error(Box::new(reset)));
        assert_eq!((error.origin(), error.code()), (Origin::Transport, Code::Unavailable));
        assert!(error.passes());
    }

    #[test]
    fn an_answer_without_its_status_is_a_cut() {
        assert_eq!(Error::from(Status::unknown("")).origin(), Origin::Transport);
        let details = ErrorDetails::with_error_info("REASON", "callpark", HashMap::new());
        let said = Status::with_error_details(Code::Unknown, "", details);
        assert_eq!(Error::from(said).origin(), Origin::Server);
    }

    #[test]
    fn an_expired_timeout_is_the_callers_deadline() {
        let error = Error::from(Status::from_error(Box::new(TimeoutExpired(()))));
        assert_eq!((error.origin(), error.code()), (Origin::Deadline, Code::DeadlineExceeded));
        assert!(!error.passes());
    }
}
