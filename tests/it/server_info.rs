//! The version, the features and the bounds that a server reports.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::waiting::{span_of, time};
use crate::support::{TestServer, bash, check_reason, soon, v1};

async fn info(server: &TestServer) -> v1::GetServerInfoResponse {
    let request = v1::GetServerInfoRequest {};
    let answer = soon("an answer", server.tools.clone().get_server_info(request)).await;
    answer.expect("an answer").into_inner()
}

fn limits(info: &v1::GetServerInfoResponse) -> &v1::ServerLimits {
    info.limits.as_ref().expect("limits")
}

#[expect(clippy::disallowed_methods, reason = "it is compared with times that the server reports")]
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970")
}

#[tokio::test]
async fn the_defaults_are_those_of_the_documentation() {
    let server = TestServer::start().await;
    let info = info(&server).await;
    assert_eq!(info.version, env!("CARGO_PKG_VERSION"));
    let built_in = [
        ("acp", cfg!(feature = "acp")),
        ("jwt", cfg!(feature = "jwt")),
        ("mcp", cfg!(feature = "mcp")),
        ("openai", cfg!(feature = "openai")),
        ("postgres", cfg!(feature = "postgres")),
    ];
    let features: Vec<&str> =
        built_in.iter().filter(|(_, is_there)| *is_there).map(|(name, _)| *name).collect();
    assert_eq!(info.features, features);
    assert_eq!(info.store, "sqlite");
    let limits = limits(&info);
    let cores = std::thread::available_parallelism().expect("a number").get();
    assert_eq!(limits.running_calls_max, 64 * cores as i64);
    assert_eq!(limits.arguments_bytes_max, 1 << 20);
    assert_eq!(limits.arguments_depth_max, 32);
    assert_eq!(limits.output_bytes_max, 64 << 20);
    assert_eq!(limits.event_bytes_max, 256 << 10);
    assert_eq!(limits.page_size_max, 1_000);
    assert_eq!(limits.live_tasks_max, 1_000);
    assert_eq!(span_of(&limits.call_budget_default), Duration::from_secs(600));
    assert_eq!(span_of(&limits.execution_timeout_default), Duration::from_secs(3_600));
    assert_eq!(span_of(&limits.wait_max), Duration::from_secs(540));
    assert_eq!(span_of(&limits.retention), Duration::from_secs(24 * 3_600));
}

#[tokio::test]
async fn the_limits_are_those_that_the_server_was_started_with() {
    let settings = [
        ("max-request", "2MiB"),
        ("max-running-calls", "7"),
        ("call-budget", "90s"),
        ("execution-timeout", "5m"),
        ("retention", "3h"),
    ];
    let server = TestServer::with(&settings).await;
    let info = info(&server).await;
    let limits = limits(&info);
    assert_eq!(limits.request_bytes_max, 2 << 20);
    assert_eq!(limits.running_calls_max, 7);
    assert_eq!(span_of(&limits.call_budget_default), Duration::from_secs(90));
    assert_eq!(span_of(&limits.execution_timeout_default), Duration::from_secs(300));
    assert_eq!(span_of(&limits.retention), Duration::from_secs(3 * 3_600));
    // The tools have the same defaults, and calls too.
    let list = v1::ListToolsRequest { view: v1::ToolView::Basic.into(), ..Default::default() };
    let list = soon("a list", server.tools.clone().list_tools(list)).await.expect("a list");
    let tools = list.into_inner().tools;
    let tool = tools.iter().find(|tool| tool.name == "bash").expect("bash");
    assert_eq!(tool.call_budget, limits.call_budget_default);
    assert_eq!(tool.execution_timeout, limits.execution_timeout_default);
}

#[tokio::test]
async fn a_request_of_more_bytes_than_reported_is_refused() {
    let server = TestServer::with(&[("max-request", "64KiB")]).await;
    let max = usize::try_from(limits(&info(&server).await).request_bytes_max).expect("a size");
    assert_eq!(max, 64 << 10);
    let call = |bytes| v1::RunToolRequest { dry_run: true, ..bash(&"#".repeat(bytes)) };
    let fits = soon("an answer", server.tools.clone().run_tool(call(max - 100))).await;
    fits.expect("accepted");
    let status = soon("an answer", server.tools.clone().run_tool(call(max))).await;
    let status = status.expect_err("too large");
    check_reason(&status, tonic::Code::ResourceExhausted, "MESSAGE_TOO_LARGE");
}

#[tokio::test]
async fn the_start_time_is_that_of_the_server_and_the_clock_goes_on() {
    let before = now();
    let server = TestServer::start().await;
    let started = now();
    let first = info(&server).await;
    let (start, current) = (time(&first.start_time), time(&first.current_time));
    let slack = Duration::from_millis(1);
    assert!(before <= start + slack && start <= current, "{before:?} {start:?} {current:?}");
    // The server reads its clock at the start of `run`, which may be just after `start` returned.
    assert!(start <= started + Duration::from_secs(10), "{start:?} {started:?}");
    assert!(current <= now() + slack, "{current:?}");
    let second = info(&server).await;
    assert_eq!(second.start_time, first.start_time);
    assert!(time(&second.current_time) >= current);
    let server = server.restart().await;
    assert!(time(&info(&server).await.start_time) >= current, "a new server has a new start");
}
