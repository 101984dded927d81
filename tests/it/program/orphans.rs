//! Processes whose parent has ended: a server that is a program of its own takes them in.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::program::{Live, PROGRAM, Program, Site};
use crate::support::soon;
use crate::support::waiting::{is_alive, lines_of, pids};

/// The longest time that a process may be a zombie, with the delay of a busy machine.
const ZOMBIE_MAX: Duration = Duration::from_secs(2 + 1);

/// Starts a process out of the group that holds no output, and waits until it has said its id.
fn away(file: &Path, prefix: &str) -> String {
    let file = file.display();
    format!(
        "touch {file}; had=$(wc -l < {file})
         {prefix} setsid bash -c 'echo $$ >> {file}; sleep 300; true' > /dev/null 2>&1 < /dev/null &
         until [ $(wc -l < {file}) -gt $had ]; do sleep 0.02; done"
    )
}

/// The same, for a call that goes on until there is another file.
fn away_until(file: &Path, gate: &Path) -> String {
    format!("{}\nuntil [ -e {} ]; do sleep 0.02; done", away(file, "setsid -f"), gate.display())
}

async fn run(server: &Program, command: &str) {
    server.cli(&["run", "bash", "--", command]).await.exits(0);
}

fn begin(server: &Program, command: &str) -> Live {
    Live::start(server.command(&["run", "--budget", "1h", "bash", "--", command]))
}

async fn pid_in(file: &Path) -> u32 {
    pids(&lines_of(file, 1).await)[0]
}

async fn until_gone(pid: u32) {
    let path = format!("/proc/{pid}");
    let gone = async {
        while std::fs::exists(&path).expect("processes") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("the end of a process", gone).await;
}

/// The children of a server and its shim that have ended and weren't waited for.
fn zombies(server: &Program) -> Vec<String> {
    let parents = server.shims().into_iter().chain([server.live.pid()]);
    let children = |pid: u32| {
        let path = format!("/proc/{pid}/task/{pid}/children");
        std::fs::read_to_string(path).expect("children")
    };
    let stat = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let stats =
        parents.flat_map(|pid| children(pid).split_whitespace().map(stat).collect::<Vec<_>>());
    stats.filter(|stat| stat.contains(") Z ")).collect()
}

async fn no_zombie_stays(server: &Program) {
    let reaped = async {
        while !zombies(server).is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let reaped = tokio::time::timeout(ZOMBIE_MAX, reaped).await;
    reaped.unwrap_or_else(|_| panic!("{:?}", zombies(server)));
}

#[tokio::test]
async fn a_call_is_answered_when_nothing_of_it_is_left() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let file = site.folder().join("pid");
    for prefix in ["", "nohup", "setsid -f", "(", "setsid -f setsid -f"] {
        let close = if prefix == "(" { ")" } else { "" };
        let command = away(&file, prefix).replace("/dev/null &", &format!("/dev/null & {close}"));
        run(&server, &command).await;
        assert_eq!(site.processes(), [0; 0], "{command}");
    }
    assert_eq!(lines_of(&file, 5).await.len(), 5);
    no_zombie_stays(&server).await;
}

#[tokio::test]
async fn processes_that_a_call_leaves_behind_are_named_in_its_result() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let file = site.folder().join("pid");
    let quiet = "> /dev/null 2>&1 < /dev/null";
    let script = format!("sleep 300 {quiet} & {}; echo up", away(&file, "setsid -f"));
    let ran = server.cli(&["run", "bash", "--", &script]).await.exits(0);
    assert_eq!(ran.stdout(), "up\n");
    assert!(ran.stderr().contains("2 processes killed at the end of the call: "), "{ran}");
    assert!(ran.stderr().contains("sleep"), "{ran}");

    for script in ["echo up", "(sleep 0.05; true) & echo up", "echo up > >(cat)"] {
        let ran = server.cli(&["run", "bash", "--", script]).await.exits(0);
        assert!(!ran.stderr().contains("killed"), "{script}: {ran}");
    }
    // One that is stopped has left nothing behind: it had no time to clean up.
    let stopped =
        ["run", "--timeout", "1s", "bash", "--", &format!("sleep 300 {quiet} & sleep 300")];
    let ran = server.cli(&stopped).await;
    assert!(!ran.stderr().contains("killed at the end"), "{ran}");
}

#[tokio::test]
async fn a_process_that_left_its_group_lives_as_long_as_its_call() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let (file, gate) = (site.folder().join("pid"), site.folder().join("gate"));
    let call = begin(&server, &away_until(&file, &gate));
    let aside = pid_in(&file).await;
    let other = site.folder().join("other");
    for _ in 0..3 {
        run(&server, &away(&other, "")).await;
    }
    for pid in pids(&lines_of(&other, 3).await) {
        assert!(!is_alive(pid));
    }
    assert!(is_alive(aside), "its call runs");
    std::fs::write(&gate, "").expect("a gate");
    call.ended().await.exits(0);
    assert!(!is_alive(aside));
}

#[tokio::test]
async fn who_has_put_off_the_mark_goes_when_no_call_runs() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let (file, gate) = (site.folder().join("pid"), site.folder().join("gate"));
    let other = site.folder().join("other");
    let call = begin(&server, &away_until(&other, &gate));
    pid_in(&other).await;
    run(&server, &away(&file, "env -i")).await;
    let unmarked = pid_in(&file).await;
    assert!(is_alive(unmarked), "it may be the work of the call that runs");
    std::fs::write(&gate, "").expect("a gate");
    call.ended().await.exits(0);
    until_gone(unmarked).await;
}

#[tokio::test]
async fn orphans_that_end_while_their_call_runs_are_reaped() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let (file, gate) = (site.folder().join("pid"), site.folder().join("gate"));
    let many = "for n in 1 2 3 4 5 6 7 8 9; do (setsid true &); done";
    let call = begin(&server, &format!("{many}; {}; exit 7", away_until(&file, &gate)));
    pid_in(&file).await;
    no_zombie_stays(&server).await;
    std::fs::write(&gate, "").expect("a gate");
    call.ended().await.exits(7);
    no_zombie_stays(&server).await;
}

#[tokio::test]
async fn a_stop_leaves_no_process_also_none_without_the_mark() {
    let site = Site::new();
    let server = site.serve(&["--drain", "0s", "--stop-runs"]).await;
    let files = ["first", "second", "third"].map(|name| site.folder().join(name));
    run(&server, &away(&files[0], "")).await;
    let open = format!("{}; {}; sleep 300", away(&files[1], "env -i"), away(&files[2], ""));
    let call = begin(&server, &open);
    let mut all = Vec::new();
    for file in &files {
        all.push(pid_in(file).await);
    }
    let (ended, _) = server.terminate().await;
    ended.exits(0);
    // It would try to reach the server for a while.
    drop(call);
    assert_eq!(site.processes(), [0; 0]);
    assert!(!all.iter().any(|pid| is_alive(*pid)), "{all:?}");
}

#[tokio::test]
async fn children_that_a_server_was_born_with_are_left_alone() {
    let site = Site::new();
    let (born, file) = (site.folder().join("born"), site.folder().join("pid"));
    let data = site.data();
    let script = format!(
        "sleep 300 > /dev/null 2>&1 & echo $! > {}; exec {PROGRAM} serve --listen 127.0.0.1:0 --data-dir {}",
        born.display(),
        data.display()
    );
    let server = site.serve_with(site.other("sh", &["-c", &script])).await;
    let born = pid_in(&born).await;
    run(&server, &away(&file, "")).await;
    assert!(!is_alive(pid_in(&file).await));
    let (ended, _) = server.terminate().await;
    ended.exits(0);
    assert!(is_alive(born));
    crate::support::program::send(born, Signal::KILL);
}
