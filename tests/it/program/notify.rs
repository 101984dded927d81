//! The notifications of the server to the service manager, such as systemd.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::bash;
use crate::support::notify_socket::NotifySocket;
use crate::support::program::{Live, Program, Site};
use crate::support::waiting::Gate;
use crate::support::{remote, soon};

/// An interval in which even a busy machine has time for a sign of life, in microseconds.
const WATCHDOG_USEC: u64 = 400_000;

const PING: &str = "WATCHDOG=1";

/// Starts a server and returns it with its first message.
async fn start(
    site: &Site,
    socket: &NotifySocket,
    watchdog: Option<u64>,
    flags: &[&str],
) -> (Program, Vec<String>) {
    let live = Live::start(socket.server(site, watchdog, flags));
    let first = socket.message().await;
    (Program::started(live, site.home(), &site.data()).await, first)
}

#[tokio::test]
async fn ready_and_status_come_first_then_signs_of_life_and_at_last_the_stop() {
    let site = Site::new();
    let socket = NotifySocket::new(&site);
    let (server, first) = start(&site, &socket, Some(WATCHDOG_USEC), &["--drain", "7s"]).await;
    let serving = format!("STATUS=serving on {}: ", server.endpoint);
    assert_eq!(first, ["READY=1".to_owned(), format!("{serving}0 running calls")]);
    // Ready means that a request is answered.
    server.cli(&["run", "bash", "true"]).await.exits(0);

    let mut gate = Gate::new(site.folder(), "gate");
    let clients = server.connect();
    let task = remote::start(&clients, bash(&gate.wait())).await;
    let running = format!("{serving}1 running call");
    socket.until(|state| state == running).await;
    gate.open();
    remote::ended(&clients, &task.background_id).await;
    let none = format!("{serving}0 running calls");
    socket.until(|state| state == none).await;

    let task = remote::start(&clients, bash("sleep 300")).await;
    socket.until(|state| state == running).await;
    server.live.signal(Signal::TERM);
    let stopping = loop {
        let message = socket.message().await;
        if message != [PING] {
            break message;
        }
    };
    // 7 s to drain, and 15 s for the processes.
    let time = "EXTEND_TIMEOUT_USEC=22000000";
    assert_eq!(stopping, ["STOPPING=1", "STATUS=stopping: 1 running call", time]);
    drop(clients);
    server.live.ended().await.exits(0);
    // Nothing takes the stop back.
    for state in socket.waiting().into_iter().flatten() {
        assert!(state == PING || state.starts_with("STATUS=stopping: "), "{state}");
    }
    drop(task);
}

#[tokio::test]
async fn signs_of_life_come_twice_in_each_interval() {
    let site = Site::new();
    let socket = NotifySocket::new(&site);
    let (server, _) = start(&site, &socket, Some(WATCHDOG_USEC), &[]).await;
    let began = Instant::now();
    for _ in 0..5 {
        assert_eq!(socket.message().await, [PING]);
    }
    // Five halves, of which the first had begun.
    let half = Duration::from_micros(WATCHDOG_USEC / 2);
    let took = began.elapsed();
    assert!(took > 3 * half && took < 10 * half, "{took:?}");
    // A server that stands still says nothing.
    server.live.signal(Signal::STOP);
    tokio::time::sleep(half).await;
    socket.waiting();
    tokio::time::sleep(3 * half).await;
    assert_eq!(socket.waiting(), [[""; 0]; 0]);
    server.live.signal(Signal::CONT);
    assert_eq!(socket.message().await, [PING]);
}

#[tokio::test]
async fn a_server_whose_store_takes_no_changes_gives_no_sign_of_life() {
    let site = Site::new();
    let socket = NotifySocket::new(&site);
    let (server, _) = start(&site, &socket, Some(WATCHDOG_USEC), &[]).await;
    assert_eq!(socket.message().await, [PING]);
    for file in ["callpark.db", "callpark.db-wal", "callpark.db-shm"] {
        std::fs::remove_file(site.data().join(file)).expect("removed");
    }
    // The store looks at its files before it writes.
    let run = server.cli(&["run", "bash", "true"]).await;
    assert_ne!(run.code(), 0, "{run}");
    let status = socket.until(|state| state.starts_with("STATUS=not serving: ")).await;
    assert!(status.contains("callpark.db"), "{status}");
    tokio::time::sleep(Duration::from_micros(2 * WATCHDOG_USEC)).await;
    assert_eq!(socket.waiting(), [[""; 0]; 0]);
}

#[tokio::test]
async fn without_a_watchdog_there_are_no_signs_of_life_and_without_a_manager_nothing() {
    let site = Site::new();
    let socket = NotifySocket::new(&site);
    let (server, first) = start(&site, &socket, None, &[]).await;
    assert_eq!(first[0], "READY=1");
    let (ended, _) = server.terminate().await;
    ended.exits(0);
    let rest = socket.waiting().concat();
    assert_eq!(rest.first().map(String::as_str), Some("STOPPING=1"));
    assert!(!rest.contains(&PING.to_owned()), "{rest:?}");

    // An interval for another process is none for this one.
    let mut command = socket.server(&site, Some(WATCHDOG_USEC), &[]);
    command.env("WATCHDOG_PID", "1");
    let server = site.serve_with(command).await;
    server.cli(&["run", "bash", "true"]).await.exits(0);
    let (ended, _) = server.terminate().await;
    ended.exits(0);
    let rest = socket.waiting().concat();
    assert!(rest.contains(&"STOPPING=1".to_owned()) && !rest.contains(&PING.to_owned()));

    let server = site.serve(&[]).await;
    let (ended, _) = server.terminate().await;
    ended.exits(0);
    assert_eq!(socket.waiting(), [[""; 0]; 0]);
}

#[tokio::test]
async fn a_manager_that_is_gone_or_does_not_read_stops_nothing() {
    let site = Site::new();
    let socket = NotifySocket::new(&site);
    let command = socket.server(&site, Some(20_000), &["--drain", "1h"]);
    // Nobody receives: after some messages the socket is full.
    let server = site.serve_with(command).await;
    server.cli(&["run", "bash", "sleep 1"]).await.exits(0);
    let (ended, took) = server.terminate().await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    let ended = ended.exits(0);
    assert!(ended.stderr().contains("the service manager does not read"), "{ended}");

    let path = socket.path().to_owned();
    let command = socket.server(&site, Some(WATCHDOG_USEC), &[]);
    drop(socket);
    std::fs::remove_file(path).expect("removed");
    let server = site.serve_with(command).await;
    server.cli(&["run", "bash", "true"]).await.exits(0);
    let (ended, _) = server.terminate().await;
    assert!(ended.exits(0).stderr().contains("the service manager cannot be notified"));
}

/// A program that speaks no protocol, but writes down its environment.
const WITNESS: &str = "env > \"$OUT\"; sleep 300";

#[tokio::test]
async fn no_process_of_a_tool_can_speak_for_the_server() {
    let site = Site::new();
    let socket = NotifySocket::new(&site);
    let seen = site.folder().join("seen");
    let names = "[\"PATH\", \"NOTIFY_SOCKET\", \"WATCHDOG_PID\", \"WATCHDOG_USEC\"]";
    let out = seen.display();
    // Even one that is allowed to see them.
    let config = site.write(
        "callpark.toml",
        &format!(
            "tool_environment = {names}\n\
             [[mcp_servers]]\nname = \"witness\"\nargv = [\"bash\", \"-c\", '{WITNESS}']\n\
             environment = {names}\nset_environment = {{ OUT = \"{out}\" }}\n"
        ),
    );
    let config = config.display().to_string();
    let (server, _) = start(&site, &socket, Some(WATCHDOG_USEC), &["--config", &config]).await;
    let of_tool = server.cli(&["run", "bash", "env"]).await.exits(0);
    let asking = Live::start(server.command(&["tools"]));
    let of_mcp_server = async {
        loop {
            let text = std::fs::read_to_string(&seen).unwrap_or_default();
            if text.contains("CALLPARK_SERVER_PROCESS=") && text.ends_with('\n') {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let of_mcp_server = soon("an environment", of_mcp_server).await;
    drop(asking);
    for environment in [of_tool.stdout(), &of_mcp_server] {
        assert!(environment.contains("PATH="), "{environment}");
        for name in ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"] {
            assert!(!environment.contains(name), "{environment}");
        }
    }
}
