//! Connections that are cut at any byte, also in the middle of a commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use callpark::store::Store;

use crate::cluster::{open, shared};
use crate::load::Load;
use crate::support::proxy::{Fate, Fates, Proxy};

const WRITERS: usize = 16;

/// Runs a load through a proxy that cuts connections after ever other numbers of bytes, and checks that
/// each answer was true.
async fn cut(connections: usize, fate: impl Fn(usize) -> Fate + Send + 'static) {
    let cluster = shared();
    let database = cluster.database();
    // The tables are there, so that the cuts fall into the load.
    cluster.open(&database).await.close().await;
    let count = AtomicUsize::new(0);
    let fates: Fates = Box::new(move || match count.fetch_add(1, Ordering::Relaxed) {
        // The store opens on the first one.
        0 => fate(9),
        n => fate(n * 37 % connections),
    });
    let address = format!("127.0.0.1:{}", cluster.port);
    let proxy = Proxy::start(&address, connections, fates).await;
    let port = proxy.endpoint.rsplit(':').next().and_then(|port| port.parse().ok());
    let store = Arc::new(open(&cluster.url(port.expect("a port"), &database)).await);
    let load = Load::start(&store, WRITERS);
    while proxy.damaged() < connections {
        load.progress(20).await;
    }
    load.progress(100).await;
    load.stop(WRITERS).await;
    load.check(&store).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_cut_off_are_looked_up() {
    cut(40, |n| Fate::CutDown(12_000 + n * 517)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_cut_off_are_looked_up() {
    cut(40, |n| Fate::CutUp(20_000 + n * 1_013)).await;
}
