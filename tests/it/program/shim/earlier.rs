//! Remains of an earlier version: a store of an older schema, and a shim that knows less.
//!
//! The files in `tests/fixtures/` were recorded from the programs of earlier commits, and never change.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};

use rustix::process::Signal;

use super::faults::read_frame;
use super::{FakeShim, check_outputs, code_of, loss_of};
use crate::history::check_everything;
use crate::support::program::{Program, Site, send};
use crate::support::{bash, remote, v1};

/// The messages of a shim of protocol 1 to the server that adopts its only run, as commit c5bbc0f has
/// written them: its first message, output on both streams, and the end.
const FRAMES: &[u8] = include_bytes!("../../../fixtures/shim-protocol-1.frames");

/// The bytes that stand for the id of the call in these messages.
const CALL_ID: [u8; 16] = *b"\xc0\xc1\xc2\xc3\xc4\xc5\xc6\xc7\xc8\xc9\xca\xcb\xcc\xcd\xce\xcf";

/// The first bytes of orders of a server.
const KEEP_FOR: u8 = 8 << 3 | 2;
const ADOPT: u8 = 3 << 3 | 2;
const RELEASE: u8 = 6 << 3 | 2;

/// Returns the recorded messages, about this call.
fn frames_of(id: &str) -> Vec<Vec<u8>> {
    let call = uuid::Uuid::parse_str(id.trim_start_matches("bg-")).expect("an id");
    let mut rest = FRAMES;
    let mut frames = Vec::new();
    while let Some((length, _)) = rest.split_first_chunk::<4>() {
        let (frame, others) = rest.split_at(4 + u32::from_be_bytes(*length) as usize);
        let mut frame = frame.to_vec();
        let at = frame.windows(CALL_ID.len()).position(|window| window == CALL_ID);
        let at = at.expect("a message about the call");
        frame[at..at + CALL_ID.len()].copy_from_slice(call.as_bytes());
        frames.push(frame);
        rest = others;
    }
    frames
}

/// Says to one server what the shim of that version has said, until it forgets the call.
fn earlier_shim(site: &Site, id: &str) -> std::thread::JoinHandle<()> {
    let listener = FakeShim::listen(site);
    let frames = frames_of(id);
    std::thread::spawn(move || {
        let mut socket = listener.accept();
        read_frame(&mut socket).expect("a server that introduces itself");
        let (hello, rest) = frames.split_first().expect("messages");
        socket.write_all(hello).expect("written");
        // An order that it does not know, and that has no effect.
        assert_eq!(read_frame(&mut socket).expect("an order")[0], KEEP_FOR);
        assert_eq!(read_frame(&mut socket).expect("an order")[0], ADOPT);
        socket.write_all(&rest.concat()).expect("written");
        while read_frame(&mut socket).expect("an order")[0] != RELEASE {}
    })
}

#[tokio::test]
async fn a_run_of_an_earlier_shim_is_adopted() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let id = remote::start(&server.connect(), bash("exec sleep 300")).await.background_id;
    site.kill_with_shims(server).await;
    // The process of that shim would be another one.
    site.processes().into_iter().for_each(|pid| send(pid, Signal::KILL));
    site.quiet().await;
    let shim = earlier_shim(&site, &id);
    let server = site.serve(&[]).await;
    let clients = server.connect();
    let task = remote::ended(&clients, &id).await;
    assert_eq!((task.state(), code_of(&task)), (v1::State::Failed, 7), "{task:?}");
    check_outputs(&clients, &id, [b"begun\n", b"wrong\n"]).await;
    shim.join().expect("orders as they were");
    check_everything(&clients, 1).await;
}

/// A store of schema 4, as commit 9461128 has left it when it was killed: a call has ended, and two ran,
/// the second of which is of the tool `count`. Its times are of the year 2200, from which the clock of a
/// server goes on: nothing in it expires.
const STORE: &[u8] = include_bytes!("../../../fixtures/schema-4.db");

/// The tool, which is idempotent.
const COUNT: &str = r#"
[[tools]]
name = "count"
description = "Prints a number."
argv = ["echo", "{number}"]
idempotent = true

[tools.input_schema]
type = "object"
required = ["number"]
properties = { number = { type = "string" } }
"#;

async fn on_earlier_store(site: &Site) -> Program {
    let mut folder = std::fs::DirBuilder::new();
    folder.recursive(true).mode(0o700).create(site.data()).expect("a folder");
    let store = site.data().join("callpark.db");
    std::fs::write(&store, STORE).expect("written");
    std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    let config = site.write("config.toml", COUNT).display().to_string();
    site.serve(&["--config", &config]).await
}

#[tokio::test]
async fn a_store_of_an_earlier_schema_opens_with_calls_that_ran() {
    let site = Site::new();
    let server = on_earlier_store(&site).await;
    let clients = server.connect();
    let mut tasks = remote::tasks(&clients).await;
    tasks.reverse();
    let ids: Vec<&str> = tasks.iter().map(|task| task.background_id.as_str()).collect();
    let [ended, lost, count] = ids[..] else { panic!("not three tasks: {tasks:?}") };
    let task = remote::ended(&clients, ended).await;
    assert_eq!((task.state(), code_of(&task)), (v1::State::Failed, 3), "{task:?}");
    check_outputs(&clients, ended, [b"hello\n", b""]).await;
    let task = remote::ended(&clients, lost).await;
    assert!(loss_of(&task).contains("the server stopped"), "{task:?}");
    check_outputs(&clients, lost, [b"begun\n", b""]).await;
    let task = remote::ended(&clients, count).await;
    assert_eq!((task.state(), task.attempt), (v1::State::Succeeded, 2), "{task:?}");
    check_outputs(&clients, count, [b"first\n302\n", b""]).await;
    check_everything(&clients, 1).await;
    server.cli(&["run", "bash", "true"]).await.exits(0);
}
