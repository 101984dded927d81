//! Commands in a pipeline: their standard input, and an output that is closed.

use std::process::Stdio;

use tokio::process::Command;

use crate::support::program::{Live, PROGRAM, Program, Site, run};

/// A command line of bash in which `$callpark` talks to the server.
fn shell(site: &Site, server: &Program, line: &str) -> Command {
    let mut command = site.other("bash", &["-c", line]);
    command.env("callpark", PROGRAM).env("CALLPARK_ENDPOINT", &server.endpoint);
    command
}

/// The state of the only task.
async fn only_state(server: &Program) -> String {
    let list = server.cli(&["list", "--json"]).await.exits(0).json();
    let tasks = list["tasks"].as_array().expect("tasks");
    assert_eq!(tasks.len(), 1, "{list}");
    tasks[0]["state"].as_str().expect("a state").to_owned()
}

#[tokio::test]
async fn a_file_and_a_pipe_go_to_the_tool_byte_for_byte() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let file = site.folder().join("bytes");
    std::fs::write(&file, &bytes).expect("written");
    let mut command = server.command(&["run", "bash", "cat"]);
    command.stdin(std::fs::File::open(&file).expect("a file"));
    assert_eq!(run(command).await.exits(0).bytes(), bytes);
    let line = "printf 'a\\nb\\n' | $callpark run bash 'wc -l'";
    assert_eq!(run(shell(&site, &server, line)).await.exits(0).line(), "2");
    let line = "id=$(printf 'a\\nb\\n' | $callpark start bash 'wc -l'); $callpark wait $id";
    assert_eq!(run(shell(&site, &server, line)).await.exits(0).line(), "2");
    let line = "$callpark run bash 'echo one; echo two' | $callpark run bash 'wc -l'";
    assert_eq!(run(shell(&site, &server, line)).await.exits(0).line(), "2");
}

#[tokio::test]
async fn a_pipeline_waits_for_its_slow_beginning() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let line = "(sleep 2; echo late) | $callpark run bash cat";
    let ended = run(shell(&site, &server, line)).await.exits(0);
    assert_eq!((ended.stdout(), ended.stderr()), ("late\n", ""));
}

#[tokio::test]
async fn an_open_pipe_that_its_starter_leaves_silent_is_not_waited_for() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = server.command(&["run", "bash", "cat; echo done"]);
    command.stdin(reader.try_clone().expect("a reader"));
    let ended = run(command).await.exits(0);
    assert_eq!(ended.stdout(), "done\n");
    assert!(ended.stderr().contains("standard input is open, but silent"), "{ended}");

    let mut command = server.command(&["run", "--stdin", "bash", "cat"]);
    command.stdin(reader.try_clone().expect("a reader"));
    let live = Live::start(command);
    std::io::Write::write_all(&mut &writer, b"at last\n").expect("written");
    drop(writer);
    assert_eq!(live.ended().await.exits(0).stdout(), "at last\n");
}

#[tokio::test]
async fn a_loop_keeps_its_own_input() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let line = "printf 'a\\nb\\nc\\n' | while read word; do \
                $callpark run --no-stdin bash echo $word; done";
    assert_eq!(run(shell(&site, &server, line)).await.exits(0).stdout(), "a\nb\nc\n");
}

#[tokio::test]
async fn a_tool_that_takes_none_is_called_without_it_and_that_is_said() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let arguments = r#"{"command": "cat", "stdin": "given"}"#;
    let line = format!("echo piped | $callpark run bash --args '{arguments}'");
    let ended = run(shell(&site, &server, &line)).await.exits(0);
    assert_eq!(ended.stdout(), "given");
    assert!(ended.stderr().contains("standard input is not used: the arguments give"), "{ended}");
    let line = format!("echo piped | $callpark run --stdin bash --args '{arguments}'");
    let ended = run(shell(&site, &server, &line)).await.exits(2);
    assert!(ended.stderr().contains("the arguments give the standard input already"), "{ended}");
    // The arguments themselves are the input then.
    let line = format!("echo '{arguments}' | $callpark run bash --args -");
    let ended = run(shell(&site, &server, &line)).await.exits(0);
    assert_eq!((ended.stdout(), ended.stderr()), ("given", ""));
}

#[tokio::test]
async fn more_than_the_bound_is_refused_and_nothing_runs() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let line = "head -c 2097153 /dev/zero | $callpark run bash cat";
    let ended = run(shell(&site, &server, line)).await.exits(2);
    assert!(ended.stderr().contains("more than 2097152 bytes"), "{ended}");
    assert!(ended.stderr().contains("--no-stdin"), "{ended}");
    let sessions = server.cli(&["sessions", "--json"]).await.exits(0).stdout().to_owned();
    assert!(!sessions.contains("ses-"), "{sessions}");
}

#[tokio::test]
async fn a_call_whose_output_is_not_read_any_more_is_cancelled() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let ended = run(shell(&site, &server, "$callpark run bash yes | head -n 1")).await.exits(0);
    assert_eq!(ended.stdout(), "y\n");
    let said = "callpark: standard output was closed: the call is cancelled (bg-";
    assert!(ended.stderr().starts_with(said), "{ended}");
    assert_eq!(only_state(&server).await, "STATE_CANCELLED");
    site.quiet().await;
}

#[tokio::test]
async fn a_call_that_is_to_be_kept_goes_on_without_its_reader() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let line = "$callpark run --keep bash 'while echo y; do sleep 0.01; done' | head -n 1";
    let ended = run(shell(&site, &server, line)).await.exits(0);
    assert_eq!(ended.stdout(), "y\n");
    assert!(ended.stderr().contains("continues in the background as bg-"), "{ended}");
    assert_eq!(only_state(&server).await, "STATE_RUNNING");
}

#[tokio::test]
async fn a_call_that_ends_before_its_reader_leaves_is_not_cancelled() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let line = "set -o pipefail; $callpark run bash 'echo y; exit 3' | head -n 1";
    let ended = run(shell(&site, &server, line)).await.exits(3);
    assert_eq!((ended.stdout(), ended.stderr()), ("y\n", ""));
}

#[tokio::test]
async fn without_any_input_nothing_is_said() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let mut command = server.command(&["run", "bash", "cat; echo done"]);
    command.stdin(Stdio::null());
    let ended = run(command).await.exits(0);
    assert_eq!((ended.stdout(), ended.stderr()), ("done\n", ""));
    let line = "$callpark run bash 'cat; echo done' <&-";
    let ended = run(shell(&site, &server, line)).await.exits(0);
    assert_eq!((ended.stdout(), ended.stderr()), ("done\n", ""));
}
