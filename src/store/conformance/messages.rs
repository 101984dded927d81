//! The history of a session: its newest messages.

use super::world::{SessionWriter, at, keep_all};
use crate::model::limits::HISTORY_MESSAGES_MAX;
use crate::model::{SessionId, SessionState};
use crate::store::{
    Append, ExpiryPolicy, MessagePage, MessageSlice, Store, StoreError, StoredMessage,
};

fn message(number: u64) -> StoredMessage {
    StoredMessage { number, body: format!("{{\"n\":{number:04}}}") }
}

/// Bytes of each of them.
const SIZE: u64 = 10;

async fn put(store: &dyn Store, log: &mut SessionWriter, from: u64, to: u64) {
    let messages = (from..=to).map(message).collect();
    log.commit(store, Append { messages, ..log.append() }).await;
}

pub(super) async fn the_newest_that_fit_come_back_in_order(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    assert_eq!(store.messages(log.id(), 1_000).await, Ok(MessagePage::default()));
    put(store, &mut log, 1, 3).await;
    put(store, &mut log, 4, 5).await;
    for (room, first) in
        [(1_000, 1), (5 * SIZE, 1), (5 * SIZE - 1, 2), (2 * SIZE, 4), (SIZE - 1, 6)]
    {
        let page = MessagePage { messages: (first..=5).map(message).collect(), omitted: first - 1 };
        assert_eq!(store.messages(log.id(), room).await, Ok(page), "in {room} bytes");
    }
    assert_eq!(store.messages(SessionId::random(), 9).await, Ok(MessagePage::default()));
}

pub(super) async fn the_oldest_are_forgotten(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    put(store, &mut log, 1, HISTORY_MESSAGES_MAX).await;
    put(store, &mut log, HISTORY_MESSAGES_MAX + 1, HISTORY_MESSAGES_MAX + 2).await;
    let page = store.messages(log.id(), u64::MAX).await.unwrap();
    assert_eq!((page.messages.len() as u64, page.omitted), (HISTORY_MESSAGES_MAX, 2));
    assert_eq!(page.messages.first(), Some(&message(3)));
}

pub(super) async fn pages_of_a_history_are_in_order(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    put(store, &mut log, 1, 5).await;
    let id = log.id();
    let bytes = SIZE as usize;
    for (after, limit, bytes_max, numbers, has_more) in [
        (0, 9, 1_000, 1..=5, false),
        (0, 5, 1_000, 1..=5, false),
        (0, 2, 1_000, 1..=2, true),
        (2, 2, 1_000, 3..=4, true),
        (4, 2, 1_000, 5..=5, false),
        (0, 9, 3 * bytes, 1..=3, true),
        // At least one, however large.
        (3, 9, bytes - 1, 4..=4, true),
    ] {
        let messages = numbers.map(message).collect();
        let expected = MessageSlice { messages, has_more };
        let page = store.messages_after(id, after, limit, bytes_max).await;
        assert_eq!(page, Ok(expected), "{limit} after {after} in {bytes_max} bytes");
    }
    assert_eq!(store.messages_after(id, 5, 9, 1_000).await, Ok(MessageSlice::default()));
    let unknown = store.messages_after(SessionId::random(), 0, 9, 1_000).await;
    assert_eq!(unknown, Ok(MessageSlice::default()));
}

pub(super) async fn messages_go_in_with_the_rest_or_not_at_all(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    put(store, &mut log, 1, 1).await;
    let gap = Append { messages: vec![message(2), message(4)], ..log.append() };
    assert!(matches!(store.append(gap).await, Err(StoreError::Conflict { .. })));
    let stale = Append { messages: vec![message(2)], expected_head: Some(7), ..log.append() };
    assert!(matches!(store.append(stale).await, Err(StoreError::Conflict { .. })));
    let page = store.messages(log.id(), 1_000).await.unwrap();
    assert_eq!(page.messages, [message(1)]);
}

pub(super) async fn a_history_goes_with_its_session(store: &dyn Store) {
    let mut log = SessionWriter::new(0);
    log.session.state = SessionState::Closed;
    log.commit(store, log.append()).await;
    put(store, &mut log, 1, 5).await;
    // 5 messages and 1 session: 6 rows, 4 in a round.
    let policy = ExpiryPolicy { now: at(9), older_than: at(9), rows_max: 4, ..keep_all() };
    let first = store.expire(policy).await.unwrap();
    assert_eq!((first.sessions, first.more), (0, true));
    assert_eq!(store.messages(log.id(), 1_000).await.unwrap().messages.len(), 1);
    let second = store.expire(policy).await.unwrap();
    assert_eq!((second.sessions, second.more), (1, false));
    assert_eq!(store.messages(log.id(), 1_000).await, Ok(MessagePage::default()));
}
