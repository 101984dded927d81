//! A server of an ordinary user: its secrets are hidden from its tools, and nothing depends on what
//! the system hides with them.

use std::os::unix::fs::chown;

use rustix::process::Signal;
use tokio::process::Command;

use crate::support::program::{Live, PROGRAM, Site};
use crate::support::waiting::{is_alive, lines_of, pids};

/// A user who may do nothing in particular.
const USER: u32 = 65_534;

/// Makes a command one of an ordinary user, who has this site. Returns `false` if that user cannot run
/// the program.
fn as_ordinary_user(site: &Site, command: &mut Command) -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    for path in [site.folder(), &site.home()] {
        chown(path, Some(USER), Some(USER)).expect("an owner");
    }
    command.uid(USER).gid(USER);
    let mut probe = std::process::Command::new(PROGRAM);
    std::os::unix::process::CommandExt::uid(&mut probe, USER).arg("--version");
    let is_reachable = probe.output().is_ok();
    if !is_reachable {
        eprintln!("not checked: {PROGRAM} is out of reach for other users");
    }
    is_reachable
}

/// Shows what a tool can read of the process that started it, and of all processes above that one.
const LOOK_AROUND: &str = r#"
pid=$PPID
while [ "$pid" -gt 0 ]; do
    echo "looked at $pid"
    cat /proc/$pid/environ 2>/dev/null | tr '\0' '\n'
    ls -l /proc/$pid/fd 2>/dev/null | sed "s/^/of $pid: /"
    pid=$(sed -n 's/^PPid:[[:space:]]*//p' /proc/$pid/status)
done"#;

#[tokio::test]
async fn a_tool_cannot_read_the_secrets_of_its_server() {
    let site = Site::new();
    let data = site.data().display().to_string();
    let mut command = site.command(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &data]);
    command.env("OPENAI_API_KEY", "marmalade");
    if !as_ordinary_user(&site, &mut command) {
        return;
    }
    let server = site.serve_with(command).await;
    let ended = server.cli(&["run", "bash", "--", LOOK_AROUND]).await.exits(0);
    let pid = server.live.pid();
    assert!(ended.stdout().contains(&format!("looked at {pid}\n")), "{ended}");
    assert!(!ended.stdout().contains("marmalade"), "{ended}");
    assert!(!ended.stdout().contains(&format!("of {pid}: ")), "{ended}");
}

#[tokio::test]
async fn a_killed_server_is_followed_by_one_that_ends_what_it_left() {
    let site = Site::new();
    let data = site.data().display().to_string();
    let socket = format!("unix:{}", site.folder().join("socket").display());
    let command = || site.command(&["serve", "--listen", &socket, "--data-dir", &data]);
    let mut first = command();
    if !as_ordinary_user(&site, &mut first) {
        return;
    }
    let mut live = Live::start(first);
    assert!(live.stderr.started().await, "{}", live.stderr.now());
    let token = site.data().join("token").display().to_string();
    let flags = ["--endpoint", &socket, "--token-file", &token];
    let file = site.folder().join("pid");
    let script = format!("setsid sh -c 'echo $$ > {}; sleep 300; true'", file.display());
    let start = ["start", "bash", "--", &script];
    let id = site.run(&[&start[..1], &flags, &start[1..]].concat()).await.exits(0);
    let pid = pids(&lines_of(&file, 1).await)[0];
    live.signal(Signal::KILL);
    live.ended().await;
    for shim in site.shims() {
        crate::support::program::send(shim, Signal::KILL);
    }
    assert!(is_alive(pid), "a kill of the server and its shim leaves it");

    let mut second = command();
    as_ordinary_user(&site, &mut second);
    let mut live = Live::start(second);
    assert!(live.stderr.started().await, "{}", live.stderr.now());
    assert!(!is_alive(pid), "the next server ends it");
    site.run(&[&["wait"], &flags[..], &[id.line()]].concat()).await.exits(71);
}
