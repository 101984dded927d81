//! Concurrent appends and reads.

use futures::future::join_all;

use super::world::{SessionWriter, event, read_log, sequences, tenant};
use crate::model::{Call, State};
use crate::store::{Append, CallQuery, ChangeQuery, Store, StoreError};

pub(super) async fn many_sessions_are_written_at_once(store: &dyn Store) {
    let write = |n| async move {
        let mut log = SessionWriter::new(n);
        let call = log.task(n);
        log.put_one(store, &call).await;
        for _ in 0..10 {
            log.write(store, 2).await;
        }
        log.put(store, &[Call { state: State::Succeeded, ..call }]).await;
        log
    };
    for log in join_all((0..64).map(write)).await {
        let expected: Vec<u64> = (1..=20).collect();
        assert_eq!(sequences(&read_log(store, log.id()).await), expected);
        let session = store.session(log.id()).await.unwrap().unwrap();
        assert_eq!((session.head_sequence, session.live_tasks), (20, 0));
    }
    let query = ChangeQuery { tenant: tenant(), session_id: None, after: 0, limit: 100 };
    let page = store.changes(query).await.unwrap();
    assert_eq!((page.calls.len(), page.change, page.more), (64, 128, false));
}

pub(super) async fn one_of_many_writers_wins(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    for sequence in 1..=5 {
        let write = |n| {
            let call = log.task(n);
            let (events, calls) = (vec![event(sequence)], vec![call.clone()]);
            let append = Append { events, calls, ..log.append() };
            async move { (call, store.append(append).await) }
        };
        let results = join_all((0..64).map(write)).await;
        let (won, lost): (Vec<_>, Vec<_>) =
            results.into_iter().partition(|(_, result)| result.is_ok());
        assert_eq!((won.len(), lost.len()), (1, 63));
        for (call, result) in lost {
            assert_eq!(result, Err(StoreError::Conflict { head: Some(sequence) }));
            assert_eq!(store.call(call.id).await, Ok(None));
        }
        assert_eq!(store.call(won[0].0.id).await, Ok(Some(won[0].0.clone())));
        log.head = Some(sequence);
    }
    assert_eq!(sequences(&read_log(store, log.id()).await), [1, 2, 3, 4, 5]);
}

pub(super) async fn reads_see_whole_appends(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let id = log.id();
    // Two events and one task each: a read shows all three or none.
    let write = async {
        for n in 0..100 {
            let events = vec![event(2 * n + 1), event(2 * n + 2)];
            let calls = vec![log.task(n as i64)];
            log.commit(store, Append { events, calls, ..log.append() }).await;
            // A store in memory answers at once: the reader needs its turn.
            tokio::task::yield_now().await;
        }
    };
    let query = CallQuery { session_id: Some(id), ..CallQuery::newest(tenant(), 1_000) };
    let read = async {
        loop {
            let page = read_log(store, id).await;
            assert_eq!(page.events.len() as u64, page.head);
            assert_eq!(page.head % 2, 0);
            let tasks = store.calls(query.clone()).await.unwrap();
            assert_eq!(tasks.calls.len() as u64, tasks.change);
            assert!(tasks.calls.len() as u64 >= page.head / 2, "what was seen stays");
            if page.head == 200 {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(write, read);
}
