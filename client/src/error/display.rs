//! The text of an error.

use std::{error::Error as StdError, fmt};

use tonic::Code;

use crate::error::{EndpointFailure, Error, Origin, Violation};

/// The number of characters of a failure at one of several endpoints.
const FAILURE_CHARS_MAX: usize = 120;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.rpc().is_empty() {
            write!(f, "{}: ", self.rpc())?;
        }
        write!(f, "{} ({}", self.message(), name(self.code()))?;
        if let Some(reason) = self.reason() {
            write!(f, ", {reason}")?;
        }
        if self.attempts() > 1 {
            write!(f, ", {} attempts", self.attempts())?;
        }
        f.write_str(")")?;
        let details = self.details();
        let violations = [&details.fields, &details.preconditions, &details.quotas];
        for Violation { subject, description, .. } in violations.into_iter().flatten() {
            write!(f, "; {subject}: {description}")?;
        }
        if let Some(resource) = self.resource() {
            write!(f, "; {} {}", resource.kind, resource.name)?;
        }
        for EndpointFailure { endpoint, failure } in self.endpoint_failures() {
            write!(f, "; {endpoint}: {failure}")?;
        }
        f.write_str(". ")?;
        f.write_str(self.advice())?;
        if let Some(delay) = self.retry_delay() {
            write!(f, " The server asks to wait for {delay:?}.")?;
        }
        if !details.request_id.is_empty() {
            write!(f, " The server's log lists the request as {}.", details.request_id)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("rpc", &self.rpc())
            .field("origin", &self.origin())
            .field("code", &self.code())
            .field("message", &self.message())
            .field("details", self.details())
            .field("attempts", &self.attempts())
            .field("source", &self.source())
            .finish()
    }
}

impl Error {
    /// Returns the failure in one line, without the RPC and the remedy.
    pub(crate) fn failure_text(&self) -> String {
        let is_space = |c: char| c.is_whitespace() || c.is_control();
        let words = self.message().split(is_space).filter(|word| !word.is_empty());
        let mut text = words.collect::<Vec<_>>().join(" ");
        if let Some((end, _)) = text.char_indices().nth(FAILURE_CHARS_MAX - 1) {
            text.truncate(end);
            text.push('…');
        }
        match self.reason() {
            Some(reason) => format!("{text} ({reason})"),
            None => text,
        }
    }

    /// Returns what to do about the error.
    fn advice(&self) -> &'static str {
        match self.origin() {
            Origin::Server => self.advice_on_answer(),
            Origin::Proxy => self.advice_on_proxy(),
            Origin::Transport if self.connect_fault().is_some() => "Correct the options.",
            Origin::Transport => {
                "Check the endpoint and whether the server is running, then try again."
            }
            Origin::Silence | Origin::EndedEarly => {
                "Check the server, then resume the stream after the last sequence."
            }
            Origin::Deadline => "Ask for the state of the work, or set a longer deadline.",
            Origin::Token => "Check the source of the token.",
            Origin::Options => "Correct the options.",
            Origin::Request => "Correct the request.",
            Origin::Answer => "Use a client and a server of the same version.",
        }
    }

    fn advice_on_proxy(&self) -> &'static str {
        match self.code() {
            Code::Unavailable => {
                "Check whether the proxy reaches the server and waits long enough, then try again."
            }
            Code::Unauthenticated | Code::PermissionDenied => {
                "Use credentials that the proxy accepts."
            }
            _ => "Check the endpoint, and that the proxy passes gRPC on.",
        }
    }

    fn advice_on_answer(&self) -> &'static str {
        match self.code() {
            Code::InvalidArgument => "Correct the request.",
            Code::NotFound => "Check the id; the record may have expired.",
            Code::AlreadyExists => "Send different content with a new request_id.",
            Code::PermissionDenied => "Use credentials with the required permission.",
            Code::Unauthenticated => "Provide a valid token or API key.",
            Code::ResourceExhausted => "Wait until there is capacity, then try again.",
            Code::FailedPrecondition => "Bring the session or task into the required state first.",
            Code::Aborted => "Wait until the session is free, then try again.",
            Code::OutOfRange => "Start again from an event that the server still keeps.",
            Code::Unimplemented => "Use a server that offers this operation.",
            Code::DeadlineExceeded => "Ask for the state of the work, or set a longer deadline.",
            Code::Unavailable => "Try again later.",
            Code::Ok | Code::Cancelled => "Try again.",
            Code::Unknown | Code::Internal | Code::DataLoss => "Check the server's log.",
        }
    }
}

/// Returns a code as the contract writes it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
