//! The suite for every store.

use callpark::store::conformance::check_all;

use crate::cluster::shared;

#[tokio::test(flavor = "multi_thread")]
async fn the_store_follows_the_rules() {
    check_all(async || {
        let cluster = shared();
        cluster.open(&cluster.database()).await
    })
    .await;
}
