//! Bodies of good requests.

use super::frames::message;
use crate::support::{bash, v1};

/// A message, as the body of a request.
pub fn of(request: &impl prost::Message) -> Vec<u8> {
    let content = request.encode_to_vec();
    message(0, u32::try_from(content.len()).expect("a length"), &content)
}

/// A call that is checked and not run.
pub fn dry_run() -> Vec<u8> {
    of(&v1::RunToolRequest { dry_run: true, ..bash("true") })
}
