//! Requests per second.

use tonic_types::StatusExt as _;

use super::{check_refusal, limited, other};
use crate::support::waiting::{cancel, cancel_of, run, start, start_of};
use crate::support::{bash, v1};

/// A rate at which no second request comes while a test runs.
const SLOW: &str = "starts_per_second = 0.001\nstarts_burst = 2";

#[tokio::test]
async fn a_flood_of_starts_leaves_reads_waits_and_cancels_to_its_tenant() {
    let keys = limited(SLOW).await;
    let server = &keys.server;
    let task = start(server, start_of(bash("sleep 1000"))).await;
    let session = server.tools.clone().create_session(v1::CreateSessionRequest::default()).await;
    let session_id =
        session.expect("within the burst").into_inner().session.expect("it").session_id;
    for _ in 0..50 {
        let refused = server.tasks.clone().start(start_of(bash("true"))).await;
        check_refusal(&refused.expect_err("a flood"), "RATE_LIMITED", "starts_per_second", "0.001");
    }
    let streamed = server.tools.clone().stream_tool(bash("true")).await;
    check_refusal(&streamed.expect_err("a start"), "RATE_LIMITED", "starts_per_second", "0.001");
    let mut tasks = server.tasks.clone();
    let id = task.background_id;
    let get = v1::GetRequest { background_id: id.clone() };
    tasks.get(get).await.expect("a read");
    let wait = v1::WaitRequest {
        background_id: id.clone(),
        wait: crate::support::millis(1),
        ..Default::default()
    };
    tasks.wait(wait).await.expect("a wait");
    cancel(server, cancel_of(&id)).await;
    let close = v1::CloseSessionRequest { session_id, ..Default::default() };
    server.tools.clone().close_session(close).await.expect("a close");
}

#[tokio::test]
async fn a_tenant_without_limits_is_not_concerned() {
    let keys = limited(SLOW).await;
    let other = other(&keys).await;
    for _ in 0..10 {
        let _ = keys.server.tasks.clone().start(start_of(bash("true"))).await;
    }
    for _ in 0..10 {
        other.clients.tasks.clone().start(start_of(bash("true"))).await.expect("a start");
    }
}

#[tokio::test]
async fn other_requests_have_a_rate_of_their_own() {
    let keys = limited("requests_per_second = 0.001").await;
    let server = &keys.server;
    let get = async || server.tools.clone().get_server_info(v1::GetServerInfoRequest {}).await;
    get().await.expect("the first one");
    let refused = get().await.expect_err("too fast");
    check_refusal(&refused, "RATE_LIMITED", "requests_per_second", "0.001");
    let list = server.tasks.clone().list(v1::ListRequest::default()).await;
    let refused = list.expect_err("too fast");
    check_refusal(&refused, "RATE_LIMITED", "requests_per_second", "0.001");
    // Starts have no limit.
    run(server, bash("true")).await;
    let health = tonic_health::pb::health_client::HealthClient::new(server.channel.clone());
    let request = tonic_health::pb::HealthCheckRequest::default();
    health.clone().check(request).await.expect("probes are not counted");
}

#[tokio::test]
async fn a_request_passes_after_the_time_that_the_refusal_names() {
    let keys = limited("starts_per_second = 2.0\nstarts_burst = 1").await;
    let server = &keys.server;
    let mut refusals = 0;
    for _ in 0..20 {
        let Err(refused) = server.tasks.clone().start(start_of(bash("true"))).await else {
            continue;
        };
        refusals += 1;
        check_refusal(&refused, "RATE_LIMITED", "starts_per_second", "2");
        let delay = refused.get_details_retry_info().and_then(|retry| retry.retry_delay);
        tokio::time::sleep(delay.expect("a delay")).await;
        start(server, start_of(bash("true"))).await;
        if refusals == 3 {
            return;
        }
    }
    panic!("20 requests in a row took half a second each");
}

#[tokio::test]
async fn refusals_are_counted_by_their_limit() {
    let config = format!("admin_listen = \"127.0.0.1:0\"\n[[tenant_limits]]\nname = \"*\"\n{SLOW}");
    let keys = crate::keys::Keys::with_config(&config).await;
    for _ in 0..5 {
        let _ = keys.server.tasks.clone().start(start_of(bash("true"))).await;
    }
    let page = keys.server.http("/metrics").await;
    let line = "callpark_quota_refused_total{limit=\"starts_per_second\"} 3";
    assert!(page.lines().any(|found| found == line), "{page}");
}
