//! Calls of servers that are not available: they wait.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{echo, lines, list, odd, result, text};
use crate::support::program::Site;
use crate::support::waiting::{call, ended, lines_of, outcome_of, parked_of, run};
use crate::support::{TestServer, millis, soon, v1};

fn go(folder: &std::path::Path) {
    std::fs::write(folder.join("go"), "").expect("written");
}

#[tokio::test]
async fn a_call_of_a_server_that_is_starting_is_parked_at_its_budget_and_goes_on() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "awaits", "").await;
    let request = v1::RunToolRequest {
        call_budget: millis(600),
        ..call("odd__echo", json!({ "text": "at last" }))
    };
    let began = Instant::now();
    let id = parked_of(&run(&server, request).await).background_id.clone();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    go(folder.path());
    assert_eq!(text(outcome_of(&ended(&server, &id).await)), "at last");
    assert_eq!(lines(folder.path(), "starts").len(), 1);
}

#[tokio::test]
async fn what_a_waiting_call_asks_for_is_checked_once_the_tools_are_known() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "awaits", "").await;
    let early = |name: &str, arguments| v1::RunToolRequest {
        call_budget: millis(0),
        ..call(name, arguments)
    };
    let wrong = run(&server, early("odd__echo", json!({ "text": 7 }))).await;
    let missing = run(&server, early("odd__nothing", json!({}))).await;
    go(folder.path());
    let failed = async |answer| {
        let task = ended(&server, &parked_of(answer).background_id).await;
        assert_eq!(task.state(), v1::State::Failed, "{task:?}");
        outcome_of(&task).error_message.clone()
    };
    let message = failed(&wrong).await;
    assert!(message.contains("the arguments of `odd__echo` are not valid: `text`"), "{message}");
    let message = failed(&missing).await;
    assert!(message.contains("`odd` has no tool `odd__nothing`"), "{message}");
}

#[tokio::test]
async fn a_server_that_dies_again_and_again_is_given_a_rest_and_its_calls_wait() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "", "").await;
    for _ in 0..2 {
        let died = result(&server, "die", json!({})).await;
        assert!(died.error_message.contains("exit code 3"), "{}", died.error_message);
    }
    let [unavailable] = &list(&server).await.unavailable[..] else { panic!("not resting") };
    for words in ["exit code 3", "it can be started again in"] {
        assert!(unavailable.message.contains(words), "{}", unavailable.message);
    }
    assert_eq!(lines(folder.path(), "starts").len(), 2);
    assert_eq!(text(&echo(&server, "back").await), "back");
    assert_eq!(lines(folder.path(), "starts").len(), 3);
}

#[tokio::test]
async fn at_most_four_servers_start_at_the_same_time() {
    let folder = crate::support::folder();
    let table = |number| {
        super::toml(folder.path(), "awaits", "").replace("'odd'", &format!("'odd{number}'"))
    };
    let toml: String = (1..=7).map(table).collect();
    let server = TestServer::with_config(&toml, &[]).await;
    let lists = async {
        // The list gives up on servers that take long; their starts go on.
        while !list(&server).await.unavailable.iter().all(|why| why.message.contains("left out")) {}
    };
    let release = async {
        lines_of(&folder.path().join("lives"), 4).await;
        go(folder.path());
    };
    soon("all servers", async { tokio::join!(lists, release) }).await;
    let (mut starting, mut most, mut started) = (0_i32, 0, 0);
    for line in lines(folder.path(), "lives") {
        match line.as_str() {
            "starts" => starting += 1,
            _ => (starting, started) = (starting - 1, started + 1),
        }
        most = most.max(starting);
    }
    assert_eq!((most, started), (4, 7));
}

#[tokio::test]
async fn the_command_line_calls_a_tool_whose_server_is_not_available_now() {
    let folder = crate::support::folder();
    let site = Site::new();
    let toml = super::toml(folder.path(), "", "");
    let file = site.write("callpark.toml", &toml).display().to_string();
    let server = site.serve(&["--config", &file]).await;
    for _ in 0..2 {
        assert_ne!(server.cli(&["run", "odd__die"]).await.code(), 0);
    }
    // A text and a number, neither of which says what it is.
    let words = ["run", "odd__echo", "text=7"];
    let ended = server.cli(&words).await;
    assert_eq!((ended.code(), ended.stdout()), (0, "7\n"), "{}", ended.stderr());
    assert_eq!(lines(folder.path(), "starts").len(), 3);
    assert_ne!(server.cli(&["run", "odd__die"]).await.code(), 0);
    let ended = server.cli(&["run", "odd__count", "to=2"]).await;
    assert_eq!((ended.code(), ended.stdout()), (0, "counted\n"), "{}", ended.stderr());
    assert_eq!(lines(folder.path(), "starts").len(), 4);
}

#[tokio::test]
async fn the_command_line_parks_a_call_whose_server_is_starting() {
    let folder = crate::support::folder();
    let site = Site::new();
    let toml = super::toml(folder.path(), "awaits", "");
    let file = site.write("callpark.toml", &toml).display().to_string();
    let server = site.serve(&["--config", &file]).await;
    let began = Instant::now();
    let parked = server.cli(&["run", "--budget", "1s", "odd__count", "to=2"]).await;
    assert_eq!(parked.code(), 75, "{}", parked.stderr());
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    go(folder.path());
    let waited = server.cli(&["wait", "last"]).await;
    assert_eq!((waited.code(), waited.stdout()), (0, "counted\n"), "{}", waited.stderr());
}
