//! Waits: back in time, and the same outcome for ever.

use std::collections::BTreeMap;

use super::views::{CallLog, is_terminal, moment};
use super::{Asked, History, Moment, Reply, Violation, WaitAsked};
use crate::support::v1;

/// A task that has ended is shown with one and the same outcome, to every client at any time.
pub fn outcomes_stay(history: &History) -> Vec<Violation> {
    let mut first: BTreeMap<&str, &v1::Task> = BTreeMap::new();
    let mut whole: BTreeMap<&str, &v1::Task> = BTreeMap::new();
    let mut wrong = Vec::new();
    let reply = history.sightings().map(|sighting| (sighting.task, sighting.is_brief));
    let kept = history.records.iter().map(|record| (record, false));
    for (task, is_brief) in reply.chain(kept).filter(|(task, _)| is_terminal(task.state())) {
        let id = task.background_id.as_str();
        let end = |task: &v1::Task| (task.state, task.reason.clone(), task.end_time, task.elapsed);
        if end(first.entry(id).or_insert(task)) != end(task) {
            wrong.push(Violation::new(id, "was shown with two ends"));
        }
        if is_brief {
            continue;
        }
        let known = *whole.entry(id).or_insert(task);
        if known.outcome != task.outcome {
            let (one, other) = (beginning(&known.outcome), beginning(&task.outcome));
            let fault = format!("was shown with two outcomes: {one} and {other}");
            wrong.push(Violation::new(id, fault));
        }
    }
    wrong
}

/// As much of an outcome as is worth reading.
fn beginning(outcome: &Option<v1::task::Outcome>) -> String {
    format!("{outcome:?}").chars().take(400).collect()
}

/// A wait is back no later than its bound and no later than the end, each plus the slack; no
/// earlier than its bound when nothing has ended; and it doesn't overlook an end.
pub fn waits_are_back_in_time(history: &History) -> Vec<Violation> {
    let calls = history.calls();
    let ended = |background_id: &str| {
        let call = calls.get(&*background_id.replace("bg-", "call-"));
        let end = call.and_then(CallLog::end)?;
        moment(end.0.create_time.as_ref())
    };
    let mut wrong = Vec::new();
    for (exchange, time, reply) in history.replies() {
        let Asked::Wait(asked) = &exchange.asked else { continue };
        let ends = asked.background_ids.iter().map(|id| ended(id));
        let end = match asked.all {
            true => ends.collect::<Option<Vec<Moment>>>().and_then(|ends| ends.into_iter().max()),
            false => ends.flatten().min(),
        };
        let span = Span { sent: exchange.sent, time, slack: history.slack };
        let faults = span.faults(asked, reply, end).into_iter();
        wrong.extend(faults.map(|fault| Violation::new(asked.background_ids.join(" "), fault)));
    }
    wrong
}

/// From the question to the answer.
struct Span {
    sent: Moment,
    time: Moment,
    slack: Moment,
}

impl Span {
    fn faults(&self, asked: &WaitAsked, reply: &Reply, end: Option<Moment>) -> Vec<String> {
        let Self { sent, time, slack } = *self;
        let took = time.saturating_sub(sent);
        let mut faults = Vec::new();
        if took > asked.bound + slack {
            faults.push(format!("back after {took:?}, asked for {:?}", asked.bound));
        }
        if let Some(end) = end.filter(|end| time > sent.max(*end) + slack) {
            let late = time.saturating_sub(sent.max(end));
            faults.push(format!("back {late:?} after the end"));
        }
        if reply.still_running && end.is_some_and(|end| end + slack < sent) {
            faults.push("an end before the question was overlooked".into());
        }
        if reply.still_running && took < asked.bound {
            faults.push(format!("back after {took:?} of {:?} with nothing", asked.bound));
        }
        let terminal = reply.tasks.iter().filter(|task| is_terminal(task.state())).count();
        let is_done = if asked.all { terminal == reply.tasks.len() } else { terminal > 0 };
        if is_done == reply.still_running {
            faults.push("what it says doesn't fit its tasks".into());
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::sample::check_fails;
    use super::*;

    const WAIT: usize = 2;

    #[test]
    fn a_task_that_is_shown_with_two_ends_is_found() {
        check_fails(outcomes_stay, "two ends", |history| {
            history.exchanges[WAIT].reply_mut().tasks[0].set_state(v1::State::Failed);
        });
        check_fails(outcomes_stay, "two outcomes", |history| {
            history.exchanges[WAIT].reply_mut().tasks[0].outcome = None;
        });
    }

    #[test]
    fn a_wait_that_comes_late_is_found() {
        check_fails(waits_are_back_in_time, "asked for", |history| {
            history.exchanges[WAIT].answer_mut().time += Duration::from_secs(9);
        });
        check_fails(waits_are_back_in_time, "after the end", |history| {
            history.exchanges[WAIT].answer_mut().time += history.slack * 2;
        });
        // Asked long after the end, and back long after the question.
        check_fails(waits_are_back_in_time, "after the end", |history| {
            let late = Duration::from_secs(60);
            history.exchanges[WAIT].sent += late;
            history.exchanges[WAIT].answer_mut().time += late + history.slack * 2;
        });
    }

    #[test]
    fn a_wait_that_overlooks_an_end_or_gives_up_early_is_found() {
        let nothing = |history: &mut History| {
            let reply = history.exchanges[WAIT].reply_mut();
            reply.tasks[0].set_state(v1::State::Running);
            reply.still_running = true;
        };
        check_fails(waits_are_back_in_time, "with nothing", nothing);
        check_fails(waits_are_back_in_time, "overlooked", |history| {
            nothing(history);
            let late = Duration::from_secs(60);
            history.exchanges[WAIT].sent += late;
            history.exchanges[WAIT].answer_mut().time += late;
        });
        check_fails(waits_are_back_in_time, "doesn't fit", |history| {
            history.exchanges[WAIT].reply_mut().still_running = true;
        });
    }
}
