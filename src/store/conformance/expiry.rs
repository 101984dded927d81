//! Expiry: the rows that are removed, and those that stay.

use super::world::{
    SessionWriter, at, keep_all, knows_request, read_log, request, sequences, tenant, whole,
};
use crate::model::OutputStream::{Stderr, Stdout};
use crate::model::{Call, CallId, Session, SessionState, State, StreamSummary};
use crate::store::{
    Append, ChangeQuery, Expired, ExpiryPolicy, OutputFrom, OutputPage, OutputQuery,
    OutputSelection, RequestEffect, Store,
};

fn now(micros: i64) -> ExpiryPolicy {
    ExpiryPolicy { now: at(micros), ..keep_all() }
}

fn older_than(micros: i64) -> ExpiryPolicy {
    ExpiryPolicy { older_than: at(micros), ..keep_all() }
}

fn calls(calls: u64) -> Expired {
    Expired { calls, ..Expired::default() }
}

fn requests(requests: u64) -> Expired {
    Expired { requests, ..Expired::default() }
}

fn sessions(sessions: u64) -> Expired {
    Expired { sessions, ..Expired::default() }
}

async fn expire(store: &dyn Store, policy: ExpiryPolicy) -> Expired {
    store.expire(policy).await.unwrap()
}

async fn knows_call(store: &dyn Store, id: CallId) -> bool {
    store.call(id).await.unwrap().is_some()
}

async fn knows_session(store: &dyn Store, log: &SessionWriter) -> bool {
    store.session(log.id()).await.unwrap().is_some()
}

pub(super) async fn ended_calls_go_at_their_time(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let ended = log.ended(0, 10);
    let in_foreground = Call { park_time: None, ..log.ended(0, 10) };
    let later = log.ended(0, 11);
    let for_ever = Call { expire_time: None, ..log.ended(0, 0) };
    let live = Call { expire_time: Some(at(1)), ..log.task(0) };
    let all = [&ended, &in_foreground, &later, &for_ever, &live].map(Clone::clone);
    log.put(store, &all).await;
    log.write_output(store, ended.id, &[(Stdout, 0, 1)]).await;

    assert_eq!(expire(store, now(9)).await, calls(0));
    assert!(knows_call(store, ended.id).await);
    assert_eq!(expire(store, now(10)).await, calls(2));
    assert!(!knows_call(store, ended.id).await);
    assert!(!knows_call(store, in_foreground.id).await);
    assert_eq!(output(store, ended.id).await, None);
    assert_eq!(read_log(store, log.id()).await.events.len(), 1, "the log stays");
    assert_eq!(expire(store, now(1_000)).await, calls(1));
    assert!(!knows_call(store, later.id).await);
    assert!(knows_call(store, for_ever.id).await);
    assert!(knows_call(store, live.id).await);
    assert_eq!(store.session(log.id()).await.unwrap().unwrap().live_tasks, 1);
}

async fn output(store: &dyn Store, call_id: CallId) -> Option<OutputPage> {
    let (selection, from) = (OutputSelection::Combined, OutputFrom::Offset(0));
    let query = OutputQuery { call_id, selection, from, bytes_max: u64::MAX };
    store.output(query).await.unwrap()
}

pub(super) async fn a_call_takes_its_requests_along(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let (call, other) = (log.ended(0, 10), log.ended(0, 20));
    let of =
        |call: &Call| RequestEffect::CallStarted { session_id: call.session_id, call_id: call.id };
    let records = vec![
        request("start", of(&call), 5),
        request("cancel", RequestEffect::CallCancelled(call.id), 900),
        request("start other", of(&other), 5),
    ];
    let all = vec![call, other];
    log.commit(store, Append { calls: all, requests: records, ..log.append() }).await;

    assert_eq!(expire(store, older_than(800)).await, requests(0), "they are kept with the call");
    let gone = Expired { calls: 1, requests: 2, ..Expired::default() };
    assert_eq!(expire(store, now(10)).await, gone);
    assert!(!knows_request(store, "start").await);
    assert!(!knows_request(store, "cancel").await);
    assert!(knows_request(store, "start other").await);
    let again = request("start", RequestEffect::CallDeleted(CallId::random()), 30);
    log.commit(store, Append { requests: vec![again], ..log.append() }).await;
}

pub(super) async fn requests_about_no_call_go_by_age(store: &dyn Store) {
    let mut log = SessionWriter::new(0);
    let session_id = log.id();
    let closed = RequestEffect::SessionClosed(session_id);
    let deleted = RequestEffect::CallDeleted(CallId::random());
    let records = vec![
        request("created", RequestEffect::SessionCreated(session_id), 1),
        request("closed", closed, 4),
        request("deleted", deleted.clone(), 5),
        request("later", deleted, 6),
    ];
    log.commit(store, Append { requests: records, ..log.append() }).await;
    assert_eq!(expire(store, older_than(4)).await, requests(0));
    assert_eq!(expire(store, older_than(6)).await, requests(2));
    assert!(!knows_request(store, "closed").await);
    assert!(!knows_request(store, "deleted").await);
    assert!(knows_request(store, "later").await);
    assert!(knows_request(store, "created").await, "it is kept while its session exists");
}

pub(super) async fn requests_of_a_deleted_call_go_by_age(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let call = log.ended(0, 10);
    let records = vec![request("cancel", RequestEffect::CallCancelled(call.id), 5)];
    let all = vec![call.clone()];
    log.commit(store, Append { calls: all, requests: records, ..log.append() }).await;
    let records = vec![request("delete", RequestEffect::CallDeleted(call.id), 7)];
    let deleted_calls = vec![call.id];
    log.commit(store, Append { deleted_calls, requests: records, ..log.append() }).await;
    let late = vec![request("cancel late", RequestEffect::CallCancelled(call.id), 7)];
    log.commit(store, Append { requests: late, ..log.append() }).await;

    assert_eq!(expire(store, now(1_000)).await, requests(0));
    assert!(knows_request(store, "cancel").await);
    assert_eq!(expire(store, older_than(6)).await, requests(1));
    assert!(!knows_request(store, "cancel").await);
    assert_eq!(expire(store, older_than(8)).await, requests(2));
    assert!(!knows_request(store, "delete").await);
    assert!(!knows_request(store, "cancel late").await);
}

pub(super) async fn a_session_goes_when_it_is_done_and_empty(store: &dyn Store) {
    let with = |implicit, state| async move {
        let mut log = SessionWriter::new(0);
        log.session.implicit = implicit;
        log.session.state = state;
        log.session.update_time = at(20);
        log.save(store).await;
        log
    };
    let open = with(false, SessionState::Open).await;
    let closing = with(false, SessionState::Closing).await;
    let closed = with(false, SessionState::Closed).await;
    let implicit = with(true, SessionState::Open).await;
    let mut holding = with(true, SessionState::Open).await;
    holding.put(store, &[holding.ended(0, 50)]).await;
    let mut running = with(false, SessionState::Closed).await;
    running.put(store, &[running.task(0)]).await;

    assert_eq!(expire(store, older_than(20)).await, sessions(0));
    assert_eq!(expire(store, older_than(21)).await, sessions(2));
    assert!(!knows_session(store, &closed).await);
    assert!(!knows_session(store, &implicit).await);
    for log in [&open, &closing, &holding, &running] {
        assert!(knows_session(store, log).await);
    }
    // The call and then its session, in one round.
    let gone = Expired { calls: 1, sessions: 1, ..Expired::default() };
    let policy = ExpiryPolicy { now: at(50), ..older_than(21) };
    assert_eq!(expire(store, policy).await, gone);
    assert!(!knows_session(store, &holding).await);
    // What happens in it keeps a session.
    let ended = Append { deleted_calls: running.live(store).await, ..running.append() };
    running.session.update_time = at(60);
    running.commit(store, Append { session: running.session.clone(), ..ended }).await;
    assert_eq!(expire(store, older_than(60)).await, sessions(0));
    assert_eq!(expire(store, older_than(61)).await, sessions(1));
}

impl SessionWriter {
    async fn live(&self, store: &dyn Store) -> Vec<CallId> {
        let live = store.live_calls(self.id()).await.unwrap();
        live.into_iter().map(|call| call.id).collect()
    }
}

pub(super) async fn a_removed_session_leaves_nothing(store: &dyn Store) {
    let mut log = SessionWriter::new(0);
    log.session.state = SessionState::Closed;
    let made = request("made", RequestEffect::SessionCreated(log.id()), 0);
    log.commit(store, Append { requests: vec![made], ..log.append() }).await;
    log.write(store, 5).await;
    let gone = Expired { sessions: 1, requests: 1, ..Expired::default() };
    assert_eq!(expire(store, older_than(1)).await, gone);
    assert!(!knows_session(store, &log).await);
    assert!(!knows_request(store, "made").await);
    let page = read_log(store, log.id()).await;
    assert_eq!((page.events, page.head), (vec![], 0));

    // A log that is created again starts from the beginning.
    log.head = None;
    log.session.update_time = at(9);
    log.write(store, 2).await;
    assert_eq!(sequences(&read_log(store, log.id()).await), [1, 2]);
}

pub(super) async fn rounds_are_short(store: &dyn Store) {
    let mut log = SessionWriter::new(0);
    log.session.state = SessionState::Closed;
    log.write(store, 7).await;
    let call = log.ended(0, 5);
    let cancelled = RequestEffect::CallCancelled(call.id);
    let of_call = |n: i64| request(&format!("r{n}"), cancelled.clone(), 0);
    let records = (0..3).map(of_call).collect();
    let append = Append { calls: vec![call], requests: records, ..log.append() };
    log.commit(store, append).await;

    // 3 requests, 1 call, 7 events and 1 session: 12 rows, 4 in a round.
    let policy = ExpiryPolicy { now: at(5), older_than: at(5), rows_max: 4, ..keep_all() };
    let more = Expired { more: true, ..Expired::default() };
    assert_eq!(expire(store, policy).await, Expired { calls: 1, requests: 3, ..more });
    assert_eq!(expire(store, policy).await, more);
    let page = read_log(store, log.id()).await;
    assert_eq!((sequences(&page), page.first, page.head), (vec![5, 6, 7], 5, 7));
    assert_eq!(expire(store, policy).await, sessions(1));
    assert_eq!(expire(store, policy).await, sessions(0));

    // A budget that is just enough leaves nothing more to do.
    let mut log = SessionWriter::stored(store, 0).await;
    log.put(store, &[log.ended(0, 1), log.ended(0, 1), log.ended(0, 1)]).await;
    let two = ExpiryPolicy { rows_max: 2, ..now(1) };
    assert_eq!(expire(store, two).await, Expired { more: true, ..calls(2) });
    let one = ExpiryPolicy { rows_max: 1, ..now(1) };
    assert_eq!(expire(store, one).await, calls(1));
}

pub(super) async fn long_logs_lose_their_front(store: &dyn Store) {
    let mut long = SessionWriter::stored(store, 0).await;
    long.write(store, 10).await;
    let mut short = SessionWriter::stored(store, 0).await;
    short.write(store, 4).await;
    let policy = |rows_max| ExpiryPolicy { session_events_max: 4, rows_max, ..keep_all() };
    assert_eq!(
        expire(store, policy(5)).await,
        Expired { events: 5, more: true, ..Expired::default() }
    );
    assert_eq!(expire(store, policy(5)).await, Expired { events: 1, ..Expired::default() });
    assert_eq!(expire(store, policy(5)).await, Expired::default());

    let page = read_log(store, long.id()).await;
    assert_eq!((sequences(&page), page.first, page.head), (vec![7, 8, 9, 10], 7, 10));
    let scanned = crate::store::EventQuery { scan_max: 0, ..whole(long.id()) };
    let scanned = store.events(scanned).await.unwrap();
    assert_eq!(scanned.scanned_to, 6, "a reader isn't sent through what is gone");
    assert_eq!(sequences(&read_log(store, short.id()).await), [1, 2, 3, 4]);
    long.write(store, 1).await;
    let session = Session { head_sequence: 11, first_sequence: 7, ..long.session.clone() };
    assert_eq!(store.session(long.id()).await, Ok(Some(session)));
    assert_eq!(expire(store, policy(5)).await.events, 1, "it has grown again");
    let nothing = ExpiryPolicy { session_events_max: 0, ..keep_all() };
    assert_eq!(expire(store, nothing).await.events, 8);
    let page = read_log(store, long.id()).await;
    assert_eq!((page.events, page.scanned_to, page.first, page.head), (vec![], 11, 12, 11));
}

pub(super) async fn trimmed_output_is_counted_as_dropped(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let call = log.task(0);
    log.put_one(store, &call).await;
    let pieces = [(Stdout, 0, 4), (Stderr, 0, 2), (Stdout, 3, 5), (Stdout, 0, 1)];
    let events = log.write_output(store, call.id, &pieces).await;
    expire(store, ExpiryPolicy { session_events_max: 3, ..keep_all() }).await;

    let page = output(store, call.id).await.unwrap();
    assert_eq!(page.pieces, events[1..]);
    let summary = |total_bytes, kept_bytes, cut_offset| StreamSummary {
        total_bytes,
        kept_bytes,
        dropped_bytes: total_bytes - kept_bytes,
        cut_offset,
    };
    assert_eq!(page.stdout, summary(13, 6, Some(0)));
    assert_eq!(page.stderr, summary(2, 2, None));
    assert_eq!(page.combined, summary(15, 8, Some(0)));
    let tail = OutputQuery {
        call_id: call.id,
        selection: OutputSelection::Stdout,
        from: OutputFrom::Tail(100),
        bytes_max: 100,
    };
    assert_eq!(store.output(tail).await.unwrap().unwrap().pieces, events[2..]);
    log.write(store, 1).await;
    expire(store, ExpiryPolicy { session_events_max: 1, ..keep_all() }).await;
    let page = output(store, call.id).await.unwrap();
    assert_eq!((page.pieces, page.stdout), (vec![], summary(13, 0, Some(0))));
}

pub(super) async fn change_numbers_do_not_go_back(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let (one, two) = (log.task(0), log.ended(0, 1));
    log.put(store, &[one.clone(), two]).await;
    expire(store, now(1)).await;
    let deleted_calls = vec![one.id];
    log.commit(store, Append { deleted_calls, ..log.append() }).await;
    let query = ChangeQuery { tenant: tenant(), session_id: None, after: 0, limit: 9 };
    let page = store.changes(query.clone()).await.unwrap();
    assert_eq!((page.calls, page.change), (vec![], 2));
    let next = Call { state: State::Pending, ..log.task(1) };
    log.put(store, &[next]).await;
    assert_eq!(store.changes(query).await.unwrap().change, 3);
}
