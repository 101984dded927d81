//! Several replicas over one database.

mod claims;
mod death;
mod faults;
mod forwarding;
mod lease;
mod ownership;
mod place;
mod start;

use callpark::internals::telemetry::Metrics;
use callpark::store::{PostgresOptions, PostgresStore, ReplicaOptions, Store as _};
use uuid::Uuid;

use crate::cluster::Cluster;

/// Returns the options of a replica with this address.
pub(crate) fn options(cluster: &Cluster, database: &str, address: &str) -> PostgresOptions {
    let replica = ReplicaOptions { address: address.to_owned(), home: Uuid::new_v4() };
    PostgresOptions { replica: Some(replica), ..PostgresOptions::new(&cluster.local_url(database)) }
}

/// Opens the store of a replica with this address.
pub(crate) async fn join(cluster: &Cluster, database: &str, address: &str) -> PostgresStore {
    open(&options(cluster, database, address)).await
}

/// Opens a store. From then on, its lease is renewed by the test only.
pub(crate) async fn open(options: &PostgresOptions) -> PostgresStore {
    let store = PostgresStore::open(options, Metrics::default()).await.expect("a store");
    if let Some(replicas) = store.replicas() {
        replicas.renew().await.expect("a lease");
    }
    store
}

/// Lets the lease of a replica run out.
pub(crate) fn end_lease(cluster: &Cluster, database: &str, address: &str) {
    let end = format!(
        "UPDATE callpark.replicas SET lease_until = clock_timestamp() - interval '1 second'
         WHERE address = '{address}' AND state <> 3"
    );
    cluster.sql(database, &end);
}
