//! Stores that hold something of everything.

use bytes::Bytes;
use callpark::model::{
    Call, CallId, Delivery, DeliveryError, FollowUp, FollowUpPut, FollowUpState, Labels, Lease,
    OutputPosition, OutputStream, ParkReason, PayloadKind, Session, SessionId, SessionState, State,
    Tenant, Timestamp, ToolKind,
};
use callpark::store::{Append, RequestEffect, RequestRecord, Store, StoredEvent, StoredMessage};

use crate::load::at;

/// The tenants of the sessions.
pub(crate) const TENANTS: [&str; 2] = ["tenant", "another tenant"];

pub(crate) fn empty(session: &Session, head: Option<u64>) -> Append {
    Append {
        session_id: session.id,
        expected_head: head,
        events: Vec::new(),
        session: session.clone(),
        calls: Vec::new(),
        deleted_calls: Vec::new(),
        messages: Vec::new(),
        follow_ups: Vec::new(),
        requests: Vec::new(),
    }
}

pub(crate) fn event(
    sequence: u64,
    call_id: Option<CallId>,
    bytes: impl Into<Bytes>,
) -> StoredEvent {
    let kind = PayloadKind::ToolProgress;
    StoredEvent { sequence, kind, call_id, output: None, bytes: bytes.into() }
}

/// Returns pieces of output of both streams, with a gap.
fn output(call_id: CallId, first: u64) -> Vec<StoredEvent> {
    let piece = |sequence, stream, offset, combined_offset, dropped_bytes_before| {
        let position = OutputPosition { stream, offset, combined_offset, dropped_bytes_before };
        StoredEvent {
            kind: PayloadKind::ToolOutput,
            output: Some((position, 5)),
            ..event(sequence, Some(call_id), vec![0, 255, 10, 128, 39])
        }
    };
    vec![
        piece(first, OutputStream::Stdout, 0, 0, 0),
        piece(first + 1, OutputStream::Stderr, 0, 5, 0),
        piece(first + 2, OutputStream::Stdout, 12, 17, 7),
    ]
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Returns a call of each state, in the foreground and in the background.
fn calls(session: &Session, time: i64) -> Vec<Call> {
    let mut calls = Vec::new();
    for (state, n) in State::ALL.iter().zip(time..) {
        let now = at(n);
        let ended = state.is_terminal().then_some(now);
        let foreground = Call {
            state: *state,
            end_time: ended,
            expire_time: ended.map(|_| at(n + 5_000)),
            reason: "it's \"over\" \\ \u{0} ü 🎈".to_owned(),
            labels: labels(&[("n", &n.to_string()), ("kind", "ü")]),
            ..Call::new(CallId::random(), session, "bash", ToolKind::Command, now)
        };
        calls.push(Call {
            id: CallId::random(),
            park_time: Some(now),
            park_reason: Some(ParkReason::Budget),
            labels: if n % 3 == 0 { Labels::new() } else { foreground.labels.clone() },
            ..foreground.clone()
        });
        calls.push(foreground);
    }
    calls
}

/// Returns a follow-up of each state and each way of delivery.
fn follow_ups(calls: &[Call]) -> Vec<FollowUpPut> {
    let ways = Delivery::ALL.iter();
    let all = ways.flat_map(|way| FollowUpState::ALL.iter().map(move |state| (*way, *state)));
    // Their times are the same, so that their order is that of the storing.
    let put = |((delivery, state), task): ((Delivery, FollowUpState), &Call)| {
        let lease = Lease {
            token: "token".to_owned(),
            request_id: Some("lease".to_owned()),
            consumer: "consumer".to_owned(),
        };
        let record = FollowUp {
            state,
            attempt: 2,
            due_time: state.is_open().then_some(at(50)),
            lease: (state == FollowUpState::Leased).then_some(lease),
            last_error: Some(DeliveryError { code: 14, message: "away".to_owned() }),
            expire_time: (!state.is_open()).then_some(at(5_000)),
            ..FollowUp::new(task, delivery, at(40))
        };
        FollowUpPut { record, task: Some(Box::new(task.clone())) }
    };
    all.zip(calls).map(put).collect()
}

fn requests(session: &Session, calls: &[Call]) -> Vec<RequestRecord> {
    let (session_id, call_id) = (session.id, calls[0].id);
    let effects = [
        RequestEffect::SessionCreated(session_id),
        RequestEffect::SessionClosed(session_id),
        RequestEffect::SessionUpdated(session_id),
        RequestEffect::CallStarted { session_id, call_id },
        RequestEffect::CallCancelled(call_id),
        RequestEffect::CallDeleted(call_id),
        RequestEffect::FollowUpsLeased,
        RequestEffect::FollowUpAcknowledged(call_id),
        RequestEffect::FollowUpRetried(call_id),
    ];
    let request = |(effect, n): (RequestEffect, i64)| RequestRecord {
        tenant: session.tenant.clone(),
        request_id: format!("{session_id} {n}"),
        fingerprint: [9; 32],
        effect,
        create_time: at(n),
    };
    effects.into_iter().zip(0..).map(request).collect()
}

/// Fills a store with sessions of all states, each with everything that a session may have.
pub(crate) async fn fill(store: &dyn Store) -> Vec<Session> {
    let mut sessions = Vec::new();
    for (tenant, n) in TENANTS.iter().zip(0..) {
        for (state, m) in SessionState::ALL.iter().zip(0..) {
            let time = 100 * (3 * n + m);
            let session = Session {
                state: *state,
                labels: labels(&[("state", state.as_str())]),
                implicit: m == 0,
                ..Session::new(SessionId::random(), Tenant::new(tenant), "epoch", at(time))
            };
            fill_session(store, &session, time).await;
            sessions.push(session);
        }
    }
    // A session without calls, which expires.
    let session = Session {
        state: SessionState::Closed,
        ..Session::new(SessionId::random(), Tenant::new(TENANTS[0]), "epoch", at(1))
    };
    store.append(empty(&session, None)).await.expect("stored");
    sessions.push(session);
    sessions
}

async fn fill_session(store: &dyn Store, session: &Session, time: i64) {
    let calls = calls(session, time);
    let mut events: Vec<_> = (1..=20).map(|n| event(n, None, format!("event {n}"))).collect();
    events.push(event(21, Some(calls[0].id), Bytes::new()));
    events.extend(output(calls[1].id, 22));
    events.extend(output(calls[2].id, 25));
    let message = |number| StoredMessage { number, body: format!("{{\"n\":{number}}}") };
    let first = Append {
        events,
        calls: calls.clone(),
        messages: (1..=30).map(message).collect(),
        follow_ups: follow_ups(&calls),
        requests: requests(session, &calls),
        ..empty(session, None)
    };
    store.append(first).await.expect("stored");
    // A call that is deleted leaves its events and its request.
    let deleted = Call { id: CallId::random(), ..calls[1].clone() };
    let request = RequestRecord {
        tenant: session.tenant.clone(),
        request_id: format!("{} deleted", session.id),
        fingerprint: [1; 32],
        effect: RequestEffect::CallCancelled(deleted.id),
        create_time: at(time),
    };
    let second = Append {
        events: output(deleted.id, 28),
        calls: vec![deleted.clone()],
        requests: vec![request],
        ..empty(session, Some(27))
    };
    store.append(second).await.expect("stored");
    let session =
        Session { update_time: Timestamp::from_micros(5_000_000 + time), ..session.clone() };
    let third = Append { deleted_calls: vec![deleted.id], ..empty(&session, Some(30)) };
    store.append(third).await.expect("stored");
}
