//! `callpark run` as its users meet it: output, exit codes, parking, Ctrl-C.

use base64_of::decode;
use rustix::process::Signal;

use crate::support::program::{Ended, Live, Site, run};
use crate::support::waiting::Gate;

/// The id in what the command says of a call that goes on.
#[track_caller]
fn parked_id(ended: &Ended) -> String {
    let text = ended.stderr();
    let rest = text.split_once("in the background as ").map(|(_, rest)| rest);
    let id: String = rest.unwrap_or_default().chars().take_while(|c| !c.is_whitespace()).collect();
    assert!(id.starts_with("bg-") && id.len() == 35, "`{id}`: {ended}");
    id
}

/// The command that it says comes next, as the words of one.
#[track_caller]
fn next_command(ended: &Ended) -> Vec<&str> {
    let line = ended.stderr().lines().last().expect("a line");
    let (_, next) = line.split_once("to get its result: callpark ").expect("a command");
    next.split(' ').collect()
}

#[tokio::test]
async fn both_streams_come_apart_and_the_exit_code_is_the_tools() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let command = r"printf 'out\n\0\377'; printf 'err\n\376' >&2; exit 7";
    let mut command = server.command(&["run", "bash", "--", command]);
    let output = command.output().await.expect("run");
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(output.stdout, b"out\n\0\xff");
    assert_eq!(output.stderr, b"err\n\xfe");
    let quiet = server.cli(&["run", "bash", "true"]).await.exits(0);
    assert_eq!((quiet.stdout(), quiet.stderr()), ("", ""));
}

#[tokio::test]
async fn arguments_of_one_command_stay_separate() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let words = ["run", "bash", "--", "printf", "%s|", "a  b", "it's", "", "$HOME", "--json"];
    let ended = server.cli(&words).await.exits(0);
    assert_eq!(ended.stdout(), "a  b|it's||$HOME|--json|");
    let arguments = r#"{"command": "cat; echo $X", "stdin": "fed\n", "env": {"X": "set"}}"#;
    let ended = server.cli(&["run", "bash", "--args", arguments]).await.exits(0);
    assert_eq!(ended.stdout(), "fed\nset\n");
    let file = site.write("arguments", arguments);
    let mut command = server.command(&["run", "bash", "--args", "-"]);
    command.stdin(std::fs::File::open(file).expect("a file"));
    assert_eq!(run(command).await.exits(0).stdout(), "fed\nset\n");
}

#[tokio::test]
async fn everything_after_the_first_word_belongs_to_the_tool() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let ended = server.cli(&["run", "bash", "echo", "hi", "--budget", "3s", "--json"]).await;
    assert_eq!(ended.exits(0).stdout(), "hi --budget 3s --json\n");
    let folder = site.folder().join("a folder");
    std::fs::create_dir(&folder).expect("a folder");
    let mut command = server.command(&["run", "--cwd", "a folder", "bash", "pwd", "-P"]);
    command.current_dir(site.folder());
    let ended = run(command).await;
    let real = std::fs::canonicalize(&folder).expect("a folder");
    assert_eq!(ended.exits(0).line(), real.display().to_string());
}

#[tokio::test]
async fn a_misspelt_tool_is_answered_with_the_nearest_one() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    for words in [
        &["run", "bahs", "echo", "hi"][..],
        &["run", "bahs"],
        &["run", "--arg", "a=b", "bahs"],
        &["run", "--cwd", "/", "bahs"],
        &["start", "--args", "{}", "bahs"],
    ] {
        let ended = server.cli(words).await.exits(66);
        assert!(ended.stderr().contains("there is no tool `bahs`"), "{words:?}: {ended}");
        assert!(ended.stderr().contains("did you mean `bash`?"), "{words:?}: {ended}");
    }
    let other = server.cli(&["run", "zzzzzz"]).await.exits(66);
    assert!(other.stderr().contains("list the tools with `callpark tools`"), "{other}");
}

#[tokio::test]
async fn output_comes_while_the_tool_still_runs() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let mut gate = Gate::new(site.folder(), "gate");
    let command = format!("echo first; echo note >&2; {}; echo last", gate.wait());
    let mut live = Live::start(server.command(&["run", "bash", "--", &command]));
    live.stdout.until("first\n").await;
    live.stderr.until("note\n").await;
    gate.open();
    let ended = live.ended().await.exits(0);
    assert_eq!((ended.stdout(), ended.stderr()), ("first\nlast\n", "note\n"));
}

#[tokio::test]
async fn a_tool_ended_by_a_signal_has_the_exit_code_of_a_shell() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let ended = server.cli(&["run", "bash", "--", "echo before; kill -SEGV $$"]).await;
    let ended = ended.exits(128 + 11);
    assert_eq!((ended.stdout(), ended.stderr()), ("before\n", "callpark: ended by signal 11\n"));
}

#[tokio::test]
async fn limits_and_cancels_have_exit_codes_of_their_own() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let late = server.cli(&["run", "bash", "--timeout", "300ms", "echo on; sleep 60"]).await;
    let late = late.exits(124);
    assert_eq!(late.stdout(), "on\n");
    assert!(late.stderr().contains("timed out"), "{late}");
    let silent = server.cli(&["run", "bash", "--idle", "300ms", "sleep 60"]).await;
    assert!(silent.stderr().contains("no output for"), "{silent}");
    silent.exits(124);
    let missing = server.cli(&["run", "bash", "--", "/nonexistent/program"]).await;
    missing.exits(127);
}

#[tokio::test]
async fn a_call_over_its_budget_is_parked_and_the_next_command_is_printed() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let mut gate = Gate::new(site.folder(), "gate");
    let command = format!("echo before; {}; echo after; echo note >&2; exit 4", gate.wait());
    let parked = server.cli(&["run", "--budget", "1s", "bash", "--", &command]).await.exits(75);
    assert_eq!(parked.stdout(), "before\n");
    let id = parked_id(&parked);
    let said = format!(
        "callpark: still running; the call continues in the background as {id}\n\
         callpark: to get its result: callpark wait {id}\n"
    );
    assert_eq!(parked.stderr(), said);
    gate.open();
    let ended = server.cli(&next_command(&parked)).await.exits(4);
    assert_eq!((ended.stdout(), ended.stderr()), ("before\nafter\n", "note\n"));
    // As often as one likes.
    assert_eq!(server.cli(&["wait", &id]).await.exits(4).stdout(), "before\nafter\n");
}

#[tokio::test]
async fn ctrl_c_leaves_the_call_and_says_where_it_is() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let mut gate = Gate::new(site.folder(), "gate");
    let command = format!("echo begun; {}; echo done", gate.wait());
    let mut live = Live::start(server.command(&["run", "bash", "--", &command]));
    live.stdout.until("begun\n").await;
    live.signal(Signal::INT);
    let left = live.ended().await.exits(130);
    assert_eq!(left.stdout(), "begun\n");
    let id = parked_id(&left);
    let task = server.cli(&["show", &id, "--json"]).await.exits(0).json();
    assert_eq!(task["state"], "STATE_RUNNING", "{task}");
    assert_eq!(task["parkReason"], "PARK_REASON_DISCONNECTED", "{task}");
    gate.open();
    let ended = server.cli(&next_command(&left)).await.exits(0);
    assert_eq!(ended.stdout(), "begun\ndone\n");
}

#[tokio::test]
async fn a_cancel_from_elsewhere_ends_it() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let session = server.cli(&["start", "--json", "bash", "sleep 60"]).await.exits(0).json();
    let session = session["sessionId"].as_str().expect("a session").to_owned();
    let words = ["run", "bash", "--session", &session, "--", "echo begun; sleep 60"];
    let mut live = Live::start(server.command(&words));
    live.stdout.until("begun\n").await;
    server.cli(&["close", &session, "--reason", "enough"]).await.exits(0);
    let ended = live.ended().await.exits(125);
    assert!(ended.stderr().contains("cancelled"), "{ended}");
}

#[tokio::test]
async fn json_is_an_event_a_line_and_nothing_else() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let command = r"printf '\377\0'; exit 3";
    let ended = server.cli(&["run", "--json", "bash", "--", command]).await.exits(3);
    assert_eq!(ended.stderr(), "");
    let events = ended.json_lines();
    let sequences: Vec<_> = events.iter().map(|event| event["sequence"].clone()).collect();
    assert_eq!(sequences, ["1", "2", "3", "4"]);
    assert_eq!(events[0]["toolCallAccepted"]["tool"], "bash", "{events:?}");
    assert_eq!(decode(&events[2]["toolOutput"]["data"]), b"\xff\0");
    let finished = &events[3]["toolCallFinished"];
    assert_eq!(
        (&finished["state"], &finished["result"]["exitCode"]),
        (&"STATE_FAILED".into(), &3.into())
    );
}

#[tokio::test]
async fn run_detached_is_the_same_as_start() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let ended = server.cli(&["run", "--detach", "bash", "echo away"]).await.exits(0);
    assert_eq!(ended.stderr(), "");
    let id = ended.line();
    assert_eq!(server.cli(&["wait", id]).await.exits(0).stdout(), "away\n");
}

/// Base64, which is too little for a dependency.
mod base64_of {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    pub fn decode(value: &serde_json::Value) -> Vec<u8> {
        let text = value.as_str().expect("a string").trim_end_matches('=');
        let digit = |c| DIGITS.find(c).expect("a digit of base64");
        let bits: String = text.chars().map(|c| format!("{:06b}", digit(c))).collect();
        let bytes = bits.as_bytes().chunks_exact(8).map(|byte| {
            let byte = std::str::from_utf8(byte).expect("digits");
            u8::from_str_radix(byte, 2).expect("a byte")
        });
        bytes.collect()
    }
}
