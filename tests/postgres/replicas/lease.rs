//! Writes and renewals of a replica before its lease is lost, and afterwards.

use std::time::Duration;

use callpark::internals::telemetry::Metrics;
use callpark::store::{PostgresStore, Store, StoreError};

use super::ownership::{quiet, replicas};
use super::{end_lease, join, options};
use crate::cluster::{Cluster, shared};
use crate::load::{append, session};
use crate::support::soon;

const A: &str = "http://a:1";

/// Waits until a statement in a database waits for a lock.
pub(super) async fn blocked(cluster: &Cluster, database: &str) {
    let waiting = format!(
        "SELECT count(*) > 0 FROM pg_stat_activity
         WHERE datname = '{database}' AND wait_event_type = 'Lock'"
    );
    let blocked = async {
        while cluster.sql("postgres", &waiting) != "t" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("a wait for a lock", blocked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_under_an_earlier_id_is_not_written_under_the_next_one() {
    let cluster = shared();
    let database = cluster.database();
    let a = join(cluster, &database, A).await;
    let (busy, first, new) = (session(), session(), session());
    a.append(append(&busy, None)).await.expect("stored");
    // The writer stands still, with appends behind it.
    let held = cluster.hold(&database, "SELECT FROM callpark.counters FOR UPDATE");
    let mut stalled = a.append(append(&first, None));
    assert!(futures::poll!(&mut stalled).is_pending());
    blocked(cluster, &database).await;
    let mut to_own = a.append(append(&busy, Some(1)));
    let mut to_new = a.append(append(&new, None));
    assert!(futures::poll!(&mut to_own).is_pending() && futures::poll!(&mut to_new).is_pending());
    // Meanwhile the replica loses its lease, and gets its session back under another id.
    end_lease(cluster, &database, A);
    replicas(&a).rejoin().await.expect("another id");
    assert_eq!(replicas(&a).take_over(10).await.expect("an answer"), [busy.id]);
    drop(held);
    assert_eq!(soon("an answer", to_own).await, Err(StoreError::NotOwner));
    for (session, append) in [(first, stalled), (new, to_new)] {
        let refused = soon("an answer", append).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        assert_eq!(a.session(session.id).await.expect("read"), None);
    }
    a.append(quiet(&busy, Some(1))).await.expect("its own again");
    a.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_of_a_server_that_starts_is_renewed() {
    let cluster = shared();
    let database = cluster.database();
    let options = options(cluster, &database, A);
    let a = PostgresStore::open(&options, Metrics::default()).await.expect("a replica");
    let lease = || cluster.sql(&database, "SELECT lease_until FROM callpark.replicas");
    let first = lease();
    // Its server does not ask for a renewal before it has all that it needs for its start.
    let renewed = async {
        while lease() == first {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("a renewal", renewed).await;
    a.close().await;
}
