//! Shims, as operators see them: in the answer of GetServerInfo, in tasks, and on the command line.

use std::path::Path;

use super::{code_of, until_written};
use crate::support::program::{Clients, Program, Site};
use crate::support::{bash, remote, soon, v1};

const VERSION: &str = env!("CARGO_PKG_VERSION");

async fn shims(clients: &Clients) -> Vec<v1::Shim> {
    let request = v1::GetServerInfoRequest::default();
    let answer = soon("an answer", clients.tools.clone().get_server_info(request)).await;
    answer.expect("an answer").into_inner().shims
}

async fn task(clients: &Clients, id: &str) -> v1::Task {
    let request = v1::GetRequest { background_id: id.into() };
    let answer = soon("a task", clients.tasks.clone().get(request)).await;
    answer.expect("a task").into_inner().task.expect("a task")
}

fn gated(gate: &Path, rest: &str) -> v1::RunToolRequest {
    bash(&format!("echo begun; until [ -e {} ]; do sleep 0.02; done; {rest}", gate.display()))
}

/// Returns the value that `callpark show` prints for the process of a task, if it does.
async fn shown_process(server: &Program, id: &str) -> Option<String> {
    let shown = server.cli(&["show", id]).await.exits(0);
    let line = shown.stdout().lines().find_map(|line| line.strip_prefix("process "));
    line.map(|value| value.trim().to_owned())
}

/// Returns the words of each line of a command's output.
async fn words(server: &Program, arguments: &[&str]) -> Vec<Vec<String>> {
    let listed = server.cli(arguments).await.exits(0);
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    listed.stdout().lines().map(words).collect()
}

#[tokio::test]
async fn a_running_task_names_its_shim_and_the_server_names_all_of_them() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let gate = site.folder().join("gate");
    let id = remote::start(&server.connect(), gated(&gate, "exit 3")).await.background_id;
    until_written(&server.connect(), &id, 6).await;
    let pid = i32::try_from(site.shims()[0]).expect("a process id");
    server.kill().await;
    // The next server knows it as well.
    let server = site.serve(&[]).await;
    let clients = server.connect();
    let shim = v1::Shim { pid, version: VERSION.into(), running_calls: 1, ..Default::default() };
    assert_eq!(shims(&clients).await, [shim]);
    assert_eq!(task(&clients, &id).await.shim_pid, pid);
    assert_eq!(remote::tasks(&clients).await[0].shim_pid, pid);
    let in_shim = format!("in shim {pid} ({VERSION})");
    assert_eq!(shown_process(&server, &id).await, Some(in_shim));
    let json = server.cli(&["list", "--json"]).await.exits(0).json();
    assert_eq!(json["tasks"][0]["shimPid"], pid);
    let (pid, plain) = (pid.to_string(), words(&server, &["list"]).await);
    assert!(plain.iter().flatten().all(|word| *word != pid && word != "SHIM"), "{plain:?}");
    let lines = words(&server, &["list", "--verbose"]).await;
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert_eq!(lines[0][4], "SHIM", "{lines:?}");
    assert_eq!((&lines[1][0], &lines[1][4]), (&id, &pid), "{lines:?}");
    assert_eq!(lines[2], [""; 0]);
    assert_eq!(lines[3], ["SHIM", "VERSION", "RUNNING", "CALLS", "SPOOLED", "BYTES"]);
    assert_eq!(lines[4], [&*pid, VERSION, "1", "0"]);
    std::fs::write(&gate, "").expect("a gate");
    let ended = remote::ended(&clients, &id).await;
    assert_eq!((code_of(&ended), ended.shim_pid), (3, 0));
    assert_eq!(task(&clients, &id).await.shim_pid, 0);
    assert_eq!(shown_process(&server, &id).await, None);
}

#[tokio::test]
async fn a_shim_that_has_written_to_a_file_says_how_much() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let gate = site.folder().join("gate");
    let work = gated(&gate, "head -c 1000000 /dev/zero; exit 3");
    let id = remote::start(&server.connect(), work).await.background_id;
    until_written(&server.connect(), &id, 6).await;
    server.kill().await;
    std::fs::write(&gate, "").expect("a gate");
    site.quiet().await;
    let server = site.serve(&[]).await;
    let clients = server.connect();
    assert_eq!(code_of(&remote::ended(&clients, &id).await), 3);
    let all = shims(&clients).await;
    assert_eq!(all.len(), 1, "{all:?}");
    // Without what was in memory.
    assert!((500_000..1_000_000).contains(&all[0].spooled_bytes), "{all:?}");
}
