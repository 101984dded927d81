//! The log of operations: one line at `info` for each park, cancel, eviction and end of a call, for each
//! follow-up that is given up, and, in `rejected_credentials`, for rejected credentials.
//! `docs/operating.md` has the fields.
//!
//! The lines name calls, sessions, tenants and reasons of a fixed set. They hold no arguments, no output and
//! no text that a caller, a tool or a model has written.

use std::time::Duration;

use crate::model::{
    Call, CallId, CancelCause, EndReason, FollowUp, FollowUpState, ParkReason, SessionId, State,
    Tenant, Timestamp,
};

/// The target of all lines, by which a filter chooses them.
pub(super) const TARGET: &str = module_path!();

/// A step in the life of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallStep {
    /// The call was parked.
    Parked(ParkReason),
    /// The call was asked to stop.
    Cancelling(CancelCause),
    /// The call ended.
    Ended {
        /// The terminal state.
        state: State,
        /// The reason for the end.
        reason: EndReason,
        /// The calls of a turn that had not ended when the turn failed.
        unresolved: Vec<CallId>,
    },
}

/// A line of the log about a call. It is made when the step is decided, and written once the step is
/// durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallOperation {
    call: CallId,
    session: SessionId,
    tenant: Tenant,
    tool: String,
    elapsed: Duration,
    step: CallStep,
}

impl CallOperation {
    /// Creates the line about a step of this call at `now`. A turn has the tool `agent`.
    pub fn new(call: &Call, step: CallStep, now: Timestamp) -> Self {
        let tool = if call.turn.is_some() { "agent" } else { &call.tool };
        Self {
            call: call.id,
            session: call.session_id,
            tenant: call.tenant.clone(),
            tool: tool.to_owned(),
            elapsed: call.elapsed(now),
            step,
        }
    }

    /// Writes the line.
    pub fn write(&self) {
        let Self { call, session, tenant, tool, elapsed, step } = self;
        let elapsed_millis = millis(*elapsed);
        macro_rules! line {
            ($message:literal, $reason:expr $(, $field:ident = $value:expr)*) => {
                tracing::info!(
                    %call, %session, %tenant, tool, reason = $reason.as_str(), elapsed_millis,
                    $($field = $value,)* $message
                )
            };
        }
        match step {
            CallStep::Parked(reason) => line!("a call was parked", reason),
            CallStep::Cancelling(CancelCause::Evicted) => {
                line!("a call was evicted", CancelCause::Evicted);
            }
            CallStep::Cancelling(cause) => line!("a call was cancelled", cause),
            CallStep::Ended { state, reason, unresolved } if unresolved.is_empty() => {
                line!("a call ended", reason, state = state.as_str());
            }
            CallStep::Ended { state, reason, unresolved } => {
                let unresolved: Vec<String> = unresolved.iter().map(CallId::to_string).collect();
                let unresolved = unresolved.join(",");
                line!("a call ended", reason, state = state.as_str(), unresolved = unresolved);
            }
        }
    }
}

/// Writes a line if the follow-up was given up.
pub fn follow_up_changed(record: &FollowUp) {
    if record.state != FollowUpState::DeadLettered {
        return;
    }
    let elapsed_millis = millis(record.update_time.since(record.create_time));
    let code = record.last_error.as_ref().map(|error| error.code);
    tracing::info!(
        call = %record.call_id, session = %record.session_id, tenant = %record.tenant,
        reason = "attempts_used_up", attempts = record.attempt, code, elapsed_millis,
        "a follow-up was given up"
    );
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};

    use super::*;
    use crate::model::{Delivery, DeliveryError, Labels, Outcome, ToolKind, ToolResult};

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("a log").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns the fields of the lines that the action writes.
    pub(in crate::telemetry) fn written(action: impl FnOnce()) -> Vec<Value> {
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, action);
        let text = String::from_utf8(log.0.lock().expect("a log").clone()).expect("text");
        let line = |line: &str| {
            let line: Value = serde_json::from_str(line).expect("JSON");
            assert_eq!((&line["level"], &line["target"]), (&json!("INFO"), &json!(TARGET)));
            line["fields"].clone()
        };
        text.lines().map(line).collect()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    const SECRET: &str = "hunter2";

    /// A call whose every text is a secret.
    fn call() -> Call {
        let id = CallId::parse_background("bg-e558c9224dd04373a46d9549318aa6b8").expect("an id");
        Call {
            id,
            session_id: SessionId::random(),
            tenant: Tenant::new("acme"),
            turn_id: None,
            tool: "bash".into(),
            kind: ToolKind::Command,
            description: SECRET.into(),
            state: State::Running,
            reason: SECRET.into(),
            create_time: at(0),
            start_time: Some(at(1)),
            park_time: None,
            park_reason: None,
            end_time: None,
            update_time: at(1),
            expire_time: None,
            attempt: 1,
            run_owner: None,
            work_handle: None,
            parent: None,
            progress: None,
            outcome: Some(Outcome::Result(ToolResult {
                error_message: SECRET.into(),
                ..ToolResult::default()
            })),
            turn: None,
            usage: None,
            cancellation: None,
            stopping: None,
            labels: Labels::from([(SECRET.to_owned(), SECRET.to_owned())]),
            policy: crate::model::CallPolicy::default(),
            accept_sequence: 1,
            acknowledge_time: None,
            revision: 1,
        }
    }

    #[test]
    fn each_step_of_a_call_has_its_fields() {
        let call = call();
        let steps = [
            (CallStep::Parked(ParkReason::Budget), "a call was parked", "budget"),
            (CallStep::Cancelling(CancelCause::Request), "a call was cancelled", "request"),
            (CallStep::Cancelling(CancelCause::Evicted), "a call was evicted", "evicted"),
        ];
        for (step, message, reason) in steps {
            let lines = written(|| CallOperation::new(&call, step, at(3)).write());
            let expected = json!({
                "message": message, "call": call.id.to_string(), "tenant": "acme", "tool": "bash",
                "session": call.session_id.to_string(), "reason": reason, "elapsed_millis": 2000,
            });
            assert_eq!(lines, [expected]);
        }
        let (state, reason) = (State::TimedOut, EndReason::IdleTimeout);
        let left = vec![CallId::random(), CallId::random()];
        let names = format!("{},{}", left[0], left[1]);
        let ended = |unresolved| CallStep::Ended { state, reason, unresolved };
        let lines = written(|| {
            CallOperation::new(&call, ended(Vec::new()), at(3)).write();
            CallOperation::new(&call, ended(left), at(3)).write();
        });
        for line in &lines {
            assert_eq!(
                (&line["message"], &line["state"]),
                (&json!("a call ended"), &json!("timed_out"))
            );
            assert_eq!(line["reason"], "idle_timeout");
        }
        assert_eq!((lines[0].get("unresolved"), &lines[1]["unresolved"]), (None, &json!(names)));
        assert!(!format!("{lines:?}").contains(SECRET));
    }

    #[test]
    fn only_a_follow_up_that_is_given_up_has_a_line() {
        let mut record = FollowUp::new(&call(), Delivery::Lease, at(0));
        record.reason = SECRET.into();
        record.last_error = Some(DeliveryError { code: 14, message: SECRET.into() });
        (record.attempt, record.update_time) = (10, at(9));
        assert_eq!(written(|| follow_up_changed(&record)), [Value::Null; 0]);
        record.state = FollowUpState::DeadLettered;
        let expected = json!({
            "message": "a follow-up was given up", "call": record.call_id.to_string(), "attempts": 10,
            "session": record.session_id.to_string(), "tenant": "acme", "code": 14,
            "reason": "attempts_used_up", "elapsed_millis": 9000,
        });
        assert_eq!(written(|| follow_up_changed(&record)), [expected]);
    }
}
