//! The server in a namespace of its own: without `/proc`, with a foreign one, and as process 1.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::shim::{check_outputs, code_of, loss_of, until_written};
use crate::history::children_of;
use crate::support::namespace::unshare;
use crate::support::program::{Ended, PROGRAM, Program, Site, run, send};
use crate::support::{bash, remote, soon};

/// The longest time that the stop of a server takes here, on a busy machine.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Runs a server that cannot start, behind a command of the shell in namespaces of its own.
async fn refused(site: &Site, unshare: &[String], before: &str) -> Ended {
    let script = format!("{before} exec {PROGRAM} serve --listen 127.0.0.1:0");
    let (program, flags) = unshare.split_first().expect("a command");
    let mut words: Vec<&str> = flags.iter().map(String::as_str).collect();
    words.extend(["sh", "-c", &script]);
    let ended = run(site.other(program, &words)).await.exits(78);
    let line = ended.stderr().strip_suffix('\n').filter(|line| !line.contains('\n'));
    assert!(
        line.is_some_and(|line| line.starts_with("error: the server cannot start: ")),
        "{ended}"
    );
    assert!(ended.stderr().contains("mount -t proc proc /proc"), "{ended}");
    assert!(!site.data().join("callpark.db").exists(), "the store was touched");
    ended
}

#[tokio::test]
async fn a_server_without_proc_refuses_to_start() {
    let site = Site::new();
    let Some(unshare) = unshare(&site, &["-m"]).await else { return };
    let ended = refused(&site, &unshare, "mount -t tmpfs tmpfs /proc &&").await;
    assert!(ended.stderr().contains("/proc is not mounted"), "{ended}");
}

#[tokio::test]
async fn a_server_with_the_proc_of_another_namespace_refuses_to_start() {
    let site = Site::new();
    let Some(unshare) = unshare(&site, &["--pid", "--fork"]).await else { return };
    let ended = refused(&site, &unshare, "").await;
    assert!(ended.stderr().contains("another PID namespace"), "{ended}");
}

#[tokio::test]
async fn a_server_in_another_network_namespace_gives_nothing_up() {
    let site = Site::new();
    let Some(unshare) = unshare(&site, &["-n"]).await else { return };
    let server = site.serve(&[]).await;
    let id = remote::start(&server.connect(), bash("sleep 0.5; exec cat gate")).await.background_id;
    server.kill().await;
    let (program, flags) = unshare.split_first().expect("a command");
    let mut words: Vec<&str> = flags.iter().map(String::as_str).collect();
    let address = format!("unix:{}", site.folder().join("socket").display());
    words.extend([PROGRAM, "serve", "--listen", &address]);
    let refused = run(site.other(program, &words)).await.exits(78);
    assert!(refused.stderr().contains("another network namespace"), "{refused}");
    let server = site.serve(&[]).await;
    let task = remote::ended(&server.connect(), &id).await;
    assert_eq!(code_of(&task), 1, "the call went on: {task:?}");
}

/// Starts a server as process 1 of a namespace. Returns it with its id in this namespace.
async fn process_1(site: &Site, unshare: &[String]) -> (Program, u32) {
    let data = site.data().display().to_string();
    let (program, flags) = unshare.split_first().expect("a command");
    let mut words: Vec<&str> = flags.iter().map(String::as_str).collect();
    words.extend([PROGRAM, "serve", "--listen", "127.0.0.1:0", "--data-dir", &data]);
    let server = site.serve_with(site.other(program, &words)).await;
    let children = children_of(server.live.pid());
    assert_eq!(children.len(), 1, "{children:?}");
    (server, children[0].0)
}

/// Waits until the server has no child that has ended.
async fn until_reaped(server: u32) {
    let reaped = async {
        while children_of(server).iter().any(|(_, state)| *state == 'Z') {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("the end of all orphans", reaped).await;
}

#[tokio::test]
async fn as_process_1_the_server_runs_calls_reaps_all_and_stops() {
    let site = Site::new();
    let flags = ["--pid", "--fork", "--mount-proc", "--kill-child"];
    let Some(unshare) = unshare(&site, &flags).await else { return };
    let (server, pid) = process_1(&site, &unshare).await;
    let ran = server.cli(&["run", "bash", "--", "echo $PPID; exit 3"]).await.exits(3);
    assert_ne!(ran.line(), "1", "the parent is the shim");

    // A process that the call leaves behind, and one of somebody else, as `docker exec` starts it.
    server.cli(&["run", "bash", "--", "setsid -f sleep 300 > /dev/null 2>&1"]).await.exits(0);
    let target = pid.to_string();
    let orphan = ["-t", &target, "-p", "-m", "sh", "-c", "sleep 0.1 & exit 5"];
    run(site.other("nsenter", &orphan)).await.exits(5);
    let gone = async {
        // The shim is its only child.
        while children_of(pid).len() > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("the end of all orphans", gone).await;

    // Those of a shim that was killed come to process 1, which ends them.
    let clients = server.connect();
    for _ in 0..2 {
        let id = remote::start(&clients, bash("echo begun; exec sleep 300")).await.background_id;
        until_written(&clients, &id, 6).await;
        send(site.shims()[0], Signal::KILL);
        let lost = remote::ended(&clients, &id).await;
        assert!(loss_of(&lost).contains("the shim that ran the process"), "{lost:?}");
        until_reaped(pid).await;
    }

    // Nothing of a PID namespace outlives its process 1.
    let id = remote::start(&clients, bash("echo begun; exec sleep 300")).await.background_id;
    until_written(&clients, &id, 6).await;
    let began = Instant::now();
    send(pid, Signal::TERM);
    server.live.ended().await.exits(0);
    assert!(began.elapsed() < STOP_MAX, "{:?}", began.elapsed());
    assert_eq!((site.processes(), site.shims()), (Vec::new(), Vec::new()));
    let server = site.serve(&[]).await;
    let lost = remote::ended(&server.connect(), &id).await;
    assert!(loss_of(&lost).contains("the server stopped"), "{lost:?}");
    check_outputs(&server.connect(), &id, [b"begun\n", b""]).await;
}
