//! Limits, stops and input of calls while their server is away.

use std::time::Duration;

use rustix::process::Signal;

use super::{check_output, code_of, until_written};
use crate::history::check_everything;
use crate::support::program::{Clients, Site};
use crate::support::waiting::outcome_of;
use crate::support::{bash, millis, remote, soon, v1};
use v1::OutputStream::Stdout;

fn limited(milliseconds: u64, command: &str) -> v1::RunToolRequest {
    v1::RunToolRequest { execution_timeout: millis(milliseconds), ..bash(command) }
}

#[tokio::test]
async fn the_execution_timeout_holds_while_no_server_is_there() {
    let site = Site::new();
    let server = site.serve(&["--grace", "200ms"]).await;
    let clients = server.connect();
    let marker = site.folder().join("marker");
    let polite = format!(
        "trap 'echo bye; exit 3' TERM; echo begun; sleep 300 & wait; echo >> {}",
        marker.display()
    );
    let stubborn = "trap '' TERM; echo begun; while :; do sleep 0.1; done";
    // One that ends within its limit, which is over before the next server comes.
    let quick = "echo begun; sleep 0.3; echo done; exit 7";
    let mut ids = Vec::new();
    for command in [polite.as_str(), quick, stubborn] {
        ids.push(remote::start(&clients, limited(600, command)).await.background_id);
    }
    for id in &ids {
        until_written(&clients, id, 6).await;
    }
    server.kill().await;
    site.quiet().await;
    let server = site.serve(&[]).await;
    let clients = server.connect();
    for (id, written) in [(&ids[0], "begun\nbye\n"), (&ids[2], "begun\n")] {
        let task = remote::ended(&clients, id).await;
        assert_eq!(task.state(), v1::State::TimedOut, "{task:?}");
        assert_eq!(outcome_of(&task).end_reason(), v1::EndReason::ExecutionTimeout, "{task:?}");
        check_output(&clients, id, Stdout, written.as_bytes()).await;
    }
    let task = remote::ended(&clients, &ids[1]).await;
    assert_eq!((task.state(), code_of(&task)), (v1::State::Failed, 7), "{task:?}");
    check_output(&clients, &ids[1], Stdout, b"begun\ndone\n").await;
    assert!(!marker.exists());
    check_everything(&clients, 1).await;
}

#[tokio::test]
async fn an_execution_timeout_goes_on_with_the_next_server() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let id = remote::start(&server.connect(), limited(1_500, "echo begun; sleep 300")).await;
    let id = id.background_id;
    until_written(&server.connect(), &id, 6).await;
    server.kill().await;
    let server = site.serve(&[]).await;
    let task = remote::ended(&server.connect(), &id).await;
    assert_eq!(task.state(), v1::State::TimedOut, "{task:?}");
    let elapsed = crate::support::waiting::span_of(&task.elapsed);
    assert!(elapsed >= Duration::from_millis(1_500), "{task:?}");
    assert!(elapsed < Duration::from_secs(10), "{task:?}");
    site.quiet().await;
}

async fn cancel(clients: &Clients, id: &str, force: bool) {
    let request = v1::CancelRequest {
        background_id: id.into(),
        force,
        wait: millis(0),
        ..Default::default()
    };
    soon("a cancel", clients.tasks.clone().cancel(request)).await.expect("accepted");
}

#[tokio::test]
async fn a_cancel_just_before_the_kill_is_carried_out() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let clients = server.connect();
    let polite = "trap 'echo bye; exit 3' TERM; echo begun; while :; do sleep 0.05; done";
    let stubborn = "trap '' TERM; echo begun; while :; do sleep 0.05; done";
    let mut ids = Vec::new();
    for command in [polite, stubborn, stubborn] {
        ids.push(remote::start(&clients, bash(command)).await.background_id);
    }
    for id in &ids {
        until_written(&clients, id, 6).await;
    }
    cancel(&clients, &ids[0], false).await;
    cancel(&clients, &ids[1], false).await;
    cancel(&clients, &ids[2], true).await;
    server.kill().await;
    let server = site.serve(&[]).await;
    let clients = server.connect();
    for (id, written) in ids.iter().zip(["begun\nbye\n", "begun\n", "begun\n"]) {
        let task = remote::ended(&clients, id).await;
        assert_eq!(task.state(), v1::State::Cancelled, "{task:?}");
        check_output(&clients, id, Stdout, written.as_bytes()).await;
    }
    site.quiet().await;
    check_everything(&clients, 1).await;
}

#[tokio::test]
async fn a_cancel_reaches_an_adopted_run() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let command = "trap 'echo bye; exit 3' TERM; echo begun; while :; do sleep 0.05; done";
    let id = remote::start(&server.connect(), bash(command)).await.background_id;
    until_written(&server.connect(), &id, 6).await;
    server.kill().await;
    let server = site.serve(&[]).await;
    let clients = server.connect();
    cancel(&clients, &id, false).await;
    let task = remote::ended(&clients, &id).await;
    assert_eq!((task.state(), code_of(&task)), (v1::State::Cancelled, 3), "{task:?}");
    check_output(&clients, &id, Stdout, b"begun\nbye\n").await;
}

#[tokio::test]
async fn the_idle_timeout_begins_anew_with_the_next_server() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let clients = server.connect();
    let (ready, gate) = (site.folder().join("ready"), site.folder().join("gate"));
    let ready = ready.display();
    let idle = |command: &str| v1::RunToolRequest { idle_timeout: millis(1_000), ..bash(command) };
    // Silent for longer than its limit, but not while a server watches.
    let lively = format!(
        "echo begun; until [ -e {} ]; do sleep 0.02; done; echo on; sleep 0.5; exit 5",
        gate.display()
    );
    let lively = remote::start(&clients, idle(&lively)).await.background_id;
    let silent =
        remote::start(&clients, idle(&format!("echo begun; touch {ready}; sleep 300"))).await;
    let silent = silent.background_id;
    for id in [&lively, &silent] {
        until_written(&clients, id, 6).await;
    }
    server.live.signal(Signal::KILL);
    server.live.ended().await;
    // The time without a server is the subject of the test.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let server = site.serve(&[]).await;
    let clients = server.connect();
    std::fs::write(&gate, "").expect("a gate");
    assert_eq!(code_of(&remote::ended(&clients, &lively).await), 5);
    check_output(&clients, &lively, Stdout, b"begun\non\n").await;
    let task = remote::ended(&clients, &silent).await;
    assert_eq!(task.state(), v1::State::TimedOut, "{task:?}");
    assert_eq!(outcome_of(&task).end_reason(), v1::EndReason::IdleTimeout, "{task:?}");
    site.quiet().await;
}

#[tokio::test]
async fn standard_input_is_read_to_its_end_without_the_server_that_gave_it() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let gate = site.folder().join("gate");
    let data: Vec<u8> = (0..1 << 20).map(|n| (n * 31 % 251) as u8).collect();
    let command =
        format!("head -c 1000; until [ -e {} ]; do sleep 0.02; done; cat", gate.display());
    let call = v1::RunToolRequest { stdin: data.clone().into(), ..bash(&command) };
    let id = remote::start(&server.connect(), call).await.background_id;
    until_written(&server.connect(), &id, 1_000).await;
    server.kill().await;
    std::fs::write(&gate, "").expect("a gate");
    site.quiet().await;
    let server = site.serve(&[]).await;
    let clients = server.connect();
    assert_eq!(code_of(&remote::ended(&clients, &id).await), 0);
    check_output(&clients, &id, Stdout, &data).await;
}
