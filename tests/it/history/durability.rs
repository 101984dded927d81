//! Acknowledged changes and shown ends are in the log, and a request id has one effect.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::views::{CallLog, is_terminal, moment, result_of};
use super::{Asked, CallAsked, History, Log, Moment, Reply, Violation};
use crate::support::v1;

/// The largest difference between the clocks of a client and of a server on one machine.
const CLOCKS_APART_MAX: Duration = Duration::from_millis(20);

/// Every acknowledged change is there, whatever happened to the server since.
pub fn acknowledged_changes_stay(history: &History) -> Vec<Violation> {
    let (calls, logs) = (history.calls(), history.logs_by_session());
    let records = history.records.iter().map(|record| record.background_id.as_str());
    let records: BTreeSet<&str> = records.collect();
    let mut wrong = Vec::new();
    for (exchange, _, reply) in history.replies() {
        let missing = match &exchange.asked {
            Asked::Session | Asked::Close(_) => missing_session(&exchange.asked, reply, &logs),
            Asked::Call(_) => missing_of_call(reply, calls.get(reply.call_id.as_str())),
            Asked::Cancel(id) => missing_cancel(reply, calls.get(&*id.replace("bg-", "call-"))),
            Asked::Delete(id) if records.contains(id.as_str()) => Some("a deleted task is there"),
            Asked::Delete(_) | Asked::Wait(_) | Asked::Get => None,
        };
        let subject = [&reply.call_id, &reply.session_id].map(String::as_str).join(" ");
        wrong.extend(missing.map(|missing| Violation::new(subject, missing)));
        let lost = reply.tasks.iter().map(|task| &task.background_id).chain([&reply.background_id]);
        let lost = lost.filter(|id| !id.is_empty() && !records.contains(id.as_str()));
        let lost = lost.filter(|id| !history.was_deleted(id));
        wrong.extend(lost.map(|id| Violation::new(id, "a task that a client knows is gone")));
    }
    wrong.extend(history.sightings().filter_map(|sighting| {
        let task = sighting.task;
        let end = calls.get(task.call_id.as_str()).and_then(CallLog::end);
        let is_there = end.is_some_and(|(_, end)| end.state() == task.state());
        let is_missing = is_terminal(task.state()) && !is_there;
        is_missing.then(|| Violation::new(&task.background_id, "an end that was shown is gone"))
    }));
    wrong
}

fn missing_session(
    asked: &Asked,
    reply: &Reply,
    logs: &BTreeMap<&str, &Log>,
) -> Option<&'static str> {
    let Some(log) = logs.get(reply.session_id.as_str()) else { return Some("a session is gone") };
    let is_open = log.session.state() == v1::SessionState::Open;
    (matches!(asked, Asked::Close(_)) && is_open).then_some("a closed session is open")
}

fn missing_of_call(reply: &Reply, call: Option<&CallLog<'_>>) -> Option<&'static str> {
    let Some(call) = call.filter(|call| call.accepted().is_some()) else {
        return Some("a call is gone");
    };
    if call.log.session.session_id != reply.session_id {
        return Some("a call is in another session");
    }
    if !reply.background_id.is_empty() && call.parked().is_none() {
        return Some("a parked call isn't parked");
    }
    let result = reply.result.as_ref()?;
    let Some((_, end)) = call.end() else { return Some("a result is gone") };
    let core = |result: &v1::ToolResult| (result.exit, result.is_error, result.end_time);
    let is_same = match result_of(end) {
        Some(kept) => core(kept) == core(result),
        // To its caller, a call that is lost in the foreground has failed.
        None => result.is_error && result.exit.is_none(),
    };
    (!is_same).then_some("a result has changed")
}

fn missing_cancel(reply: &Reply, call: Option<&CallLog<'_>>) -> Option<&'static str> {
    let call = call?;
    let end = call.end().map(|(_, end)| end.state());
    let is_there = call.cancelling().is_some() || end.is_some();
    let state = reply.tasks.first().map(v1::Task::state);
    let is_kept = state.is_none_or(|state| !is_terminal(state) || end == Some(state));
    (!is_there || !is_kept).then_some("a cancel is gone")
}

/// An id is shown only once it is durable: what a client was shown is in the log, and was made
/// before it was shown.
pub fn answers_are_durable(history: &History) -> Vec<Violation> {
    let calls = history.calls();
    let mut wrong = Vec::new();
    let mut look = |call_id: &str, background_id: &str, time: Moment| {
        let call = calls.get(call_id);
        let made = |event: Option<&v1::SessionEvent>| {
            let made = moment(event?.create_time.as_ref())?;
            (made <= time + CLOCKS_APART_MAX).then_some(())
        };
        if made(call.and_then(CallLog::accepted).map(|(event, _)| event)).is_none() {
            wrong.push(Violation::new(call_id, "was shown before it was in the log"));
        }
        let parked = call.and_then(CallLog::parked).map(|(event, _)| event);
        if !background_id.is_empty() && made(parked).is_none() {
            wrong.push(Violation::new(background_id, "was shown before it was in the log"));
        }
    };
    for (_, time, reply) in history.replies() {
        if !reply.call_id.is_empty() {
            look(&reply.call_id, &reply.background_id, time);
        }
        for task in &reply.tasks {
            look(&task.call_id, &task.background_id, time);
        }
    }
    wrong
}

/// One request id has at most one effect: one call, one answer that isn't a repetition, one run.
pub fn a_request_id_has_one_effect(history: &History) -> Vec<Violation> {
    let mut requests: BTreeMap<&str, Request<'_>> = BTreeMap::new();
    for exchange in &history.exchanges {
        let Asked::Call(asked) = &exchange.asked else { continue };
        if asked.request_id.is_empty() {
            continue;
        }
        let request = requests.entry(&asked.request_id).or_default();
        request.asked = Some(asked);
        if let Some((_, reply)) = exchange.reply() {
            request.calls.insert(&reply.call_id);
            request.firsts += usize::from(!reply.replayed);
        }
    }
    let mut accepted: BTreeMap<&str, usize> = BTreeMap::new();
    for call in history.calls().values() {
        *accepted.entry(call.mark()).or_default() += 1;
    }
    let mut wrong = Vec::new();
    for (id, request) in requests {
        let mark = request.asked.map_or("", |asked| asked.mark.as_str());
        let runs = history.works.iter().find(|work| work.mark == mark).and_then(|w| w.effects);
        let counts = [
            (request.calls.len(), "calls were returned"),
            (request.firsts, "answers claim to be the first"),
            (accepted.get(mark).copied().unwrap_or_default(), "calls were accepted"),
            (runs.unwrap_or_default(), "runs left their effect"),
        ];
        let many = counts.into_iter().filter(|(count, _)| *count > 1 && !mark.is_empty());
        wrong.extend(many.map(|(count, what)| Violation::new(id, format!("{count} {what}"))));
    }
    wrong
}

#[derive(Default)]
struct Request<'a> {
    asked: Option<&'a CallAsked>,
    calls: BTreeSet<&'a str>,
    firsts: usize,
}

#[cfg(test)]
mod tests {
    use super::super::sample::{change_event, check_fails};
    use super::super::{Exchange, KnownWork};
    use super::*;

    #[test]
    fn acknowledged_changes_that_are_gone_are_found() {
        check_fails(acknowledged_changes_stay, "a session is gone", |history| {
            history.logs.clear();
        });
        check_fails(acknowledged_changes_stay, "a call is gone", |history| {
            history.logs[0].events.retain(|event| event.message.call_id != "call-5");
        });
        check_fails(acknowledged_changes_stay, "isn't parked", |history| {
            history.logs[0].events.remove(2);
        });
        check_fails(acknowledged_changes_stay, "a cancel is gone", |history| {
            history.logs[0].events.drain(9..11);
        });
        check_fails(acknowledged_changes_stay, "a result has changed", |history| {
            let reply = history.exchanges[7].reply_mut();
            reply.result.as_mut().expect("a result").exit = None;
        });
        check_fails(acknowledged_changes_stay, "a result is gone", |history| {
            history.logs[0].events.remove(23);
        });
        check_fails(acknowledged_changes_stay, "is open", |history| {
            history.logs[0].session.set_state(v1::SessionState::Open);
        });
        check_fails(acknowledged_changes_stay, "knows is gone", |history| {
            history.records.remove(0);
        });
        check_fails(acknowledged_changes_stay, "an end that was shown is gone", |history| {
            history.logs[0].events.remove(4);
        });
        check_fails(acknowledged_changes_stay, "a deleted task is there", |history| {
            let delete =
                Exchange { asked: Asked::Delete("bg-1".into()), ..history.exchanges[0].clone() };
            history.exchanges.push(delete);
        });
    }

    #[test]
    fn an_id_that_is_shown_too_early_is_found() {
        check_fails(answers_are_durable, "call-1", |history| {
            let exchange = &mut history.exchanges[1];
            exchange.sent -= Duration::from_secs(60);
            exchange.answer_mut().time -= Duration::from_secs(60);
        });
        check_fails(answers_are_durable, "bg-1", |history| {
            history.logs[0].events.remove(2);
        });
    }

    #[test]
    fn a_request_with_two_effects_is_found() {
        let another = |history: &mut History| {
            let mut again = history.exchanges[1].clone();
            let reply = again.reply_mut();
            (reply.call_id, reply.replayed) = ("call-2".into(), true);
            history.exchanges.push(again);
        };
        check_fails(a_request_id_has_one_effect, "2 calls were returned", another);
        check_fails(a_request_id_has_one_effect, "claim to be the first", |history| {
            history.exchanges.push(history.exchanges[1].clone());
        });
        check_fails(a_request_id_has_one_effect, "2 calls were accepted", |history| {
            use v1::session_event::Payload;
            change_event(history, 6, |event| match &mut event.payload {
                Some(Payload::ToolCallAccepted(accepted)) => accepted.description = "mark-1".into(),
                other => panic!("{other:?}"),
            });
        });
        check_fails(a_request_id_has_one_effect, "2 runs", |history| {
            let work = KnownWork { mark: "mark-1".into(), effects: Some(2), ..Default::default() };
            history.works = vec![work];
        });
    }
}
