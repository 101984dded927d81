//! Conversions of turns and their events.

use std::time::Duration;

use callpark_proto::google;
use callpark_proto::v1::{self, session_event::Payload as WirePayload};

use super::duration;
use super::task::usage;
use super::tool::{self, signed};
use crate::engine::TurnOutcome;
use crate::model::{
    AssistantMessage, CallId, Compaction, CompactionReason, ContentKind, Origin, Outcome,
    StopReason, TurnEnded, TurnError, Unresolved, Usage,
};
use crate::rpc::status::error_info;

pub(super) fn started(
    prompt: &str,
    attachments: usize,
    model: &str,
    follow_ups: &[CallId],
    origin: Origin,
) -> WirePayload {
    WirePayload::TurnStarted(v1::TurnStarted {
        prompt: prompt.to_owned(),
        attachments: i32::try_from(attachments).unwrap_or(i32::MAX),
        model: model.to_owned(),
        follow_up_ids: follow_ups.iter().map(CallId::follow_up).collect(),
        origin: tool::origin(origin).into(),
    })
}

pub(super) fn assistant_delta(text: &str) -> WirePayload {
    WirePayload::AssistantDelta(v1::AssistantDelta { text: text.to_owned() })
}

pub(super) fn reasoning_delta(text: &str) -> WirePayload {
    WirePayload::ReasoningDelta(v1::ReasoningDelta { text: text.to_owned() })
}

pub(super) fn assistant_message(message: &AssistantMessage) -> WirePayload {
    let AssistantMessage { text, call_ids, incomplete_call_ids, omitted_bytes } = message;
    let texts = |ids: &[CallId]| ids.iter().map(CallId::to_string).collect();
    WirePayload::AssistantMessage(v1::AssistantMessage {
        text: text.clone(),
        call_ids: texts(call_ids),
        text_omitted_bytes: signed(*omitted_bytes as u64),
        incomplete_call_ids: texts(incomplete_call_ids),
    })
}

pub(super) fn retrying(attempt: u32, delay: Duration, error: &TurnError) -> WirePayload {
    WirePayload::TurnRetrying(v1::TurnRetrying {
        attempt: i32::try_from(attempt).unwrap_or(i32::MAX),
        delay: Some(duration(delay)),
        error: Some(google::rpc::Status {
            code: tonic::Code::Unavailable.into(),
            message: error.message.clone(),
            details: vec![error_info(&error.code.to_uppercase())],
        }),
    })
}

pub(super) fn resumed(resumption: u32, attempt: u32) -> WirePayload {
    WirePayload::TurnResumed(v1::TurnResumed {
        resumption: i32::try_from(resumption).unwrap_or(i32::MAX),
        attempt: i32::try_from(attempt).unwrap_or(i32::MAX),
    })
}

pub(super) fn compacted(compaction: Compaction) -> WirePayload {
    let reason = match compaction.reason {
        CompactionReason::Limit => v1::CompactionReason::Limit,
        CompactionReason::Refused => v1::CompactionReason::Refused,
    };
    WirePayload::HistoryCompacted(v1::HistoryCompacted {
        reason: reason.into(),
        messages_omitted: signed(compaction.messages_omitted),
        results_shortened: i32::try_from(compaction.results_shortened).unwrap_or(i32::MAX),
        request_bytes_before: signed(compaction.request_bytes_before as u64),
        request_bytes_after: signed(compaction.request_bytes_after as u64),
    })
}

pub(super) fn usage_reported(used: Usage, model: &str) -> WirePayload {
    WirePayload::UsageReported(v1::UsageReported {
        usage: Some(usage(used)),
        model: model.to_owned(),
    })
}

pub(super) fn idle(ended: &TurnEnded) -> v1::SessionIdle {
    v1::SessionIdle {
        final_text: ended.final_text.clone(),
        stop_reason: stop_reason(ended.stop_reason).into(),
        usage: Some(usage(ended.usage)),
        running_background_ids: ended.running.iter().map(CallId::background).collect(),
        final_text_omitted_bytes: signed(ended.omitted_bytes as u64),
        history_messages_omitted: signed(ended.history_omitted),
    }
}

pub(super) fn session_error(error: &TurnError, unresolved: &[Unresolved]) -> v1::SessionError {
    let call = |call: &Unresolved| v1::UnresolvedCall {
        call_id: call.call_id.to_string(),
        tool: call.tool.clone(),
        background_id: if call.is_task { call.call_id.background() } else { String::new() },
    };
    v1::SessionError {
        code: error.code.clone(),
        message: error.message.clone(),
        retryable: error.retryable,
        unresolved_calls: unresolved.iter().map(call).collect(),
    }
}

fn stop_reason(reason: StopReason) -> v1::StopReason {
    match reason {
        StopReason::EndTurn => v1::StopReason::EndTurn,
        StopReason::MaxRounds => v1::StopReason::MaxRounds,
        StopReason::MaxTokens => v1::StopReason::MaxTokens,
        StopReason::Refusal => v1::StopReason::Refusal,
        StopReason::Cancelled => v1::StopReason::Cancelled,
        StopReason::BudgetUsedUp => v1::StopReason::BudgetUsedUp,
    }
}

/// Converts the result of a turn.
pub(crate) fn turn_result(outcome: TurnOutcome) -> v1::TurnResult {
    let TurnOutcome { call, stop, unresolved } = outcome;
    let end_reason = call.end_reason();
    let running =
        unresolved.iter().filter(|call| call.is_task).map(|call| call.call_id.background());
    let (reason, error) = match &stop {
        Ok(reason) => (stop_reason(*reason), None),
        Err(error) => (v1::StopReason::Unspecified, Some(session_error(error, &unresolved))),
    };
    let text = match call.outcome {
        Some(Outcome::Result(result)) => {
            result.content.into_iter().find_map(|content| match content.kind {
                ContentKind::Text(text) => Some(text),
                _ => None,
            })
        }
        _ => None,
    };
    v1::TurnResult {
        final_text: text.unwrap_or_default(),
        stop_reason: reason.into(),
        usage: Some(usage(call.usage.unwrap_or_default())),
        running_background_ids: running.collect(),
        error,
        end_reason: tool::end_reason(end_reason).into(),
    }
}
