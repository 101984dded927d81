//! The states of calls: one end, and only the moves of the diagram.

use std::collections::BTreeMap;

use super::views::{CallLog, Sighting, is_terminal, moment, result_of, task_result};
use super::{History, Violation};
use crate::support::v1;
use v1::State::{self, Cancelled, Cancelling, Failed, Lost, Pending, Running, Succeeded, TimedOut};
use v1::session_event::Payload;

/// A call has one terminal event, which is its last one but for those of its follow-up; calls without one are those that the
/// session counts as live.
pub fn each_call_ends_once(history: &History) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let mut open: BTreeMap<&str, i32> = BTreeMap::new();
    for call in history.calls().values() {
        let is_end =
            |event: &&v1::SessionEvent| matches!(event.payload, Some(Payload::ToolCallFinished(_)));
        match call.ends().len() {
            0 => *open.entry(&call.log.session.session_id).or_default() += 1,
            1 if call.events.iter().rfind(|event| !is_of_follow_up(event)).is_some_and(is_end) => {}
            1 => wrong.push(Violation::new(call.id, "its end isn't its last event")),
            ends => wrong.push(Violation::new(call.id, format!("{ends} ends"))),
        }
    }
    for log in &history.logs {
        let session = &log.session;
        let open = open.get(session.session_id.as_str()).copied().unwrap_or_default();
        if open != session.live_tasks {
            let detail = format!("{open} calls without an end, {} live", session.live_tasks);
            wrong.push(Violation::new(&session.session_id, detail));
        }
    }
    wrong
}

/// Returns whether the event is about the follow-up of its call.
fn is_of_follow_up(event: &v1::SessionEvent) -> bool {
    matches!(
        event.payload,
        Some(
            Payload::FollowUpScheduled(_)
                | Payload::FollowUpStarted(_)
                | Payload::FollowUpFinished(_)
        )
    )
}

/// A turn has one end, right before that of the call that it is. A call of a tool has none.
pub fn each_turn_ends_once(history: &History) -> Vec<Violation> {
    let mut wrong = Vec::new();
    for call in history.calls().values() {
        let is_end = |event: &&&v1::SessionEvent| {
            matches!(event.payload, Some(Payload::SessionIdle(_) | Payload::SessionError(_)))
        };
        // Of the calls of agents those are turns that name no tool.
        let is_turn = call
            .accepted()
            .is_some_and(|(_, start)| start.kind() == v1::Kind::Agent && start.tool.is_empty());
        let ends = call.events.iter().filter(is_end).count();
        let own = call.events.iter().filter(|event| !is_of_follow_up(event));
        let before_last = own.rev().nth(1);
        let wanted = usize::from(is_turn && !call.ends().is_empty());
        if ends != wanted {
            let detail = format!("{ends} ends of a turn, and not {wanted}");
            wrong.push(Violation::new(call.id, detail));
        } else if wanted == 1 && !before_last.is_some_and(|event| is_end(&event)) {
            wrong
                .push(Violation::new(call.id, "the end of the turn isn't right before the call's"));
        }
    }
    wrong
}

/// The events of a call move it along the diagram of states.
pub fn moves_are_in_the_diagram(history: &History) -> Vec<Violation> {
    let wrong = history.calls().into_values().filter_map(|call| {
        let mut life = Life::default();
        let own = call.payloads().filter(|(event, _)| !is_of_follow_up(event));
        let bad = own.into_iter().find(|(event, payload)| !life.takes(event.attempt, payload));
        let (event, _) = bad?;
        Some(Violation::new(call.id, format!("{life:?} doesn't allow {event:?}")))
    });
    wrong.collect()
}

/// The states of a call so far.
#[derive(Debug, Default)]
struct Life {
    state: Option<State>,
    is_parked: bool,
    /// The number of the run, from 1 on.
    attempt: i32,
}

impl Life {
    /// Moves on with a payload, if it may come now. A run that is lost may be followed by another one.
    fn takes(&mut self, attempt: i32, payload: &Payload) -> bool {
        if matches!(payload, Payload::ToolCallStarted(_)) {
            let runs_again = self.state == Some(Running) && attempt == self.attempt + 1;
            self.attempt = attempt;
            if runs_again {
                return true;
            }
        }
        let to = match payload {
            Payload::ToolCallAccepted(_) => Some(Pending),
            Payload::ToolCallStarted(_) => Some(Running),
            Payload::ToolCallCancelling(_) => Some(Cancelling),
            Payload::ToolCallFinished(finished) => Some(finished.state()),
            Payload::ToolCallParked(_) => {
                let is_first = !self.is_parked && self.state.is_some_and(|s| !is_terminal(s));
                self.is_parked = true;
                return is_first;
            }
            Payload::ToolOutput(_) | Payload::ToolProgress(_) | Payload::ToolOutputBlocked(_) => {
                None
            }
            Payload::TurnStarted(_)
            | Payload::AssistantDelta(_)
            | Payload::ReasoningDelta(_)
            | Payload::AssistantMessage(_)
            | Payload::TurnRetrying(_)
            | Payload::TurnResumed(_)
            | Payload::HistoryCompacted(_)
            | Payload::UsageReported(_) => None,
            Payload::SessionIdle(_) | Payload::SessionError(_) => {
                return self.state.is_some_and(|state| !is_terminal(state));
            }
            // Of a session, not of a call.
            _ => return false,
        };
        let Some(to) = to else { return matches!(self.state, Some(Running | Cancelling)) };
        let may = may_move(self.state, to);
        if may {
            self.state = Some(to);
        }
        may
    }
}

fn may_move(from: Option<State>, to: State) -> bool {
    match from {
        None => to == Pending,
        Some(Pending) => matches!(to, Running | Cancelling | Lost),
        Some(Running) => matches!(to, Cancelling | Succeeded | Failed | TimedOut | Lost),
        Some(Cancelling) => matches!(to, Cancelled | Succeeded | Failed | Lost),
        Some(_) => false,
    }
}

/// Returns whether a number of moves, or none, lead there.
fn leads_to(from: State, to: State) -> bool {
    let all = [Pending, Running, Cancelling, Succeeded, Failed, TimedOut, Cancelled, Lost];
    let mut next = all.into_iter().filter(|next| may_move(Some(from), *next));
    from == to || next.any(|next| leads_to(next, to))
}

/// Clients never see a task go back: a newer revision is a later state, the same revision the same
/// state, and a later request is never answered with an older revision.
pub fn task_states_go_forward(history: &History) -> Vec<Violation> {
    let mut tasks: BTreeMap<&str, Vec<Sighting<'_>>> = BTreeMap::new();
    for sighting in history.sightings() {
        tasks.entry(&sighting.task.background_id).or_default().push(sighting);
    }
    let mut wrong = Vec::new();
    for (id, mut seen) in tasks {
        seen.sort_by_key(|sighting| sighting.task.revision);
        for pair in seen.windows(2) {
            let [older, newer] = [pair[0], pair[1]];
            let (from, to) = (older.task.state(), newer.task.state());
            let same = older.task.revision == newer.task.revision;
            let runs_again = newer.task.attempt > older.task.attempt;
            if (same && from != to) || !(runs_again || leads_to(from, to)) {
                let detail = format!("{from:?} at {}, {to:?}", older.task.revision);
                wrong.push(Violation::new(id, format!("{detail} at {}", newer.task.revision)));
            }
        }
        // The newest that was shown before each question, by the time of the answers.
        for later in &seen {
            let before = seen.iter().filter(|earlier| earlier.time < later.sent);
            let newest = before.map(|earlier| earlier.task.revision).max();
            if newest.is_some_and(|newest| newest > later.task.revision) {
                let detail = format!("{} after {newest:?}", later.task.revision);
                wrong.push(Violation::new(id, format!("an older revision: {detail}")));
            }
        }
    }
    wrong
}

/// The record of a task says what the log says of its call, and every parked call has a record
/// until it is deleted.
pub fn records_are_the_logs(history: &History) -> Vec<Violation> {
    let calls = history.calls();
    let mut wrong = Vec::new();
    for record in &history.records {
        let differences = match calls.get(record.call_id.as_str()) {
            Some(call) => differences(record, call),
            None => vec!["its call is in no log"],
        };
        let violation = |difference| Violation::new(&record.background_id, difference);
        wrong.extend(differences.into_iter().map(violation));
    }
    let records: Vec<&str> = history.records.iter().map(|record| &*record.call_id).collect();
    let records: std::collections::BTreeSet<&str> = records.into_iter().collect();
    for call in calls.values() {
        let Some((_, parked)) = call.parked() else { continue };
        if !records.contains(call.id) && !history.was_deleted(&parked.background_id) {
            wrong.push(Violation::new(call.id, "is parked and has no record"));
        }
    }
    wrong
}

fn differences(record: &v1::Task, call: &CallLog<'_>) -> Vec<&'static str> {
    let time_of = |event: Option<&v1::SessionEvent>| moment(event?.create_time.as_ref());
    let mut all = vec![
        (record.session_id == call.log.session.session_id, "another session"),
        (
            moment(record.create_time.as_ref()) == time_of(call.accepted().map(|(e, _)| e)),
            "accepted at another time",
        ),
        (
            moment(record.start_time.as_ref()) == time_of(call.began().map(|(e, _)| e)),
            "began at another time",
        ),
        (
            moment(record.park_time.as_ref()) == time_of(call.parked().map(|(e, _)| e)),
            "parked at another time",
        ),
        (
            call.parked().is_some_and(|(_, parked)| parked.background_id == record.background_id),
            "parked by another name",
        ),
    ];
    let Some((_, end)) = call.end() else {
        all.push((!is_terminal(record.state()), "an end that isn't in the log"));
        return all.into_iter().filter(|(is_right, _)| !is_right).map(|(_, what)| what).collect();
    };
    all.push((record.state() == end.state(), "another state"));
    all.push((record.reason == end.reason, "another reason"));
    all.push((record.elapsed == end.elapsed, "another elapsed time"));
    let (kept, final_result) = (task_result(record), result_of(end));
    let core = |result: &v1::ToolResult| {
        (result.exit, result.is_error, result.start_time, result.end_time)
    };
    all.push((kept.map(core) == final_result.map(core), "another result"));
    let counts = |result: &v1::ToolResult| {
        result.output.map(|output| (output.stdout, output.stderr, output.combined))
    };
    all.push((kept.map(counts) == final_result.map(counts), "other counts of output"));
    all.into_iter().filter(|(is_right, _)| !is_right).map(|(_, what)| what).collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample::{change_event, check_fails, finish, result_mut};
    use super::*;

    #[test]
    fn a_second_end_a_missing_one_and_life_after_it_are_found() {
        check_fails(each_call_ends_once, "2 ends", |history| {
            let end = history.logs[0].events[4].clone();
            history.logs[0].events.insert(4, end);
        });
        check_fails(each_call_ends_once, "without an end", |history| {
            history.logs[0].events.remove(4);
        });
        check_fails(each_call_ends_once, "last event", |history| {
            history.logs[0].events.swap(3, 4);
        });
    }

    #[test]
    fn moves_outside_the_diagram_are_found() {
        // From RUNNING to CANCELLED without a request.
        check_fails(moves_are_in_the_diagram, "Running", |history| {
            finish(history, 1, |end| end.set_state(Cancelled));
        });
        check_fails(moves_are_in_the_diagram, "Cancelling", |history| {
            finish(history, 2, |end| end.set_state(TimedOut));
        });
        check_fails(moves_are_in_the_diagram, "Running", |history| {
            let parked = history.logs[0].events[2].clone();
            history.logs[0].events.insert(2, parked);
        });
        check_fails(moves_are_in_the_diagram, "None", |history| {
            history.logs[0].events.remove(0);
        });
        // Output before the run.
        check_fails(moves_are_in_the_diagram, "Pending", |history| {
            let output = history.logs[0].events[3].message.payload.clone();
            change_event(history, 7, |event| event.payload = output);
        });
    }

    #[test]
    fn a_turn_without_its_end_is_found() {
        let becomes_turn = |history: &mut History| {
            change_event(history, 1, |event| match &mut event.payload {
                Some(Payload::ToolCallAccepted(accepted)) => {
                    accepted.tool.clear();
                    accepted.set_kind(v1::Kind::Agent);
                }
                other => panic!("no start but {other:?}"),
            });
        };
        let idle = || Some(Payload::SessionIdle(v1::SessionIdle::default()));
        check_fails(each_turn_ends_once, "0 ends of a turn", becomes_turn);
        check_fails(each_turn_ends_once, "1 ends of a turn, and not 0", |history| {
            change_event(history, 4, |event| event.payload = idle());
        });
        check_fails(each_turn_ends_once, "right before", |history| {
            becomes_turn(history);
            change_event(history, 3, |event| event.payload = idle());
        });
    }

    #[test]
    fn an_answer_with_an_older_state_is_found() {
        check_fails(task_states_go_forward, "Succeeded at 3", |history| {
            let task = &mut history.exchanges[2].reply_mut().tasks[0];
            task.set_state(Running);
            task.revision = 4;
        });
        check_fails(task_states_go_forward, "at 3", |history| {
            let mut again = history.exchanges[2].clone();
            again.reply_mut().tasks[0].set_state(Failed);
            history.exchanges.push(again);
        });
        check_fails(task_states_go_forward, "an older revision", |history| {
            let mut again = history.exchanges[1].clone();
            let last = history.exchanges.last().and_then(|last| last.reply()).expect("a reply").0;
            again.sent = last + std::time::Duration::from_secs(1);
            history.exchanges.push(again);
        });
    }

    #[test]
    fn a_record_that_is_missing_or_says_something_else_is_found() {
        check_fails(records_are_the_logs, "has no record", |history| {
            history.records.remove(0);
        });
        check_fails(records_are_the_logs, "in no log", |history| {
            history.records[0].call_id = "call-9".into();
        });
        check_fails(records_are_the_logs, "another state", |history| {
            history.records[0].set_state(Failed);
        });
        check_fails(records_are_the_logs, "another result", |history| {
            result_mut(&mut history.records[0]).exit = None;
        });
        check_fails(records_are_the_logs, "began at another time", |history| {
            history.records[0].start_time = None;
        });
        check_fails(records_are_the_logs, "isn't in the log", |history| {
            history.logs[0].events.remove(4);
        });
    }
}
