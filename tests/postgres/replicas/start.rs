//! Starts of replicas, and what they find.

use callpark_proto::v1;

use super::place::Place;
use crate::cluster::shared;
use crate::support::{bash, remote};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_although_the_ends_of_its_calls_cannot_be_stored() {
    let place = Place::new(shared());
    let (site, server) = place.replica().await;
    let id = remote::start(&server.connect(), bash("exec sleep 1000")).await.background_id;
    let endpoint = server.endpoint.clone();
    site.kill_with_shims(server).await;
    // The writer waits for this as long as it is held.
    let held = place.cluster.hold(&place.database, "SELECT FROM callpark.counters FOR UPDATE");
    let server = place.restart(&site, &endpoint).await;
    let clients = server.connect();
    assert_eq!(remote::task(&clients, &id).await.state(), v1::State::Running);
    drop(held);
    let lost = remote::ended(&clients, &id).await;
    assert_eq!(lost.state(), v1::State::Lost, "{lost:?}");
}
