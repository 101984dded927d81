//! The invariants, over what the clients were answered and what the database has at the end.

use bytes::Bytes;
use callpark::model::{
    Call, CallId, FollowUpPolicy, FollowUpState, PayloadKind, SessionId, SessionState,
};
use callpark::store::{EventPage, EventQuery, RequestEffect, Store as _};

use super::database::{Database, at_once};
use super::history::History;
use super::tenant;
use super::tools::AGAIN;
use super::world::World;

/// The most times that an idempotent tool is run for one call.
const ATTEMPTS_MAX: usize = 3;

/// Returns all that is wrong.
pub fn violations(world: &World, history: &History) -> Vec<String> {
    let mut found = history.wrong.clone();
    let database = &*world.database;
    let checks = [
        accepted_calls_are_stored,
        sessions_are_stored,
        a_call_has_one_end,
        logs_have_no_gap,
        results_stay,
        a_claim_has_one_writer,
        follow_ups_are_acknowledged_once,
        readers_get_the_log,
    ];
    found.extend(checks.iter().flat_map(|check| check(database, history)));
    found.extend(runs_are_counted(world, history));
    found
}

fn stored(database: &Database, call_id: CallId) -> Option<Call> {
    at_once(database.store.call(call_id)).expect("a call")
}

fn events(
    database: &Database,
    session_id: SessionId,
    kinds: Vec<PayloadKind>,
    call_id: Option<CallId>,
) -> EventPage {
    let (scan_max, bytes_max) = (usize::MAX, usize::MAX);
    let query = EventQuery { session_id, after: 0, kinds, call_id, scan_max, bytes_max };
    at_once(database.store.events(query)).expect("events")
}

/// Each acknowledged call is stored, once for each request id.
fn accepted_calls_are_stored(database: &Database, history: &History) -> Vec<String> {
    let mut found = Vec::new();
    for (key, calls) in &history.accepted {
        if calls.len() != 1 {
            found.push(format!("request {key} was answered with {calls:?}"));
        }
        let record = at_once(database.store.request(&tenant(), key)).expect("a request");
        let of_record = record.as_ref().and_then(|record| record.effect.call_id());
        for call_id in calls {
            if stored(database, *call_id).is_none() {
                found.push(format!("{call_id} was acknowledged and is not stored"));
            }
            if of_record != Some(*call_id) {
                found.push(format!("request {key} started {of_record:?}, not {call_id}"));
            }
        }
    }
    found
}

/// Each acknowledged session is stored, once for each request id, and closed if that was acknowledged.
fn sessions_are_stored(database: &Database, history: &History) -> Vec<String> {
    let mut found = Vec::new();
    for (key, sessions) in &history.sessions {
        let record = at_once(database.store.request(&tenant(), key)).expect("a request");
        let effect = record.map(|record| record.effect);
        for session_id in sessions {
            if effect != Some(RequestEffect::SessionCreated(*session_id)) {
                found.push(format!("request {key} had {effect:?}, not {session_id}"));
            }
        }
    }
    for session_id in &history.closed {
        let session = at_once(database.store.session(*session_id)).expect("a session");
        if session.is_none_or(|session| session.state == SessionState::Open) {
            found.push(format!("{session_id} was closed, and is open"));
        }
    }
    found
}

/// Each call has one terminal state, and one end in the log of its session.
fn a_call_has_one_end(database: &Database, _: &History) -> Vec<String> {
    let mut found = Vec::new();
    for call_id in database.record().calls {
        let Some(call) = stored(database, call_id) else {
            found.push(format!("{call_id} is not stored any more"));
            continue;
        };
        let kinds = vec![PayloadKind::ToolCallFinished];
        let ends = events(database, call.session_id, kinds, Some(call_id)).events.len();
        if !call.state.is_terminal() || ends != 1 {
            let state = call.state.as_str();
            found.push(format!("{call_id} is {state}, and has {ends} ends in its log"));
        }
    }
    found
}

fn logs_have_no_gap(database: &Database, _: &History) -> Vec<String> {
    let mut found = Vec::new();
    for session_id in database.sessions() {
        let page = events(database, session_id, Vec::new(), None);
        let is_whole = page.events.iter().map(|event| event.sequence).eq(1..=page.head);
        if !is_whole {
            found.push(format!("the log of {session_id} has gaps up to {}", page.head));
        }
    }
    found
}

/// The result that a client has seen is the stored one, and stays.
fn results_stay(database: &Database, history: &History) -> Vec<String> {
    let mut found = Vec::new();
    for seen in &history.seen {
        let now = stored(database, seen.id);
        let is_same = now.as_ref().is_some_and(|now| {
            now.state == seen.state
                && now.outcome == seen.outcome
                && now.end_time == seen.end_time
                && now.attempt == seen.attempt
        });
        if !is_same {
            let state = now.map(|now| now.state);
            found.push(format!("{} was seen as {:?}, and is {state:?}", seen.id, seen.state));
        }
    }
    found
}

/// No two engines append to a session under one claim.
fn a_claim_has_one_writer(database: &Database, _: &History) -> Vec<String> {
    let writers = database.record().writers.into_iter();
    let shared = writers.filter(|(_, writers)| writers.len() > 1);
    shared.map(|(claim, writers)| format!("{claim:?} was written by {writers:?}")).collect()
}

/// The follow-up of each task whose request asked for one is there, and acknowledged once, unless its
/// session was closed.
fn follow_ups_are_acknowledged_once(database: &Database, history: &History) -> Vec<String> {
    let mut found = Vec::new();
    for request in history.requests.iter().filter(|one| one.follow_up == FollowUpPolicy::OnFinish) {
        for call_id in history.accepted.get(&request.key).into_iter().flatten() {
            let Some(call) = stored(database, *call_id).filter(Call::is_task) else { continue };
            let record = at_once(database.store.follow_up(*call_id)).expect("a follow-up");
            let state = record.map(|record| record.state);
            let is_done = match state {
                Some(FollowUpState::Delivered) => true,
                Some(FollowUpState::Suppressed) => {
                    let session = at_once(database.store.session(call.session_id));
                    let is_open = session.expect("a session").map(|one| one.state);
                    is_open != Some(SessionState::Open) || call.cancellation.is_some()
                }
                _ => false,
            };
            if !is_done {
                found.push(format!("the follow-up of {call_id} is {state:?}"));
            }
        }
    }
    for (call_id, times) in &history.acknowledged {
        let record = at_once(database.store.follow_up(*call_id)).expect("a follow-up");
        let state = record.map(|record| record.state);
        if *times > 1 || state != Some(FollowUpState::Delivered) {
            found.push(format!("{call_id} was acknowledged {times} times, and is {state:?}"));
        }
    }
    found
}

/// A reader gets the events of the log, in order.
fn readers_get_the_log(database: &Database, history: &History) -> Vec<String> {
    let mut found = Vec::new();
    for (session_id, read) in &history.read {
        let page = events(database, *session_id, Vec::new(), None);
        let log: Vec<Bytes> = page.events.into_iter().map(|event| event.bytes).collect();
        if *read != log {
            let same = read.iter().zip(&log).take_while(|(one, other)| one == other).count();
            found.push(format!(
                "a reader of {session_id} has {} events of {}, which differ after {same}",
                read.len(),
                log.len()
            ));
        }
    }
    found
}

/// A tool that is not idempotent ran once at most, and any other one three times.
fn runs_are_counted(world: &World, history: &History) -> Vec<String> {
    let effects = world.effects.counted();
    let mut found = Vec::new();
    for request in &history.requests {
        let runs = effects.get(&request.key).copied().unwrap_or_default();
        let runs_max = if request.tool == AGAIN { ATTEMPTS_MAX } else { 1 };
        if runs > runs_max {
            found.push(format!("`{}` ran {runs} times for {}", request.tool, request.key));
        }
    }
    found
}
