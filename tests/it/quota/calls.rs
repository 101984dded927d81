//! Calls that are live, and calls that run.

use futures::future::join_all;

use super::{check_refusal, limited, other};
use crate::support::program::{Clients, Program, Site};
use crate::support::streams::new_session;
use crate::support::waiting::{Gate, cancel_of, ended, park, start, start_of, task};
use crate::support::{bash, request_id, soon, v1};

#[tokio::test]
async fn of_many_starts_at_the_same_time_exactly_as_many_pass_as_the_limit_says() {
    for _ in 0..3 {
        let keys = limited("max_live_calls = 5").await;
        let server = &keys.server;
        let starts = (0..40).map(|_| {
            let mut tasks = server.connect().tasks;
            async move { tasks.start(start_of(bash("sleep 1000"))).await }
        });
        let (started, refused): (Vec<_>, Vec<_>) =
            join_all(starts).await.into_iter().partition(Result::is_ok);
        assert_eq!(started.len(), 5);
        for status in refused.into_iter().filter_map(Result::err) {
            check_refusal(&status, "QUOTA_EXCEEDED", "max_live_calls", "5");
        }
    }
}

/// Runs a call once there is room for it. A call can be seen to have ended a moment before its place is free.
async fn run_when_there_is_room(mut clients: Clients, request: v1::RunToolRequest) {
    let ran = async {
        while let Err(status) = clients.tools.run_tool(request.clone()).await {
            assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status}");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    soon("room", ran).await;
}

#[tokio::test]
async fn parked_calls_are_live_and_their_end_makes_room() {
    let keys = limited("max_live_calls = 2").await;
    let (server, other) = (&keys.server, other(&keys).await);
    let mut gate = Gate::new(server.folder(), "gate");
    let mark = server.folder().join("mark");
    let first = park(server, bash(&gate.wait())).await;
    let second = park(server, bash(&gate.wait())).await;
    let more = bash(&format!("echo ran > {}", mark.display()));
    let refused = server.tools.clone().run_tool(more.clone()).await.expect_err("full");
    check_refusal(&refused, "QUOTA_EXCEEDED", "max_live_calls", "2");
    let refused = server.tools.clone().stream_tool(more.clone()).await;
    let refused = match refused {
        Ok(stream) => stream.into_inner().message().await.expect_err("full"),
        Err(status) => status,
    };
    check_refusal(&refused, "QUOTA_EXCEEDED", "max_live_calls", "2");
    let dry = v1::RunToolRequest { dry_run: true, ..more.clone() };
    let refused = server.tools.clone().run_tool(dry).await.expect_err("full");
    check_refusal(&refused, "QUOTA_EXCEEDED", "max_live_calls", "2");
    assert!(!mark.exists(), "nothing has run");
    other.clients.tools.clone().run_tool(bash("true")).await.expect("another tenant");
    gate.open();
    gate.open();
    ended(server, &first).await;
    ended(server, &second).await;
    run_when_there_is_room(server.connect(), more).await;
    assert!(mark.exists());
}

#[tokio::test]
async fn a_repeated_request_finds_its_call_in_a_full_tenant() {
    let keys = limited("max_live_calls = 1").await;
    let server = &keys.server;
    let request = start_of(v1::RunToolRequest { request_id: request_id(), ..bash("sleep 1000") });
    let first = start(server, request.clone()).await;
    let again = start(server, request).await;
    assert_eq!(first.background_id, again.background_id);
}

#[tokio::test]
async fn a_call_that_waits_for_others_of_its_session_does_not_run() {
    let keys = limited("max_running_calls = 2").await;
    let server = &keys.server;
    let session_id = new_session(server).await;
    let mut gate = Gate::new(server.folder(), "gate");
    let queued = |command: &str| {
        let request = v1::RunToolRequest { session_id: session_id.clone(), ..bash(command) };
        v1::StartRequest { concurrency: v1::Concurrency::Queue.into(), ..start_of(request) }
    };
    let first = start(server, queued(&gate.wait())).await;
    let second = start(server, queued("sleep 1000")).await;
    start(server, queued("sleep 1000")).await;
    start(server, start_of(bash("sleep 1000"))).await;
    let full = async || {
        let refused = server.tasks.clone().start(start_of(bash("true"))).await;
        check_refusal(&refused.expect_err("full"), "QUOTA_EXCEEDED", "max_running_calls", "2");
    };
    full().await;
    gate.open();
    ended(server, &first.background_id).await;
    // The next one of the session takes its place.
    let begun = async {
        while task(server, &second.background_id).await.state() != v1::State::Running {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    soon("the next call", begun).await;
    full().await;
}

/// Starts a server with this file of settings.
async fn serve(site: &Site, file: &str) -> Program {
    site.serve(&["--config", file]).await
}

#[tokio::test]
async fn calls_that_outlive_their_server_count_on_the_next_one() {
    let site = Site::new();
    let file = site.folder().join("limits.toml").display().to_string();
    let limits = "[[tenant_limits]]\nname = \"local\"\nmax_live_calls = 3\nmax_running_calls = 2\n";
    std::fs::write(&file, limits).expect("written");
    let server = serve(&site, &file).await;
    let mut tasks = server.connect().tasks;
    for _ in 0..2 {
        tasks.start(start_of(bash("sleep 1000"))).await.expect("a start");
    }
    server.kill().await;
    let server = serve(&site, &file).await;
    let mut tasks = server.connect().tasks;
    let refused = tasks.start(start_of(bash("true"))).await.expect_err("full");
    check_refusal(&refused, "QUOTA_EXCEEDED", "max_running_calls", "2");
    let list = tasks.list(v1::ListRequest::default()).await.expect("a list").into_inner();
    for task in list.tasks {
        let mut cancel = cancel_of(&task.background_id);
        cancel.wait = crate::support::millis(20_000);
        tasks.cancel(cancel).await.expect("a cancel");
    }
    run_when_there_is_room(server.connect(), bash("true")).await;
}
