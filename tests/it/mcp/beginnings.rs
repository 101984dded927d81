//! Servers of both ages of the protocol: with `initialize` and without.

use std::time::Duration;

use serde_json::json;

use super::{echo, lines, list, odd, result, text};
use crate::support::soon;
use crate::support::waiting::lines_of;

#[tokio::test]
async fn an_older_server_is_initialized_after_it_has_refused_discovery() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "", "").await;
    assert_eq!(text(&echo(&server, "hello").await), "hello");
    assert_eq!(lines(folder.path(), "starts").len(), 1);
}

#[tokio::test]
async fn an_older_server_that_never_answers_discovery_is_initialized() {
    // At the same time, since each waits for seconds.
    let cases = ["deaf", "late"].map(|manner| async move {
        let folder = crate::support::folder();
        let server = odd(folder.path(), manner, "start_timeout = '4s'").await;
        assert_eq!(text(&echo(&server, manner).await), manner);
        assert_eq!(lines(folder.path(), "starts").len(), 1, "{manner}");
    });
    futures::future::join_all(cases).await;
}

#[tokio::test]
async fn a_newer_server_that_is_slow_to_start_is_waited_for() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "slow", "start_timeout = '8s'").await;
    assert_eq!(text(&echo(&server, "hello").await), "hello");
    lines_of(&folder.path().join("listens"), 1).await;
    assert_eq!(lines(folder.path(), "starts").len(), 1);
}

#[tokio::test]
async fn an_older_server_that_exits_at_discovery_is_started_again_without_it() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "old", "").await;
    assert_eq!(text(&echo(&server, "hello").await), "hello");
    assert_eq!(lines(folder.path(), "starts").len(), 2);
}

#[tokio::test]
async fn later_tools_are_found_where_the_protocol_needs_a_subscription() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "tasks", "").await;
    assert_eq!(text(&echo(&server, "there").await), "there");
    let listens = lines_of(&folder.path().join("listens"), 1).await;
    assert_eq!(listens, [r#"{"toolsListChanged": true}"#]);
    assert_eq!(text(&result(&server, "change", json!({})).await), "changed");
    let found = async {
        while !list(&server).await.tools.iter().any(|tool| tool.name == "odd__new") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("the new tool", found).await;
}
