//! Events as they are stored: output is read back as it was written, other events are none, and
//! bytes that are no event are refused.

#![no_main]

use std::time::Duration;

use bytes::Bytes;
use callpark::model::{
    CallAccepted, CallFinished, CallId, Content, ContentKind, EndReason, Event, EventCodec, Exit, Failure,
    FailureCode, Origin, Outcome, OutputPosition, OutputStream, ParkReason, Payload, Progress, SessionId,
    State, Timestamp, ToolKind, ToolOutput, ToolResult,
};
use callpark::internals::rpc::WireCodec;
use callpark_proto::v1;
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

fn output(input: &mut Unstructured) -> Result<ToolOutput> {
    let streams = [OutputStream::Stdout, OutputStream::Stderr];
    // The wire counts in signed numbers.
    let mut offset = || Ok(input.arbitrary::<u64>()? >> 1);
    let (offset, combined_offset, dropped_bytes_before) = (offset()?, offset()?, offset()?);
    let stream = *input.choose(&streams)?;
    let position = OutputPosition { stream, offset, combined_offset, dropped_bytes_before };
    Ok(ToolOutput { position, data: Bytes::from(input.arbitrary::<Vec<u8>>()?) })
}

fn accepted(input: &mut Unstructured) -> Result<CallAccepted> {
    Ok(CallAccepted {
        tool: input.arbitrary()?,
        kind: ToolKind::Command,
        description: input.arbitrary()?,
        arguments: serde_json::from_slice(input.arbitrary()?).ok(),
        arguments_omitted_bytes: input.arbitrary()?,
        stdin_bytes: input.arbitrary()?,
        background: input.arbitrary()?,
        call_budget: input.arbitrary()?,
        execution_timeout: input.arbitrary()?,
        idle_timeout: input.arbitrary()?,
    })
}

fn content(input: &mut Unstructured) -> Result<Content> {
    let media_type = input.arbitrary()?;
    let data = Bytes::from(input.arbitrary::<Vec<u8>>()?);
    let kind = match input.int_in_range(0..=3)? {
        0 => ContentKind::Text(media_type),
        1 => ContentKind::Json(serde_json::from_slice(&data).unwrap_or_default()),
        2 => ContentKind::Image { media_type, data },
        _ => ContentKind::Binary { media_type, data },
    };
    Ok(Content { kind, stream: None, offset: input.arbitrary()? })
}

fn outcome(input: &mut Unstructured) -> Result<Outcome> {
    if input.arbitrary()? {
        let message = input.arbitrary()?;
        return Ok(Outcome::Failure(Failure { code: FailureCode::HostLost, message }));
    }
    let exit = match input.int_in_range(0..=2)? {
        0 => None,
        1 => Some(Exit::Code(input.arbitrary()?)),
        _ => Some(Exit::Signal(input.arbitrary()?)),
    };
    Ok(Outcome::Result(ToolResult {
        content: vec![content(input)?],
        is_error: input.arbitrary()?,
        exit,
        error_message: input.arbitrary()?,
        start_time: Some(Timestamp::from_micros(input.arbitrary()?)),
        end_time: Timestamp::from_micros(input.arbitrary()?),
        ..ToolResult::default()
    }))
}

fn finished(input: &mut Unstructured) -> Result<CallFinished> {
    Ok(CallFinished {
        author: Origin::Tool,
        state: *input.choose(&[State::Succeeded, State::Failed, State::Lost])?,
        reason: input.arbitrary()?,
        outcome: outcome(input)?,
        background: input.arbitrary()?,
        elapsed: input.arbitrary()?,
        end_reason: *input.choose(&[EndReason::Completed, EndReason::Signal, EndReason::ServerLost])?,
    })
}

fn parked(input: &mut Unstructured) -> Result<Payload> {
    let reasons = [ParkReason::Budget, ParkReason::Deadline, ParkReason::BackgroundStart];
    let call_budget: Option<Duration> = input.arbitrary()?;
    Ok(Payload::ToolCallParked {
        tool: input.arbitrary()?,
        reason: *input.choose(&reasons)?,
        call_budget,
    })
}

fn payload(input: &mut Unstructured) -> Result<Payload> {
    Ok(match input.int_in_range(0..=7)? {
        0 => Payload::ToolCallAccepted(Box::new(accepted(input)?)),
        1 => Payload::ToolProgress(Progress {
            done: input.arbitrary()?,
            total: input.arbitrary()?,
            message: input.arbitrary()?,
        }),
        2 => parked(input)?,
        3 => Payload::ToolCallCancelling {
            requested_by: input.arbitrary()?,
            reason: input.arbitrary()?,
            force: input.arbitrary()?,
            evicted: input.arbitrary()?,
        },
        4 => Payload::ToolCallFinished(Box::new(finished(input)?)),
        5 => Payload::SessionShutdown {
            reason: input.arbitrary()?,
            cancelled_tasks: input.arbitrary()?,
        },
        6 => Payload::ToolCallStarted { tool: input.arbitrary()?, kind: ToolKind::Command },
        _ => Payload::ToolOutput(output(input)?),
    })
}

fn event(input: &mut Unstructured) -> Result<Event> {
    let call_id = input.arbitrary::<Option<[u8; 16]>>()?.map(CallId::from_bytes);
    Ok(Event {
        session_id: SessionId::from_bytes(input.arbitrary()?),
        sequence: input.arbitrary::<u64>()? >> 1,
        create_time: Timestamp::from_micros(input.arbitrary()?),
        turn_id: None,
        call_id,
        attempt: input.arbitrary()?,
        payload: payload(input)?,
    })
}

fn check(event: &Event) {
    let bytes = WireCodec.encode(event, "epoch");
    let sent = v1::SessionEvent::decode(bytes.clone()).expect("clients can read it");
    assert_eq!(sent.sequence.cast_unsigned(), event.sequence);
    assert_eq!(sent.session_id, event.session_id.to_string());
    assert!(sent.payload.is_some() && sent.create_time.is_some(), "{sent:?}");
    let read = WireCodec.decode_output(event.sequence, &bytes).expect("an event of ours");
    match &event.payload {
        Payload::ToolOutput(output) => assert_eq!(read.as_ref(), Some(output)),
        _ => assert_eq!(read, None),
    }
}

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(Some(output)) = WireCodec.decode_output(1, &bytes) {
        // What could be read at all is written so that it reads the same.
        let (session_id, create_time) = (SessionId::from_bytes([7; 16]), Timestamp::default());
        let payload = Payload::ToolOutput(output);
        let (turn_id, call_id) = (None, None);
        check(&Event {
            session_id,
            sequence: 1,
            create_time,
            turn_id,
            call_id,
            attempt: 1,
            payload,
        });
    }
    if let Ok(event) = event(&mut Unstructured::new(data)) {
        check(&event);
    }
});
