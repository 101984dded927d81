//! The commands about tasks and sessions, as their users meet them.

mod completions;
mod endpoints;
mod errors;
mod follow_ups;
mod health;
mod ids;
mod keys;
mod pipes;
mod run;
mod terminal;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

use crate::support::program::{Ended, Live, Program, Site};
use crate::support::waiting::Gate;
use crate::support::{soon, v1};

/// Starts a bash command in the background; its id.
async fn start(server: &Program, command: &str) -> String {
    let ended = server.cli(&["start", "bash", "--", command]).await.exits(0);
    assert_eq!(ended.stderr(), "");
    let id = ended.line();
    assert!(id.starts_with("bg-") && id.len() == 35, "{ended}");
    id.to_owned()
}

/// The session of a task.
async fn session_of(server: &Program, id: &str) -> String {
    let task = server.cli(&["show", "--json", id]).await.exits(0).json();
    task["sessionId"].as_str().expect("a session").to_owned()
}

/// The lines of a table as cells, with its header first.
fn table(ended: &Ended) -> Vec<Vec<String>> {
    let cells = |line: &str| {
        let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
        cells.map(str::to_owned).collect()
    };
    ended.stdout().lines().map(cells).collect()
}

/// Returns the message in JSON, which must be of the contract and written as it requires.
#[track_caller]
fn message<M: Message + Default>(name: &str, json: &Value) -> M {
    let pool = DescriptorPool::decode(callpark_proto::FILE_DESCRIPTOR_SET).expect("descriptors");
    let descriptor = pool.get_message_by_name(&format!("callpark.v1.{name}")).expect("a message");
    let message = DynamicMessage::deserialize(descriptor, json).expect("a message");
    let canonical = serde_json::value::Serializer;
    let canonical = message.serialize_with_options(canonical, &SerializeOptions::new());
    assert_eq!(&canonical.expect("JSON"), json);
    message.transcode_to().expect("a message")
}

#[tokio::test]
async fn wait_gives_output_and_exit_code() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let mut gate = Gate::new(site.folder(), "gate");
    let id = start(&server, &format!("{}; echo out; echo err >&2; exit 5", gate.wait())).await;
    let early = server.cli(&["wait", "--timeout", "100ms", &id]).await.exits(75);
    assert_eq!(early.stdout(), "");
    assert!(early.stderr().contains(&id) && early.stderr().contains("running"), "{early}");
    let waiting = Live::start(server.command(&["wait", &id]));
    gate.open();
    let ended = waiting.ended().await.exits(5);
    assert_eq!((ended.stdout(), ended.stderr()), ("out\n", "err\n"));
    let task = server.cli(&["wait", "--json", &id]).await.exits(5).json();
    let task: v1::Task = message("Task", &task);
    assert_eq!((task.state(), task.background_id), (v1::State::Failed, id));
}

#[tokio::test]
async fn wait_takes_several_tasks_for_all_or_for_any() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let mut gate = Gate::new(site.folder(), "gate");
    let quick = start(&server, "echo quick").await;
    let slow = start(&server, &gate.wait()).await;
    let failing = start(&server, "exit 9").await;
    let any = server.cli(&["wait", "--any", &slow, &quick]).await.exits(0);
    let heading = format!("==> {quick} bash: succeeded, exit code 0, ");
    assert!(any.stdout().starts_with(&heading) && any.stdout().ends_with(" <==\nquick\n"), "{any}");
    assert!(any.stderr().contains(&format!("{slow} is running")), "{any}");
    let words = ["wait", "--timeout", "100ms", &quick, &slow];
    let early = server.cli(&words).await.exits(75);
    assert!(early.stderr().contains(&slow) && !early.stderr().contains(&quick), "{early}");
    let waiting = Live::start(server.command(&["wait", &quick, &slow]));
    gate.open();
    let both = waiting.ended().await.exits(0);
    let parts: Vec<&str> = both.stdout().split("==> ").skip(1).collect();
    assert!(parts[0].starts_with(&quick) && parts[0].ends_with("<==\nquick\n\n"), "{both}");
    assert!(parts.len() == 2 && parts[1].starts_with(&slow), "{both}");
    let failed = server.cli(&["wait", "--json", &quick, &failing]).await.exits(1);
    let lines = failed.json_lines();
    let tasks = lines.iter().map(|line| message::<v1::Task>("Task", line).background_id);
    assert_eq!(tasks.collect::<Vec<_>>(), [quick, failing]);
}

#[tokio::test]
async fn list_show_sessions_and_events_are_tables_or_the_contracts_json() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let words = ["start", "--label", "team=red", "--description", "a nap", "bash", "sleep 60"];
    let id = server.cli(&words).await.exits(0).line().to_owned();
    let other = start(&server, "echo other").await;
    server.cli(&["wait", &other]).await.exits(0);
    let session = session_of(&server, &id).await;

    let list = table(&server.cli(&["list"]).await.exits(0));
    assert_eq!(list[0], ["ID", "TOOL", "STATE", "ELAPSED", "CREATED", "DESCRIPTION"]);
    assert_eq!((list.len(), &list[1][0], &list[1][2]), (3, &other, &"succeeded".to_owned()));
    assert_eq!((&list[2][0], &list[2][1]), (&id, &"bash".to_owned()));
    assert_eq!(list[2].last().expect("a cell"), "a nap [team=red]");
    for filter in [["--state", "running"], ["--label", "team=red"], ["--session", &session]] {
        let list = table(&server.cli(&[&["list"], &filter[..]].concat()).await.exits(0));
        assert_eq!(list.iter().skip(1).map(|row| &row[0]).collect::<Vec<_>>(), [&id], "{filter:?}");
    }
    let ids = server.cli(&["list", "-q"]).await.exits(0);
    assert_eq!(ids.stdout(), format!("{other}\n{id}\n"));
    assert_eq!(server.cli(&["list", "-q", "--running"]).await.exits(0).line(), id);
    let none = server.cli(&["list", "--state", "lost"]).await.exits(0);
    assert_eq!((none.stdout(), none.stderr()), ("", "callpark: no tasks found\n"));
    let json = server.cli(&["list", "--json", "--limit", "1"]).await.exits(0).json();
    let list: v1::ListResponse = message("ListResponse", &json);
    assert_eq!(list.tasks[0].background_id, other);
    assert!(!list.next_page_token.is_empty() && json["watchSequence"].is_string(), "{json}");

    let show = server.cli(&["show", &id]).await.exits(0);
    for text in [&id, &session, "running", "a nap", "team=red"] {
        assert!(show.stdout().contains(text), "{text}: {show}");
    }
    let json = server.cli(&["show", "--json", &other]).await.exits(0).json();
    let request = v1::GetRequest { background_id: other.clone() };
    let task = soon("a task", server.connect().tasks.get(request)).await.expect("an answer");
    assert_eq!(Some(message::<v1::Task>("Task", &json)), task.into_inner().task);

    check_sessions(&server, &session).await;
}

async fn check_sessions(server: &Program, session: &str) {
    let sessions = table(&server.cli(&["sessions"]).await.exits(0));
    assert_eq!(sessions[0][..3], ["ID", "STATE", "LIVE TASKS"]);
    let row = sessions.iter().find(|row| row[0] == session).expect("a row");
    assert_eq!(row[1..3], ["open", "1"]);
    let json = server.cli(&["sessions", "--json"]).await.exits(0).json();
    let answer: v1::ListSessionsResponse = message("ListSessionsResponse", &json);
    assert_eq!(answer.sessions.len(), 2);
    let json = server.cli(&["show", "--json", session]).await.exits(0).json();
    assert_eq!(message::<v1::Session>("Session", &json).session_id, session);

    let events = server.cli(&["events", session]).await.exits(0);
    let kinds: Vec<_> = table(&events).iter().map(|row| (row[0].clone(), row[2].clone())).collect();
    let expected =
        [("1", "tool_call_accepted"), ("2", "tool_call_started"), ("3", "tool_call_parked")];
    assert_eq!(kinds, expected.map(|(sequence, kind)| (sequence.to_owned(), kind.to_owned())));
    let words = ["events", "--json", session, "--payload", "tool_call_parked"];
    let events = server.cli(&words).await.exits(0).json_lines();
    let event: v1::SessionEvent = message("SessionEvent", &events[0]);
    assert_eq!((events.len(), event.sequence), (1, 3));
}

#[tokio::test]
async fn events_can_be_followed_to_the_end_of_the_session() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let id = start(&server, "sleep 60").await;
    let session = session_of(&server, &id).await;
    let mut live = Live::start(server.command(&["events", "-f", "--after", "2", &session]));
    live.stdout.until("tool_call_parked").await;
    let closed = server.cli(&["close", &session]).await.exits(0);
    assert!(
        closed.line().starts_with(&session)
            && closed.line().contains("1 task cancelled, 0 tasks kept"),
        "{closed}"
    );
    let ended = live.ended().await.exits(0);
    let kinds: Vec<_> = table(&ended).into_iter().map(|row| row[2].clone()).collect();
    let last = ["tool_call_cancelling", "tool_call_finished", "session_shutdown"];
    assert_eq!(kinds[0], "tool_call_parked");
    for kind in last {
        assert!(kinds.iter().any(|found| found == kind), "{kind}: {kinds:?}");
    }
}

#[tokio::test]
async fn output_is_followed_to_its_end_byte_for_byte() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let mut gate = Gate::new(site.folder(), "gate");
    let copy = site.folder().join("copy");
    let piece = |bytes| format!("head -c {bytes} /dev/urandom | tee -a {}", copy.display());
    let wait = gate.wait();
    let id =
        start(&server, &format!("{}; echo mark >&2; {wait}; {}", piece(700_000), piece(9))).await;
    let mut live = Live::start(server.command(&["output", "-f", "--stdout", &id]));
    let mut marks = Live::start(server.command(&["output", "-f", "--stderr", &id]));
    marks.stdout.until("mark\n").await;
    live.stdout.bytes(700_000).await;
    gate.open();
    let (ended, marks) = (live.ended().await.exits(0), marks.ended().await.exits(0));
    let expected = std::fs::read(&copy).expect("a copy");
    assert_eq!(expected.len(), 700_009);
    assert!(ended.bytes() == expected, "{} bytes that differ", ended.bytes().len());
    assert_eq!((ended.stderr(), marks.stdout()), ("", "mark\n"));
    let rest = server.cli(&["output", "--stdout", "--offset", "700000", &id]).await.exits(0);
    assert!(rest.bytes() == &expected[700_000..]);
    let both = server.cli(&["output", &id]).await.exits(0);
    assert_eq!(both.bytes().len(), 700_009 + "mark\n".len());
}

#[tokio::test]
async fn the_last_lines_of_output_are_printed_as_a_terminal_shows_them() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let id = start(&server, r"printf 'begin\n10 %%\r100 %%\nok\n'").await;
    server.cli(&["wait", &id]).await.exits(0);
    let tail = server.cli(&["output", "--tail", "2", &id]).await.exits(0);
    assert_eq!(tail.stdout(), "100 %\nok\n");
    let all = server.cli(&["output", &id]).await.exits(0);
    assert_eq!(all.stdout(), "begin\n10 %\r100 %\nok\n", "byte for byte");
}

#[tokio::test]
async fn output_can_begin_at_its_last_lines_and_be_json() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let id = start(&server, "seq 1 100").await;
    server.cli(&["wait", &id]).await.exits(0);
    let tail = server.cli(&["output", "--tail", "2", &id]).await.exits(0);
    assert_eq!(tail.stdout(), "99\n100\n");
    let json = server.cli(&["output", "--json", &id]).await.exits(0).json_lines();
    let pieces =
        json.iter().map(|line| message::<v1::ReadOutputResponse>("ReadOutputResponse", line));
    let pieces: Vec<_> = pieces.collect();
    let data: Vec<u8> = pieces.iter().flat_map(|piece| piece.data.to_vec()).collect();
    let expected: String = (1..=100).map(|line| format!("{line}\n")).collect();
    assert_eq!(String::from_utf8(data).expect("text"), expected);
    assert!(pieces.last().is_some_and(|last| last.eof), "{pieces:?}");
}

#[tokio::test]
async fn cancel_stops_running_tasks_and_keeps_ended_ones() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let ended = start(&server, "echo kept").await;
    server.cli(&["wait", &ended]).await.exits(0);
    let kept = server.cli(&["cancel", &ended]).await.exits(0);
    assert!(kept.line().starts_with(&format!("{ended} had already finished: succeeded")), "{kept}");
    assert_eq!(server.cli(&["wait", &ended]).await.exits(0).stdout(), "kept\n");

    let id = start(&server, "sleep 60").await;
    let dry = server.cli(&["cancel", "--dry-run", &id]).await.exits(0);
    assert!(dry.line().starts_with(&format!("{id} would be cancelled")), "{dry}");
    assert_eq!(server.cli(&["show", "--json", &id]).await.json()["state"], "STATE_RUNNING");
    let done = server.cli(&["cancel", "--reason", "enough", &id]).await.exits(0);
    assert_eq!(done.line(), format!("{id} cancelled"));
    let waited = server.cli(&["wait", &id]).await.exits(125);
    assert!(waited.stderr().contains("cancelled"), "{waited}");
    let task = server.cli(&["show", "--json", &id]).await.exits(0).json();
    assert_eq!(task["cancellation"]["reason"], "enough", "{task}");
    site.quiet().await;
}

#[tokio::test]
async fn cancel_all_needs_a_yes_where_there_is_no_terminal() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let none = server.cli(&["cancel", "--all"]).await.exits(0);
    assert_eq!((none.stdout(), none.stderr()), ("", "callpark: no task is running\n"));
    let one = start(&server, "sleep 60").await;
    let other = start(&server, "sleep 60").await;
    let unsure = server.cli(&["cancel", "--all"]).await.exits(2);
    assert!(unsure.stderr().contains("2 running tasks") && unsure.stderr().contains("--yes"));
    let dry = server.cli(&["cancel", "--all", "--dry-run"]).await.exits(0);
    assert_eq!(dry.stdout().matches("would be cancelled").count(), 2, "{dry}");
    let session = session_of(&server, &one).await;
    let some = server.cli(&["cancel", "--all", "--yes", "--session", &session]).await.exits(0);
    assert_eq!(some.line(), format!("{one} cancelled"));
    let rest = server.cli(&["cancel", "--all", "-y"]).await.exits(0);
    assert_eq!(rest.line(), format!("{other} cancelled"));
    site.quiet().await;
}

#[tokio::test]
async fn json_of_a_task_has_one_shape_and_a_list_its_key() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    for (words, key) in [
        (&["list", "--json"][..], "tasks"),
        (&["sessions", "--json"], "sessions"),
        (&["follow-ups", "--json"], "followUps"),
    ] {
        let empty = server.cli(words).await.exits(0).json();
        assert_eq!(empty[key], serde_json::json!([]), "{words:?}");
    }
    let started = server.cli(&["start", "--json", "bash", "echo x"]).await.exits(0).json();
    let id = started["backgroundId"].as_str().expect("an id");
    let waited = server.cli(&["wait", "--json", id]).await.exits(0).json();
    let shown = server.cli(&["show", "--json", id]).await.exits(0).json();
    assert_eq!(waited, shown);
    let many = server.cli(&["wait", "--json", id, id]).await.exits(0).json_lines();
    assert_eq!(many, [shown]);
    message::<v1::Task>("Task", &started);
}

#[tokio::test]
async fn force_stops_a_process_that_ignores_term() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let ready = site.folder().join("ready");
    let stubborn = format!("trap '' TERM; echo >> {}; while :; do sleep 1; done", ready.display());
    let id = start(&server, &stubborn).await;
    crate::support::waiting::lines_of(&ready, 1).await;
    let words = ["cancel", "--grace", "60s", "--wait", "100ms", &id];
    let waiting = server.cli(&words).await.exits(75);
    assert!(waiting.line().contains("is being cancelled"), "{waiting}");
    assert!(!site.processes().is_empty(), "it doesn't listen");
    server.cli(&["cancel", "--force", &id]).await.exits(0);
    server.cli(&["wait", &id]).await.exits(125);
    site.quiet().await;
}

#[tokio::test]
async fn delete_removes_ended_tasks_and_refuses_running_ones() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let running = start(&server, "sleep 60").await;
    let ended = start(&server, "true").await;
    server.cli(&["wait", &ended]).await.exits(0);
    let mixed = server.cli(&["delete", &running, &ended]).await.exits(73);
    assert_eq!(mixed.line(), format!("{ended} deleted"));
    assert!(mixed.stderr().contains("callpark cancel"), "{mixed}");
    let gone = server.cli(&["show", &ended]).await.exits(66);
    assert!(gone.stderr().contains("`callpark list`"), "{gone}");
    let list = table(&server.cli(&["list"]).await.exits(0));
    assert_eq!(list[1..].iter().map(|row| row[0].clone()).collect::<Vec<_>>(), [running]);
}

#[tokio::test]
async fn close_cancels_tasks_but_those_that_are_kept() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let kept = server.cli(&["start", "--keep", "bash", "sleep 60"]).await.exits(0);
    let kept = kept.line();
    let session = session_of(&server, kept).await;
    let words = ["start", "--session", &session, "bash", "sleep 60"];
    let id = server.cli(&words).await.exits(0).line().to_owned();
    let closed = server.cli(&["close", &session]).await.exits(0);
    assert!(closed.line().ends_with("1 task cancelled, 1 task kept"), "{closed}");
    server.cli(&["wait", &id]).await.exits(125);
    assert_eq!(server.cli(&["show", "--json", kept]).await.json()["state"], "STATE_RUNNING");
    let refused = server.cli(&words).await.exits(73);
    assert!(refused.stderr().contains("closed"), "{refused}");
}

#[tokio::test]
async fn tools_are_those_of_the_server_and_of_its_configuration() {
    let site = Site::new();
    let text = "[[tools]]\nname = \"greet\"\ndescription = \"Greets.\"\nargv = [\"echo\", \"hello\", \
                \"{name}\"]\n\n[tools.input_schema]\ntype = \"object\"\nrequired = [\"name\"]\n\
                properties = { name = { type = \"string\" } }\n";
    let file = site.write("callpark.toml", text).display().to_string();
    let server = site.serve(&["--config", &file]).await;
    let tools = table(&server.cli(&["tools"]).await.exits(0));
    assert_eq!(tools[0][..2], ["NAME", "KIND"]);
    let names: Vec<_> = tools[1..].iter().map(|row| row[0].as_str()).collect();
    assert_eq!(names, ["bash", "greet", "python"]);
    let json = server.cli(&["tools", "--json"]).await.exits(0).json();
    let answer: v1::ListToolsResponse = message("ListToolsResponse", &json);
    assert_eq!(answer.tools[1].description, "Greets.");
    let ended = server.cli(&["run", "greet", "name=it's me"]).await.exits(0);
    assert_eq!(ended.stdout(), "hello it's me\n");
}
