//! Reasons for errors that tonic itself returns. Some of its codes would mislead a caller: it
//! answers INTERNAL for a message that cannot be decoded, and OUT_OF_RANGE for one that is too
//! large.

use callpark_proto::v1::ErrorReason;
use http::Response;
use tonic::body::Body;
use tonic::{Code, Status};

use super::is_open;
use crate::model::limits::{ARGUMENTS_DEPTH_MAX, ERROR_NAME_BYTES_MAX, ERROR_TEXT_BYTES_MAX};
use crate::rpc::status::{ErrorStatus, status, truncate};

/// The header that names the compressions that the server supports.
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// Adds a reason to a response that is an error without one.
pub(super) fn add_reason(method: &str, response: Response<Body>) -> Response<Body> {
    if is_open(&format!("/{method}")) {
        return response;
    }
    let Some(found) = Status::from_header_map(response.headers()) else { return response };
    if found.code() == Code::Ok || !found.details().is_empty() {
        return response;
    }
    let mut explained = explain(method, &found).into_http();
    // This header lists the compressions that the client may use instead.
    if let Some(accepted) = response.headers().get(ACCEPT_ENCODING) {
        explained.headers_mut().insert(ACCEPT_ENCODING, accepted.clone());
    }
    explained
}

fn explain(method: &str, found: &Status) -> Status {
    match found.code() {
        Code::Internal => malformed(found.message()),
        Code::OutOfRange => too_large(found.message()),
        // The router's own error has no message; the others are about compression.
        Code::Unimplemented if found.message().is_empty() => {
            let method = truncate(method, ERROR_NAME_BYTES_MAX);
            let message = format!("the server has no method {method}");
            ErrorStatus::new(Code::Unimplemented, ErrorReason::UnknownMethod, message)
                .metadata("method", method)
                .into()
        }
        code @ Code::Unimplemented => {
            status(code, ErrorReason::UnsupportedEncoding, found.message())
        }
        Code::ResourceExhausted if found.message().contains("decompressing") => {
            too_large_decompressed(found.message())
        }
        code @ Code::DeadlineExceeded => {
            status(code, ErrorReason::DeadlineExceeded, found.message())
        }
        code @ Code::Cancelled => status(code, ErrorReason::Cancelled, found.message()),
        code => status(code, ErrorReason::Internal, found.message()),
    }
}

/// Takes both sizes from tonic's text: "decoded message length too large: found 5 bytes, the limit
/// is: 4 bytes".
fn too_large(cause: &str) -> Status {
    let mut numbers = cause.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
    let (size, limit) = (numbers.next(), numbers.next());
    let (Some(size), Some(limit)) = (size, limit) else {
        let message = format!("the request is too large: {cause}");
        return status(Code::ResourceExhausted, ErrorReason::MessageTooLarge, message);
    };
    let message = format!("the request has {size} bytes, and the server accepts {limit} at most");
    ErrorStatus::new(Code::ResourceExhausted, ErrorReason::MessageTooLarge, message)
        .metadata("size_bytes", size)
        .metadata("limit_bytes", limit)
        .into()
}

/// Takes the limit from tonic's text: "Error decompressing: size limit, of 4 bytes, exceeded while
/// decompressing message". It stops there, so that the size is not known.
fn too_large_decompressed(cause: &str) -> Status {
    let mut numbers = cause.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
    let limit = numbers.next().unwrap_or("?");
    let message =
        format!("the request is too large: the server accepts {limit} bytes, decompressed");
    ErrorStatus::new(Code::ResourceExhausted, ErrorReason::MessageTooLarge, message)
        .metadata("limit_bytes", limit)
        .into()
}

/// Returns the error for a message that cannot be decoded. The cause is at the end of tonic's text,
/// after a path that can be long.
fn malformed(cause: &str) -> Status {
    let message = if cause.ends_with("recursion limit reached") {
        format!(
            "the request is nested too deep: arguments may be {ARGUMENTS_DEPTH_MAX} levels deep"
        )
    } else {
        let start = cause.ceil_char_boundary(cause.len().saturating_sub(ERROR_TEXT_BYTES_MAX));
        let ellipsis = if start > 0 { "…" } else { "" };
        format!("the request cannot be decoded: {ellipsis}{}", &cause[start..])
    };
    status(Code::InvalidArgument, ErrorReason::MalformedMessage, message)
}
