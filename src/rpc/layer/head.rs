//! Names in the heads of requests and answers.

/// The header with the id of a request in the logs. The server generates one if the caller sends
/// none.
pub(super) const REQUEST_ID: &str = "x-request-id";

/// The prefix of the content type of every gRPC request.
pub(super) const GRPC_CONTENT_TYPE: &[u8] = b"application/grpc";
