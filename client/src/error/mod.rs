//! Errors of calls and streams.

mod details;
mod display;
mod reason;
mod status;

use std::{error::Error as StdError, time::Duration};

use tonic::Code;

use crate::transport::fault::{ConnectFault, Ended, Unreachable};

pub use details::{Details, EndpointFailure, Resource, Violation};
pub use reason::Reason;

/// The longest delay that a proxy may ask for and that the client waits. After a longer one the
/// request fails.
const PROXY_DELAY_MAX: Duration = Duration::from_secs(60);

/// The error of a call or a stream.
///
/// [`Display`](std::fmt::Display) prints one line: what happened and what to do about it. A program
/// decides by [`origin`](Self::origin), [`code`](Self::code) and [`reason`](Self::reason).
///
/// ```no_run
/// use callpark_client::{Client, ClientOptions, Error, Reason};
///
/// # async fn show(client: Client) -> Result<(), Error> {
/// match client.tasks().get("bg-0123456789abcdef0123456789abcdef").await {
///     Ok(task) => println!("{:?}", task.state()),
///     Err(error) if error.reason() == Some(&Reason::TaskNotFound) => println!("no such task"),
///     Err(error) => return Err(error),
/// }
/// # Ok(())
/// # }
/// ```
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    rpc: &'static str,
    origin: Origin,
    code: Code,
    message: String,
    details: Details,
    attempts: u32,
    endpoints: Vec<EndpointFailure>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The origin of an error.
///
/// ```
/// use callpark_client::{Client, ClientOptions, Origin};
///
/// let error = Client::new(ClientOptions::new("localhost")).unwrap_err();
/// assert_eq!(error.origin(), Origin::Options);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// The server returned the error.
    Server,
    /// A proxy, or another program at the endpoint, answered in HTTP but not in gRPC.
    Proxy,
    /// The connection could not be opened or was interrupted.
    Transport,
    /// A stream was silent for three heartbeats.
    Silence,
    /// A stream ended with OK before it was complete.
    EndedEarly,
    /// The deadline of the caller passed.
    Deadline,
    /// The token could not be obtained.
    Token,
    /// The options of the client are invalid.
    Options,
    /// The request is invalid and was not sent.
    Request,
    /// The answer of the server violates the contract.
    Answer,
}

impl Error {
    /// Returns the RPC, as `Service.Method`; empty if the error does not belong to one.
    pub fn rpc(&self) -> &'static str {
        self.inner.rpc
    }

    /// Returns the origin of the error.
    pub fn origin(&self) -> Origin {
        self.inner.origin
    }

    /// Returns the gRPC code: that of the server for [`Origin::Server`], the one that gRPC assigns to
    /// the HTTP status for [`Origin::Proxy`], otherwise UNAVAILABLE for an interruption, DEADLINE_EXCEEDED, UNAUTHENTICATED for a token, INVALID_ARGUMENT for options and
    /// requests, and INTERNAL for an answer that violates the contract.
    pub fn code(&self) -> Code {
        self.inner.code
    }

    /// Returns the stable reason, or `None` if the error does not come from the server.
    pub fn reason(&self) -> Option<&Reason> {
        self.inner.details.reason.as_ref()
    }

    /// Returns the message alone, without the RPC, the code and the remedy.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// Returns the typed details of the server's answer.
    pub fn details(&self) -> &Details {
        &self.inner.details
    }

    /// Returns a value that belongs to the reason, such as `session_id` for `SESSION_NOT_FOUND`, or
    /// `None` if the server gave none. [`v1::ErrorReason`](crate::v1::ErrorReason) lists the keys.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.inner.details.metadata.get(key).map(String::as_str)
    }

    /// Returns the invalid fields of the request.
    pub fn field_violations(&self) -> &[Violation] {
        &self.inner.details.fields
    }

    /// Returns the time to wait before the next attempt, or `None` if the server asks for none.
    pub fn retry_delay(&self) -> Option<Duration> {
        self.inner.details.retry_delay
    }

    /// Returns the resource that was not found.
    pub fn resource(&self) -> Option<&Resource> {
        self.inner.details.resource.as_ref()
    }

    /// Returns `true` if the same request may succeed later: after an interruption, after
    /// UNAVAILABLE, and wherever the server asks for a delay.
    pub fn retryable(&self) -> bool {
        self.is_transient() || self.retry_delay().is_some()
    }

    /// Returns the reason why the connection is of no use, such as a certificate that is not trusted, or
    /// `None` if there is no such reason.
    pub fn connect_fault(&self) -> Option<&ConnectFault> {
        if self.inner.origin != Origin::Transport {
            return None;
        }
        self.causes().find_map(|cause| cause.downcast_ref())
    }

    /// Returns the number of attempts. 0: the request was never sent.
    pub fn attempts(&self) -> u32 {
        self.inner.attempts
    }

    /// Returns the failures of the endpoints, at most eight, if the client has several and none of its
    /// attempts succeeded: the newest failure of this call at each of them, or of connecting to it.
    pub fn endpoint_failures(&self) -> &[EndpointFailure] {
        &self.inner.endpoints
    }

    /// Returns `true` if the client itself sends the request again.
    pub(crate) fn is_transient(&self) -> bool {
        match self.inner.origin {
            Origin::Transport | Origin::Silence | Origin::EndedEarly => true,
            Origin::Server => self.inner.code == Code::Unavailable,
            Origin::Proxy => {
                let delay = self.retry_delay().unwrap_or_default();
                self.inner.code == Code::Unavailable && delay <= PROXY_DELAY_MAX
            }
            Origin::Deadline
            | Origin::Token
            | Origin::Options
            | Origin::Request
            | Origin::Answer => false,
        }
    }

    /// Returns `true` if an open connection was interrupted, and `false` if it could not be opened or
    /// if the other end did not answer pings.
    pub(crate) fn was_connected(&self) -> bool {
        let is_unreachable = |cause: &(dyn StdError + 'static)| {
            cause.is::<tonic::ConnectError>()
                || cause.is::<ConnectFault>()
                || cause.is::<Unreachable>()
                || cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_timeout)
        };
        self.inner.origin == Origin::Transport && !self.causes().any(is_unreachable)
    }

    /// Returns `true` if the connection had ended before the request was sent.
    pub(crate) fn is_unsent(&self) -> bool {
        self.inner.origin == Origin::Transport && self.causes().any(has_ended)
    }

    /// Returns `true` if the request was certainly not processed, although a connection was open.
    pub(crate) fn is_unprocessed(&self) -> bool {
        let is_unprocessed = |cause: &(dyn StdError + 'static)| {
            has_ended(cause)
                || cause.is::<ConnectFault>()
                || cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
        };
        self.inner.origin == Origin::Transport && self.causes().any(is_unprocessed)
    }

    fn causes(&self) -> impl Iterator<Item = &(dyn StdError + 'static)> {
        let source = self.inner.source.as_deref().map(|source| source as &(dyn StdError + 'static));
        std::iter::successors(source, |cause| StdError::source(*cause))
    }

    pub(crate) fn new(origin: Origin, code: Code, message: impl Into<String>) -> Self {
        let inner = Inner {
            rpc: "",
            origin,
            code,
            message: message.into(),
            details: Details::default(),
            attempts: 0,
            endpoints: Vec::new(),
            source: None,
        };
        Self { inner: Box::new(inner) }
    }

    pub(crate) fn options(message: impl Into<String>) -> Self {
        Self::new(Origin::Options, Code::InvalidArgument, message)
    }

    pub(crate) fn request(message: impl Into<String>) -> Self {
        Self::new(Origin::Request, Code::InvalidArgument, message)
    }

    pub(crate) fn answer(message: impl Into<String>) -> Self {
        Self::new(Origin::Answer, Code::Internal, message)
    }

    pub(crate) fn deadline() -> Self {
        Self::new(Origin::Deadline, Code::DeadlineExceeded, "the deadline of the caller passed")
    }

    pub(crate) fn silence() -> Self {
        Self::new(Origin::Silence, Code::Unavailable, "the server was silent for three heartbeats")
    }

    pub(crate) fn ended_early() -> Self {
        Self::new(Origin::EndedEarly, Code::Unavailable, "the stream ended before it was complete")
    }

    pub(crate) fn draining(retry_delay: Option<Duration>) -> Self {
        let mut error =
            Self::new(Origin::Server, Code::Unavailable, "the server is about to end the stream");
        error.inner.details.reason = Some(Reason::Draining);
        error.inner.details.retry_delay = retry_delay;
        error
    }

    pub(crate) fn epoch_mismatch() -> Self {
        let mut error =
            Self::new(Origin::Server, Code::OutOfRange, "the log has been replaced by another one");
        error.inner.details.reason = Some(Reason::StreamEpochMismatch);
        error
    }

    /// Returns `true` if the log is not the one that the cursor belongs to.
    pub(crate) fn is_epoch_mismatch(&self) -> bool {
        self.reason() == Some(&Reason::StreamEpochMismatch)
    }

    /// Returns `true` if the server announced the end of the stream.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_transient() && self.reason() == Some(&Reason::Draining)
    }

    #[must_use]
    pub(crate) fn of(mut self, rpc: &'static str, attempts: u32) -> Self {
        self.inner.rpc = rpc;
        self.inner.attempts = attempts;
        self
    }

    #[must_use]
    pub(crate) fn at(mut self, endpoints: Vec<EndpointFailure>) -> Self {
        self.inner.endpoints = endpoints;
        self
    }

    #[must_use]
    pub(crate) fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.inner.source = Some(source.into());
        self
    }
}

fn has_ended(cause: &(dyn StdError + 'static)) -> bool {
    let connecting = cause.downcast_ref::<tonic::ConnectError>();
    cause.is::<Ended>() || connecting.is_some_and(|error| error.0.is::<Ended>())
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let source = self.inner.source.as_deref();
        source.map(|source| source as &(dyn StdError + 'static))
    }
}
