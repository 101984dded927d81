//! Tests of the backlog with real files.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;

use super::*;
use crate::model::{OutputPosition, OutputStream, StreamSummary};

const PIECE_BYTES: usize = 32 * 1024;
const PIECES_IN_MEMORY: u64 = WINDOW_BYTES / PIECE_BYTES as u64;

struct Filled {
    folder: tempfile::TempDir,
    backlog: Backlog,
    pushed: u64,
}

impl Filled {
    /// A backlog into which so many pieces were put, with its file in a folder of its own.
    fn with(pieces: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backlog = Backlog::new(folder.path().join("spool"), OutputBefore::default(), full());
        let mut filled = Self { folder, backlog, pushed: 0 };
        (0..pieces).for_each(|_| filled.push());
        filled
    }

    fn push(&mut self) {
        self.backlog.push(piece(self.pushed), false);
        self.pushed += 1;
    }

    fn files(&self) -> usize {
        fs::read_dir(self.folder.path()).unwrap().count()
    }

    /// The numbers of the pieces that are sent now.
    fn sent(&mut self) -> Vec<u64> {
        let mut sent = Vec::new();
        while let Some(next) = self.backlog.next_unsent() {
            let number = next.position.combined_offset / PIECE_BYTES as u64;
            assert_eq!(*next, piece(number));
            sent.push(number);
        }
        sent
    }

    fn acknowledge(&mut self, pieces: u64) {
        self.backlog.acknowledge(pieces * PIECE_BYTES as u64);
    }
}

/// The memory of a shim with many runs: each has its own part only.
fn full() -> Arc<OutputMemory> {
    let memory = OutputMemory::default();
    memory.add(u64::MAX / 2);
    Arc::new(memory)
}

#[test]
fn a_server_that_reads_has_more_while_there_is_memory() {
    let folder = tempfile::tempdir().unwrap();
    let memory = Arc::<OutputMemory>::default();
    let path = folder.path().join("spool");
    let mut backlog = Backlog::new(path.clone(), OutputBefore::default(), memory.clone());
    let mut pushed = 0;
    while backlog.has_room(true) {
        backlog.push(piece(pushed), true);
        pushed += 1;
    }
    assert_eq!(pushed, SHARED_WINDOW_BYTES / PIECE_BYTES as u64);
    backlog.push(piece(pushed), false);
    assert!(path.exists(), "without a server, the file has what comes after the window");
    backlog.acknowledge(PIECE_BYTES as u64);
    memory.add(u64::MAX / 2);
    assert!(!backlog.has_room(true));
    memory.remove(u64::MAX / 2);
    drop(backlog);
    memory.add(1);
    memory.remove(1);
    assert_eq!(format!("{memory:?}"), "OutputMemory(0)", "all was given back");
}

fn piece(number: u64) -> ToolOutput {
    let position = OutputPosition {
        stream: OutputStream::Stdout,
        offset: number * PIECE_BYTES as u64,
        combined_offset: number * PIECE_BYTES as u64,
        dropped_bytes_before: 0,
    };
    let byte = u8::try_from(number).unwrap();
    ToolOutput { position, data: Bytes::from(vec![byte; PIECE_BYTES]) }
}

fn numbers(range: std::ops::Range<u64>) -> Vec<u64> {
    range.collect()
}

#[test]
fn a_server_that_reads_bounds_the_output_by_the_window() {
    let mut filled = Filled::with(PIECES_IN_MEMORY - 1);
    assert!(filled.backlog.has_room(true));
    filled.push();
    assert!(!filled.backlog.has_room(true));
    assert_eq!(filled.sent(), numbers(0..PIECES_IN_MEMORY));
    assert!(!filled.backlog.has_room(true), "sent is not stored");
    filled.acknowledge(1);
    assert!(filled.backlog.has_room(true));
    assert_eq!((filled.files(), filled.sent()), (0, Vec::new()));
}

#[test]
fn without_a_server_the_file_grows_and_the_next_one_has_all_in_order() {
    let mut filled = Filled::with(20);
    assert!(filled.backlog.has_room(false) && !filled.backlog.has_room(true));
    assert!(filled.backlog.spooled_bytes() >= (20 - PIECES_IN_MEMORY) * PIECE_BYTES as u64);
    assert_eq!(filled.files(), 1);
    let mut sent = filled.sent();
    assert_eq!(sent, numbers(0..PIECES_IN_MEMORY), "no more than the window is sent");
    while !filled.backlog.is_sent() {
        filled.acknowledge(sent.len() as u64);
        sent.extend(filled.sent());
    }
    assert_eq!(sent, numbers(0..20));
    assert_eq!(filled.files(), 0, "the file is removed once it was read");
    filled.acknowledge(20);
    assert!(filled.backlog.has_room(true));
}

#[test]
fn what_is_put_behind_a_file_comes_after_it() {
    let mut filled = Filled::with(12);
    filled.acknowledge(3);
    filled.push();
    filled.acknowledge(9);
    filled.push();
    assert_eq!(filled.sent(), numbers(9..14));
}

#[test]
fn another_server_is_sent_all_that_is_not_stored() {
    let mut filled = Filled::with(12);
    assert_eq!(filled.sent(), numbers(0..8));
    // It had stored more than it could say.
    filled.acknowledge(5);
    filled.backlog.rewind();
    assert_eq!(filled.sent(), numbers(5..12));
    assert!(filled.backlog.is_sent());
    filled.backlog.rewind();
    assert!(!filled.backlog.is_sent());
    filled.acknowledge(12);
    assert_eq!(filled.sent(), numbers(0..0));
    assert!(filled.backlog.is_sent());
}

#[test]
fn a_part_of_a_piece_that_is_stored_does_not_end_it() {
    let mut filled = Filled::with(3);
    filled.backlog.acknowledge(2 * PIECE_BYTES as u64 - 1);
    assert_eq!(filled.sent(), numbers(1..3));
    filled.acknowledge(1);
    assert_eq!(filled.sent(), numbers(0..0));
}

#[test]
fn a_piece_that_cannot_be_written_waits_and_is_the_last() {
    let mut filled = Filled::with(PIECES_IN_MEMORY);
    filled.backlog.spool_path = filled.folder.path().join("missing/spool");
    filled.push();
    assert!(!filled.backlog.has_room(false) && !filled.backlog.has_room(true));
    assert!(filled.backlog.error().contains("No such file"), "{}", filled.backlog.error());
    assert_eq!(filled.sent(), numbers(0..PIECES_IN_MEMORY));
    assert!(!filled.backlog.is_sent());
    filled.acknowledge(1);
    assert!(!filled.backlog.has_room(true), "the piece that waits is not sent");
    assert_eq!(filled.sent(), [PIECES_IN_MEMORY]);
    assert_eq!((filled.backlog.error(), filled.backlog.is_sent()), ("", true));
    filled.acknowledge(2);
    assert!(filled.backlog.has_room(true));
}

#[test]
fn a_file_that_was_changed_ends_what_is_in_it_and_the_counts_say_so() {
    let mut filled = Filled::with(20);
    let file = OpenOptions::new().write(true).open(filled.folder.path().join("spool")).unwrap();
    // In the third of its records.
    file.write_all_at(b"damage", 2 * PIECE_BYTES as u64 + 500).unwrap();
    let mut sent = filled.sent();
    filled.acknowledge(sent.len() as u64);
    sent.extend(filled.sent());
    assert_eq!(sent, numbers(0..10));
    assert!(filled.backlog.is_sent());
    let all = |pieces: u64| pieces * PIECE_BYTES as u64;
    // The output goes on.
    filled.backlog.push(piece(20), false);
    let next = filled.backlog.next_unsent().unwrap();
    assert_eq!(next.position.dropped_bytes_before, all(10));
    assert_eq!(next.position.offset, all(20));
    let whole = StreamSummary { total_bytes: all(21), kept_bytes: all(21), ..Default::default() };
    let mut summary = OutputSummary { stdout: whole, combined: whole, ..OutputSummary::default() };
    filled.backlog.correct(&mut summary);
    let part = StreamSummary {
        total_bytes: all(21),
        kept_bytes: all(11),
        dropped_bytes: all(10),
        cut_offset: Some(all(10)),
    };
    assert_eq!((summary.stdout, summary.combined), (part, part));
    assert_eq!(summary.stderr, StreamSummary::default());
    assert!(summary.incomplete && summary.inline_truncated);
}

#[test]
fn output_of_another_attempt_is_not_taken_for_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let before = StreamSummary {
        total_bytes: PIECE_BYTES as u64,
        kept_bytes: PIECE_BYTES as u64,
        ..Default::default()
    };
    let before = OutputBefore { stdout: before, combined: before, ..OutputBefore::default() };
    let mut backlog = Backlog::new(folder.path().join("spool"), before, full());
    backlog.push(piece(1), false);
    assert_eq!(backlog.next_unsent(), Some(&piece(1)), "no byte is missing before it");
}

#[test]
fn counts_of_an_output_that_is_whole_stay() {
    let mut summary = OutputSummary::default();
    Filled::with(20).backlog.correct(&mut summary);
    assert_eq!(summary, OutputSummary::default());
}
