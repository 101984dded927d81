//! Failures of MCP servers, and the calls that they affect.

use serde_json::json;

use super::{echo, lines, list, odd, result, text};
use crate::support::waiting::{call, ended, lines_of, outcome_of, park, run};
use crate::support::{TestServer, bash, millis, result_of, stdout_of, v1};

/// The server's other tools go on.
async fn check_others(server: &TestServer) {
    let answer = run(server, bash("echo well")).await;
    assert_eq!(stdout_of(result_of(&answer)), b"well\n");
}

#[track_caller]
fn check_reported(result: &v1::ToolResult, words: &[&str]) {
    assert!(result.is_error, "{result:?}");
    for words in [&["the MCP server `odd` failed"], words].concat() {
        assert!(result.error_message.contains(words), "{}", result.error_message);
    }
}

#[tokio::test]
async fn a_server_that_dies_fails_its_calls_and_is_started_again() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "", "").await;
    let waiting = park(&server, call("odd__hang", json!({}))).await;
    let died = result(&server, "die", json!({})).await;
    check_reported(&died, &["exit code 3", "about to die | of a broken heart"]);
    let task = ended(&server, &waiting).await;
    assert_eq!(task.state(), v1::State::Failed);
    check_reported(outcome_of(&task), &["exit code 3"]);
    assert_eq!(text(&echo(&server, "again").await), "again");
    assert_eq!(lines(folder.path(), "starts").len(), 2);
}

#[tokio::test]
async fn the_exit_of_a_server_says_more_than_its_broken_pipe() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "", "").await;
    assert_eq!(text(&result(&server, "hang_up", json!({})).await), "bye");
    check_reported(&echo(&server, "is there anybody?").await, &["exit code 3"]);
    assert_eq!(text(&echo(&server, "again").await), "again");
}

#[tokio::test]
async fn a_message_without_end_ends_the_server_not_callpark() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "", "").await;
    echo(&server, "there").await;
    let before = resident_kib();
    let long = result(&server, "long_line", json!({})).await;
    check_reported(&long, &["a message of more than 16 MiB"]);
    let growth = resident_kib().saturating_sub(before);
    assert!(growth < 100 << 10, "{growth} KiB for a message that isn't kept");
    assert_eq!(text(&echo(&server, "again").await), "again");
    assert_eq!(lines(folder.path(), "starts").len(), 2);
}

/// Memory of this process, of which the server is a part.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number")
}

#[tokio::test]
async fn answers_that_make_no_sense_are_named() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "", "").await;
    check_reported(
        &result(&server, "refuse", json!({})).await,
        &["it returned an error: not today (-32603)"],
    );
    check_reported(&result(&server, "nonsense", json!({})).await, &["not a valid MCP result"]);
    assert_eq!(text(&echo(&server, "still there").await), "still there");
    assert_eq!(lines(folder.path(), "starts").len(), 1, "neither ends the server");
}

#[tokio::test]
async fn lines_that_are_no_messages_are_passed_over() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "chatters", "").await;
    assert_eq!(text(&echo(&server, "hello").await), "hello");
}

#[tokio::test]
async fn an_unavailable_server_is_reported_and_affects_no_other() {
    for (manner, words) in [
        ("silent", "was not ready 800ms after its start (start_timeout)"),
        ("refuses", "refused to initialize: no more clients (-32603)"),
        ("leaves", "exit code 7; its last lines were: the licence has run out"),
    ] {
        let folder = crate::support::folder();
        let limit = if manner == "silent" { "start_timeout = '800ms'" } else { "" };
        let server = odd(folder.path(), manner, limit).await;
        let answer = list(&server).await;
        let [unavailable] = &answer.unavailable[..] else { panic!("{:?}", answer.unavailable) };
        assert_eq!(unavailable.source.as_ref().expect("a source").name, "odd");
        assert!(unavailable.message.contains(words), "{manner}: {}", unavailable.message);
        assert!(answer.tools.iter().all(|tool| !tool.name.starts_with("odd")));
        let id = park(&server, call("odd__echo", json!({ "text": "x" }))).await;
        let task = ended(&server, &id).await;
        assert_eq!(task.state(), v1::State::Failed);
        check_reported(outcome_of(&task), &[words]);
        check_others(&server).await;
    }
}

#[tokio::test]
async fn a_missing_program_is_reported() {
    let toml =
        "[[mcp_servers]]\nname = 'odd'\nargv = ['no-such-program']\nenvironment = ['PATH']\n";
    let server = TestServer::with_config(toml, &[]).await;
    let result = echo(&server, "x").await;
    check_reported(&result, &["program `no-such-program` was not found"]);
    check_others(&server).await;
}

#[tokio::test]
async fn a_url_without_a_server_is_reported_in_plain_words() {
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/mcp", listener.local_addr().expect("an address"));
    drop(listener);
    let toml = format!("[[mcp_servers]]\nname = 'odd'\nurl = '{url}'\n");
    let server = TestServer::with_config(&toml, &[]).await;
    let result = echo(&server, "x").await;
    check_reported(&result, &["the connection failed", "Connection refused", &url]);
    assert!(!result.error_message.contains("::"), "{}", result.error_message);
}

#[tokio::test]
async fn a_call_that_is_never_answered_ends_at_its_limit() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "", "").await;
    // There, so that the limit meets a call and not a server that starts.
    assert_eq!(text(&echo(&server, "there").await), "there");
    let request =
        v1::RunToolRequest { execution_timeout: millis(300), ..call("odd__hang", json!({})) };
    let id = park(&server, request).await;
    let task = ended(&server, &id).await;
    assert_eq!(task.state(), v1::State::TimedOut, "{task:?}");
    lines_of(&folder.path().join("cancelled"), 1).await;
    assert_eq!(text(&echo(&server, "next").await), "next");
}
