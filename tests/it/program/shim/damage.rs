//! Output that is kept in a file while no server is there: its disk is full, or the file is damaged.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::{Stream, check_outputs, code_of, spools, until_steady};
use crate::support::program::{Program, Site};
use crate::support::small_disk::SmallDisk;
use crate::support::waiting::{Gate, lines_of, outcome_of};
use crate::support::{python, remote, v1};
use v1::OutputStream::Stdout;

/// More than is kept in memory, in pipes and in a piece of the log.
const WRITTEN: usize = 2_000_000;

/// More than the output that is on its way to a server.
const MUCH: usize = 8_000_000;

fn written() -> Vec<u8> {
    written_of(WRITTEN)
}

fn written_of(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| u8::try_from(n * 7 % 251).expect("a byte")).collect()
}

/// Writes so many bytes once the gate is open, with the number so far in a file, and ends with code 9.
fn writer(gate: &Gate, progress: &Path) -> v1::RunToolRequest {
    writer_of(WRITTEN, gate, progress)
}

fn writer_of(bytes: usize, gate: &Gate, progress: &Path) -> v1::RunToolRequest {
    python(&format!(
        "import os
block = bytes(n * 7 % 251 for n in range({bytes}))
done = 0
with open('{1}', 'w') as file:
    file.write('0\\n')
open('{0}').readline()
while done < len(block):
    done += os.write(1, block[done:done + 4000])
    with open('{1}.new', 'w') as file:
        file.write(str(done))
    os.rename('{1}.new', '{1}')
os._exit(9)",
        gate.path().display(),
        progress.display()
    ))
}

fn number_in(progress: &Path) -> u64 {
    std::fs::read_to_string(progress)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or_default()
}

#[tokio::test]
async fn a_process_waits_while_the_disk_is_full_and_nothing_is_dropped() {
    let site = Site::new();
    let Some(disk) = SmallDisk::new(&site, "size=24m").await else { return };
    let server = disk.serve(&site, &[]).await;
    let (mut gate, progress) = (Gate::new(site.folder(), "gate"), site.folder().join("progress"));
    let id = remote::start(&server.connect(), writer(&gate, &progress)).await.background_id;
    lines_of(&progress, 1).await;
    server.kill().await;
    disk.fill(100_000);
    gate.open();
    let blocked = until_steady("a process that is blocked", || number_in(&progress)).await;
    assert!(blocked < WRITTEN as u64, "it wrote all on a full disk");
    assert!(blocked > 256 * 1024, "memory was not used: {blocked}");
    disk.free();
    let mut server = disk.serve(&site, &[]).await;
    let clients = server.connect();
    assert_eq!(code_of(&remote::ended(&clients, &id).await), 9);
    check_outputs(&clients, &id, [&written(), b""]).await;
    let text = server.live.stderr.until("its output could not be written").await;
    let line = text.lines().find(|line| line.contains("could not be written")).expect("a line");
    assert!(line.contains("No space left") && line.contains(&id.replace("bg-", "")), "{line}");
    check_blocked(&site, &server, &id).await;
}

/// Checks that the log of the task's session says once, before its end, why its process was blocked.
async fn check_blocked(site: &Site, server: &Program, id: &str) {
    use v1::session_event::Payload;
    let task = remote::ended(&server.connect(), id).await;
    let log = remote::log(&server.connect(), &task.session_id).await;
    let payloads = log.iter().filter(|event| event.call_id == task.call_id);
    let payloads: Vec<&Payload> = payloads.filter_map(|event| event.payload.as_ref()).collect();
    let causes = payloads.iter().enumerate().filter_map(|(at, payload)| match payload {
        Payload::ToolOutputBlocked(blocked) => Some((at, blocked.cause.as_str())),
        _ => None,
    });
    let causes: Vec<(usize, &str)> = causes.collect();
    let [(at, cause)] = causes[..] else { panic!("not one event: {causes:?} of {}", log.len()) };
    assert!(cause.contains("No space left"), "{cause}");
    assert!(at < payloads.len() - 1, "it is the last event of the call");
    let token = site.folder().join("token").display().to_string();
    let printed = server.cli(&["events", "--token-file", &token, &task.session_id]).await.exits(0);
    let line = printed.stdout().lines().find(|line| line.contains("tool_output_blocked"));
    assert!(line.expect("a line").contains("No space left"), "{printed}");
    crate::history::check_everything(&server.connect(), 1).await;
}

/// Runs a writer without a server, changes the file with its output, and returns a server with the task.
async fn with_changed_file(change: impl Fn(&PathBuf)) -> (Site, Program, v1::Task) {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let (mut gate, progress) = (Gate::new(site.folder(), "gate"), site.folder().join("progress"));
    let id = remote::start(&server.connect(), writer(&gate, &progress)).await.background_id;
    lines_of(&progress, 1).await;
    server.kill().await;
    gate.open();
    site.quiet().await;
    let files = spools(&site);
    assert_eq!(files.len(), 1, "{files:?}");
    let meta = std::fs::metadata(&files[0]).expect("a file");
    assert!(meta.len() > 1_000_000 && meta.mode() & 0o777 == 0o600, "{meta:?}");
    change(&files[0]);
    let server = site.serve(&[]).await;
    let task = remote::ended(&server.connect(), &id).await;
    (site, server, task)
}

async fn check_incomplete(server: &Program, task: &v1::Task) {
    let clients = server.connect();
    assert_eq!((task.state(), code_of(task)), (v1::State::Failed, 9), "{task:?}");
    let output = outcome_of(task).output.expect("output");
    assert!(output.incomplete, "{task:?}");
    let read = Stream::read(&clients, &task.background_id, Stdout).await;
    read.check_pieces(&written(), "damaged");
    let kept: usize = read.pieces.iter().map(|(_, data)| data.len()).sum();
    assert!((200_000..WRITTEN).contains(&kept), "{kept} bytes kept");
    crate::history::check_everything(&clients, 1).await;
}

#[tokio::test]
async fn output_is_incomplete_if_its_file_was_changed_and_the_exit_holds() {
    let (_site, server, task) = with_changed_file(|path| {
        let file = OpenOptions::new().write(true).open(path).expect("a file");
        file.write_all_at(b"damage", 700_000).expect("written");
    })
    .await;
    check_incomplete(&server, &task).await;
    server.cli(&["run", "bash", "true"]).await.exits(0);
}

#[tokio::test]
async fn output_is_incomplete_if_its_file_was_cut_and_the_exit_holds() {
    let (_site, server, task) = with_changed_file(|path| {
        let file = OpenOptions::new().write(true).open(path).expect("a file");
        file.set_len(500_000).expect("shorter");
    })
    .await;
    check_incomplete(&server, &task).await;
}

#[tokio::test]
async fn output_is_whole_if_its_file_was_only_removed() {
    let (_site, server, task) =
        with_changed_file(|path| std::fs::remove_file(path).expect("removed")).await;
    assert_eq!(code_of(&task), 9, "{task:?}");
    check_outputs(&server.connect(), &task.background_id, [&written(), b""]).await;
}

#[tokio::test]
async fn a_stopped_server_blocks_a_process_that_writes_and_then_has_all() {
    use rustix::process::Signal;
    let site = Site::new();
    let server = site.serve(&[]).await;
    let clients = server.connect();
    let (mut gate, progress) = (Gate::new(site.folder(), "gate"), site.folder().join("progress"));
    let id = remote::start(&clients, writer_of(MUCH, &gate, &progress)).await.background_id;
    lines_of(&progress, 1).await;
    server.live.signal(Signal::STOP);
    gate.open();
    let blocked = until_steady("a process that is blocked", || number_in(&progress)).await;
    // The window, a pipe, and what waits in sockets.
    assert!(blocked < 5_000_000, "{blocked} bytes were taken from it");
    assert!(blocked >= 4 * 1024 * 1024, "{blocked}");
    assert_eq!(spools(&site), Vec::<PathBuf>::new(), "its server is there");
    server.live.signal(Signal::CONT);
    assert_eq!(code_of(&remote::ended(&clients, &id).await), 9);
    check_outputs(&clients, &id, [&written_of(MUCH), b""]).await;
}
