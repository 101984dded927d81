//! Calls that have not ended, as recovery reads them.

use super::world::{SessionWriter, at, tenant};
use crate::model::{Call, CallId, SessionId, SessionState, State, Tenant};
use crate::store::Store;

pub(super) async fn live_calls_come_oldest_first(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let mut other = SessionWriter::stored(store, 0).await;
    other.put(store, &[other.call(0)]).await;
    let mut calls = vec![log.task(3), log.call(1), log.call(2), log.task(2), log.ended(0, 9)];
    log.put(store, &calls).await;
    let ended = calls.pop().unwrap();
    calls.sort_by_key(|call| (call.create_time, call.id));
    assert_eq!(store.live_calls(log.id()).await, Ok(calls.clone()));

    let ids = |calls: Vec<Call>| calls.iter().map(|call| call.id).collect::<Vec<CallId>>();
    let lost = Call { state: State::Lost, ..calls.remove(0) };
    log.put(store, &[lost, ended]).await;
    assert_eq!(ids(store.live_calls(log.id()).await.unwrap()), ids(calls));
    assert_eq!(store.live_calls(SessionWriter::new(0).id()).await, Ok(vec![]));
}

pub(super) async fn sessions_with_live_calls_are_paged(store: &dyn Store) {
    let mut live: Vec<SessionId> = Vec::new();
    for n in 0..12 {
        let mut log = SessionWriter::stored(store, 0).await;
        match n % 4 {
            0 => {}
            1 => log.put(store, &[log.ended(0, 9)]).await,
            2 => {
                log.put(store, &[log.call(0), log.task(0)]).await;
                live.push(log.id());
            }
            _ => {
                let call = log.call(0);
                log.put_one(store, &call).await;
                log.put(store, &[Call { state: State::Succeeded, ..call }]).await;
            }
        }
    }
    live.sort();
    assert_eq!(store.sessions_with_live_calls(None, 99).await, Ok(live.clone()));
    assert_eq!(store.sessions_with_live_calls(None, 2).await, Ok(live[..2].to_vec()));
    assert_eq!(store.sessions_with_live_calls(Some(live[1]), 2).await, Ok(live[2..].to_vec()));
    assert_eq!(store.sessions_with_live_calls(Some(live[2]), 2).await, Ok(vec![]));
}

pub(super) async fn the_newest_change_is_that_of_any_session(store: &dyn Store) {
    assert_eq!(store.newest_time().await, Ok(None));
    let mut log = SessionWriter::stored(store, 5).await;
    SessionWriter::stored(store, 3).await;
    assert_eq!(store.newest_time().await, Ok(Some(at(5))));
    log.session.update_time = at(9);
    log.commit(store, log.append()).await;
    assert_eq!(store.newest_time().await, Ok(Some(at(9))));
}

pub(super) async fn open_sessions_are_counted_up_to_a_number(store: &dyn Store) {
    let count = async |count_max| store.open_sessions(&tenant(), count_max).await;
    assert_eq!(count(9).await, Ok(0));
    let states = [SessionState::Open, SessionState::Open, SessionState::Open];
    let others = [SessionState::Closing, SessionState::Closed];
    for state in states.into_iter().chain(others) {
        let mut log = SessionWriter::new(0);
        log.session.state = state;
        log.put(store, &[]).await;
    }
    let mut implicit = SessionWriter::new(0);
    implicit.session.implicit = true;
    implicit.put(store, &[]).await;
    let mut foreign = SessionWriter::new(0);
    foreign.session.tenant = Tenant::new("somebody else");
    foreign.put(store, &[]).await;
    assert_eq!(count(9).await, Ok(3));
    assert_eq!(count(2).await, Ok(2));
}
