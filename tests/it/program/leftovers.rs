//! Processes of calls whose server and shim were killed: the next server finds them, however they have
//! changed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rustix::process::Signal;

use crate::support::program::{Live, Program, Site, send};
use crate::support::soon;
use crate::support::waiting::{is_alive, lines_of, pids};
use crate::support::{bash, v1};

/// A file for the ids of processes, which are killed with it.
struct Pids(PathBuf);

impl Pids {
    fn new(site: &Site, name: &str) -> Self {
        Self(site.folder().join(name))
    }

    fn path(&self) -> &Path {
        &self.0
    }

    async fn of(&self, count: usize) -> Vec<u32> {
        pids(&lines_of(&self.0, count).await)
    }
}

impl Drop for Pids {
    fn drop(&mut self) {
        let lines = std::fs::read_to_string(&self.0).unwrap_or_default();
        for pid in lines.lines().filter_map(|line| line.parse().ok()) {
            send(pid, Signal::KILL);
        }
    }
}

/// A script that notes its id and stays. It needs no variable.
fn stay(file: &Pids) -> String {
    format!("/bin/bash -c 'echo $$ >> {}; exec /bin/sleep 1000'", file.path().display())
}

const QUIET: &str = "> /dev/null 2>&1 < /dev/null";

async fn started(server: &Program, command: &str) -> String {
    let call = v1::start_request::Work::ToolCall(bash(command));
    let request = v1::StartRequest { work: Some(call), ..Default::default() };
    let answer = soon("an answer", server.connect().tasks.start(request)).await;
    answer.expect("started").into_inner().task.expect("a task").background_id
}

/// Waits until the record of a shim names a process.
async fn until_recorded(site: &Site, pid: u32) {
    let line = format!("{pid} ");
    let is_in = |path: &PathBuf| {
        let record = std::fs::read_to_string(path).unwrap_or_default();
        record.lines().any(|recorded| recorded.starts_with(&line))
    };
    let recorded = async {
        while !site.records().iter().any(is_in) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("a record", recorded).await;
}

async fn until_gone(pids: &[u32]) {
    let gone = async {
        while pids.iter().any(|pid| is_alive(*pid)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("the end of processes", gone).await;
}

async fn is_lost(server: &Program, id: &str) {
    let request = v1::GetRequest { background_id: id.to_owned() };
    let answer = soon("a task", server.connect().tasks.get(request)).await;
    let task = answer.expect("a task").into_inner().task.expect("a task");
    assert_eq!(task.state(), v1::State::Lost, "{task:?}");
}

#[tokio::test]
async fn processes_without_a_mark_do_not_outlive_a_killed_shim() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let files = ["away", "leader", "child"].map(|name| Pids::new(&site, name));
    let away = format!("env -i setsid -f {} {QUIET}; sleep 1000", stay(&files[0]));
    let leader = format!("exec env -i {}", stay(&files[1]));
    let child = format!("env -i {} & wait", stay(&files[2]));
    let mut ids = Vec::new();
    for command in [away, leader, child] {
        ids.push(started(&server, &command).await);
    }
    let mut all = Vec::new();
    for file in &files {
        all.extend(file.of(1).await);
    }
    for pid in &all[..2] {
        until_recorded(&site, *pid).await;
    }
    site.kill_with_shims(server).await;
    assert!(is_alive(all[0]), "it holds no pipe of its shim");

    let server = site.serve(&[]).await;
    until_gone(&all).await;
    for id in &ids {
        is_lost(&server, id).await;
    }
    let text = server.live.stderr.now();
    assert!(!text.contains("could not be killed"), "{text}");
}

#[tokio::test]
async fn processes_of_a_live_server_are_spared() {
    let (site, other) = (Site::new(), Site::new());
    let server = site.serve(&[]).await;
    let (file, others) = (Pids::new(&site, "pids"), Pids::new(&other, "pids"));
    let command = |file: &Pids| format!("env -i setsid -f {} {QUIET}; sleep 1000", stay(file));
    started(&server, &command(&file)).await;
    let pid = file.of(1).await[0];
    until_recorded(&site, pid).await;
    // It has a copy of the record, and the processes of a server that runs.
    let copied = other.data().join("callpark.db.shims/copied");
    std::fs::create_dir_all(&copied).expect("a folder");
    std::fs::copy(&site.records()[0], copied.join("processes")).expect("a copy");
    let second = other.serve(&[]).await;
    started(&second, &command(&others)).await;
    let second_pid = others.of(1).await[0];
    assert!(is_alive(pid), "its shim is alive");

    site.kill_with_shims(server).await;
    let server = site.serve(&[]).await;
    until_gone(&[pid]).await;
    assert!(is_alive(second_pid), "the other server is alive");
    drop((server, second));
}

#[tokio::test]
async fn what_a_record_names_must_have_started_when_it_says() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let file = Pids::new(&site, "pids");
    started(&server, &format!("exec env -i {}", stay(&file))).await;
    let pid = file.of(1).await[0];
    until_recorded(&site, pid).await;
    site.kill_with_shims(server).await;
    let bystander = Live::start(site.other("sleep", &["1000"]));
    let path = site.records().remove(0);
    let record = std::fs::read_to_string(&path).expect("a record");
    let replaced = record.replace(&format!("\n{pid} "), &format!("\n{} ", bystander.pid()));
    std::fs::write(&path, replaced).expect("written");
    let _server = site.serve(&[]).await;
    assert!(is_alive(bystander.pid()), "it began at another time");
}

#[tokio::test]
async fn processes_of_a_call_whose_record_is_damaged_are_killed() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let file = Pids::new(&site, "pids");
    let command = format!("setsid -f {} {QUIET}; sleep 1000", stay(&file));
    let id = started(&server, &command).await;
    let pid = file.of(1).await[0];
    server.kill().await;
    let store = Connection::open(site.data().join("callpark.db")).expect("the store");
    let (_, digits) = id.split_once('-').expect("an id with a prefix");
    let spoil = format!("UPDATE calls SET body = '{{' WHERE id = x'{}'", digits.replace('-', ""));
    assert_eq!(store.execute(&spoil, []).expect("spoiled"), 1);
    drop(store);
    assert!(is_alive(pid));
    let _server = site.serve(&[]).await;
    until_gone(&[pid]).await;
}
