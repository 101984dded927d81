//! A turn whose server ends behind each of its appends.

use std::collections::BTreeMap;
use std::sync::Arc;

use callpark::store::MemoryStore;

use super::*;
use crate::support::slow_store::SlowStore;
use crate::support::streams::{log_of, new_session};
use crate::support::waiting::{self, text_of};
use crate::support::{Additions, TestServer};

/// The answer that follows from the number of results: a call, two more, and the end.
fn answer(messages: &[Value], folder: &str) -> Script {
    let run = |name: &'static str| {
        (name, "bash", json!({ "command": format!("echo {name} | tee -a {folder}/{name}") }))
    };
    match messages.iter().filter(|message| message["role"] == "tool").count() {
        0 => calls(&[run("a")]),
        1 => calls(&[run("b"), run("c")]),
        3 => says("done"),
        other => panic!("{other} results: {messages:?}"),
    }
}

/// Runs the turn on a server that ends after so many appends, and goes on with it on another. Returns
/// whether the first server ended before the turn did.
async fn ends_after(appends: usize) -> bool {
    let folder = crate::support::folder();
    let path = folder.path().display().to_string();
    let endpoint = Endpoint::ruled(move |messages| answer(messages, &path)).await;
    let toml = config(&endpoint, "");
    let stored = Arc::new(MemoryStore::new());
    let ending = Arc::new(SlowStore::over(stored.clone()));
    let more = Additions { store: Some(ending.clone()), ..Additions::default() };
    let first = TestServer::with_config_and(&toml, more, &[]).await;
    let session_id = new_session(&first).await;
    ending.0.end_after(appends);
    let task = waiting::start(&first, start_of_turn(prompt(&session_id, "go"))).await;
    let is_killed = tokio::select! {
        () = ending.0.ended() => true,
        _ = waiting::ended(&first, &task.background_id) => false,
    };
    drop(first);

    let more = Additions { store: Some(stored), ..Additions::default() };
    let second = TestServer::with_config_and(&toml, more, &[]).await;
    let task = waiting::ended(&second, &task.background_id).await;
    let events = log_of(&second, &session_id).await;
    let story = short(&events);
    assert_eq!(task.state(), v1::State::Succeeded, "after {appends}: {story:?}");
    let end = idle(&events);
    assert_eq!(end.final_text, "done");
    let resumed = story.iter().filter(|line| line.starts_with("resumed")).count();
    assert_eq!(resumed, usize::from(is_killed), "after {appends}: {story:?}");

    // Each call was accepted once, and ran at most once.
    let mut accepted: BTreeMap<&str, usize> = BTreeMap::new();
    for event in &events {
        if matches!(event.payload, Some(Payload::ToolCallAccepted(_))) {
            *accepted.entry(&event.call_id).or_default() += 1;
        }
    }
    assert_eq!(accepted.len(), 4, "after {appends}: {story:?}");
    assert!(accepted.values().all(|count| *count == 1), "after {appends}: {story:?}");
    let lost = story.iter().filter(|line| line.contains("LOST")).count();
    let ran = ["a", "b", "c"].map(|name| text_of(&folder.path().join(name)).lines().count());
    assert!(ran.iter().all(|count| *count <= 1), "after {appends}: {ran:?}");
    assert!(ran.iter().sum::<usize>() + lost >= 3, "after {appends}: {ran:?}, {story:?}");

    // The last request has everything in order, and nothing twice.
    let requests = endpoint.requests();
    let shown = endpoint.messages(requests.len() - 1);
    let roles: Vec<&str> = shown.iter().filter_map(|message| message["role"].as_str()).collect();
    let in_order = ["system", "user", "assistant", "tool", "assistant", "tool", "tool"];
    assert_eq!(roles, in_order, "after {appends}: {shown:?}");
    let ids: Vec<&str> = shown.iter().filter_map(|m| m["tool_call_id"].as_str()).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    // An answer whose usage was recorded before the end, and that was not, is asked for again.
    let usage = end.usage.expect("usage").requests;
    assert!((3..=4).contains(&usage), "after {appends}: {usage} counted");
    crate::history::check_everything(&second.connect(), 1).await;
    is_killed
}

#[tokio::test]
async fn a_turn_goes_on_from_every_point_of_its_log() {
    let mut points = 0;
    while ends_after(points + 1).await {
        points += 1;
    }
    println!("{points} points");
    assert!(points >= 12, "only {points} points");
}
