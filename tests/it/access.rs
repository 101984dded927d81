//! Authentication, and the requests that need none: health, the schema and metrics.

use std::os::unix::fs::PermissionsExt as _;

use bytes::Bytes;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::support::streams::{ended, new_session, task};
use crate::support::wire::{first_answer, least_request, methods, only_reason, send, with_token};
use crate::support::{TestServer, bash, check_reason, soon};

const SERVICES: [&str; 2] = ["callpark.v1.ToolRunner", "callpark.v1.BackgroundTasks"];

#[tokio::test]
async fn every_rpc_asks_for_the_token() {
    let server = TestServer::start().await;
    let right = server.token().to_owned();
    let (short, swapped) = (&right[..right.len() - 1], right.to_uppercase() + &right);
    let wrong = [
        None,
        Some(String::new()),
        Some("Bearer".to_owned()),
        Some("Bearer ".to_owned()),
        Some(format!("Bearer {}", "0".repeat(right.len()))),
        Some(format!("Bearer {short}")),
        Some(format!("Bearer {swapped}")),
        Some(format!("Basic {right}")),
        Some(right.clone()),
    ];
    let mut names: Vec<_> = methods().into_iter().map(|method| method.name).collect();
    names.push("ToolRunner/NoSuchMethod".into());
    for name in names {
        for header in &wrong {
            let mut request = Request::new(Bytes::new());
            if let Some(header) = header {
                let value = header.parse().expect("a header");
                request.metadata_mut().insert("authorization", value);
            }
            let status = first_answer(&server.channel, &name, request).await;
            let status = status.expect_err(&name);
            assert_eq!(status.code(), Code::Unauthenticated, "{name} {header:?}: {status:?}");
            assert!(only_reason(&status).is_some(), "{name} {header:?}: {status:?}");
            assert!(!format!("{status:?}").contains(&right), "{name}: the token is shown");
        }
        let request = with_token(&server, least_request(&name));
        let answer = first_answer(&server.channel, &name, request).await;
        let refused = answer.is_err_and(|status| status.code() == Code::Unauthenticated);
        assert!(!refused, "{name} refuses the token");
    }
}

#[tokio::test]
async fn the_token_is_for_its_owner_only_and_stays_the_same() {
    let server = TestServer::start().await;
    let file = server.folder().join("token");
    let mode = std::fs::metadata(&file).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
    let token = server.token().to_owned();
    assert!(token.len() >= 32, "{token}");
    let server = server.restart().await;
    assert_eq!(server.token(), token);
    let other = TestServer::start().await;
    assert_ne!(other.token(), token);
}

#[tokio::test]
async fn health_needs_no_token() {
    let server = TestServer::start().await;
    let mut health = HealthClient::new(server.channel.clone());
    for service in SERVICES.into_iter().chain([""]) {
        let request = HealthCheckRequest { service: service.into() };
        let answer = soon("health", health.check(request)).await.expect("health").into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let request = HealthCheckRequest { service: "no.such.Service".into() };
    let status = health.check(request).await.expect_err("unknown");
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn health_says_that_the_server_drains() {
    let server = TestServer::with(&[("admin-listen", "127.0.0.1:0")]).await;
    let mut health = HealthClient::new(server.channel.clone());
    let mut watches = Vec::new();
    for service in SERVICES.into_iter().chain([""]) {
        let request = HealthCheckRequest { service: service.into() };
        let mut watch = health.watch(request).await.expect("a watch").into_inner();
        let first = soon("health", watch.message()).await.expect("health").expect("health");
        assert_eq!(first.status(), ServingStatus::Serving, "{service}");
        watches.push(watch);
    }
    assert!(server.http("/readyz").await.starts_with("HTTP/1.1 200"));
    server.begin_stop();
    for watch in &mut watches {
        let next = soon("health", watch.message()).await.expect("health").expect("health");
        assert_eq!(next.status(), ServingStatus::NotServing);
    }
    assert!(server.http("/readyz").await.starts_with("HTTP/1.1 503"));
}

/// Reflection has no client in tonic-reflection: field 7 of the request is list_services.
#[tokio::test]
async fn reflection_lists_the_services_in_both_versions() {
    let server = TestServer::start().await;
    for version in ["v1", "v1alpha"] {
        let path = format!("grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let request = Request::new(Bytes::from_static(b"\x3a\x01*"));
        let answer = send(&server.channel, &path, request).await.expect("an answer");
        let mut answer = answer.into_inner();
        let list = soon("a list", answer.message()).await.expect("a list").expect("a list");
        let list = String::from_utf8_lossy(&list);
        for service in SERVICES.into_iter().chain(["grpc.health.v1.Health"]) {
            assert!(list.contains(service), "{version}: {list}");
        }
    }
}

#[tokio::test]
async fn a_request_keeps_its_name_and_gets_one_if_it_has_none() {
    let server = TestServer::start().await;
    let call = async |name: Option<&str>| {
        let mut request = with_token(&server, Bytes::new());
        if let Some(name) = name {
            let name = name.parse().expect("a header");
            request.metadata_mut().insert("x-request-id", name);
        }
        let answer = first_answer(&server.channel, "ToolRunner/ListTools", request).await;
        let (_, metadata) = answer.expect("an answer");
        let name = metadata.get("x-request-id").expect("a name").to_str().expect("text");
        name.to_owned()
    };
    assert_eq!(call(Some("abc-123/x")).await, "abc-123/x");
    let (first, second) = (call(None).await, call(None).await);
    assert!(first.len() >= 32 && first != second, "{first}, {second}");
    let long = "x".repeat(1_000);
    let made = call(Some(&long)).await;
    assert!(made.len() <= 128 && !made.contains("xx"), "{made}");
    let mut request = Request::new(Bytes::new());
    request.metadata_mut().insert("x-request-id", "mine".parse().expect("a header"));
    let status = first_answer(&server.channel, "ToolRunner/ListTools", request).await;
    let status = status.expect_err("refused");
    assert_eq!(status.metadata().get("x-request-id").expect("a name"), "mine");
}

#[tokio::test]
async fn metrics_count_calls_and_requests_and_reveal_nothing_about_callers() {
    let server = TestServer::with(&[("admin-listen", "127.0.0.1:0")]).await;
    let session_id = new_session(&server).await;
    for _ in 0..3 {
        let task = task(&server, &session_id, "echo a-secret").await;
        ended(&server, &task.background_id).await;
    }
    let mut unknown = bash("true");
    unknown.tool = "no-such-tool".into();
    let status = server.tools.clone().run_tool(unknown).await.expect_err("refused");
    check_reason(&status, Code::NotFound, "TOOL_NOT_FOUND");
    let counted = async {
        loop {
            let page = server.http("/metrics").await;
            let count = |name: &str, labels: &[&str]| -> Option<f64> {
                let line = page.lines().find(|line| {
                    line.starts_with(name) && labels.iter().all(|label| line.contains(label))
                })?;
                line.rsplit_once(' ')?.1.parse().ok()
            };
            let succeeded = count("callpark_calls_finished_total", &["succeeded"])
                .or_else(|| count("callpark_calls_finished_total", &["SUCCEEDED"]));
            let counts = [
                count("callpark_calls_started_total", &["tool_kind"]),
                count("callpark_calls_parked_total", &["tool_kind"]),
                succeeded,
                count("callpark_calls_live", &[]).map(|live| live + 3.0),
                count("callpark_rpc_requests_total", &["BackgroundTasks/Start", "\"OK\""]),
                count("callpark_rpc_requests_total", &["RunTool", "NOT_FOUND"]).map(|n| n + 2.0),
            ];
            if counts == [Some(3.0); 6] {
                return page;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let page = soon("the counts", counted).await;
    for secret in ["a-secret", server.token(), &session_id, "no-such-tool"] {
        assert!(!page.contains(secret), "{secret} in {page}");
    }
}
