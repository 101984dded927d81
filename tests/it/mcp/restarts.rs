//! Tasks of MCP servers that outlive the server of callpark.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::{lines, text};
use crate::support::program::{Live, Program, Site};
use crate::support::waiting::{call, lines_of, outcome_of};
use crate::support::{remote, soon, v1};
use v1::session_event::Payload;

const PROTOCOLS: [&str; 2] = ["2025-11-25", "2026-07-28"];

/// An MCP server with tasks, and a server of callpark that can be ended and started again.
struct World {
    site: Site,
    flags: Vec<String>,
    server: Program,
    _tasks: Live,
}

impl World {
    async fn new(protocol: &str, more: &str) -> Self {
        let site = Site::new();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/mcp/task_server.py");
        let folder = site.folder().display().to_string();
        let mut tasks = Live::start(site.other("python3", &[script, &folder, protocol]));
        let port = tasks.stdout.until("\n").await;
        let port = port.trim();
        let toml =
            format!("{more}\n[[mcp_servers]]\nname = 'far'\nurl = 'http://127.0.0.1:{port}/mcp'\n");
        let config = site.write("callpark.toml", &toml).display().to_string();
        let flags = vec!["--config".to_owned(), config, "--drain".into(), "200ms".into()];
        let server = serve(&site, &flags).await;
        Self { site, flags, server, _tasks: tasks }
    }

    fn folder(&self) -> &Path {
        self.site.folder()
    }

    fn put(&self, name: &str) {
        std::fs::write(self.folder().join(name), "").expect("a file");
    }

    /// Starts a call in the background and waits until its task is followed.
    async fn job(&self) -> v1::Task {
        let clients = self.server.connect();
        let task = remote::start(&clients, call("far__job", json!({ "size": 7 }))).await;
        until_followed(&self.server, &task.session_id).await;
        task
    }

    /// Kills the server and starts another one.
    async fn kill(self) -> Self {
        let Self { site, flags, server, _tasks } = self;
        server.kill().await;
        let server = serve(&site, &flags).await;
        Self { site, flags, server, _tasks }
    }

    async fn ended(&self, id: &str) -> v1::Task {
        remote::ended(&self.server.connect(), id).await
    }
}

async fn serve(site: &Site, flags: &[String]) -> Program {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    site.serve(&flags).await
}

/// Waits for a report of progress, which comes after the handle of the task.
async fn until_followed(server: &Program, session_id: &str) {
    let is_report =
        |event: &v1::SessionEvent| matches!(event.payload, Some(Payload::ToolProgress(_)));
    let clients = server.connect();
    let reported = async {
        while !remote::log(&clients, session_id).await.iter().any(is_report) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("a report", reported).await;
}

#[tokio::test]
async fn a_task_is_polled_again_by_the_next_server() {
    for protocol in PROTOCOLS {
        let world = World::new(protocol, "").await;
        let task = world.job().await;
        let world = world.kill().await.kill().await;
        let shown = remote::task(&world.server.connect(), &task.background_id).await;
        assert_eq!(shown.state(), v1::State::Running, "{protocol}: {shown:?}");
        world.put("gate");
        let ended = world.ended(&task.background_id).await;
        assert_eq!((ended.state(), ended.attempt), (v1::State::Succeeded, 1), "{protocol}");
        assert_eq!(text(outcome_of(&ended)), "done", "{protocol}: {ended:?}");
        assert_eq!(lines(world.folder(), "calls").len(), 1, "{protocol}: called again");
        assert_eq!(lines(world.folder(), "cancelled_tasks"), [""; 0]);
    }
}

#[tokio::test]
async fn a_call_in_the_foreground_is_parked_by_a_stop_and_goes_on() {
    for protocol in PROTOCOLS {
        let World { site, flags, server, _tasks } = World::new(protocol, "").await;
        let clients = server.connect();
        let session_id = remote::session(&clients).await;
        let request =
            v1::RunToolRequest { session_id: session_id.clone(), ..call("far__job", json!({})) };
        let mut tools = clients.tools.clone();
        let stop = async {
            until_followed(&server, &session_id).await;
            server.terminate().await.0.exits(0);
        };
        let (answer, ()) = tokio::join!(tools.run_tool(request), stop);
        let Some(v1::run_tool_response::Outcome::Parked(parked)) =
            answer.expect("an answer").into_inner().outcome
        else {
            panic!("{protocol}: not parked")
        };
        let server = serve(&site, &flags).await;
        std::fs::write(site.folder().join("gate"), "").expect("a file");
        let ended = remote::ended(&server.connect(), &parked.background_id).await;
        assert_eq!(ended.park_reason(), v1::ParkReason::ServerStopping, "{protocol}");
        assert_eq!(text(outcome_of(&ended)), "done", "{protocol}: {ended:?}");
        assert_eq!(lines(site.folder(), "calls").len(), 1, "{protocol}: called again");
    }
}

#[tokio::test]
async fn a_cancel_after_a_restart_is_passed_on() {
    for protocol in PROTOCOLS {
        let world = World::new(protocol, "").await;
        let task = world.job().await;
        let world = world.kill().await;
        world.server.cli(&["cancel", &task.background_id]).await.exits(0);
        assert_eq!(world.ended(&task.background_id).await.state(), v1::State::Cancelled);
        assert_eq!(lines_of(&world.folder().join("cancelled_tasks"), 1).await, ["task 1"]);
    }
}

#[tokio::test]
async fn a_task_that_is_not_there_any_more_is_lost_and_says_so() {
    for protocol in PROTOCOLS {
        let world = World::new(protocol, "").await;
        let task = world.job().await;
        world.put("forget");
        let world = world.kill().await;
        let ended = world.ended(&task.background_id).await;
        assert_eq!(ended.state(), v1::State::Lost, "{protocol}: {ended:?}");
        let words = "the server of the tool no longer knows its task";
        assert_eq!(ended.reason, words, "{protocol}");
        assert_eq!(lines(world.folder(), "calls").len(), 1, "{protocol}: called again");
    }
}

#[tokio::test]
async fn a_stop_of_all_runs_cancels_the_task() {
    for protocol in PROTOCOLS {
        let world = World::new(protocol, "stop_runs = true").await;
        let task = world.job().await;
        let World { site, flags, server, _tasks } = world;
        server.terminate().await.0.exits(0);
        assert_eq!(lines(site.folder(), "cancelled_tasks"), ["task 1"], "{protocol}");
        let server = serve(&site, &flags).await;
        let ended = remote::ended(&server.connect(), &task.background_id).await;
        assert_eq!(ended.state(), v1::State::Lost, "{protocol}: {ended:?}");
    }
}
