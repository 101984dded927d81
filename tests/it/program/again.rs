//! Calls whose work is done again: those that were never begun, and those of idempotent tools.

use std::time::Duration;

use serde_json::json;

use crate::support::program::{Program, Site, send};
use crate::support::waiting::{call, lines_of, start_of};
use crate::support::{bash, remote, soon, v1};
use rustix::process::Signal;

/// A tool whose calls may be repeated, and one whose calls may not. Each says that it runs, and then
/// waits for a file.
fn tools(site: &Site) -> String {
    let (begun, gate) = (site.folder().join("begun"), site.folder().join("gate"));
    let script = format!(
        "echo $1 >> {}; echo attempt of $1; until [ -e {} ]; do sleep 0.02; done; echo end",
        begun.display(),
        gate.display()
    );
    let tool = |name: &str, idempotent: bool| {
        format!(
            "[[tools]]\nname = \"{name}\"\ndescription = \"x\"\nidempotent = {idempotent}\n\
             argv = [\"bash\", \"-c\", {script:?}, \"-\", \"{{word}}\"]\n\
             input_schema = {{ type = \"object\", properties = {{ word = {{ type = \"string\" }} }} }}\n"
        )
    };
    format!("{}{}", tool("twice", true), tool("once", false))
}

async fn serve(site: &Site, flags: &[&str]) -> Program {
    let file = site.write("callpark.toml", &tools(site)).display().to_string();
    site.serve(&[&["--config", &file], flags].concat()).await
}

async fn start(server: &Program, tool: &str, word: &str) -> String {
    remote::start(&server.connect(), call(tool, json!({ "word": word }))).await.background_id
}

async fn stdout(server: &Program, id: &str) -> String {
    String::from_utf8(remote::output(&server.connect(), id).await).expect("text")
}

/// Waits until the output of so many attempts can be read.
async fn until_read(server: &Program, id: &str, attempts: usize) {
    let read = async {
        while stdout(server, id).await.matches("attempt").count() < attempts {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("output", read).await;
}

#[tokio::test]
async fn a_lost_call_of_an_idempotent_tool_runs_again_and_one_of_another_does_not() {
    let site = Site::new();
    let mut server = serve(&site, &[]).await;
    let twice = start(&server, "twice", "first").await;
    let once = start(&server, "once", "other").await;
    let begun = site.folder().join("begun");
    lines_of(&begun, 2).await;
    until_read(&server, &twice, 1).await;
    site.kill_with_shims(server).await;
    server = serve(&site, &[]).await;
    assert_eq!(remote::ended(&server.connect(), &once).await.state(), v1::State::Lost);
    lines_of(&begun, 3).await;
    until_read(&server, &twice, 2).await;
    let task = remote::task(&server.connect(), &twice).await;
    assert_eq!((task.state(), task.attempt), (v1::State::Running, 2), "{task:?}");

    // The shim alone is killed, under a server that goes on.
    for shim in site.shims() {
        send(shim, Signal::KILL);
    }
    lines_of(&begun, 4).await;
    std::fs::write(site.folder().join("gate"), "").expect("a gate");
    let task = remote::ended(&server.connect(), &twice).await;
    assert_eq!((task.state(), task.attempt), (v1::State::Succeeded, 3), "{task:?}");
    let words = std::fs::read_to_string(&begun).expect("words");
    assert_eq!(words.matches("first").count(), 3, "{words}");
    crate::history::check_everything(&server.connect(), 1).await;
    let expected = "attempt of first\n".repeat(3) + "end\n";
    assert_eq!(stdout(&server, &twice).await, expected, "the output of all attempts, in order");
}

#[tokio::test]
async fn a_call_is_lost_after_its_third_run() {
    let site = Site::new();
    let mut server = serve(&site, &[]).await;
    let id = start(&server, "twice", "word").await;
    for runs in 1..=3 {
        lines_of(&site.folder().join("begun"), runs).await;
        site.kill_with_shims(server).await;
        server = serve(&site, &[]).await;
    }
    let task = remote::ended(&server.connect(), &id).await;
    assert_eq!((task.state(), task.attempt), (v1::State::Lost, 3), "{task:?}");
    assert_eq!(lines_of(&site.folder().join("begun"), 3).await.len(), 3);
}

#[tokio::test]
async fn calls_that_wait_for_a_slot_run_with_the_next_server() {
    let site = Site::new();
    let flags = ["--max-running-calls", "1", "--drain", "0s"];
    let server = serve(&site, &flags).await;
    let running = start(&server, "once", "runs").await;
    lines_of(&site.folder().join("begun"), 1).await;
    let waiting = start(&server, "once", "waits").await;
    let stdin = v1::RunToolRequest { stdin: b"lost".to_vec().into(), ..bash("cat") };
    let with_stdin = remote::start(&server.connect(), stdin).await.background_id;
    assert_eq!(remote::task(&server.connect(), &waiting).await.state(), v1::State::Pending);
    server.terminate().await.0.exits(0);

    let server = serve(&site, &flags).await;
    let clients = server.connect();
    let task = remote::ended(&clients, &with_stdin).await;
    assert_eq!(task.state(), v1::State::Lost, "its input is not kept: {task:?}");
    std::fs::write(site.folder().join("gate"), "").expect("a gate");
    for id in [running, waiting] {
        let task = remote::ended(&clients, &id).await;
        assert_eq!((task.state(), task.attempt), (v1::State::Succeeded, 1), "{task:?}");
    }
    let request = start_of(call("once", json!({ "word": "new" })));
    soon("a start", clients.tasks.clone().start(request)).await.expect("accepted");
}
