//! Ids on the command line: the beginnings of them, and `last`.

use rusqlite::Connection;

use crate::support::program::{Program, Site};
use crate::support::{bash, soon, v1};

/// Starts tasks until two of them have ids that begin with the same digit; their ids.
async fn two_that_begin_alike(server: &Program) -> [String; 2] {
    let mut ids: Vec<String> = Vec::new();
    loop {
        let id = server.cli(&["start", "bash", "true"]).await.exits(0).line().to_owned();
        if let Some(other) = ids.iter().find(|other| other[..4] == id[..4]) {
            return [other.clone(), id];
        }
        ids.push(id);
    }
}

#[tokio::test]
async fn the_beginning_of_an_id_stands_for_it_if_it_is_the_only_one() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let [one, other] = two_that_begin_alike(&server).await;
    let unlike = one.chars().zip(other.chars()).take_while(|(a, b)| a == b).count() + 1;
    let short = &one[..unlike];
    let digits = short.strip_prefix("bg-").expect("a task");
    let call = format!("call-{digits}");
    for given in [short, digits, &digits.to_uppercase(), &call] {
        let shown = server.cli(&["show", given, "--json"]).await.exits(0).json();
        assert_eq!(shown["backgroundId"], one, "{given}");
    }
    server.cli(&["wait", short, &other[..unlike]]).await.exits(0);
    server.cli(&["output", short]).await.exits(0);
    let both = server.cli(&["show", &one[..4]]).await.exits(2);
    for text in [&format!("`{}` matches", &one[..4]), &one[..11], &other[..11]] {
        assert!(both.stderr().contains(text), "{text}: {both}");
    }
    server.cli(&["delete", short]).await.exits(0);
    let gone = server.cli(&["delete", short]).await.exits(66);
    assert!(gone.stderr().contains(&format!("no task has an id that begins with `{short}`")));
    assert!(gone.stderr().contains("`callpark list`"), "{gone}");
    server.cli(&["show", &one]).await.exits(66);
}

#[tokio::test]
async fn last_is_the_newest() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    for words in [["show", "last"], ["events", "last"]] {
        let none = server.cli(&words).await.exits(66);
        assert!(none.stderr().contains("no last one"), "{none}");
    }
    server.cli(&["start", "bash", "echo old"]).await.exits(0);
    let words = ["start", "--follow-up", "on-finish", "bash", "echo new"];
    let id = server.cli(&words).await.exits(0).line().to_owned();
    assert_eq!(server.cli(&["wait", "last"]).await.exits(0).stdout(), "new\n");
    let task = server.cli(&["show", "last", "--json"]).await.exits(0).json();
    assert_eq!(task["backgroundId"], id);
    let session = task["sessionId"].as_str().expect("a session");
    let events = server.cli(&["events", "last", "--json"]).await.exits(0).json_lines();
    assert!(events.iter().all(|event| event["sessionId"] == session), "{events:?}");
    // In a pipe, an event has the whole id of its call.
    let lines = server.cli(&["events", &session[..12]]).await.exits(0);
    assert!(lines.stdout().contains(&id.replacen("bg-", "call-", 1)), "{lines}");
    let more = server.cli(&["start", "--session", "last", "bash", "true"]).await.exits(0);
    let more = server.cli(&["show", more.line(), "--json"]).await.exits(0).json();
    assert_eq!(more["sessionId"], session);
}

#[tokio::test]
async fn no_other_task_stands_for_one_that_cannot_be_read() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let id = server.cli(&["start", "bash", "true"]).await.exits(0).line().to_owned();
        server.cli(&["wait", &id]).await.exits(0);
        ids.push(id);
    }
    server.terminate().await;
    let digits = ids[1].strip_prefix("bg-").expect("a task");
    let store = Connection::open(site.data().join("callpark.db")).expect("the store");
    let spoil = format!("UPDATE calls SET body = '{{' WHERE id = x'{digits}'");
    assert_eq!(store.execute(&spoil, []).expect("spoiled"), 1);
    drop(store);

    let server = site.serve(&[]).await;
    let note = "callpark: 1 task cannot be read: see the server's log\n";
    let list = server.cli(&["list", "-q"]).await.exits(0);
    assert_eq!((list.line(), list.stderr()), (ids[0].as_str(), note));
    assert!(server.cli(&["list"]).await.exits(0).stderr().contains(note));
    let json = server.cli(&["list", "--json"]).await.exits(0).json();
    assert_eq!(json["unreadableTasks"], 1);
    let last = server.cli(&["show", "last"]).await.exits(70);
    assert!(last.stderr().contains("the newest task cannot be read"), "{last}");
    let short = server.cli(&["show", &ids[1][..4]]).await.exits(2);
    assert!(short.stderr().contains("give the whole id"), "{short}");
}

#[tokio::test]
async fn a_task_without_a_description_is_listed_with_its_first_words() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let work = Some(v1::start_request::Work::ToolCall(bash("true --token abc123 && echo done")));
    let request = v1::StartRequest { work, ..Default::default() };
    soon("a task", server.connect().tasks.start(request)).await.expect("started");
    let list = server.cli(&["list"]).await.exits(0);
    assert!(list.stdout().contains("true --token [redacted] && echo done"), "{list}");
    server.cli(&["start", "--description", "mine", "bash", "true"]).await.exits(0);
    assert!(server.cli(&["list"]).await.exits(0).stdout().contains("  mine\n"));
}
