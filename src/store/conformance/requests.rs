//! Request ids: each has at most one effect.

use futures::future::join_all;

use super::world::{SessionWriter, event, knows_request, read_log, request, sequences, tenant};
use crate::model::{CallId, Session, SessionId, Tenant};
use crate::store::{Append, RequestEffect, RequestRecord, Store, StoreError};

pub(super) async fn every_effect_comes_back(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let (session_id, call_id) = (SessionId::random(), CallId::random());
    let effects = [
        RequestEffect::SessionCreated(session_id),
        RequestEffect::SessionClosed(session_id),
        RequestEffect::CallStarted { session_id, call_id },
        RequestEffect::CallCancelled(call_id),
        RequestEffect::CallDeleted(call_id),
        RequestEffect::FollowUpsLeased,
        RequestEffect::FollowUpAcknowledged(call_id),
        RequestEffect::FollowUpRetried(call_id),
    ];
    let numbered = effects.into_iter().zip(0..);
    let requests: Vec<_> =
        numbered.map(|(effect, n)| request(&format!("r{n}"), effect, n)).collect();
    log.commit(store, Append { requests: requests.clone(), ..log.append() }).await;
    for request in requests {
        assert_eq!(store.request(&tenant(), &request.request_id).await, Ok(Some(request)));
    }
    assert_eq!(store.request(&tenant(), "other").await, Ok(None));
}

pub(super) async fn tenants_do_not_share_ids(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let mine = request("same", RequestEffect::SessionCreated(log.id()), 0);
    let theirs = RequestRecord {
        tenant: Tenant::new("other"),
        fingerprint: [9; 32],
        ..request("same", RequestEffect::CallDeleted(CallId::random()), 1)
    };
    for record in [&mine, &theirs] {
        let append = Append { requests: vec![record.clone()], ..log.append() };
        log.commit(store, append).await;
    }
    assert_eq!(store.request(&mine.tenant, "same").await, Ok(Some(mine.clone())));
    assert_eq!(store.request(&theirs.tenant, "same").await, Ok(Some(theirs.clone())));
    assert_eq!(store.request(&Tenant::new("third"), "same").await, Ok(None));
}

pub(super) async fn a_taken_id_leaves_nothing(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let first = request("taken", RequestEffect::SessionCreated(log.id()), 0);
    log.commit(store, Append { requests: vec![first.clone()], ..log.append() }).await;

    let call = log.call(0);
    let append = Append {
        events: vec![event(1)],
        session: Session { description: "changed".to_owned(), ..log.session.clone() },
        calls: vec![call.clone()],
        requests: vec![
            request("free", RequestEffect::CallDeleted(call.id), 1),
            request("taken", RequestEffect::CallDeleted(call.id), 1),
        ],
        ..log.append()
    };
    let taken = StoreError::RequestTaken { request_id: "taken".to_owned() };
    assert_eq!(store.append(append).await, Err(taken));
    assert_eq!(store.request(&tenant(), "taken").await, Ok(Some(first)));
    assert!(!knows_request(store, "free").await);
    assert_eq!(store.call(call.id).await, Ok(None));
    assert_eq!(store.session(log.id()).await, Ok(Some(log.session.clone())));
    assert_eq!(read_log(store, log.id()).await.head, 0);

    let mut new = SessionWriter::new(0);
    let append = Append { requests: vec![request("taken", created(&new), 2)], ..new.append() };
    store.append(append).await.unwrap_err();
    assert_eq!(store.session(new.id()).await, Ok(None));
    new.save(store).await;
}

fn created(log: &SessionWriter) -> RequestEffect {
    RequestEffect::SessionCreated(log.id())
}

pub(super) async fn an_id_is_used_once_in_an_append(store: &dyn Store) {
    let log = SessionWriter::new(0);
    let twice = request("twice", created(&log), 0);
    let append = Append { requests: vec![twice.clone(), twice], ..log.append() };
    let taken = StoreError::RequestTaken { request_id: "twice".to_owned() };
    assert_eq!(store.append(append).await, Err(taken));
    assert_eq!(store.session(log.id()).await, Ok(None));
    assert!(!knows_request(store, "twice").await);
}

pub(super) async fn neighbours_of_a_taken_id_go_on(store: &dyn Store) {
    let write = |n: i64| async move {
        let mut log = SessionWriter::new(n);
        // Every other one wants the same id.
        let id = if n % 2 == 0 { "same".to_owned() } else { format!("own {n}") };
        let requests = vec![request(&id, created(&log), n)];
        let events = vec![event(1)];
        let result = store.append(Append { requests, events, ..log.append() }).await;
        if result.is_ok() {
            log.head = Some(1);
            log.write(store, 1).await;
        }
        (n, log.id(), result)
    };
    let mut winners = Vec::new();
    for (n, id, result) in join_all((0..64).map(write)).await {
        let stored = sequences(&read_log(store, id).await);
        match result {
            Ok(()) => {
                assert_eq!(stored, [1, 2]);
                winners.push((n, id));
            }
            Err(error) => {
                assert_eq!(error, StoreError::RequestTaken { request_id: "same".to_owned() });
                assert_eq!(stored, [] as [u64; 0]);
            }
        }
    }
    assert_eq!(winners.len(), 33);
    let shared = winners.iter().find(|(n, _)| n % 2 == 0).unwrap();
    let record = store.request(&tenant(), "same").await.unwrap().unwrap();
    assert_eq!(record.effect, RequestEffect::SessionCreated(shared.1));
}
