//! The reason for each end: an exit, a request, a limit, a loss.

use super::views::{CallLog, moment, result_of, span};
use super::{Asked, History, Violation};
use crate::support::v1;
use v1::State;
use v1::tool_call_finished::Outcome;
use v1::tool_result::Exit;

/// The part of the server that stops calls by itself.
const SERVER: &str = "callpark";
const TERM: i32 = 15;
const KILL: i32 = 9;

/// Applies a rule to the end of every call that has one.
fn of_ends(
    history: &History,
    rule: impl Fn(&CallLog<'_>, &v1::ToolCallFinished) -> Result<(), String>,
) -> Vec<Violation> {
    let wrong = history.calls().into_values().filter_map(|call| {
        let (_, end) = call.end()?;
        rule(&call, end).err().map(|detail| Violation::new(call.id, detail))
    });
    wrong.collect()
}

fn check(is_right: bool, detail: &str) -> Result<(), String> {
    if is_right { Ok(()) } else { Err(detail.into()) }
}

/// SUCCEEDED has a result without an error, and that of a process its exit with code 0. FAILED has
/// one with an error.
pub fn succeeded_has_an_exit(history: &History) -> Vec<Violation> {
    of_ends(history, |call, end| {
        let is_command =
            call.accepted().is_some_and(|(_, started)| started.kind() == v1::Kind::Command);
        match (end.state(), result_of(end)) {
            (State::Succeeded, Some(result)) => {
                check(!result.is_error, "SUCCEEDED with an error")?;
                let exited = result.exit == Some(Exit::ExitCode(0));
                check(exited || !is_command, "SUCCEEDED without an exit")
            }
            (State::Succeeded, None) => Err("SUCCEEDED without a result".into()),
            (State::Failed, result) => {
                check(result.is_some_and(|result| result.is_error), "FAILED without an error")
            }
            _ => Ok(()),
        }
    })
}

/// CANCELLED follows a recorded request, and that was made by a client where it says so.
pub fn cancelled_was_asked_for(history: &History) -> Vec<Violation> {
    let mut wrong = of_ends(history, |call, end| {
        let is_cancelled = end.state() == State::Cancelled;
        check(!is_cancelled || call.cancelling().is_some(), "CANCELLED without a request")
    });
    for record in history.records.iter().filter(|record| record.state() == State::Cancelled) {
        let request = record.cancellation.as_ref();
        if request.is_none_or(|request| request.acknowledged_time.is_none()) {
            wrong.push(Violation::new(&record.background_id, "no record of the cancel"));
        }
    }
    let calls = history.calls();
    for call in calls.values().filter(|_| history.is_complete) {
        let Some((_, cancelling)) = call.cancelling() else { continue };
        let background_id = call.id.replace("call-", "bg-");
        let session_id = &call.log.session.session_id;
        let was_asked = history.was_asked(|asked| match asked {
            Asked::Cancel(id) => *id == background_id,
            Asked::Close(id) => id == session_id,
            _ => false,
        });
        if cancelling.requested_by != SERVER && !was_asked {
            wrong.push(Violation::new(call.id, "there was no request to cancel it"));
        }
    }
    wrong
}

/// LOST has no result, and comes only where a server was stopped. An end without a result is LOST.
pub fn lost_has_no_result(history: &History) -> Vec<Violation> {
    of_ends(history, |_, end| {
        let has_error = matches!(end.outcome, Some(Outcome::Error(_)));
        match (end.state(), has_error) {
            (State::Lost, false) => Err("LOST with a result".into()),
            (State::Lost, true) => check(history.stops > 0, "LOST though no server was stopped"),
            (_, true) => Err("an end without a result that isn't LOST".into()),
            (_, false) => Ok(()),
        }
    })
}

/// A parked task ends by its own end, a cancel, its hard limit or loss: never because a client
/// stopped waiting or looking.
pub fn parked_tasks_end_for_a_reason(history: &History) -> Vec<Violation> {
    of_ends(history, |call, end| {
        let Some((parking, _)) = call.parked() else { return Ok(()) };
        if let Some((event, cancelling)) = call.cancelling() {
            let by_itself = cancelling.requested_by == SERVER && !cancelling.evicted;
            let was_parked = event.sequence > parking.sequence;
            let may = !by_itself || !was_parked || is_replaced(history, call);
            return check(may, "the server cancelled it for no reason of a parked task");
        }
        match (end.state(), result_of(end).and_then(|result| result.exit)) {
            (State::TimedOut, _) => {
                let ran = span(end.elapsed.as_ref());
                let limits = call.accepted().map(|(_, started)| {
                    [&started.execution_timeout, &started.idle_timeout]
                        .map(|limit| span(limit.as_ref()))
                });
                let mut limits = limits.into_iter().flatten().flatten();
                check(limits.any(|limit| ran >= Some(limit)), "TIMED_OUT before its limits")
            }
            (State::Failed, Some(Exit::Signal(TERM | KILL))) if history.is_complete => {
                Err("killed without a request".into())
            }
            _ => Ok(()),
        }
    })
}

fn is_replaced(history: &History, call: &CallLog<'_>) -> bool {
    let session_id = &call.log.session.session_id;
    let replaces = |asked: &Asked| match asked {
        Asked::Call(asked) => asked.replaces && asked.session_id == *session_id,
        _ => false,
    };
    !history.is_complete || history.was_asked(replaces)
}

/// Elapsed is the time from the start of the run to its end, whenever the call was accepted or
/// parked.
pub fn elapsed_counts_from_the_run(history: &History) -> Vec<Violation> {
    of_ends(history, |call, end| {
        let elapsed = span(end.elapsed.as_ref());
        let Some((began, _)) = call.began() else {
            return check(elapsed.is_none(), "elapsed without a run");
        };
        let began = moment(began.create_time.as_ref()).unwrap_or_default();
        let elapsed = elapsed.ok_or("a run without elapsed")?;
        let Some(result) = result_of(end) else {
            // It ended before it was found out.
            let ended = call.end().and_then(|(event, _)| moment(event.create_time.as_ref()));
            return check(ended >= Some(began + elapsed), "elapsed beyond the end");
        };
        let start = moment(result.start_time.as_ref());
        check(start == Some(began), "the result has another start than the run")?;
        let ended = moment(result.end_time.as_ref());
        check(ended == Some(began + elapsed), "elapsed isn't the time of the run")
    })
}

#[cfg(test)]
mod tests {
    use super::super::sample::{cancelling, change_event, check_fails, finish};
    use super::*;
    use crate::support::millis;

    fn result_of_end(end: &mut v1::ToolCallFinished) -> &mut v1::ToolResult {
        match &mut end.outcome {
            Some(Outcome::Result(result)) => result,
            other => panic!("no result but {other:?}"),
        }
    }

    #[test]
    fn a_success_without_an_exit_is_found() {
        check_fails(succeeded_has_an_exit, "without an exit", |history| {
            finish(history, 1, |end| result_of_end(end).exit = None);
        });
        check_fails(succeeded_has_an_exit, "without an exit", |history| {
            finish(history, 1, |end| result_of_end(end).exit = Some(Exit::Signal(9)));
        });
        check_fails(succeeded_has_an_exit, "without a result", |history| {
            finish(history, 1, |end| end.outcome = None);
        });
        check_fails(succeeded_has_an_exit, "FAILED without an error", |history| {
            finish(history, 1, |end| end.set_state(State::Failed));
        });
    }

    #[test]
    fn a_cancel_without_a_request_is_found() {
        check_fails(cancelled_was_asked_for, "without a request", |history| {
            finish(history, 1, |end| end.set_state(State::Cancelled));
        });
        check_fails(cancelled_was_asked_for, "no request to cancel", |history| {
            let is_kept = |asked: &Asked| !matches!(asked, Asked::Cancel(_) | Asked::Close(_));
            history.exchanges.retain(|exchange| is_kept(&exchange.asked));
        });
        check_fails(cancelled_was_asked_for, "no record", |history| {
            history.records[1].cancellation = None;
        });
    }

    #[test]
    fn a_loss_with_a_result_or_without_a_stop_is_found() {
        check_fails(lost_has_no_result, "LOST with a result", |history| {
            let result = Some(Outcome::Result(v1::ToolResult::default()));
            finish(history, 3, |end| end.outcome = result);
        });
        check_fails(lost_has_no_result, "no server was stopped", |history| history.stops = 0);
        check_fails(lost_has_no_result, "isn't LOST", |history| {
            finish(history, 3, |end| end.set_state(State::Failed));
        });
    }

    #[test]
    fn a_parked_task_that_is_stopped_for_no_reason_is_found() {
        check_fails(parked_tasks_end_for_a_reason, "no reason of a parked task", |history| {
            cancelling(history, |cancelling| cancelling.requested_by = SERVER.into());
        });
        check_fails(parked_tasks_end_for_a_reason, "before its limits", |history| {
            finish(history, 4, |end| end.elapsed = millis(10));
        });
        check_fails(parked_tasks_end_for_a_reason, "killed", |history| {
            finish(history, 1, |end| {
                end.set_state(State::Failed);
                result_of_end(end).exit = Some(Exit::Signal(KILL));
            });
        });
    }

    #[test]
    fn a_run_that_is_counted_from_elsewhere_is_found() {
        check_fails(elapsed_counts_from_the_run, "isn't the time of the run", |history| {
            finish(history, 2, |end| end.elapsed = millis(77_000));
        });
        check_fails(elapsed_counts_from_the_run, "another start", |history| {
            finish(history, 2, |end| result_of_end(end).start_time = None);
        });
        check_fails(elapsed_counts_from_the_run, "beyond the end", |history| {
            finish(history, 3, |end| end.elapsed = millis(77_000));
        });
        check_fails(elapsed_counts_from_the_run, "without a run", |history| {
            change_event(history, 8, |event| event.payload = None);
        });
    }
}
