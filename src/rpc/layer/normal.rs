//! Errors that don't come from a handler get the reason that every error has, and a caller's
//! mistake isn't called a defect of ours: tonic answers INTERNAL when a message can't be decoded,
//! and OUT_OF_RANGE when one is too large.

use http::Response;
use tonic::body::Body;
use tonic::{Code, Status};

use super::is_open;
use crate::rpc::convert::Invalid;
use crate::rpc::status::{invalid, status};

/// The same answer, with a reason if it is an error without one.
pub(super) fn normalise(method: &str, response: Response<Body>) -> Response<Body> {
    if is_open(&format!("/{method}")) {
        return response;
    }
    let Some(found) = Status::from_header_map(response.headers()) else { return response };
    if found.code() == Code::Ok || !found.details().is_empty() {
        return response;
    }
    let fault = |text: String| invalid(Invalid(vec![("request".into(), text)]));
    let told = match found.code() {
        Code::Internal => fault(format!("can't be decoded: {}", found.message())),
        Code::OutOfRange => fault(format!("is too large: {}", found.message())),
        Code::Unimplemented => {
            let message = format!("there is no method {method} here");
            status(Code::Unimplemented, "NOT_IMPLEMENTED", message)
        }
        Code::DeadlineExceeded => {
            status(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", found.message())
        }
        other => status(other, "TRANSPORT", found.message()),
    };
    told.into_http()
}
