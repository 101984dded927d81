//! The ownership of sessions, by leases and claims.

use std::sync::Arc;
use std::time::Duration;

use callpark::internals::telemetry::Metrics;
use callpark::model::{Labels, Session, SessionId};
use callpark::store::conformance::check_all;
use callpark::store::{
    Append, Claimed, PostgresOpenError, PostgresOptions, PostgresStore, RemoteChange, Renewed,
    ReplicaState, Replicas, Store, StoreError,
};

use super::{end_lease, join, open, options};
use futures::StreamExt as _;

use crate::cluster::shared;
use crate::load::{append, session};

const A: &str = "http://a:1";
const B: &str = "http://b:1";

pub(super) fn replicas(store: &PostgresStore) -> Arc<dyn Replicas> {
    store.replicas().expect("a replica")
}

async fn claim(store: &PostgresStore, id: SessionId) -> Claimed {
    replicas(store).claim(id).await.expect("an answer")
}

/// Returns the number of a claim that has succeeded.
pub(super) async fn own(store: &PostgresStore, id: SessionId) -> u64 {
    match claim(store, id).await {
        Claimed::Own { claim } => claim,
        other => panic!("{other:?}"),
    }
}

/// Frees a session.
pub(super) async fn release(store: &PostgresStore, id: SessionId, number: u64) {
    replicas(store).release(id, number).await.expect("sent");
    // The writer answers this after the release.
    assert_eq!(claim(store, SessionId::random()).await, Claimed::Missing);
}

fn elsewhere(address: &str) -> Claimed {
    Claimed::Other { address: address.to_owned() }
}

/// Returns an append without tasks.
pub(super) fn quiet(session: &Session, head: Option<u64>) -> Append {
    Append { calls: Vec::new(), ..append(session, head) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_follows_the_rules_of_stores() {
    check_all(async || {
        let cluster = shared();
        join(cluster, &cluster.database(), A).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_of_a_session_appends() {
    let cluster = shared();
    let database = cluster.database();
    let (a, b) = (join(cluster, &database, A).await, join(cluster, &database, B).await);
    let session = session();
    a.append(quiet(&session, None)).await.expect("its creator owns it");
    assert_eq!(b.append(quiet(&session, Some(1))).await, Err(StoreError::NotOwner));
    assert_eq!(claim(&b, session.id).await, elsewhere(A));
    a.append(quiet(&session, Some(1))).await.expect("still its own");
    release(&a, session.id, 0).await;
    own(&b, session.id).await;
    assert_eq!(a.append(quiet(&session, Some(2))).await, Err(StoreError::NotOwner));
    b.append(quiet(&session, Some(2))).await.expect("its owner");
    assert_eq!(claim(&a, session.id).await, elsewhere(B));
    assert_eq!(claim(&a, SessionId::random()).await, Claimed::Missing);
    // One with live calls is never free: nobody would take it over.
    let busy = crate::load::session();
    a.append(append(&busy, None)).await.expect("stored");
    release(&a, busy.id, 0).await;
    assert_eq!(claim(&b, busy.id).await, elsewhere(A));
    // A batch with appends to own and other sessions refuses the others only.
    let new = crate::load::session();
    let (own, other) =
        tokio::join!(b.append(quiet(&new, None)), a.append(quiet(&session, Some(3))));
    assert_eq!((own, other), (Ok(()), Err(StoreError::NotOwner)));
    for store in [a, b] {
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_release_does_not_undo_a_newer_claim() {
    let cluster = shared();
    let database = cluster.database();
    let (a, b) = (join(cluster, &database, A).await, join(cluster, &database, B).await);
    let session = session();
    a.append(quiet(&session, None)).await.expect("stored");
    let (first, second) = (own(&a, session.id).await, own(&a, session.id).await);
    assert!(0 < first && first < second, "{first} {second}");
    for late in [0, first] {
        release(&a, session.id, late).await;
        assert_eq!(claim(&b, session.id).await, elsewhere(A), "{late}");
    }
    // The writer makes releases and claims in the order in which they are sent.
    replicas(&a).release(session.id, second).await.expect("sent");
    own(&a, session.id).await;
    assert_eq!(claim(&b, session.id).await, elsewhere(A));
    for store in [a, b] {
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_declared_dead_writes_nothing_more() {
    let cluster = shared();
    let database = cluster.database();
    let (a, b) = (join(cluster, &database, A).await, join(cluster, &database, B).await);
    let (busy, idle) = (session(), session());
    a.append(append(&busy, None)).await.expect("stored");
    a.append(quiet(&idle, None)).await.expect("stored");
    let take_over = async || replicas(&b).take_over(10).await.expect("an answer");
    assert_eq!(take_over().await, [], "its lease is valid");
    assert_eq!(claim(&b, busy.id).await, elsewhere(A));
    end_lease(cluster, &database, A);
    // Nobody has judged it yet.
    assert!(matches!(replicas(&a).renew().await, Ok(Renewed::Renewed { .. })));
    assert_eq!(take_over().await, []);
    end_lease(cluster, &database, A);
    assert_eq!(take_over().await, [busy.id]);
    assert_eq!(replicas(&a).renew().await, Ok(Renewed::Dead));
    assert_eq!(a.append(append(&busy, Some(1))).await, Err(StoreError::NotOwner));
    assert_eq!(a.append(append(&idle, Some(1))).await, Err(StoreError::NotOwner));
    let refused = a.append(append(&session(), None)).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    let refused = replicas(&a).claim(idle.id).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    b.append(append(&busy, Some(1))).await.expect("its owner");
    own(&b, idle.id).await;
    // It comes back as another one.
    replicas(&a).rejoin().await.expect("another id");
    assert!(matches!(replicas(&a).renew().await, Ok(Renewed::Renewed { .. })));
    assert_eq!(claim(&a, busy.id).await, elsewhere(B));
    a.append(append(&session(), None)).await.expect("a new session");
    for store in [a, b] {
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_restarts_gets_its_sessions_back() {
    let cluster = shared();
    let database = cluster.database();
    let own_options = options(cluster, &database, A);
    let (a, b) = (open(&own_options).await, join(cluster, &database, B).await);
    let (busy, idle) = (session(), session());
    a.append(append(&busy, None)).await.expect("stored");
    a.append(quiet(&idle, None)).await.expect("stored");
    replicas(&a).leave(Duration::from_secs(120)).await.expect("left");
    a.close().await;
    own(&b, idle.id).await;
    assert_eq!(claim(&b, busy.id).await, elsewhere(A));
    assert_eq!(replicas(&b).take_over(10).await.expect("an answer"), []);
    let states = replicas(&b).list().await.expect("a list");
    let states: Vec<_> = states.iter().map(|r| (r.address.as_str(), r.state, r.sessions)).collect();
    assert_eq!(states, [(A, ReplicaState::Restarting, 1), (B, ReplicaState::Serving, 1)]);
    assert_eq!(b.sessions_with_live_calls(None, 10).await.expect("a list"), []);
    let a = open(&own_options).await;
    assert_eq!(a.sessions_with_live_calls(None, 10).await.expect("a list"), [busy.id]);
    assert_eq!(claim(&b, busy.id).await, elsewhere(A));
    a.append(append(&busy, Some(1))).await.expect("its own again");
    // It does not come back: after its time the others take over what it had.
    replicas(&a).leave(Duration::from_secs(120)).await.expect("left");
    a.close().await;
    end_lease(cluster, &database, A);
    assert_eq!(replicas(&b).take_over(10).await.expect("an answer"), [busy.id]);
    b.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_wrote_last_is_forgotten_when_others_may_have_written() {
    let cluster = shared();
    let database = cluster.database();
    let (a, b) = (join(cluster, &database, A).await, join(cluster, &database, B).await);
    let mut session = session();
    let labels = |value: &str| Labels::from([("key".to_owned(), value.to_owned())]);
    let mut number = 0;
    for (store, value) in [(&a, "first"), (&b, "second"), (&a, "first")] {
        let claim = if number == 0 { 0 } else { own(store, session.id).await };
        session.labels = labels(value);
        session.description = value.to_owned();
        let head = (number > 0).then_some(number);
        store.append(quiet(&session, head)).await.expect("stored");
        number += 1;
        let stored = store.session(session.id).await.expect("read").expect("a session");
        assert_eq!(stored.description, value, "{number}");
        release(store, session.id, claim).await;
    }
    for store in [a, b] {
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_alone_and_replicas_refuse_each_other() {
    let cluster = shared();
    let database = cluster.database();
    let alone = PostgresOptions::new(&cluster.local_url(&database));
    let refuse = async |options: &PostgresOptions| {
        let opened = PostgresStore::open(options, Metrics::default()).await;
        opened.expect_err("it is refused")
    };
    let a = join(cluster, &database, A).await;
    let refused = refuse(&alone).await;
    assert!(matches!(refused, PostgresOpenError::Locked { .. }), "{refused}");
    assert!(refused.to_string().contains("set `advertise`"), "{refused}");
    let refused = refuse(&options(cluster, &database, A)).await;
    assert!(matches!(refused, PostgresOpenError::AddressTaken { .. }), "{refused}");
    a.close().await;
    let alone = open(&alone).await;
    let refused = refuse(&options(cluster, &database, A)).await;
    assert!(matches!(refused, PostgresOpenError::Locked { .. }), "{refused}");
    // What a server alone has left belongs to the first replica.
    let busy = session();
    alone.append(append(&busy, None)).await.expect("stored");
    alone.close().await;
    let b = join(cluster, &database, B).await;
    assert_eq!(b.sessions_with_live_calls(None, 10).await.expect("a list"), [busy.id]);
    b.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_hear_of_the_changes_of_others() {
    let cluster = shared();
    let database = cluster.database();
    let (a, b) = (join(cluster, &database, A).await, join(cluster, &database, B).await);
    let (mut of_a, mut of_b) = (replicas(&a).changes(), replicas(&b).changes());
    let (unwatched, busy) = (session(), session());
    a.append(quiet(&unwatched, None)).await.expect("stored");
    a.append(append(&busy, None)).await.expect("stored");
    let heard = of_b.next().await.expect("a change");
    assert_eq!(heard, RemoteChange::Session(busy.tenant.clone(), busy.id));
    b.append(append(&session(), None)).await.expect("stored");
    let heard = of_a.next().await.expect("a change");
    assert!(matches!(heard, RemoteChange::Session(..)), "not its own: {heard:?}");
    // Whatever happened while the connection was lost.
    cluster.sql(
        &database,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name LIKE 'callpark replica%' AND datname = current_database()",
    );
    assert_eq!(of_b.next().await.expect("a change"), RemoteChange::Everything);
    a.append(append(&session(), None)).await.expect("stored");
    assert!(matches!(of_b.next().await, Some(RemoteChange::Session(..))));
    for store in [a, b] {
        store.close().await;
    }
}
