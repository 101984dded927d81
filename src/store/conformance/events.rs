//! Reads of logs.

use bytes::Bytes;

use super::world::{SessionWriter, event, keep_all, log_event, read_log, sequences, whole};
use crate::model::{CallId, PayloadKind, SessionId, SessionState};
use crate::store::{Append, EventPage, EventQuery, ExpiryPolicy, Store, StoredEvent};

pub(super) async fn pages_follow_each_other(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    log.write(store, 10).await;
    let page = |after, scan_max| store.events(EventQuery { after, scan_max, ..whole(log.id()) });
    let first = page(0, 4).await.unwrap();
    assert_eq!((sequences(&first), first.scanned_to), (vec![1, 2, 3, 4], 4));
    assert_eq!((first.head, first.first, first.closed), (10, 1, false));
    let second = page(4, 4).await.unwrap();
    assert_eq!((sequences(&second), second.scanned_to), (vec![5, 6, 7, 8], 8));
    let third = page(8, 4).await.unwrap();
    assert_eq!((sequences(&third), third.scanned_to), (vec![9, 10], 10));
    for beyond in [10, 11, u64::MAX] {
        let empty = page(beyond, 4).await.unwrap();
        assert_eq!((sequences(&empty), empty.scanned_to, empty.head), (vec![], beyond, 10));
    }
}

pub(super) async fn the_first_event_may_be_larger_than_the_page(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let sized =
        |sequence, size| StoredEvent { bytes: Bytes::from(vec![0; size]), ..event(sequence) };
    let events = vec![sized(1, 100), sized(2, 10), sized(3, 10), sized(4, 10)];
    log.commit(store, Append { events, ..log.append() }).await;
    let page = |after, bytes_max| store.events(EventQuery { after, bytes_max, ..whole(log.id()) });
    for (after, bytes_max, expected) in [
        (0, 50, &[1][..]),
        (0, 109, &[1]),
        (0, 110, &[1, 2]),
        (1, 20, &[2, 3]),
        (1, 19, &[2]),
        (1, 0, &[2]),
        (1, 30, &[2, 3, 4]),
    ] {
        let page = page(after, bytes_max).await.unwrap();
        assert_eq!(sequences(&page), expected, "after {after}, {bytes_max} bytes");
        assert_eq!(Some(&page.scanned_to), expected.last(), "what is left out comes next");
    }
}

pub(super) async fn filters_keep_matches_and_skip_the_rest(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let (one, two) = (CallId::random(), CallId::random());
    let of = |sequence, kind, call_id| StoredEvent { kind, call_id, ..event(sequence) };
    let events = vec![
        of(1, PayloadKind::ToolCallAccepted, Some(one)),
        of(2, PayloadKind::ToolCallAccepted, Some(two)),
        of(3, PayloadKind::ToolOutput, Some(one)),
        of(4, PayloadKind::ToolCallFinished, Some(one)),
        of(5, PayloadKind::SessionShutdown, None),
    ];
    log.commit(store, Append { events, ..log.append() }).await;
    let (started, output) = (PayloadKind::ToolCallAccepted, PayloadKind::ToolOutput);
    for (kinds, call_id, scan_max, expected, scanned_to) in [
        (vec![], None, 9, &[1, 2, 3, 4, 5][..], 5),
        (vec![started], None, 9, &[1, 2], 5),
        (vec![started, output], None, 9, &[1, 2, 3], 5),
        (vec![], Some(one), 9, &[1, 3, 4], 5),
        (vec![started], Some(two), 9, &[2], 5),
        (vec![output], Some(two), 9, &[], 5),
        (vec![output], None, 2, &[], 2),
        (vec![output], None, 3, &[3], 3),
    ] {
        let query = EventQuery { kinds, call_id, scan_max, ..whole(log.id()) };
        let page = store.events(query.clone()).await.unwrap();
        assert_eq!((&sequences(&page)[..], page.scanned_to), (expected, scanned_to), "{query:?}");
    }
    // An event that does not match takes no space on the page.
    let query = EventQuery { call_id: Some(two), bytes_max: 7, ..whole(log.id()) };
    assert_eq!(store.events(query).await.unwrap().scanned_to, 5);
}

pub(super) async fn an_unknown_session_is_an_empty_log(store: &dyn Store) {
    let query = EventQuery { after: 7, ..whole(SessionId::random()) };
    let (head, first, closed) = (0, 1, false);
    let empty =
        EventPage { events: vec![], scanned_to: 7, head, first, closed, stream_epoch: None };
    assert_eq!(store.events(query).await, Ok(empty));
}

pub(super) async fn the_end_of_a_closed_log_is_marked(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    log.write(store, 1).await;
    for (state, closed) in
        [(SessionState::Open, false), (SessionState::Closing, false), (SessionState::Closed, true)]
    {
        log.session.state = state;
        log.save(store).await;
        assert_eq!(read_log(store, log.id()).await.closed, closed, "{state:?}");
    }
}

pub(super) async fn sessions_do_not_mix(store: &dyn Store) {
    let mut one = SessionWriter::stored(store, 0).await;
    let mut two = SessionWriter::stored(store, 0).await;
    for _ in 0..3 {
        one.write(store, 1).await;
        two.write(store, 2).await;
    }
    assert_eq!(sequences(&read_log(store, one.id()).await), [1, 2, 3]);
    assert_eq!(sequences(&read_log(store, two.id()).await), [1, 2, 3, 4, 5, 6]);
}

/// Reads a log whose rows are together or far apart, page by page, also after the oldest are
/// trimmed.
pub(super) async fn a_log_among_others_is_whole(store: &dyn Store) {
    for foreign_events in [0, 1, 3, 9] {
        let mut log = SessionWriter::stored(store, 0).await;
        let mut other = SessionWriter::stored(store, 0).await;
        for count in 1..=6 {
            log.write(store, count).await;
            other.write(store, count * foreign_events).await;
        }
        let policy = ExpiryPolicy { session_events_max: 19, ..keep_all() };
        for first in [1, 3] {
            let expected: Vec<_> = (first..=21).map(log_event).collect();
            for scan_max in [1, 2, 7, 19, 21, 22, usize::MAX] {
                let mut read = Vec::new();
                let mut after = 0;
                while after < 21 {
                    let query = EventQuery { after, scan_max, ..whole(log.id()) };
                    let page = store.events(query).await.unwrap();
                    assert_eq!((page.head, page.first), (21, first));
                    after = page.scanned_to;
                    read.extend(page.events);
                }
                assert_eq!(read, expected, "{foreign_events} between, {scan_max} at a time");
            }
            while store.expire(policy).await.unwrap().more {}
        }
    }
}
