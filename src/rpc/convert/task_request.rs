//! Requests about background tasks.

use std::time::Duration;

use callpark_proto::v1;
use tonic::Status;

use super::field::fingerprint;
use super::{FieldReader, ViolationReason};
use crate::engine::{CancelTask, OutputRead, OutputStart};
use crate::model::CallId;
use crate::model::limits::{
    CANCEL_WAIT_SECONDS_DEFAULT, GRACE_MS_MAX, READ_OUTPUT_BYTES_DEFAULT, READ_OUTPUT_BYTES_MAX,
    TEXT_BYTES_MAX, WAIT_MANY_TASKS_MAX, WAIT_SECONDS_DEFAULT, WAIT_SECONDS_MAX,
};
use crate::rpc::deadline::cap_wait;
use crate::store::OutputSelection;

pub(crate) fn background_id(text: &str) -> Result<CallId, Status> {
    let mut fields = FieldReader::default();
    let id = fields.background_id("background_id", text);
    fields.finish(id).map_err(Status::from)
}

pub(crate) fn wait_span(wait: Option<prost_types::Duration>) -> Duration {
    FieldReader::wait(wait, WAIT_SECONDS_DEFAULT, WAIT_SECONDS_MAX)
}

/// Reads the ids of a WaitMany and removes duplicates, in the order of the request.
pub(crate) fn many_ids(fields: &mut FieldReader, texts: &[String]) -> Vec<CallId> {
    if texts.is_empty() || texts.len() > WAIT_MANY_TASKS_MAX {
        let count = texts.len();
        let description = format!("must have 1 to {WAIT_MANY_TASKS_MAX} ids, but has {count}");
        fields.violation("background_ids", ViolationReason::OutOfRange, description);
        return Vec::new();
    }
    let mut ids = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let id = fields.background_id(&format!("background_ids[{index}]"), text);
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

pub(crate) fn cancel_request(
    mut request: v1::CancelRequest,
    answer_at: Option<tokio::time::Instant>,
) -> Result<CancelTask, Status> {
    let (request_id, digest) = fingerprint!("Cancel", request);
    let v1::CancelRequest { background_id, request_id: _, force, reason, dry_run, wait, grace } =
        request;
    let mut fields = FieldReader::default();
    let grace = fields.span("grace", grace);
    if grace.is_some_and(|grace| grace > Duration::from_millis(GRACE_MS_MAX)) {
        let description = format!("must be at most {} s", GRACE_MS_MAX / 1_000);
        fields.violation("grace", ViolationReason::OutOfRange, description);
    }
    let wait = FieldReader::wait(wait, CANCEL_WAIT_SECONDS_DEFAULT, WAIT_SECONDS_MAX);
    let cancel = CancelTask {
        id: fields.background_id("background_id", &background_id),
        request: fields.request_id("request_id", request_id, digest),
        force,
        reason: fields.text("reason", reason, TEXT_BYTES_MAX),
        grace,
        wait: cap_wait(wait, answer_at),
        dry_run,
    };
    fields.finish(cancel).map_err(Status::from)
}

pub(crate) fn output_request(request: v1::ReadOutputRequest) -> Result<OutputRead, Status> {
    use v1::read_output_request::Position;
    let v1::ReadOutputRequest { background_id, stream, position, max_bytes, wait } = request;
    let mut fields = FieldReader::default();
    let selection = match fields.choice::<v1::OutputStream>("stream", stream) {
        v1::OutputStream::Unspecified | v1::OutputStream::Combined => OutputSelection::Combined,
        v1::OutputStream::Stdout => OutputSelection::Stdout,
        v1::OutputStream::Stderr => OutputSelection::Stderr,
    };
    let start = match position {
        None => OutputStart::Offset(0),
        Some(Position::Offset(offset)) => OutputStart::Offset(fields.unsigned("offset", offset)),
        Some(Position::TailLines(lines)) => {
            if lines < 1 {
                fields.violation("tail_lines", ViolationReason::OutOfRange, "must be 1 or more");
            }
            OutputStart::TailLines(u32::try_from(lines).unwrap_or(1))
        }
    };
    let bytes_max = match fields.unsigned("max_bytes", max_bytes.into()) {
        0 => READ_OUTPUT_BYTES_DEFAULT,
        bytes => usize::try_from(bytes).unwrap_or(usize::MAX).min(READ_OUTPUT_BYTES_MAX),
    };
    let read = OutputRead {
        id: fields.call_id("background_id", &background_id),
        selection,
        start,
        bytes_max,
        wait: FieldReader::wait(wait, 0, WAIT_SECONDS_MAX),
    };
    fields.finish(read).map_err(Status::from)
}
