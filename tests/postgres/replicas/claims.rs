//! Claims and releases that are made together: one that fails does not fail the others.

use callpark::model::{Session, SessionId};
use callpark::store::{Claimed, PostgresStore, Store, StoreError};

use super::join;
use super::lease::blocked;
use super::ownership::{own, quiet, replicas};
use crate::cluster::{Cluster, shared};
use crate::load::{append, session};
use crate::support::soon;

const A: &str = "http://a:1";

const B: &str = "http://b:1";

/// Lets the database find a deadlock at the first `count` changes of the owner of a session.
fn deadlocks(cluster: &Cluster, database: &str, session: &Session, count: u32) {
    let id = uuid::Uuid::from_bytes(*session.id.as_bytes());
    // A sequence is not rolled back.
    let sql = format!(
        "CREATE SEQUENCE public.updates; GRANT ALL ON SEQUENCE public.updates TO PUBLIC;
         CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF nextval('public.updates') <= {count} THEN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER fail BEFORE UPDATE OF owner ON callpark.sessions FOR EACH ROW
             WHEN (OLD.id = '{id}') EXECUTE FUNCTION public.fail();"
    );
    cluster.sql(database, &sql);
}

/// Returns two sessions of a replica, the first of which has deadlocks.
async fn two(
    cluster: &Cluster,
    database: &str,
    store: &PostgresStore,
    count: u32,
) -> [SessionId; 2] {
    let (bad, good) = (session(), session());
    for session in [&bad, &good] {
        store.append(quiet(session, None)).await.expect("stored");
    }
    deadlocks(cluster, database, &bad, count);
    [bad.id, good.id]
}

/// Claims two sessions together: the writer has both when it goes on.
async fn claim_both(
    cluster: &Cluster,
    database: &str,
    store: &PostgresStore,
    ids: [SessionId; 2],
) -> [Result<Claimed, StoreError>; 2] {
    let held = cluster.hold(database, "SELECT FROM callpark.counters FOR UPDATE");
    let other = session();
    let mut stalled = store.append(append(&other, None));
    assert!(futures::poll!(&mut stalled).is_pending());
    blocked(cluster, database).await;
    let replicas = replicas(store);
    let [mut first, mut second] = ids.map(|id| replicas.claim(id));
    assert!(futures::poll!(&mut first).is_pending() && futures::poll!(&mut second).is_pending());
    drop(held);
    stalled.await.expect("stored");
    [soon("an answer", first).await, soon("an answer", second).await]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_fails_does_not_fail_the_others() {
    let cluster = shared();
    let database = cluster.database();
    let a = join(cluster, &database, A).await;
    let ids = two(cluster, &database, &a, u32::MAX).await;
    let [bad, good] = claim_both(cluster, &database, &a, ids).await;
    assert!(matches!(bad, Err(StoreError::Unavailable(_))), "{bad:?}");
    assert!(matches!(good, Ok(Claimed::Own { .. })), "{good:?}");
    a.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_and_releases_are_repeated_after_a_deadlock() {
    let cluster = shared();
    let database = cluster.database();
    let (a, b) = (join(cluster, &database, A).await, join(cluster, &database, B).await);
    let ids = two(cluster, &database, &a, 1).await;
    let claimed = claim_both(cluster, &database, &a, ids).await;
    let numbers = claimed.map(|claimed| match claimed {
        Ok(Claimed::Own { claim }) => claim,
        other => panic!("{other:?}"),
    });
    cluster.sql(&database, "SELECT setval('public.updates', 1, false)");
    let released = ids.into_iter().zip(numbers).map(async |(id, claim)| {
        replicas(&a).release(id, claim).await.expect("sent");
    });
    futures::future::join_all(released).await;
    // The writer answers this after the releases.
    assert_eq!(replicas(&a).claim(SessionId::random()).await, Ok(Claimed::Missing));
    for id in ids {
        own(&b, id).await;
    }
    for store in [a, b] {
        store.close().await;
    }
}
