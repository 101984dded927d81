//! `callpark follow-ups` as its users meet it.

use crate::program::give_up;
use crate::support::program::{Ended, Live, Program, Site};
use crate::support::soon;

/// Starts a bash command whose end has a follow-up, and returns its id and its session's.
async fn start(server: &Program, command: &str) -> (String, String) {
    let words = ["start", "--json", "--follow-up", "on-finish", "bash", "--", command];
    let task = server.cli(&words).await.exits(0).json();
    let text = |name: &str| task[name].as_str().expect("an id").to_owned();
    (text("backgroundId"), text("sessionId"))
}

/// The follow-up of a task.
fn follow_up_of(id: &str) -> String {
    id.replacen("bg-", "fu-", 1)
}

/// The lines of a table as cells, with its header first.
fn table(ended: &Ended) -> Vec<Vec<String>> {
    let cells = |line: &str| {
        let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
        cells.map(str::to_owned).collect()
    };
    ended.stdout().lines().map(cells).collect()
}

#[tokio::test]
async fn the_end_of_a_task_is_waited_for_without_its_id() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let none = server.cli(&["follow-ups"]).await.exits(0);
    assert_eq!((none.stdout(), none.stderr()), ("", "callpark: no follow-ups found\n"));
    let early = server.cli(&["follow-ups", "wait", "--timeout", "100ms"]).await.exits(75);
    assert_eq!(
        (early.stdout(), early.stderr()),
        ("", "callpark: no follow-up arrived within the timeout\n")
    );

    let waiting = Live::start(server.command(&["follow-ups", "wait"]));
    let (id, session) = start(&server, r"printf 'a\tresult\n'; exit 3").await;
    let printed = waiting.ended().await.exits(0);
    for text in [id.as_str(), "failed", "exit code 3", "a\tresult", "not from a person"] {
        assert!(printed.stdout().contains(text), "{text}: {printed}");
    }
    let again = ["follow-ups", "wait", "--session", &session, "--timeout", "0s"];
    server.cli(&again).await.exits(75);

    let list = table(&server.cli(&["follow-ups"]).await.exits(0));
    assert_eq!(list[0], ["ID", "TOOL", "STATE", "ATTEMPTS", "CREATED", "NEXT", "REASON"]);
    let row = [follow_up_of(&id), "bash".into(), "delivered".into(), "1 of 10".into()];
    assert_eq!(list[1][..4], row);
}

#[tokio::test]
async fn a_parked_run_has_a_follow_up_too() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let words = ["run", "--budget", "0s", "--follow-up", "on-failure", "bash", "exit 4"];
    server.cli(&words).await.exits(75);
    let printed = server.cli(&["follow-ups", "wait", "--json"]).await.exits(0).json();
    assert_eq!(printed["task"]["reason"], "exit code 4", "{printed}");
    assert_eq!(printed["state"], "FOLLOW_UP_STATE_LEASED", "{printed}");
}

#[tokio::test]
async fn a_follow_up_that_could_not_be_printed_is_delivered_again() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let (id, _) = start(&server, "echo kept").await;
    let full = std::fs::File::options().write(true).open("/dev/full").expect("a full device");
    let mut waiting = server.command(&["follow-ups", "wait"]);
    let status = soon("its end", waiting.stdout(full).status()).await.expect("run");
    assert_eq!(status.code(), Some(74));
    let list = table(&server.cli(&["follow-ups"]).await.exits(0));
    assert_eq!(list[1][2..4], ["pending", "0 of 10"]);
    let printed = server.cli(&["follow-ups", "wait"]).await.exits(0);
    assert!(printed.stdout().contains(&id), "{printed}");
}

#[tokio::test]
async fn follow_ups_are_listed_by_session_and_state_also_as_json() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let (first, session) = start(&server, "true").await;
    server.cli(&["wait", &first]).await.exits(0);
    let (cancelled, _) = start(&server, "sleep 60").await;
    server.cli(&["cancel", &cancelled]).await.exits(0);
    // Without --follow-up there is none.
    let quiet = server.cli(&["start", "bash", "true"]).await.exits(0).line().to_owned();
    server.cli(&["wait", &quiet]).await.exits(0);

    let ids = |ended: &Ended| -> Vec<String> {
        table(ended).into_iter().skip(1).map(|row| row[0].clone()).collect()
    };
    let all = server.cli(&["follow-ups", "list"]).await.exits(0);
    assert_eq!(ids(&all), [follow_up_of(&cancelled), follow_up_of(&first)]);
    let row = &table(&all)[1];
    assert_eq!(row[2..4], ["suppressed", "0 of 10"]);
    assert!(row.last().expect("a cell").starts_with("it was cancelled by"), "{row:?}");
    let one = server.cli(&["follow-ups", "--limit", "1"]).await.exits(0);
    assert_eq!(one.stderr(), "callpark: there are more follow-ups; raise --limit to see them\n");
    for filter in [["--session", &session], ["--state", "pending"]] {
        let some = server.cli(&[&["follow-ups"], &filter[..]].concat()).await.exits(0);
        assert_eq!(ids(&some), [follow_up_of(&first)], "{filter:?}");
    }
    let json = server.cli(&["follow-ups", "--json", "--state", "pending"]).await.exits(0).json();
    assert_eq!(json["followUps"][0]["followUpId"], follow_up_of(&first), "{json}");
    assert_eq!(json["followUps"][0]["delivery"], "FOLLOW_UP_DELIVERY_LEASE", "{json}");
}

#[tokio::test]
async fn a_dead_letter_can_be_queued_again() {
    let site = Site::new();
    let server = site.serve(&["--follow-up-delay", "1ms"]).await;
    let (id, session) = start(&server, "true").await;
    give_up(&server, &session, "the agent is away").await;
    let list = table(&server.cli(&["follow-ups", "--state", "dead-lettered"]).await.exits(0));
    assert_eq!(list[1][2..4], ["dead_lettered", "10 of 10"]);
    let why = list[1].last().expect("a cell");
    assert_eq!(why, "given up after 10 attempts; the last error: the agent is away");

    let name = follow_up_of(&id);
    let back = server.cli(&["follow-ups", "retry", &id]).await.exits(0);
    assert_eq!(back.line(), format!("{name} pending"));
    server.cli(&["follow-ups", "wait", "--timeout", "10s"]).await.exits(0);
    let late = server.cli(&["follow-ups", "retry", &name]).await.exits(73);
    assert!(late.stderr().contains("DELIVERED"), "{late}");
    let unknown = format!("fu-{}", "0".repeat(32));
    let unknown = server.cli(&["follow-ups", "retry", &unknown]).await.exits(66);
    assert!(unknown.stderr().contains("`callpark follow-ups`"), "{unknown}");
}
