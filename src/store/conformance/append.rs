//! Appends: all or nothing.

use std::time::Duration;

use bytes::Bytes;

use super::world::{
    SessionWriter, at, conflict, event, keep_all, knows_request, labels, log_event, read_log,
    request, sequences, tenant, whole,
};
use crate::model::{
    Budget, Call, CallId, CallPolicy, CancelCause, Cancellation, Failure, FailureCode,
    FollowUpPolicy, OnDisconnect, OnRestart, Outcome, OutputStream, PayloadKind, Progress, Session,
    SessionState, State, StopCause, Stopping, Survivor, TaskLimitPolicy, Timestamp, ToolKind,
    TurnId, Usage,
};
use crate::store::{
    Append, CallQuery, ChangeQuery, LogEvent, OutputFrom, OutputQuery, OutputSelection,
    RequestEffect, Store, StoreError, StoredEvent,
};

pub(super) async fn a_new_session_can_be_read(store: &dyn Store) {
    let log = SessionWriter::stored(store, 0).await;
    assert_eq!(store.session(log.id()).await, Ok(Some(log.session.clone())));
    assert_eq!(store.session(SessionWriter::new(0).id()).await, Ok(None));
}

pub(super) async fn everything_in_an_append_can_be_read(store: &dyn Store) {
    let mut log = SessionWriter::new(0);
    let call = log.call(1);
    let made = request("made", RequestEffect::SessionCreated(log.id()), 0);
    log.commit(
        store,
        Append {
            events: vec![event(1), event(2)],
            calls: vec![call.clone()],
            requests: vec![made.clone()],
            ..log.append()
        },
    )
    .await;
    let session = Session { head_sequence: 2, live_tasks: 1, ..log.session.clone() };
    assert_eq!(store.session(log.id()).await, Ok(Some(session)));
    assert_eq!(read_log(store, log.id()).await.events, [log_event(1), log_event(2)]);
    assert_eq!(store.call(call.id).await, Ok(Some(call.clone())));
    assert_eq!(store.request(&tenant(), "made").await, Ok(Some(made)));
}

pub(super) async fn every_field_comes_back(store: &dyn Store) {
    let mut log = SessionWriter::new(0);
    log.session = full_session(log.session);
    let call = full_call(log.call(3));
    log.put_one(store, &call).await;
    assert_eq!(store.session(log.id()).await, Ok(Some(log.session.clone())));
    assert_eq!(store.call(call.id).await, Ok(Some(call)));

    log.session.description = "another".to_owned();
    log.session.update_time = at(9);
    log.save(store).await;
    assert_eq!(store.session(log.id()).await, Ok(Some(log.session.clone())));
}

fn full_session(session: Session) -> Session {
    Session {
        state: SessionState::Closing,
        description: "what it is for".to_owned(),
        labels: labels(&[("a", "1"), ("b", "\"quoted\"\0é")]),
        allowed_tools: ["bash".to_owned()].into(),
        model: "model".to_owned(),
        system_message: "be brief".repeat(10_000).into(),
        max_rounds: 12,
        working_directory: "/tmp".to_owned(),
        max_live_tasks: 3,
        task_limit_policy: TaskLimitPolicy::EvictOldest,
        follow_up: FollowUpPolicy::OnFailure,
        on_restart: OnRestart::Lose,
        budget: Budget { max_cost_usd: Some(0.1), max_tokens: Some(7) },
        implicit: true,
        depth: 2,
        close_time: Some(at(5)),
        close_reason: "done".to_owned(),
        cancelled_tasks: 2,
        detached_tasks: 1,
        update_time: Timestamp::from_micros(i64::MAX),
        ..session
    }
}

fn full_call(call: Call) -> Call {
    Call {
        turn_id: Some(TurnId::random()),
        kind: ToolKind::Agent,
        description: "why".to_owned(),
        state: State::Lost,
        reason: "gone".to_owned(),
        end_time: Some(at(7)),
        park_time: Some(at(4)),
        expire_time: Some(at(8)),
        attempt: 2,
        parent: Some(CallId::random()),
        progress: Some(Progress { done: 0.25, total: Some(4.0), message: "m".to_owned() }),
        outcome: Some(Outcome::Failure(Failure {
            code: FailureCode::HostLost,
            message: "start it again".to_owned(),
        })),
        usage: Some(Usage { input_tokens: 1, cost_usd: 0.5, ..Usage::default() }),
        cancellation: Some(Cancellation {
            request_time: at(5),
            requested_by: "someone".to_owned(),
            reason: "why not".to_owned(),
            acknowledged_time: Some(at(6)),
            cause: CancelCause::Evicted,
            survivors: vec![Survivor { pid: 7, command: "sleep".to_owned() }],
        }),
        stopping: Some(Stopping { cause: StopCause::IdleTimeout, time: at(5) }),
        labels: labels(&[("team", "blue")]),
        policy: CallPolicy {
            call_budget: Some(Duration::from_millis(1_500)),
            execution_timeout: Some(Duration::from_nanos(1)),
            on_disconnect: OnDisconnect::Cancel,
            follow_up: FollowUpPolicy::OnFailure,
            detached: true,
            max_output_bytes: u64::MAX,
            exclusive: true,
            queued: true,
            ..CallPolicy::default()
        },
        acknowledge_time: Some(at(9)),
        revision: 17,
        accept_sequence: 4,
        ..call
    }
}

pub(super) async fn events_come_back_byte_for_byte(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let call_id = CallId::random();
    let kinds = (1..=u8::MAX).filter_map(PayloadKind::from_number);
    let mut events: Vec<StoredEvent> = kinds
        .zip(1..)
        .map(|(kind, sequence)| StoredEvent { kind, call_id: Some(call_id), ..event(sequence) })
        .collect();
    events[0].bytes = Bytes::new();
    events[1].bytes = (0..=u8::MAX).cycle().take(300_000).collect();
    events[2].call_id = None;
    log.commit(store, Append { events: events.clone(), ..log.append() }).await;
    let read: Vec<LogEvent> = events.iter().map(LogEvent::from).collect();
    assert_eq!(read_log(store, log.id()).await.events, read);
}

pub(super) async fn a_wrong_head_leaves_nothing(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let kept = log.call(0);
    log.put_one(store, &kept).await;
    log.write(store, 2).await;
    let before = store.session(log.id()).await;
    let change = newest_change(store).await;

    let new = log.task(1);
    for wrong in [None, Some(0), Some(1), Some(3)] {
        let append = Append {
            expected_head: wrong,
            events: vec![event(wrong.unwrap_or(0) + 1)],
            session: Session { description: "changed".to_owned(), ..log.session.clone() },
            calls: vec![new.clone()],
            deleted_calls: vec![kept.id],
            requests: vec![request("r", RequestEffect::CallDeleted(kept.id), 0)],
            ..log.append()
        };
        assert_eq!(store.append(append).await, conflict(Some(2)), "{wrong:?}");
    }
    assert_eq!(store.session(log.id()).await, before);
    assert_eq!(sequences(&read_log(store, log.id()).await), [1, 2]);
    assert_eq!(store.call(new.id).await, Ok(None));
    assert_eq!(store.call(kept.id).await, Ok(Some(kept)));
    assert!(!knows_request(store, "r").await);
    assert_eq!(newest_change(store).await, change);
}

async fn newest_change(store: &dyn Store) -> u64 {
    let query = ChangeQuery { tenant: tenant(), session_id: None, after: 0, limit: 1_000 };
    store.changes(query).await.unwrap().change
}

pub(super) async fn a_session_is_made_once(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let again = Append { expected_head: None, ..log.append() };
    assert_eq!(store.append(again.clone()).await, conflict(Some(0)));
    log.write(store, 3).await;
    assert_eq!(store.append(again).await, conflict(Some(3)));
}

pub(super) async fn an_unknown_session_has_no_head(store: &dyn Store) {
    let log = SessionWriter::new(0);
    let append = Append { expected_head: Some(0), ..log.append() };
    assert_eq!(store.append(append).await, conflict(None));
    assert_eq!(store.session(log.id()).await, Ok(None));
}

pub(super) async fn sequences_have_no_gap(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    log.write(store, 2).await;
    for wrong in [&[2][..], &[4], &[3, 5], &[3, 3], &[4, 3], &[0], &[u64::MAX]] {
        let events = wrong.iter().copied().map(event).collect();
        let append = Append { events, ..log.append() };
        assert_eq!(store.append(append).await, conflict(Some(2)), "{wrong:?}");
    }
    let new = SessionWriter::new(0);
    let append = Append { events: vec![event(2)], ..new.append() };
    assert_eq!(store.append(append).await, conflict(None));
    assert_eq!(sequences(&read_log(store, log.id()).await), [1, 2]);
    assert_eq!(store.session(new.id()).await, Ok(None));
}

pub(super) async fn an_append_must_not_contradict_itself(store: &dyn Store) {
    let log = SessionWriter::stored(store, 0).await;
    let mut other = SessionWriter::stored(store, 0).await;
    let (call, foreign) = (log.call(1), other.call(1));
    other.put_one(store, &foreign).await;
    let stolen = Call { session_id: log.id(), ..foreign.clone() };
    let of = |calls| Append { calls, ..log.append() };
    for wrong in [
        of(vec![foreign.clone()]),
        of(vec![stolen]),
        of(vec![call.clone(), call.clone()]),
        Append { session: other.session.clone(), ..log.append() },
    ] {
        assert_eq!(store.append(wrong).await, conflict(Some(0)));
    }
    assert_eq!(store.call(call.id).await, Ok(None));
    assert_eq!(store.call(foreign.id).await, Ok(Some(foreign)));
}

pub(super) async fn without_events_the_head_stays(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    log.write(store, 1).await;
    log.session.labels = labels(&[("new", "label")]);
    log.save(store).await;
    let session = store.session(log.id()).await.unwrap().unwrap();
    assert_eq!((session.head_sequence, session.labels), (1, labels(&[("new", "label")])));
    log.write(store, 1).await;
    assert_eq!(sequences(&read_log(store, log.id()).await), [1, 2]);
}

pub(super) async fn the_store_knows_head_first_and_live(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    // The values that the caller gives for them are ignored.
    log.session.head_sequence = 77;
    log.session.first_sequence = 55;
    log.session.live_tasks = 33;
    let (mut one, two) = (log.call(0), log.task(0));
    log.write(store, 2).await;
    log.put(store, &[one.clone(), two.clone()]).await;
    assert_eq!(counts(store, &log).await, (2, 1, 2));
    log.put_one(store, &two).await;
    assert_eq!(counts(store, &log).await, (2, 1, 2), "an update is no second call");
    one.state = State::Failed;
    log.put_one(store, &one).await;
    assert_eq!(counts(store, &log).await, (2, 1, 1));
    log.put_one(store, &one).await;
    assert_eq!(counts(store, &log).await, (2, 1, 1), "it ends once");
    let deleted = Append { deleted_calls: vec![one.id, two.id], ..log.append() };
    log.commit(store, deleted).await;
    assert_eq!(counts(store, &log).await, (2, 1, 0));
}

async fn counts(store: &dyn Store, log: &SessionWriter) -> (u64, u64, u32) {
    let session = store.session(log.id()).await.unwrap().unwrap();
    (session.head_sequence, session.first_sequence, session.live_tasks)
}

pub(super) async fn a_deleted_call_is_gone_but_its_events_stay(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let call = log.task(0);
    log.commit(
        store,
        Append {
            calls: vec![call.clone()],
            requests: vec![request("start", started(&log, &call), 0)],
            ..log.append()
        },
    )
    .await;
    let pieces = [(OutputStream::Stdout, 0, 4), (OutputStream::Stdout, 0, 4)];
    let events = log.write_output(store, call.id, &pieces).await;
    log.commit(
        store,
        Append {
            deleted_calls: vec![call.id, CallId::random()],
            requests: vec![request("delete", RequestEffect::CallDeleted(call.id), 0)],
            ..log.append()
        },
    )
    .await;

    assert_eq!(store.call(call.id).await, Ok(None));
    assert_eq!(store.live_calls(log.id()).await, Ok(vec![]));
    let listed = store.calls(all_tasks()).await.unwrap();
    assert_eq!(listed.calls, []);
    let (selection, from) = (OutputSelection::Combined, OutputFrom::Offset(0));
    let output = OutputQuery { call_id: call.id, selection, from, bytes_max: 100 };
    assert_eq!(store.output(output).await, Ok(None));
    let of_call = crate::store::EventQuery { call_id: Some(call.id), ..whole(log.id()) };
    let read: Vec<LogEvent> = events.iter().map(LogEvent::from).collect();
    assert_eq!(store.events(of_call).await.unwrap().events, read);
    // So that a repetition of either gets the answer of the first time.
    store.expire(keep_all()).await.unwrap();
    assert!(knows_request(store, "start").await);
    assert!(knows_request(store, "delete").await);
}

fn started(log: &SessionWriter, call: &Call) -> RequestEffect {
    RequestEffect::CallStarted { session_id: log.id(), call_id: call.id }
}

fn all_tasks() -> CallQuery {
    CallQuery::newest(tenant(), 100)
}

pub(super) async fn only_its_own_session_deletes_a_call(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let mut other = SessionWriter::stored(store, 0).await;
    let call = log.call(0);
    log.put_one(store, &call).await;
    let foreign = Append { deleted_calls: vec![call.id], ..other.append() };
    other.commit(store, foreign).await;
    assert_eq!(store.call(call.id).await, Ok(Some(call)));
    assert_eq!(counts(store, &log).await, (0, 1, 1));
}

pub(super) async fn a_closed_store_says_so(store: &dyn Store) {
    let log = SessionWriter::stored(store, 0).await;
    assert_eq!(store.check().await, Ok(()));
    store.close().await;
    store.close().await;
    let closed = |error: StoreError| matches!(error, StoreError::Unavailable(_));
    assert!(closed(store.check().await.unwrap_err()));
    assert!(closed(store.append(log.append()).await.unwrap_err()));
    assert!(closed(store.session(log.id()).await.unwrap_err()));
    assert!(closed(store.events(whole(log.id())).await.unwrap_err()));
    assert!(closed(store.expire(keep_all()).await.unwrap_err()));
}
