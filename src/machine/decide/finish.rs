//! `Finish`: a run has ended.

use super::super::{Decision, Finish, Projection};
use crate::model::{Call, Exit, Outcome, State, StopCause, Survivor, Timestamp, ToolResult};

/// Ends the call. A run that ended before a stop reached it keeps its own result.
pub(super) fn decide(projection: &Projection, finish: Finish, now: Timestamp) -> Decision {
    let Finish { call_id, mut result, stopped, survivors } = finish;
    let Some(call) = projection.call(call_id) else { return Decision::not_live() };
    let cause = call.stopping.filter(|_| stopped).map(|stopping| stopping.cause);
    let (state, reason) = match cause {
        Some(StopCause::Cancel) => (State::Cancelled, call.reason.clone()),
        Some(limit) => (State::TimedOut, limit_reason(call, limit, &survivors)),
        None if result.is_error => (State::Failed, failure_reason(&result)),
        None => (State::Succeeded, String::new()),
    };
    result.is_error |= cause.is_some();
    if state == State::TimedOut && result.error_message.is_empty() {
        // A caller in the foreground gets only the result.
        result.error_message.clone_from(&reason);
    }
    result.start_time = call.start_time;
    result.end_time = now;
    let outcome = Outcome::Result(result);
    let end = super::CallEnd { call_id, state, reason, outcome, survivors, end_time: now };
    super::end(projection, end)
}

/// Describes the timeout and the processes that could not be killed. A timeout has no cancellation
/// record that could hold them.
fn limit_reason(call: &Call, cause: StopCause, survivors: &[Survivor]) -> String {
    let (what, span) = match cause {
        StopCause::IdleTimeout if call.turn.is_some() => {
            ("timed out: no output of the model for", call.policy.idle_timeout)
        }
        StopCause::IdleTimeout => ("timed out: no output for", call.policy.idle_timeout),
        StopCause::ExecutionTimeout | StopCause::Cancel => {
            ("timed out after", call.policy.execution_timeout)
        }
    };
    let limit = format!("{what} {} s", span.unwrap_or_default().as_secs_f64());
    if survivors.is_empty() {
        return limit;
    }
    let survivors: Vec<String> =
        survivors.iter().map(|s| format!("{} ({})", s.pid, s.command)).collect();
    format!("{limit}; could not be killed: {}", survivors.join(", "))
}

fn failure_reason(result: &ToolResult) -> String {
    match result.exit {
        _ if !result.error_message.is_empty() => result.error_message.clone(),
        Some(Exit::Code(code)) => format!("exit code {code}"),
        Some(Exit::Signal(signal)) => format!("ended by signal {signal}"),
        None => "the tool reported a failure".into(),
    }
}
