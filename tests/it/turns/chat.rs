//! `callpark chat` as its users meet it.

use std::sync::Arc;

use rustix::process::Signal;
use serde_json::json;
use tokio::sync::Notify;

use super::*;
use crate::support::program::{Live, Program, Site, run};

/// A server with this model, whose bash parks soon.
async fn serve_program(site: &Site, endpoint: &Endpoint) -> Program {
    let file = site.write("callpark.toml", &config(endpoint, ""));
    let file = file.display().to_string();
    site.serve(&["--config", &file, "--call-budget", "200ms"]).await
}

#[tokio::test]
async fn an_endpoint_and_a_model_are_enough() {
    let bash = json!({ "command": "pwd; exit 3" });
    let endpoint = Endpoint::new(vec![calls(&[("c", "bash", bash)]), says("it failed")]).await;
    let site = Site::new();
    let words =
        ["chat", "--model-endpoint", &endpoint.url, "--model", "small", "where", "are", "we?"];
    let ended = site.run(&words).await.exits(0);
    assert_eq!(ended.stdout(), "it failed\n");
    let expected = [
        "callpark: bash {\"command\":\"pwd; exit 3\"}",
        "callpark: bash failed: exit code 3",
        "callpark: 200 input tokens, 20 output tokens, 2 requests",
    ];
    assert_eq!(ended.stderr().lines().collect::<Vec<_>>(), expected);
    assert_eq!(endpoint.requests()[0]["model"], "small");
    assert_eq!(endpoint.messages(0)[1]["content"], "where are we?");
    site.quiet().await;
}

#[tokio::test]
async fn each_line_is_a_prompt_of_one_session() {
    let endpoint = Endpoint::new(vec![says("one"), says("two")]).await;
    let site = Site::new();
    let server = serve_program(&site, &endpoint).await;
    let mut command = server.command(&["chat"]);
    let lines = site.write("lines", "first\n\nsecond\n");
    command.stdin(std::fs::File::open(lines).expect("a file"));
    assert_eq!(run(command).await.exits(0).stdout(), "one\ntwo\n");
    assert_eq!(endpoint.messages(1).len(), 4, "the second knows of the first");
}

#[tokio::test]
async fn a_request_that_is_repeated_is_announced_with_its_reason() {
    let limited = Script::Status(
        429,
        vec![("retry-after", "0.2".to_owned())],
        json!({ "error": { "message": "slow down" } }).to_string(),
    );
    let failing = Script::Status(503, vec![], "{}".into());
    let endpoint = Endpoint::new(vec![limited, failing, says("well")]).await;
    let site = Site::new();
    let server = serve_program(&site, &endpoint).await;
    let ended = server.cli(&["chat", "go"]).await.exits(0);
    assert_eq!(ended.stdout(), "well\n");
    let mut notes = ended.stderr().lines();
    let first = notes.next().expect("a note");
    assert!(first.contains("429") && first.contains("slow down"), "{ended}");
    assert!(first.contains("; retrying in 2"), "{ended}");
    let second = notes.next().expect("a note");
    assert!(second.contains("503") && second.contains("; retrying in "), "{ended}");
    assert!(notes.next().expect("a note").contains("3 requests"), "{ended}");
}

#[tokio::test]
async fn a_call_that_the_token_limit_cuts_is_shown() {
    let call = |index: u32, arguments: &str| {
        let function = json!({ "name": "bash", "arguments": arguments });
        Piece::Call(index, json!({ "id": format!("c{index}"), "function": function }))
    };
    let whole = "{\"command\":\"true\"}";
    let cut = Script::Stream(vec![
        Piece::Text("both".into()),
        call(0, whole),
        call(1, "{\"command\":\"ec"),
        Piece::Finish("length"),
    ]);
    let bare = Script::Stream(vec![call(0, ""), Piece::Finish("length")]);
    // Neither a call that is whole nor one that the model has got wrong is cut.
    let others = [
        Script::Stream(vec![call(0, whole), Piece::Finish("length")]),
        Script::Stream(vec![call(0, "{\"command\":"), Piece::Finish("tool_calls")]),
    ];
    let scripts = [cut, bare].into_iter().chain(others).chain([says("well")]);
    let endpoint = Endpoint::new(scripts.collect()).await;
    let site = Site::new();
    let server = serve_program(&site, &endpoint).await;
    let ended = server.cli(&["chat", "go"]).await.exits(0);
    assert_eq!(ended.stdout(), "both\nwell\n");
    let limit = "callpark: the model's answer reached its token limit in the middle of a call, which \
                 is not run; see max_output_tokens of the model";
    let accepted = "callpark: bash {\"command\":\"true\"}";
    let done = "callpark: bash succeeded";
    let notes = ended.stderr();
    let mut notes: Vec<&str> = notes.lines().collect();
    assert!(notes.pop().expect("the usage").contains("5 requests"), "{ended}");
    assert_eq!(notes, [limit, accepted, done, limit, accepted, done], "{ended}");
}

#[tokio::test]
async fn parked_and_failed_calls_are_shown() {
    let bash = json!({ "command": "sleep 1000" });
    let failing = Script::Status(401, vec![], "{}".into());
    let endpoint = Endpoint::new(vec![calls(&[("c", "bash", bash)]), says("later"), failing]).await;
    let site = Site::new();
    let server = serve_program(&site, &endpoint).await;
    let ended = server.cli(&["chat", "go"]).await.exits(0);
    assert_eq!(ended.stdout(), "later\n");
    let notes = ended.stderr();
    assert!(
        notes.contains("callpark: bash is still running and continues in the background as bg-"),
        "{notes}"
    );
    assert!(notes.lines().any(|line| line.ends_with(" continues in the background")), "{notes}");
    assert!(notes.contains("2 requests, $0.00"), "{notes}");
    let ended = server.cli(&["chat", "go"]).await.exits(1);
    assert!(ended.stderr().contains("the turn failed (model_unauthenticated)"), "{ended}");
    let words = ["chat", "--model-endpoint", "localhost:1", "--model", "m", "go"];
    let ended = server.cli(&words).await.exits(2);
    assert!(ended.stderr().contains("--model-endpoint localhost:1 is not a URL"), "{ended}");
    let ended = server.cli(&["chat", "--model", "absent", "go"]).await.exits(66);
    assert!(ended.stderr().contains("this server has main"), "{ended}");
}

#[tokio::test]
async fn ctrl_c_once_leaves_the_turn_and_twice_cancels_it() {
    let never = Arc::new(Notify::new());
    let held = Script::Stream(vec![Piece::Text("I am".into()), Piece::Wait(never)]);
    let endpoint = Endpoint::new(vec![held.clone(), held]).await;
    let site = Site::new();
    let server = serve_program(&site, &endpoint).await;
    let mut live = Live::start(server.command(&["chat", "go"]));
    live.stdout.until("I am").await;
    live.signal(Signal::INT);
    live.stderr.until("Ctrl-C again cancels it").await;
    let ended = live.ended().await.exits(130);
    assert!(ended.stderr().contains("callpark events ses-"), "{ended}");
    let tasks = server.cli(&["--json", "list"]).await.exits(0).json();
    assert_eq!(tasks["tasks"][0]["state"], "STATE_RUNNING", "{tasks}");

    let mut live = Live::start(server.command(&["chat", "go"]));
    live.stdout.until("I am").await;
    live.signal(Signal::INT);
    live.stderr.until("Ctrl-C again cancels it").await;
    live.signal(Signal::INT);
    let ended = live.ended().await.exits(125);
    assert!(ended.stderr().contains("the turn is cancelled"), "{ended}");
}

#[tokio::test]
async fn what_ctrl_c_says_is_true_for_a_server_that_ends_with_the_chat() {
    let never = Arc::new(Notify::new());
    let held = Script::Stream(vec![Piece::Text("I am".into()), Piece::Wait(never)]);
    let endpoint = Endpoint::new(vec![held.clone(), held]).await;
    let site = Site::new();
    let words = ["chat", "--model-endpoint", &endpoint.url, "--model", "small"];
    let mut live = Live::start(site.command(&[&words[..], &["go"]].concat()));
    live.stdout.until("I am").await;
    live.signal(Signal::INT);
    let ended = live.ended().await.exits(125);
    assert!(ended.stderr().contains("callpark: the turn is cancelled"), "{ended}");
    for untrue in ["continues", "callpark events", "again"] {
        assert!(!ended.stderr().contains(untrue), "{ended}");
    }

    let lines = site.write("lines", "go\n");
    let mut command = site.command(&words);
    command.stdin(std::fs::File::open(lines).expect("a file"));
    let mut live = Live::start(command);
    live.stdout.until("I am").await;
    live.signal(Signal::INT);
    live.stderr.until("the turn continues until this chat ends").await;
    let ended = live.ended().await.exits(130);
    assert!(ended.stderr().contains("work that is still running is lost"), "{ended}");
    assert!(!ended.stderr().contains("callpark events"), "{ended}");
}
