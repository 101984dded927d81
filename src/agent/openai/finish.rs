//! The reasons that endpoints give for the end of an answer.

use crate::agent::{FinishReason, ModelErrorCode};

/// The end of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finish {
    /// The answer is usable.
    Reason(FinishReason),
    /// The answer failed, with this reason in the endpoint's own words.
    Error(ModelErrorCode, String),
}

impl Finish {
    /// Reads a reason. An unknown one stands for a complete answer.
    pub(super) fn of(reason: &str) -> Self {
        let lower = reason.trim().to_ascii_lowercase();
        let contains = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        let code = if contains(&["quota"]) {
            ModelErrorCode::QuotaExhausted
        } else if contains(&["rate_limit", "ratelimit"]) {
            ModelErrorCode::RateLimited
        } else if contains(&["malformed", "unexpected_tool_call", "too_many_tool_calls"]) {
            ModelErrorCode::Malformed
        } else if contains(&["timeout", "timed_out"]) {
            ModelErrorCode::Timeout
        } else if contains(ERRORS) {
            ModelErrorCode::Server
        } else if contains(LENGTHS) {
            return Self::Reason(FinishReason::Length);
        } else if contains(REFUSALS) || lower == "language" {
            return Self::Reason(FinishReason::Refused);
        } else {
            return Self::Reason(FinishReason::Done);
        };
        Self::Error(code, reason.trim().to_owned())
    }
}

const ERRORS: &[&str] = &[
    "error",
    "abort",
    "cancelled",
    "canceled",
    "insufficient_system_resource",
    "overloaded",
    "unavailable",
    "fail",
    "disconnect",
];
const LENGTHS: &[&str] = &["length", "max_tokens", "max_output_tokens", "context_window"];
const REFUSALS: &[&str] = &[
    "filter",
    "refus",
    "safety",
    "sensitive",
    "recitation",
    "prohibited",
    "blocklist",
    "blocked",
    "spii",
    "guardrail",
    "moderation",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_all_dialects_are_known() {
        use FinishReason::{Done, Length, Refused};
        for (reasons, finish) in [
            (
                &[
                    "stop",
                    "STOP",
                    "tool_calls",
                    "function_call",
                    "tool_use",
                    "end_turn",
                    "eos",
                    "novel",
                ][..],
                Done,
            ),
            (&["length", "MAX_TOKENS", "model_length", "model_context_window_exceeded"], Length),
            (
                &[
                    "content_filter",
                    "refusal",
                    "SAFETY",
                    "sensitive",
                    "RECITATION",
                    "PROHIBITED_CONTENT",
                ],
                Refused,
            ),
        ] {
            for reason in reasons {
                assert_eq!(Finish::of(reason), Finish::Reason(finish), "{reason}");
            }
        }
        for (reason, code) in [
            ("error", ModelErrorCode::Server),
            ("network_error", ModelErrorCode::Server),
            ("insufficient_system_resource", ModelErrorCode::Server),
            ("abort", ModelErrorCode::Server),
            ("timeout", ModelErrorCode::Timeout),
            ("function_call_filter: MALFORMED_FUNCTION_CALL", ModelErrorCode::Malformed),
            ("rate_limit", ModelErrorCode::RateLimited),
        ] {
            assert_eq!(Finish::of(reason), Finish::Error(code, reason.into()), "{reason}");
        }
    }
}
