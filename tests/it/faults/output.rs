//! Output without end and without form: memory is bounded, and every count and byte is exact.

use std::time::Duration;

use v1::read_output_request::Position;
use v1::{OutputStream, State};

use crate::support::program::{Clients, Program, Site};
use crate::support::remote;
use crate::support::waiting::{ended, lines_of, log_of, outcome_of, park, run, session};
use crate::support::{TestServer, millis, python, result_of, soon, stderr_of, stdout_of, v1};

const MIB: i64 = 1 << 20;
/// The bytes that are kept of a call's output: a head, and a tail of a mebibyte.
const KEPT: i64 = 64 * MIB;
/// The memory in KiB that the server may need beyond its idle size, however much is written. It
/// is less than what is kept of two calls.
const GROWTH_KIB_MAX: u64 = 120 << 10;

/// The memory of a process that isn't elsewhere too, in KiB.
fn memory_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Looks at the memory of the server until its growth is known: its maximum.
async fn memory_kib_max(pid: u32, until: impl Future<Output = ()>) -> u64 {
    let mut max = 0;
    let look = async {
        loop {
            max = max.max(memory_kib(pid));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = until => {}
        () = look => {}
    }
    max
}

/// Every byte identifies its offset: no power of two is a multiple of its period.
fn byte_at(offset: i64) -> u8 {
    u8::try_from(offset % 251).expect("less than 251")
}

/// A program that writes these bytes until it has written `total`, or gets a signal to stop; then it
/// says in the file how many it has written.
fn writer(total: i64, file: &std::path::Path) -> String {
    format!(
        "import os, signal
stop = False
def end(*_):
    global stop
    stop = True
signal.signal(signal.SIGTERM, end)
block = bytes(range(251)) * 522
written = 0
while not stop and written < {total}:
    start = written % 251
    size = min(len(block) - start, {total} - written)
    written += os.write(1, block[start:start + size])
with open('{}', 'w') as report:
    report.write('%d\\n' % written)
",
        file.display()
    )
}

/// Checks the counts of a call that has written more than is kept, and reads all that is.
async fn check_kept(clients: &Clients, task: &v1::Task, total: i64) {
    let summary = v1::StreamSummary {
        total_bytes: total,
        kept_bytes: KEPT,
        dropped_bytes: total - KEPT,
        cut_offset: Some(KEPT - MIB),
    };
    let output = task.output.as_ref().expect("a summary");
    assert_eq!((output.stdout, output.combined), (Some(summary), Some(summary)));
    assert!(!output.incomplete && output.inline_truncated, "{output:?}");
    let (mut offset, mut kept) = (0, 0);
    loop {
        let request = v1::ReadOutputRequest {
            background_id: task.background_id.clone(),
            stream: OutputStream::Stdout.into(),
            position: Some(Position::Offset(offset)),
            max_bytes: i32::MAX,
            wait: None,
        };
        let part = soon("output", clients.tasks.clone().read_output(request)).await;
        let part = part.expect("output").into_inner();
        let expected = if offset == KEPT - MIB { total - MIB } else { offset };
        assert_eq!(part.offset, expected, "nothing but the middle is left out");
        let right = part.data.iter().zip(part.offset..).all(|(byte, at)| *byte == byte_at(at));
        assert!(right, "the bytes from {} on", part.offset);
        kept += part.data.len() as i64;
        offset = part.next_offset;
        assert_eq!((part.total_bytes, part.dropped_bytes), (total, total - KEPT));
        if part.eof {
            break;
        }
        assert!(!part.data.is_empty(), "no end and nothing more at {offset}");
    }
    assert_eq!((offset, kept), (total, KEPT));
}

/// Runs a writer while the server's memory is looked at, then checks all that there is of it.
async fn check_writer(server: &Program, site: &Site, total: i64, stop_after: Option<Duration>) {
    let clients = server.connect();
    let file = site.folder().join("written");
    // The first call takes what every call needs.
    let warm = remote::start(&clients, python("print('warm')")).await;
    remote::ended(&clients, &warm.background_id).await;
    let before = memory_kib(server.live.pid());
    let id = remote::start(&clients, python(&writer(total, &file))).await.background_id;
    let end = async {
        if let Some(time) = stop_after {
            tokio::time::sleep(time).await;
            let request = v1::CancelRequest {
                background_id: id.clone(),
                grace: millis(60_000),
                ..Default::default()
            };
            soon("a cancel", clients.tasks.clone().cancel(request)).await.expect("cancelled");
        }
        remote::ended(&clients, &id).await;
    };
    let max = memory_kib_max(server.live.pid(), end).await;
    let task = remote::ended(&clients, &id).await;
    let written: i64 = lines_of(&file, 1).await[0].parse().expect("a number");
    let state = if stop_after.is_some() { State::Cancelled } else { State::Succeeded };
    assert_eq!(task.state(), state);
    check_kept(&clients, &task, written).await;
    println!("{written} bytes; the server grew from {before} KiB to {max} KiB");
    assert!(max < before + GROWTH_KIB_MAX, "from {before} KiB to {max} KiB");
}

#[tokio::test]
async fn endless_output_takes_bounded_memory_and_is_counted_to_the_byte() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    check_writer(&server, &site, i64::MAX, Some(Duration::from_secs(4))).await;
}

#[tokio::test]
async fn a_line_of_a_hundred_megabytes_is_kept_byte_exact_in_bounded_memory() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    check_writer(&server, &site, 100_000_000, None).await;
}

#[tokio::test]
async fn output_in_writes_of_one_byte_is_joined_and_loses_none() {
    const COUNT: usize = 20_000;
    let server = TestServer::start().await;
    let session_id = session(&server, Default::default()).await;
    let code = format!(
        "import os
for n in range({COUNT}):
    os.write(1 + n % 2, bytes([n * 7 % 256]))"
    );
    let request = v1::RunToolRequest { session_id: session_id.clone(), ..python(&code) };
    let answer = run(&server, request).await;
    let all: Vec<u8> = (0..COUNT).map(|n| u8::try_from(n * 7 % 256).expect("a byte")).collect();
    let every_second = |from| all.iter().skip(from).step_by(2).copied().collect::<Vec<u8>>();
    let result = result_of(&answer);
    assert!(stdout_of(result) == every_second(0) && stderr_of(result) == every_second(1));
    let events = log_of(&server, &session_id).await;
    let outputs = events.iter().filter_map(|event| match event.payload.as_ref() {
        Some(v1::session_event::Payload::ToolOutput(output)) => Some(output.data.len()),
        _ => None,
    });
    let sizes: Vec<usize> = outputs.collect();
    assert_eq!(sizes.iter().sum::<usize>(), COUNT);
    assert!(sizes.len() < COUNT / 10, "{} events", sizes.len());
}

#[tokio::test]
async fn output_that_is_no_text_comes_as_it_was_written() {
    let server = TestServer::start().await;
    let cases: [(&str, &[u8]); 6] = [
        (r"b'a\0b\0\0'", b"a\0b\0\0"),
        (r"b'\0' * 100000", &[0; 100_000]),
        (r"b'\xff' * 70000", &[0xff; 70_000]),
        // A character that is cut, one that is too long, half of a surrogate pair.
        (r"b'ok \xe2\x82'", b"ok \xe2\x82"),
        (r"b'\xc0\x80 \xed\xa0\x80'", b"\xc0\x80 \xed\xa0\x80"),
        (r"b'\x1b[31mred\r\n\x07'", b"\x1b[31mred\r\n\x07"),
    ];
    for (literal, bytes) in cases {
        let code = format!("import os; os.write(2, {literal}); os.write(1, {literal})");
        let id = park(&server, python(&code)).await;
        let task = ended(&server, &id).await;
        let result = outcome_of(&task);
        assert_eq!(task.state(), State::Succeeded, "{literal}");
        for (stream, inline) in
            [(OutputStream::Stdout, stdout_of(result)), (OutputStream::Stderr, stderr_of(result))]
        {
            let request = v1::ReadOutputRequest {
                background_id: id.clone(),
                stream: stream.into(),
                max_bytes: i32::MAX,
                ..Default::default()
            };
            let read = soon("output", server.tasks.clone().read_output(request)).await;
            let read = read.expect("output").into_inner();
            assert!(read.data == bytes && read.eof, "{stream:?} of {literal}");
            assert_eq!(read.total_bytes, bytes.len() as i64);
            // Beside text, what is left of a cut character is only there to be read.
            let whole = if literal.contains("ok") { &bytes[..3] } else { bytes };
            assert!(inline == whole || inline == bytes, "{stream:?} of {literal}: {inline:?}");
        }
    }
}
