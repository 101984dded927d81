//! The owners of processes: a server, its shim, others.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::{Child, Command};

use super::{check_outputs, code_of, connect, loss_of, socket_name};
use crate::support::program::{Program, Site, send};
use crate::support::waiting::{is_alive, lines_of, pids};
use crate::support::{bash, remote, soon, v1};

/// Processes that belong to no call of a site: one without a mark, and one with the mark of a call of
/// another server, which is alive.
pub struct Bystanders(Vec<Child>);

impl Bystanders {
    pub fn start(site: &Site) -> Self {
        let this = std::process::id();
        let stat = std::fs::read_to_string(format!("/proc/{this}/stat")).expect("a status");
        let (_, fields) = stat.rsplit_once(") ").expect("fields");
        let start = fields.split(' ').nth(19).expect("a start").to_owned();
        let sleep = || {
            let mut sleep = Command::new("sleep");
            sleep.arg("1000").env_clear().current_dir(site.folder()).kill_on_drop(true);
            sleep
        };
        let mut marked = sleep();
        marked.env("CALLPARK_CALL_ID", format!("call-{}", uuid::Uuid::new_v4()));
        marked.env("CALLPARK_SERVER_PROCESS", format!("{this}.{start}"));
        Self([sleep(), marked].map(|mut command| command.spawn().expect("started")).into())
    }

    /// Checks that they are alive.
    #[track_caller]
    pub fn check(&mut self) {
        for child in &mut self.0 {
            assert_eq!(child.try_wait().expect("a status"), None, "a foreign process was touched");
        }
    }
}

/// A command that notes its id and those of two children, one of them in a session of its own, and
/// stays.
pub(super) fn stay(file: &std::path::Path) -> String {
    let file = file.display();
    format!(
        "note() {{ echo $BASHPID >> {file}; }}; echo begun; (note; sleep 300) & \
         setsid bash -c 'echo $$ >> {file}; sleep 300' & note; wait"
    )
}

async fn all_gone(all: &[u32]) {
    let gone = async {
        while all.iter().any(|pid| is_alive(*pid)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("the end of processes", gone).await;
}

pub(super) async fn run_again(server: &Program) {
    let ran = server.cli(&["run", "bash", "--", "echo again; exit 4"]).await.exits(4);
    assert_eq!(ran.stdout(), "again\n");
}

#[tokio::test]
async fn calls_of_a_killed_shim_are_lost_and_the_next_call_has_another_shim() {
    let site = Site::new();
    let mut bystanders = Bystanders::start(&site);
    let mut server = site.serve(&[]).await;
    let clients = server.connect();
    let file = site.folder().join("pids");
    let ids = [
        remote::start(&clients, bash(&stay(&file))).await.background_id,
        remote::start(&clients, bash(&stay(&file))).await.background_id,
    ];
    let all = pids(&lines_of(&file, 6).await);
    for id in &ids {
        super::until_written(&clients, id, 6).await;
    }
    let shims = site.shims();
    send(shims[0], Signal::KILL);
    for id in &ids {
        let task = remote::ended(&clients, id).await;
        assert!(loss_of(&task).contains("the shim that ran the process"), "{task:?}");
        check_outputs(&clients, id, [b"begun\n", b""]).await;
    }
    // They were killed before their calls ended.
    assert!(!all.iter().any(|pid| is_alive(*pid)), "{all:?}");
    server.live.stderr.until("a shim ended: its running calls are lost").await;
    run_again(&server).await;
    assert_ne!(site.shims(), shims);
    assert_eq!(site.shims().len(), 1);
    bystanders.check();
    crate::history::check_everything(&clients, 1).await;
}

#[tokio::test]
async fn a_shim_that_is_killed_while_calls_start_leaves_none_of_their_processes() {
    let site = Site::new();
    let server = site.serve(&["--max-running-calls", "200"]).await;
    let clients = server.connect();
    let mut ids = Vec::new();
    for round in 0..4 {
        let starts = (0..30).map(|_| remote::start(&clients, bash("exec sleep 300")));
        let kill = async {
            tokio::time::sleep(Duration::from_millis(10 + 15 * round)).await;
            site.shims().into_iter().for_each(|pid| send(pid, Signal::KILL));
        };
        let (started, ()) = tokio::join!(futures::future::join_all(starts), kill);
        ids.extend(started.into_iter().map(|task| task.background_id));
    }
    // Those that came after the last kill run in a shim that is alive.
    let mut lost = 0;
    for id in &ids {
        server.cli(&["cancel", "--force", id]).await;
        let task = remote::ended(&clients, id).await;
        match task.state() {
            v1::State::Cancelled => {}
            _ => assert!(loss_of(&task).contains("the shim that ran the process"), "{task:?}"),
        }
        lost += usize::from(task.state() == v1::State::Lost);
    }
    assert!(lost > 0, "no kill has met a call");
    assert_eq!(site.processes(), [0; 0]);
    run_again(&server).await;
}

#[tokio::test]
async fn a_shim_that_is_asked_to_stop_ends_its_runs() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let file = site.folder().join("pids");
    let id = remote::start(&server.connect(), bash(&stay(&file))).await.background_id;
    let all = pids(&lines_of(&file, 3).await);
    send(site.shims()[0], Signal::TERM);
    let task = remote::ended(&server.connect(), &id).await;
    assert!(loss_of(&task).contains("the shim that ran the process"), "{task:?}");
    assert!(!all.iter().any(|pid| is_alive(*pid)), "{all:?}");
    run_again(&server).await;
}

#[tokio::test]
async fn a_second_server_on_the_same_folder_disturbs_neither_the_first_nor_its_shim() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    undisturbed(&site, &server, async |_| {
        let refused = site.run(&["serve", "--listen", "127.0.0.1:0"]).await;
        assert_ne!(refused.code(), 0, "{refused}");
    })
    .await;
}

#[tokio::test]
async fn a_shim_that_is_stopped_keeps_its_calls_until_it_goes_on() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let gate = site.folder().join("gate");
    let wait = format!("until [ -e {} ]; do sleep 0.02; done; exit 7", gate.display());
    let id = remote::start(&server.connect(), bash(&wait)).await.background_id;
    server.kill().await;
    let shim = site.shims()[0];
    send(shim, Signal::STOP);
    let refused = site.run(&["serve", "--listen", "127.0.0.1:0"]).await.exits(75);
    assert!(refused.stderr().contains("does not answer"), "{refused}");
    send(shim, Signal::CONT);
    let server = site.serve(&[]).await;
    std::fs::write(&gate, "").expect("a gate");
    assert_eq!(code_of(&remote::ended(&server.connect(), &id).await), 7);
}

#[tokio::test]
async fn calls_are_lost_if_both_are_killed() {
    let site = Site::new();
    let mut bystanders = Bystanders::start(&site);
    let server = site.serve(&[]).await;
    let file = site.folder().join("pids");
    let id = remote::start(&server.connect(), bash(&stay(&file))).await.background_id;
    let all = pids(&lines_of(&file, 3).await);
    super::until_written(&server.connect(), &id, 6).await;
    site.kill_with_shims(server).await;
    let server = site.serve(&[]).await;
    all_gone(&all).await;
    let task = remote::ended(&server.connect(), &id).await;
    assert!(loss_of(&task).contains("the server stopped"), "{task:?}");
    check_outputs(&server.connect(), &id, [b"begun\n", b""]).await;
    run_again(&server).await;
    bystanders.check();
}

/// A store as a version of callpark leaves it that has no shims.
#[tokio::test]
async fn calls_are_lost_if_nothing_is_known_of_a_shim() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let file = site.folder().join("pids");
    let id = remote::start(&server.connect(), bash(&stay(&file))).await.background_id;
    let all = pids(&lines_of(&file, 3).await);
    site.kill_with_shims(server).await;
    std::fs::remove_dir_all(site.data().join("callpark.db.shims")).expect("removed");
    let server = site.serve(&[]).await;
    assert!(!all.iter().any(|pid| is_alive(*pid)), "{all:?}");
    loss_of(&remote::ended(&server.connect(), &id).await);
    run_again(&server).await;
}

#[tokio::test]
async fn the_data_folder_of_a_running_server_is_copied_by_every_program() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let id = remote::start(&server.connect(), bash("exec sleep 300")).await.background_id;
    // A program that refuses whatever is no file and no folder.
    let copy = "import shutil, sys; shutil.copytree(*sys.argv[1:])";
    let (original, copied) = (site.data(), site.folder().join("copy"));
    let paths = [&original, &copied].map(|path| path.display().to_string());
    crate::support::program::run(site.other("python3", &["-c", copy, &paths[0], &paths[1]]))
        .await
        .exits(0);

    let flags = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &paths[1]];
    let live = crate::support::program::Live::start(site.command(&flags));
    let on_copy = Program::started(live, site.home(), &copied).await;
    loss_of(&remote::ended(&on_copy.connect(), &id).await);
    let (ended, _) = on_copy.terminate().await;
    ended.exits(0);
    run_again(&server).await;
    let state = remote::task(&server.connect(), &id).await.state();
    assert_eq!(state, v1::State::Running, "the original goes on");
}

#[tokio::test]
async fn a_copy_of_a_data_folder_kills_nothing_of_the_original() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let (file, gate) = (site.folder().join("pids"), site.folder().join("gate"));
    let command = format!(
        "echo $$ >> {}; until [ -e {} ]; do sleep 0.02; done; exit 6",
        file.display(),
        gate.display()
    );
    let id = remote::start(&server.connect(), bash(&command)).await.background_id;
    let pid = pids(&lines_of(&file, 1).await)[0];
    server.kill().await;
    let (original, copy) = (site.data(), site.folder().join("copy"));
    let paths = [&original, &copy].map(|path| path.display().to_string());
    crate::support::program::run(site.other("cp", &["-a", &paths[0], &paths[1]])).await.exits(0);

    let flags = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &paths[1]];
    let live = crate::support::program::Live::start(site.command(&flags));
    let on_copy = Program::started(live, site.home(), &copy).await;
    loss_of(&remote::ended(&on_copy.connect(), &id).await);
    run_again(&on_copy).await;
    assert!(is_alive(pid), "its shim and its store are others");
    let (ended, _) = on_copy.terminate().await;
    ended.exits(0);
    assert!(is_alive(pid), "its shim and its store are others");

    let server = site.serve(&[]).await;
    std::fs::write(&gate, "").expect("a gate");
    assert_eq!(code_of(&remote::ended(&server.connect(), &id).await), 6);
}

#[tokio::test]
async fn a_shim_ends_with_its_processes_if_the_data_folder_is_removed() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let file = site.folder().join("pids");
    remote::start(&server.connect(), bash(&stay(&file))).await;
    let all = pids(&lines_of(&file, 3).await);
    server.kill().await;
    std::fs::remove_dir_all(site.data()).expect("removed");
    assert!(all.iter().all(|pid| is_alive(*pid)));
    site.without_shims().await;
    all_gone(&all).await;
}

#[tokio::test]
async fn an_idle_shim_ends_with_its_server() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    run_again(&server).await;
    assert_eq!(site.shims().len(), 1);
    server.kill().await;
    // It says that it had no run, until a server knows.
    let noted = async {
        let is_note = |path: &PathBuf| path.extension().is_some_and(|end| end == "ended");
        while !site.shims().is_empty() || !folders(&site).iter().all(is_note) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    soon("the end of the shim", noted).await;
    assert_eq!(folders(&site).len(), 1);
    let server = site.serve(&[]).await;
    assert_eq!(folders(&site).len(), 1, "the next shim, without the note");
    server.terminate().await.0.exits(0);
    site.without_shims().await;
}

/// The folders of the shims of a site.
fn folders(site: &Site) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(site.data().join("callpark.db.shims")).expect("shims");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).expect("a file").mode() & 0o777
}

/// A call that can be watched, in the middle of which others connect to the socket of its shim.
async fn undisturbed(site: &Site, server: &Program, connect: impl AsyncFn(PathBuf)) {
    let gate = site.folder().join("gate");
    let command =
        format!("echo begun; until [ -e {} ]; do sleep 0.02; done; exit 8", gate.display());
    let id = remote::start(&server.connect(), bash(&command)).await.background_id;
    super::until_written(&server.connect(), &id, 6).await;
    let folder = folders(site).pop().expect("a shim");
    connect(folder).await;
    run_again(server).await;
    std::fs::write(&gate, "").expect("a gate");
    assert_eq!(code_of(&remote::ended(&server.connect(), &id).await), 8);
    assert!(!server.live.stderr.now().contains("a shim ended"), "{}", server.live.stderr.now());
}

#[tokio::test]
async fn only_the_user_of_a_shim_reaches_it() {
    const OTHER_USER: u32 = 65_534;
    let site = Site::new();
    let server = site.serve(&[]).await;
    let folder = folders(&site).pop().expect("a shim");
    assert_eq!((mode(&folder), mode(folder.parent().expect("one"))), (0o700, 0o700));
    assert_eq!(mode(&site.data()), 0o700);
    if !rustix::process::geteuid().is_root() {
        eprintln!("not checked: only root can be another user");
        return;
    }
    undisturbed(&site, &server, async |folder| {
        let connect = "import socket, sys; s = socket.socket(socket.AF_UNIX); \
                       s.connect('\\0' + sys.argv[1]); s.settimeout(20); print('read', s.recv(1))";
        let mut command = site.other("python3", &["-c", connect, &socket_name(&folder)]);
        command.uid(OTHER_USER).gid(OTHER_USER).current_dir("/");
        let closed = crate::support::program::run(command).await.exits(0);
        assert_eq!(closed.stdout(), "read b''\n");
    })
    .await;
}

#[tokio::test]
async fn a_process_that_connects_and_is_no_server_disturbs_nothing() {
    use std::io::Write as _;
    let site = Site::new();
    let server = site.serve(&[]).await;
    undisturbed(&site, &server, async |folder| {
        let mut silent = connect(&folder);
        let mut loud = connect(&folder);
        loud.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("written");
        drop(loud);
        run_again(&server).await;
        silent.write_all(&[0, 0, 0, 2, 8, 1]).expect("written");
    })
    .await;
    // The one that is silent keeps no shim alive.
    let _silent = connect(&folders(&site).pop().expect("a shim"));
    let (ended, _) = server.terminate().await;
    ended.exits(0);
}
