//! The encoding of events. An event is encoded once, when it is stored.

use bytes::Bytes;
use callpark_proto::v1::{self, session_event::Payload as WirePayload};
use prost::Message as _;

use super::json::map_from_struct;
use super::task::{failure, park_reason, park_reason_from_wire, progress, state};
use super::tool::{end_reason, kind, signed, stream};
use super::{FieldReader, duration, struct_from_map, timestamp, tool_result};
use super::{follow_up, turn};
use crate::agent::prompts;
use crate::model::limits::EVENT_BYTES_MAX;
use crate::model::{
    CallAccepted, CallFinished, CallId, Event, EventCodec, EventCorrupt, IdError, Outcome,
    OutputPosition, OutputStream, ParkReason, Payload, StoredAcceptance, ToolOutput, TurnId,
};

/// Encodes events as `callpark.v1.SessionEvent`, so that the stored bytes are the sent bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct WireCodec;

impl EventCodec for WireCodec {
    fn encode(&self, event: &Event, stream_epoch: &str) -> Bytes {
        let event = v1::SessionEvent {
            session_id: event.session_id.to_string(),
            stream_epoch: stream_epoch.to_owned(),
            sequence: signed(event.sequence),
            create_time: Some(timestamp(event.create_time)),
            turn_id: event.turn_id.map(|id| id.to_string()).unwrap_or_default(),
            call_id: event.call_id.map(|id| id.to_string()).unwrap_or_default(),
            attempt: i32::try_from(event.attempt).unwrap_or(i32::MAX),
            payload: Some(payload(event.call_id, &event.payload)),
        };
        bounded(event).encode_to_vec().into()
    }

    /// Appends the field: of several values of a field, a decoder takes the last.
    fn with_epoch(&self, bytes: &Bytes, stream_epoch: &str) -> Bytes {
        let epoch =
            v1::SessionEvent { stream_epoch: stream_epoch.to_owned(), ..Default::default() };
        let mut event = bytes.to_vec();
        // A vector has room for it.
        let _ = epoch.encode(&mut event);
        event.into()
    }

    fn decode_output(
        &self,
        sequence: u64,
        bytes: &Bytes,
    ) -> Result<Option<ToolOutput>, EventCorrupt> {
        let corrupt = |cause: String| EventCorrupt { sequence, cause };
        // Decoding from `Bytes` shares its memory.
        let event =
            v1::SessionEvent::decode(bytes.clone()).map_err(|error| corrupt(error.to_string()))?;
        let Some(WirePayload::ToolOutput(output)) = event.payload else { return Ok(None) };
        let stream = match output.stream() {
            v1::OutputStream::Stdout => OutputStream::Stdout,
            v1::OutputStream::Stderr => OutputStream::Stderr,
            other => return Err(corrupt(format!("output of stream {}", other.as_str_name()))),
        };
        let unsigned =
            |number: i64| u64::try_from(number).map_err(|_| corrupt("an offset below zero".into()));
        let position = OutputPosition {
            stream,
            offset: unsigned(output.offset)?,
            combined_offset: unsigned(output.combined_offset)?,
            dropped_bytes_before: unsigned(output.dropped_bytes_before)?,
        };
        Ok(Some(ToolOutput { position, data: output.data }))
    }

    fn decode_parked(
        &self,
        sequence: u64,
        bytes: &[u8],
    ) -> Result<Option<(CallId, ParkReason)>, EventCorrupt> {
        let corrupt = |cause: String| EventCorrupt { sequence, cause };
        let header = Header::decode(bytes).map_err(|error| corrupt(error.to_string()))?;
        let Some(parked) = header.tool_call_parked else { return Ok(None) };
        let reason = park_reason_from_wire(parked.reason());
        let call_id =
            header.call_id.parse().map_err(|error: IdError| corrupt(error.to_string()))?;
        Ok(reason.map(|reason| (call_id, reason)))
    }

    fn decode_accepted(
        &self,
        sequence: u64,
        bytes: &[u8],
    ) -> Result<Option<StoredAcceptance>, EventCorrupt> {
        let corrupt = |cause: String| EventCorrupt { sequence, cause };
        let event = v1::SessionEvent::decode(bytes).map_err(|error| corrupt(error.to_string()))?;
        let Some(WirePayload::ToolCallAccepted(accepted)) = event.payload else { return Ok(None) };
        let mut fields = FieldReader::default();
        let arguments = accepted.arguments.unwrap_or_default();
        let arguments = map_from_struct(&mut fields, "arguments", arguments);
        let arguments = fields
            .finish(arguments)
            .map_err(|_| corrupt("arguments that JSON cannot represent".into()))?;
        Ok(Some(StoredAcceptance {
            arguments: (accepted.arguments_omitted_bytes == 0).then_some(arguments),
            stdin_bytes: u64::try_from(accepted.stdin_bytes).unwrap_or(0),
        }))
    }

    fn decode_turn(&self, sequence: u64, bytes: &[u8]) -> Result<Option<TurnId>, EventCorrupt> {
        let corrupt = |cause: String| EventCorrupt { sequence, cause };
        let header = Header::decode(bytes).map_err(|error| corrupt(error.to_string()))?;
        match header.turn_id.as_str() {
            "" => Ok(None),
            id => id.parse().map(Some).map_err(|error: IdError| corrupt(error.to_string())),
        }
    }
}

/// The fields of a stored event that assign it to a call or a turn. The others are not decoded.
#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(string, tag = "5")]
    turn_id: String,
    #[prost(string, tag = "6")]
    call_id: String,
    #[prost(message, optional, tag = "28")]
    tool_call_parked: Option<v1::ToolCallParked>,
}

/// The size of an encoded result in an event, in bytes. The rest of an event is much smaller.
const EVENT_RESULT_BYTES_MAX: usize = EVENT_BYTES_MAX - 32 * 1024;

/// Removes arguments or results from an event that is larger than an event may be. They can take
/// several times as many bytes in this encoding as in JSON.
fn bounded(mut event: v1::SessionEvent) -> v1::SessionEvent {
    if event.encoded_len() <= EVENT_BYTES_MAX {
        return event;
    }
    match &mut event.payload {
        Some(WirePayload::ToolCallAccepted(call)) => {
            if let Some(arguments) = call.arguments.take() {
                call.arguments_omitted_bytes = signed(arguments.encoded_len() as u64);
            }
        }
        Some(WirePayload::ToolCallFinished(call)) => {
            if let Some(v1::tool_call_finished::Outcome::Result(result)) = &mut call.outcome {
                result.output.get_or_insert_default().inline_truncated = true;
                result.structured = None;
                if result.encoded_len() > EVENT_RESULT_BYTES_MAX {
                    result.content.clear();
                }
            }
        }
        _ => {}
    }
    event
}

fn payload(call_id: Option<CallId>, payload: &Payload) -> WirePayload {
    let background_id = || call_id.map(|id| id.background()).unwrap_or_default();
    match payload {
        Payload::ToolCallAccepted(call) => WirePayload::ToolCallAccepted(Box::new(accepted(call))),
        Payload::ToolCallStarted { tool, kind: tool_kind } => {
            let kind = kind(*tool_kind).into();
            WirePayload::ToolCallStarted(v1::ToolCallStarted { tool: tool.clone(), kind })
        }
        Payload::ToolOutput(output) => WirePayload::ToolOutput(tool_output(output)),
        Payload::ToolProgress(report) => {
            WirePayload::ToolProgress(v1::ToolProgress { progress: Some(progress(report.clone())) })
        }
        Payload::ToolOutputBlocked { cause } => {
            WirePayload::ToolOutputBlocked(v1::ToolOutputBlocked { cause: cause.clone() })
        }
        Payload::ToolCallParked { tool, reason, call_budget } => {
            let id = background_id();
            WirePayload::ToolCallParked(v1::ToolCallParked {
                message: prompts::parked_event_message(tool, &id, *reason, *call_budget),
                background_id: id,
                reason: park_reason(*reason).into(),
                call_budget: call_budget.map(duration),
            })
        }
        Payload::ToolCallCancelling { requested_by, reason, force, evicted } => {
            WirePayload::ToolCallCancelling(v1::ToolCallCancelling {
                requested_by: requested_by.clone(),
                reason: reason.clone(),
                force: *force,
                evicted: *evicted,
            })
        }
        Payload::ToolCallFinished(call) => {
            WirePayload::ToolCallFinished(Box::new(finished(call, background_id())))
        }
        Payload::SessionShutdown { reason, cancelled_tasks } => {
            WirePayload::SessionShutdown(v1::SessionShutdown {
                reason: reason.clone(),
                cancelled_tasks: i32::try_from(*cancelled_tasks).unwrap_or(i32::MAX),
            })
        }
        Payload::SessionUpdated { fields, requested_by } => {
            WirePayload::SessionUpdated(v1::SessionUpdated {
                update_paths: fields.iter().map(|field| (*field).to_owned()).collect(),
                requested_by: requested_by.clone(),
            })
        }
        Payload::TurnStarted { prompt, attachments, model, follow_ups, origin } => {
            turn::started(prompt, *attachments, model, follow_ups, *origin)
        }
        Payload::AssistantDelta(text) => turn::assistant_delta(text),
        Payload::ReasoningDelta(text) => turn::reasoning_delta(text),
        Payload::AssistantMessage(message) => turn::assistant_message(message),
        Payload::TurnRetrying { attempt, delay, error } => turn::retrying(*attempt, *delay, error),
        Payload::TurnResumed { resumption, attempt } => turn::resumed(*resumption, *attempt),
        Payload::HistoryCompacted(compaction) => turn::compacted(*compaction),
        Payload::UsageReported { usage, model } => turn::usage_reported(*usage, model),
        Payload::SessionIdle(ended) => WirePayload::SessionIdle(turn::idle(ended)),
        Payload::SessionError { error, unresolved } => {
            WirePayload::SessionError(turn::session_error(error, unresolved))
        }
        Payload::FollowUpScheduled => follow_up::scheduled(call_id),
        Payload::FollowUpStarted { attempt } => follow_up::started(call_id, *attempt),
        Payload::FollowUpFinished { attempt, state, error } => {
            follow_up::finished(call_id, *attempt, *state, error.as_ref())
        }
    }
}

fn accepted(call: &CallAccepted) -> v1::ToolCallAccepted {
    v1::ToolCallAccepted {
        tool: call.tool.clone(),
        kind: kind(call.kind).into(),
        description: call.description.clone(),
        arguments: call.arguments.clone().map(struct_from_map),
        arguments_omitted_bytes: signed(call.arguments_omitted_bytes),
        stdin_bytes: signed(call.stdin_bytes),
        call_budget: call.call_budget.map(duration),
        execution_timeout: call.execution_timeout.map(duration),
        idle_timeout: call.idle_timeout.map(duration),
        background: call.background,
    }
}

fn tool_output(output: &ToolOutput) -> v1::ToolOutput {
    let position = &output.position;
    v1::ToolOutput {
        stream: stream(position.stream).into(),
        offset: signed(position.offset),
        combined_offset: signed(position.combined_offset),
        dropped_bytes_before: signed(position.dropped_bytes_before),
        data: output.data.clone(),
    }
}

fn finished(call: &CallFinished, background_id: String) -> v1::ToolCallFinished {
    use v1::tool_call_finished::Outcome as WireOutcome;
    let outcome = match call.outcome.clone() {
        Outcome::Result(result) => {
            WireOutcome::Result(tool_result(result, call.author, Some(call.end_reason)))
        }
        Outcome::Failure(lost) => WireOutcome::Error(failure(lost)),
    };
    v1::ToolCallFinished {
        state: state(call.state).into(),
        reason: call.reason.clone(),
        outcome: Some(outcome),
        background_id: if call.background { background_id } else { String::new() },
        elapsed: call.elapsed.map(duration),
        end_reason: end_reason(Some(call.end_reason)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{SessionId, Timestamp};

    #[test]
    fn output_is_read_back_without_a_copy() {
        let output = ToolOutput {
            position: OutputPosition {
                stream: OutputStream::Stderr,
                offset: 7,
                combined_offset: 9,
                dropped_bytes_before: 2,
            },
            data: Bytes::from_static(b"\xff\0abc"),
        };
        let event = Event {
            session_id: SessionId::random(),
            sequence: 3,
            create_time: Timestamp::from_micros(1),
            turn_id: None,
            call_id: Some(CallId::random()),
            attempt: 1,
            payload: Payload::ToolOutput(output.clone()),
        };
        let bytes = WireCodec.encode(&event, "epoch");
        let decoded = WireCodec.decode_output(3, &bytes).expect("decodes").expect("is output");
        assert_eq!(decoded, output);
        let range = bytes.as_ptr_range();
        assert!(range.contains(&decoded.data.as_ptr()), "the data was copied");
    }
}
