//! Errors that don't come from a handler get the reason that every error has, and a caller's
//! mistake isn't called a defect of ours: tonic answers INTERNAL when a message can't be decoded,
//! and OUT_OF_RANGE when one is too large.

use http::Response;
use tonic::body::Body;
use tonic::{Code, Status};

use super::is_open;
use crate::model::limits::{ARGUMENTS_DEPTH_MAX, ERROR_NAME_BYTES_MAX, ERROR_TEXT_BYTES_MAX};
use crate::rpc::convert::Invalid;
use crate::rpc::status::{invalid, short, status};

/// The compressions that the server understands.
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// The same answer, with a reason if it is an error without one.
pub(super) fn normalise(method: &str, response: Response<Body>) -> Response<Body> {
    if is_open(&format!("/{method}")) {
        return response;
    }
    let Some(found) = Status::from_header_map(response.headers()) else { return response };
    if found.code() == Code::Ok || !found.details().is_empty() {
        return response;
    }
    let told = match found.code() {
        Code::Internal => fault(undecodable(found.message())),
        Code::OutOfRange => fault(format!("is too large: {}", found.message())),
        // The router's own has no message; the others are about compression.
        Code::Unimplemented if found.message().is_empty() => {
            let message =
                format!("there is no method {} here", short(method, ERROR_NAME_BYTES_MAX));
            status(Code::Unimplemented, "NOT_IMPLEMENTED", message)
        }
        Code::Unimplemented => status(Code::Unimplemented, "NOT_IMPLEMENTED", found.message()),
        Code::DeadlineExceeded => {
            status(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", found.message())
        }
        other => status(other, "TRANSPORT", found.message()),
    };
    let mut told = told.into_http();
    // What the client may send instead.
    if let Some(accepted) = response.headers().get(ACCEPT_ENCODING) {
        told.headers_mut().insert(ACCEPT_ENCODING, accepted.clone());
    }
    told
}

fn fault(text: String) -> Status {
    invalid(Invalid(vec![("request".into(), text)]))
}

/// The cause stands at the end, behind a path that can be long.
fn undecodable(cause: &str) -> String {
    if cause.ends_with("recursion limit reached") {
        return format!(
            "is nested too deep to be decoded: arguments may be {ARGUMENTS_DEPTH_MAX} levels deep"
        );
    }
    let room = ERROR_TEXT_BYTES_MAX - "can't be decoded: …".len();
    let start = cause.ceil_char_boundary(cause.len().saturating_sub(room));
    let cut = if start > 0 { "…" } else { "" };
    format!("can't be decoded: {cut}{}", &cause[start..])
}
