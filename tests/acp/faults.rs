//! Agents that fail or break the protocol.

use std::time::Duration;

use callpark::agent::{Agent as _, ModelErrorCode};
use callpark::model::SessionId;

use crate::support::{agent, config, is_there, play, request, until_said, until_still, with};

/// The error of a first turn with the agent in this manner.
#[track_caller]
fn check(error: &callpark::agent::ModelError, code: ModelErrorCode, words: &[&str]) {
    assert_eq!(error.code, code, "{error}");
    for word in words {
        assert!(error.message.contains(word), "{error}");
    }
}

#[tokio::test]
async fn an_unavailable_agent_is_an_error_with_the_reason() {
    for (manner, code, words) in [
        ("exits", ModelErrorCode::Connection, ["exit code 3", "no licence was found"]),
        ("silent", ModelErrorCode::Timeout, ["start_timeout", "500ms"]),
        ("garbage", ModelErrorCode::Malformed, ["start_timeout", "is not a message: Welcome"]),
        ("version", ModelErrorCode::Refused, ["version 99", "version 1"]),
        ("login", ModelErrorCode::Unauthenticated, ["Authentication required", "log in"]),
    ] {
        let mut config = config(manner);
        match manner {
            "silent" => config.start_timeout = Some(Duration::from_millis(500)),
            // It must have time to write it.
            "garbage" => config.start_timeout = Some(Duration::from_secs(5)),
            _ => {}
        }
        let agent = with(config);
        let played = play(&agent, request(SessionId::random(), 0, "say x")).await;
        check(played.error(), code, &words);
        agent.close().await;
    }
}

#[tokio::test]
async fn a_configuration_that_cannot_be_started_is_named_and_not_retried() {
    let folder = tempfile::tempdir().expect("a folder");
    let plain = folder.path().join("plain");
    std::fs::write(&plain, "").expect("written");
    let nowhere = folder.path().join("nowhere");
    for (program, directory, words) in [
        ("no-such-agent", None, "`no-such-agent` was not found"),
        (plain.to_str().expect("text"), None, "may not be executed: check its permissions"),
        ("python3", Some(nowhere), "nowhere` is not a directory"),
    ] {
        let mut config = config("");
        config.argv = vec![program.to_owned()];
        config.working_directory = directory;
        let agent = with(config);
        let played = play(&agent, request(SessionId::random(), 0, "say x")).await;
        check(played.error(), ModelErrorCode::NotStartable, &["the agent `script` failed", words]);
        assert!(!played.error().code.is_transient());
        agent.close().await;
    }
}

#[tokio::test]
async fn an_agent_that_dies_in_a_turn_ends_it_and_the_next_turn_has_a_new_one() {
    let agent = agent();
    let session = SessionId::random();
    let pid = play(&agent, request(session, 0, "pid")).await.text;
    let played = play(&agent, request(session, 2, "say so far\ndie")).await;
    assert_eq!(played.text, "so far");
    let words = ["the agent `script` failed", "exit code 7", "the reason is written here"];
    check(played.error(), ModelErrorCode::Connection, &words);
    let other = play(&agent, request(session, 4, "pid")).await.text;
    assert!(pid != other && !is_there(&pid));
    agent.close().await;
}

#[tokio::test]
async fn a_line_of_100_megabytes_ends_the_process() {
    let agent = agent();
    let played = play(&agent, request(SessionId::random(), 0, "say x\nlong")).await;
    check(played.error(), ModelErrorCode::Malformed, &["a message of more than 16 MiB"]);
    agent.close().await;
}

#[tokio::test]
async fn an_error_keeps_its_kind_and_costs_no_process() {
    let agent = agent();
    let session = SessionId::random();
    let pid = play(&agent, request(session, 0, "pid")).await.text;
    for (number, code) in [
        ("-32603", ModelErrorCode::Server),
        ("-32602", ModelErrorCode::Refused),
        ("-32000", ModelErrorCode::Unauthenticated),
    ] {
        let played = play(&agent, request(session, 2, &format!("error {number}"))).await;
        check(played.error(), code, &["the prompt", number]);
    }
    assert_eq!(play(&agent, request(session, 2, "pid")).await.text, pid);
    agent.close().await;
}

#[tokio::test]
async fn an_agent_that_asks_without_end_and_reads_nothing_is_held_back() {
    let agent = agent();
    let session = SessionId::random();
    let folder = tempfile::tempdir().expect("a folder");
    let mut asked = request(session, 0, "say first\nnag 10000");
    asked.working_directory = Some(folder.path().to_owned());
    let stream = until_said(agent.turn(asked), "first").await;
    let sent = until_still(folder.path()).await;
    assert!(sent < 3_000, "{sent} answers are kept unread");
    // It cannot receive a cancel, and is ended.
    drop(stream);
    let played = play(&agent, request(session, 2, "say well")).await;
    assert_eq!(played.text, "well");
    agent.close().await;
}
