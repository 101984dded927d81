//! The conversion of a gRPC status into an [`Error`].

use std::error::Error as StdError;

use tonic::{Code, Status, TimeoutExpired};

use super::{Error, Origin, details::details};
use crate::transport::{
    fault::{ConnectFault, Unreachable},
    http_answer::HttpAnswer,
};

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let mut error = match origin(&status) {
            Origin::Deadline => Self::deadline(),
            Origin::Proxy => {
                let mut error = Self::new(Origin::Proxy, status.code(), status.message());
                let answer = causes(&status).find_map(|cause| cause.downcast_ref::<HttpAnswer>());
                error.inner.details.retry_delay = answer.and_then(|answer| answer.retry_delay);
                error
            }
            Origin::Transport => {
                Self::new(Origin::Transport, Code::Unavailable, message_with_causes(&status))
            }
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

/// Distinguishes an answer of the server from a failure of the transport.
///
/// The code does not: an interrupted connection results in UNKNOWN, CANCELLED, INTERNAL or
/// RESOURCE_EXHAUSTED. A status that was read from the wire has no source. One that the transport
/// created has a source, except for an answer that lacks its status, which is a bare UNKNOWN. The
/// server itself never answers without details.
fn origin(status: &Status) -> Origin {
    let mut causes = causes(status);
    if causes.clone().any(|cause| cause.is::<TimeoutExpired>()) {
        return Origin::Deadline;
    }
    if causes.clone().any(|cause| cause.is::<HttpAnswer>()) {
        return Origin::Proxy;
    }
    let transport = causes.any(|cause| {
        cause.is::<tonic::ConnectError>()
            || cause.is::<ConnectFault>()
            || cause.is::<Unreachable>()
            || cause.is::<tonic::transport::Error>()
            || cause.is::<hyper::Error>()
            || cause.is::<std::io::Error>()
    });
    let lacks_status = status.code() == Code::Unknown && status.details().is_empty();
    if transport || lacks_status { Origin::Transport } else { Origin::Server }
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn StdError + 'static)> + Clone {
    std::iter::successors(StdError::source(status), |cause| StdError::source(*cause))
}

/// Joins the message of a status with those of its causes that add something.
fn message_with_causes(status: &Status) -> String {
    let mut message = status.message().to_owned();
    for cause in causes(status).map(|cause| cause.to_string()) {
        if !message.contains(&cause) {
            message.push_str(": ");
            message.push_str(&cause);
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

    use super::*;

    #[test]
    fn display_shows_the_problem_and_the_remedy() {
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
        assert!(!error.is_transient());
        assert!(error.to_string().ends_with("The server asks to wait for 2s."), "{error}");
    }

    #[test]
    fn the_wording_of_a_message_decides_nothing() {
        for code in [Code::Internal, Code::Cancelled, Code::ResourceExhausted] {
            let error = Error::from(Status::new(code, "h2 protocol error: connection reset"));
            assert_eq!((error.origin(), error.code()), (Origin::Server, code));
            assert!(!error.is_transient());
        }
    }

    #[test]
    fn a_status_of_the_transport_is_an_interruption() {
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let error = Error::from(Status::from_error(Box::new(reset)));
        assert_eq!((error.origin(), error.code()), (Origin::Transport, Code::Unavailable));
        assert!(error.is_transient());
    }

    #[test]
    fn an_answer_without_its_status_is_an_interruption() {
        assert_eq!(Error::from(Status::unknown("")).origin(), Origin::Transport);
        let details = ErrorDetails::with_error_info("REASON", "callpark", HashMap::new());
        let answered = Status::with_error_details(Code::Unknown, "", details);
        assert_eq!(Error::from(answered).origin(), Origin::Server);
    }

    #[test]
    fn an_expired_timeout_is_the_deadline_of_the_caller() {
        let error = Error::from(Status::from_error(Box::new(TimeoutExpired(()))));
        assert_eq!((error.origin(), error.code()), (Origin::Deadline, Code::DeadlineExceeded));
        assert!(!error.is_transient());
    }
}
