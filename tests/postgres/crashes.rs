//! Backends and clusters that are killed under load: nothing acknowledged is lost, and nothing is
//! written twice.

use std::sync::Arc;
use std::time::Duration;

use callpark::store::{Store, StoreError};

use crate::cluster::{Cluster, shared};
use crate::load::{Load, append, session};

const WRITERS: usize = 24;

/// Ends the connection of the writer in a database.
fn end_writer(cluster: &Cluster, database: &str) -> String {
    let sql = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE datname = '{database}' AND application_name LIKE 'callpark %'
             AND application_name <> 'callpark reader'"
    );
    cluster.sql("postgres", &sql)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_backends_lose_nothing() {
    let cluster = shared();
    let database = cluster.database();
    let store = Arc::new(cluster.open(&database).await);
    let load = Load::start(&store, WRITERS);
    for _ in 0..15 {
        load.progress(100).await;
        assert_eq!(end_writer(cluster, &database), "1");
    }
    load.progress(100).await;
    let failed = load.stop(WRITERS).await;
    load.check(&store).await;
    assert_eq!(failed, 0, "a lost connection is replaced before anybody notices");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_cluster_loses_nothing() {
    let cluster = Cluster::start();
    let database = cluster.database();
    let store = Arc::new(cluster.open(&database).await);
    let load = Load::start(&store, WRITERS);
    for _ in 0..3 {
        load.progress(300).await;
        cluster.crash();
        let failure = loop {
            match store.check().await {
                Ok(()) => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(error) => break error,
            }
        };
        assert!(matches!(&failure, StoreError::Unavailable(_)), "{failure}");
        let read = store.session(session().id).await.expect_err("the database is away");
        assert!(read.to_string().contains("cannot be reached"), "{read}");
        cluster.resume();
    }
    load.progress(300).await;
    load.stop(WRITERS).await;
    load.check(&store).await;
    assert_eq!(store.check().await, Ok(()));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_its_database_says_so_and_closes() {
    let cluster = Cluster::start();
    let database = cluster.database();
    let store = cluster.open(&database).await;
    cluster.crash();
    let error = store.append(append(&session(), None)).await.expect_err("the database is away");
    assert!(matches!(&error, StoreError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("check that it runs"), "{error}");
    tokio::time::timeout(Duration::from_secs(20), store.close()).await.expect("closed");
}
