//! Error messages of the commands, and the cases in which they print none.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::net::TcpSocket;

use crate::support::program::{Ended, Live, Site, run};
use crate::support::proofs::proof;
use crate::support::waiting::Gate;

/// An address of this machine at which no server listens, as long as the socket lives.
fn nowhere() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let address = socket.local_addr().expect("an address");
    (socket, format!("http://{address}"))
}

/// Runs a command whose standard output is not read.
async fn unread(mut command: tokio::process::Command) -> Ended {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let child = command.stdout(writer).stderr(Stdio::piped()).spawn().expect("started");
    Live::watch(child).ended().await
}

#[tokio::test]
async fn a_missing_server_is_reported_with_the_command_to_start_one() {
    let site = Site::new();
    let (_port, endpoint) = nowhere();
    for words in [
        &["list"][..],
        &["run", "bash", "true"],
        &["start", "bash", "true"],
        &["wait", "bg-1"],
        &["wait", "bg-1", "bg-2"],
        &["output", "-f", "bg-1"],
        &["events", "ses-1"],
    ] {
        let live = Live::start(site.command(&[&["--endpoint", &endpoint], words].concat()));
        let ended = live.ended_within(Duration::from_secs(10)).await.exits(69);
        assert_eq!(ended.stdout(), "");
        assert!(ended.stderr().contains(&format!("no server at {endpoint}")), "{ended}");
        assert!(ended.stderr().contains("`callpark serve`"), "{ended}");
    }
    let bare = site.run(&["list", "--endpoint", "localhost"]).await.exits(2);
    assert!(bare.stderr().contains("http://"), "{bare}");
}

#[tokio::test]
async fn the_bridge_by_hand_is_refused_with_what_it_is_for() {
    let site = Site::new();
    let ended = site.run(&["mcp", "--stdio"]).await.exits(2);
    let words = "CALLPARK_MCP_ADDRESS is not set: a callpark server sets it";
    assert!(ended.stderr().contains(words), "{ended}");
    let mut command = site.command(&["mcp", "--stdio"]);
    let (_socket, endpoint) = nowhere();
    let address = endpoint.replace("http://", "");
    command.env("CALLPARK_MCP_ADDRESS", &address).env("CALLPARK_MCP_TOKEN", "guessed");
    let ended = run(command).await.exits(69);
    assert!(
        ended.stderr().contains(&format!("callpark cannot be reached at {address}")),
        "{ended}"
    );
}

#[tokio::test]
async fn a_server_that_never_answers_is_reported_in_time() {
    let site = Site::new();
    // It takes connections, by the system, and never accepts them.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", silent.local_addr().expect("an address"));
    let mut live = Live::start(site.command(&["list", "--endpoint", &endpoint]));
    live.stderr.until("retrying").await;
    // All attempts take half a minute.
    if proof(true, false) {
        let ended = live.ended_within(Duration::from_secs(60)).await.exits(69);
        assert!(ended.stderr().contains(&format!("no server at {endpoint}")), "{ended}");
    }
}

#[tokio::test]
async fn a_wrong_or_missing_token_is_reported_with_its_source() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let other = site.write("other", "wrong-token-of-another\n").display().to_string();
    let wrong = server.cli(&["list", "--token-file", &other]).await.exits(77);
    assert!(wrong.stderr().contains("the server rejected the credentials"), "{wrong}");
    assert!(wrong.stderr().contains(&other), "{wrong}");
    let mut command = server.command(&["run", "bash", "true"]);
    command.env("CALLPARK_TOKEN", "wrong-token-of-another");
    let variable = run(command).await.exits(77);
    assert!(variable.stderr().contains("$CALLPARK_TOKEN"), "{variable}");
    let elsewhere = Site::new();
    let none = elsewhere.run(&["list", "--endpoint", &server.endpoint]).await.exits(77);
    let missing = elsewhere.data().join("token").display().to_string();
    assert!(none.stderr().contains(&format!("{missing} does not exist")), "{none}");
    let gone = server.cli(&["list", "--token-file", &missing]).await.exits(77);
    assert!(gone.stderr().contains(&missing), "{gone}");
    for ended in [wrong, variable, none, gone] {
        assert_eq!(ended.stdout(), "");
        let printed = ended.stderr();
        assert!(!printed.contains("wrong-token") && !printed.contains(&server.token), "{ended}");
    }
}

#[tokio::test]
async fn wrong_usage_exits_with_2() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    for words in [
        &[][..],
        &["frobnicate"],
        &["wait"],
        &["wait", "ses-1"],
        &["list", "--state", "done"],
        &["run", "bash", "--budget", "soon", "x"],
        &["run", "bash"],
        &["run", "--arg", "colour=blue", "bash", "true"],
        &["run", "bash", "--colour", "true"],
        &["wait", "build"],
        &["run", "bash", "--args", "[1]"],
        &["serve", "--lisen", "127.0.0.1:0"],
    ] {
        let ended = server.cli(words).await.exits(2);
        assert_eq!(ended.stdout(), "", "{words:?}");
        assert!(!ended.stderr().is_empty(), "{words:?}");
    }
    for (given, meant) in [("logs", "'output'"), ("ps", "'list'"), ("lst", "'list'")] {
        let ended = server.cli(&[given]).await.exits(2);
        assert!(ended.stderr().contains(meant) && !ended.stderr().contains("close"), "{ended}");
    }
    let help = server.cli(&["run", "--help"]).await.exits(0);
    assert!(help.stdout().contains("Exit codes:") && help.stderr().is_empty(), "{help}");
    let version = server.cli(&["--version"]).await.exits(0);
    assert!(version.line().contains(env!("CARGO_PKG_VERSION")), "{version}");
}

#[tokio::test]
async fn an_unknown_name_exits_with_66_and_lists_the_known_ones() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let zeros = "0".repeat(32);
    let (task, session) = (format!("bg-{zeros}"), format!("ses-{zeros}"));
    for (words, hint) in [
        (&["show", &task][..], "`callpark list`"),
        (&["wait", &task], "`callpark list`"),
        (&["output", &task], "`callpark list`"),
        (&["cancel", &task], "`callpark list`"),
        (&["delete", &task], "`callpark list`"),
        (&["show", &session], "`callpark sessions`"),
        (&["events", &session], "`callpark sessions`"),
        (&["close", &session], "`callpark sessions`"),
        (&["run", "bahs", "--args", "{}"], "`callpark tools`"),
    ] {
        let ended = server.cli(words).await.exits(66);
        assert!(ended.stderr().contains(hint), "{words:?}: {ended}");
        assert_eq!(ended.stdout(), "", "{words:?}");
    }
}

#[tokio::test]
async fn a_reader_that_has_enough_is_no_error() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let id = server.cli(&["start", "bash", "seq 1 100000"]).await.exits(0).line().to_owned();
    let task = server.cli(&["wait", "--json", &id]).await.exits(0).json();
    let session = task["sessionId"].as_str().expect("a session").to_owned();
    for words in [
        &["list"][..],
        &["list", "--json"],
        &["sessions"],
        &["tools"],
        &["show", &id],
        &["output", &id],
        &["wait", &id],
        &["events", &session],
        &["config"],
        &["completions", "bash"],
        &["--help"],
    ] {
        let ended = unread(server.command(words)).await.exits(0);
        assert_eq!(ended.stderr(), "", "{words:?}");
    }
    let mut full = server.command(&["list"]);
    full.stdout(std::fs::File::create("/dev/full").expect("a full disk")).stderr(Stdio::piped());
    let ended = Live::watch(full.spawn().expect("started")).ended().await.exits(74);
    assert!(ended.stderr().contains("cannot write to standard output"), "{ended}");
}

#[tokio::test]
async fn a_run_that_is_kept_goes_on_in_the_background_when_its_output_is_not_read() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let mut gate = Gate::new(site.folder(), "gate");
    let command = format!("echo begun; {}; echo done", gate.wait());
    let ended = unread(server.command(&["run", "--keep", "bash", "--", &command])).await.exits(0);
    let (_, id) = ended.stderr().rsplit_once("callpark wait ").expect("an id");
    gate.open();
    let waited = server.cli(&["wait", id.trim_end()]).await.exits(0);
    assert_eq!(waited.stdout(), "begun\ndone\n");
}

#[tokio::test]
async fn nothing_but_text_goes_to_a_pipe() {
    let site = Site::new();
    let server = site.serve(&["--log-filter", "debug"]).await;
    let colourful = |words: &[&str]| {
        let mut command = server.command(words);
        command.envs([("TERM", "xterm-256color"), ("COLORTERM", "truecolor")]);
        command
    };
    let (_port, nowhere) = nowhere();
    let words = ["start", "bash", "sleep 0.5; printf '\\033[31mred'"];
    let id = run(colourful(&words)).await.exits(0).line().to_owned();
    server.cli(&["wait", "--json", &id]).await.exits(0);
    for words in [
        &["events", "last"][..],
        &["list"],
        &["show", &id],
        &["tools"],
        &["config"],
        &["--help"],
        &["show", "bg-1"],
        &["frobnicate"],
        &["list", "--endpoint", &nowhere],
    ] {
        let ended = run(colourful(words)).await;
        for text in [ended.stdout(), ended.stderr()] {
            assert!(!text.contains(['\x1b', '\r', '\u{2807}']), "{words:?}: {ended}");
        }
    }
    // What a tool writes is its own, even so.
    assert_eq!(server.cli(&["output", "-f", &id]).await.exits(0).stdout(), "\x1b[31mred");
    assert!(!server.live.stderr.now().contains('\x1b'));
}

#[tokio::test]
async fn config_shows_the_effective_values_and_their_sources() {
    let site = Site::new();
    let file = site.write("callpark.toml", "\ngrace = \"1s\"\ndrain = \"9s\"\n");
    let path = file.display().to_string();
    let words = ["config", "--config", &path, "--call-budget", "7s"];
    let mut command = site.command(&words);
    command.env("CALLPARK_DRAIN", "3s");
    let ended = run(command).await.exits(0);
    assert!(ended.stderr().contains(&path), "{ended}");
    let row = |name: &str| {
        let mut lines = ended.stdout().lines().map(|line| line.split_whitespace());
        let row = lines.find_map(|mut line| (line.next() == Some(name)).then_some(line));
        row.expect("a row").collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row("SETTING"), "VALUE SOURCE");
    assert_eq!(row("call_budget"), "7s flag --call-budget");
    assert_eq!(row("drain"), "3s environment CALLPARK_DRAIN");
    assert_eq!(row("grace"), format!("1s file {path}:2"));
    assert_eq!(row("heartbeat"), "15s default");
    let data = site.data().display().to_string();
    assert_eq!(row("data_dir"), format!("{data} default"));
    let rows = site.run(&[&words[..], &["--json"]].concat()).await.exits(0).json();
    let rows = rows.as_array().expect("a list");
    let grace = rows.iter().find(|row| row["name"] == "grace").expect("a row");
    assert_eq!(
        (&grace["value"], &grace["origin"]),
        (&"1s".into(), &format!("file {path}:2").into())
    );
    assert!(!site.data().exists(), "it only looks");
}

/// A demo with a folder of its own for temporary files.
fn demo(site: &Site) -> tokio::process::Command {
    std::fs::create_dir(site.folder().join("tmp")).expect("a folder");
    let mut command = site.command(&["demo"]);
    command.env("TMPDIR", site.folder().join("tmp"));
    command
}

fn check_clean(site: &Site) {
    let left = std::fs::read_dir(site.folder().join("tmp")).expect("a folder").count();
    assert_eq!((left, site.processes()), (0, vec![]));
    assert!(!site.data().exists());
}

#[tokio::test]
async fn the_demo_shows_all_it_claims_and_leaves_nothing() {
    let site = Site::new();
    let began = Instant::now();
    let ended = run(demo(&site)).await.exits(0);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(ended.stdout().contains("all 6 steps passed"), "{ended}");
    assert_eq!(ended.stderr(), "");
    check_clean(&site);
}

#[tokio::test]
async fn a_demo_that_is_stopped_leaves_nothing_either() {
    let site = Site::new();
    let mut live = Live::start(demo(&site));
    live.stdout.until("parked as bg-").await;
    live.signal(Signal::INT);
    live.ended().await.exits(130);
    check_clean(&site);
}
