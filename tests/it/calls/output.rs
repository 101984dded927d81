//! Large and odd output of calls.

use crate::support::waiting::{Gate, ended, outcome_of, park, run};
use crate::support::{TestServer, bash, millis, python, result_of, soon, stderr_of, stdout_of, v1};

const MIB: usize = 1 << 20;

/// Eight bytes a line, each line its number: every byte identifies its offset.
fn numbered(bytes: usize) -> Vec<u8> {
    (0..bytes / 8).flat_map(|line| format!("{line:07}\n").into_bytes()).collect()
}

fn writes_numbered(bytes: usize) -> v1::RunToolRequest {
    let lines = bytes / 8;
    python(&format!("import sys; sys.stdout.write(''.join('%07d\\n' % n for n in range({lines})))"))
}

async fn read(
    server: &TestServer,
    id: &str,
    offset: i64,
    max_bytes: i32,
) -> v1::ReadOutputResponse {
    let request = v1::ReadOutputRequest {
        background_id: id.into(),
        stream: v1::OutputStream::Stdout.into(),
        position: Some(v1::read_output_request::Position::Offset(offset)),
        max_bytes,
        wait: millis(25_000),
    };
    let answer = soon("a read", server.tasks.clone().read_output(request)).await;
    answer.expect("an answer").into_inner()
}

async fn read_all(server: &TestServer, id: &str) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let part = read(server, id, all.len() as i64, MIB as i32).await;
        assert_eq!(part.offset, all.len() as i64);
        all.extend_from_slice(&part.data);
        if part.eof {
            return all;
        }
        assert!(!part.data.is_empty(), "nothing more at {} and no end", all.len());
    }
}

#[track_caller]
fn parts_of(result: &v1::ToolResult) -> Vec<(i64, Vec<u8>)> {
    let text = |content: &v1::Content| match &content.kind {
        Some(v1::content::Kind::Text(text)) => (content.offset, text.clone().into_bytes()),
        other => panic!("no text but {other:?}"),
    };
    result.content.iter().map(text).collect()
}

#[track_caller]
fn check_head_and_tail(result: &v1::ToolResult, written: &[u8]) {
    let tail = written.len() - MIB;
    let parts = parts_of(result);
    let offsets: Vec<i64> = parts.iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, [0, tail as i64]);
    assert!(parts[0].1 == written[..MIB] && parts[1].1 == written[tail..]);
    let output = result.output.as_ref().expect("a summary");
    let total = written.len() as i64;
    let kept_whole =
        v1::StreamSummary { total_bytes: total, kept_bytes: total, ..Default::default() };
    assert_eq!((output.stdout, output.combined), (Some(kept_whole), Some(kept_whole)));
    assert!(output.inline_truncated);
}

#[tokio::test]
async fn three_megabytes_come_as_head_and_tail_and_the_rest_can_be_read() {
    let server = TestServer::start().await;
    let written = numbered(3 * MIB);
    let id = park(&server, writes_numbered(3 * MIB)).await;
    check_head_and_tail(outcome_of(&ended(&server, &id).await), &written);
    assert!(read_all(&server, &id).await == written);
}

#[tokio::test]
async fn the_rest_of_a_result_that_came_in_time_can_be_read() {
    let server = TestServer::start().await;
    let written = numbered(3 * MIB);
    let answer = run(&server, writes_numbered(3 * MIB)).await;
    check_head_and_tail(result_of(&answer), &written);
    let id = answer.call_id.replace("call-", "bg-");
    assert!(read_all(&server, &id).await == written);
}

#[tokio::test]
async fn max_output_bytes_keeps_head_and_tail_and_counts_dropped_bytes() {
    let server = TestServer::start().await;
    let written = numbered(10_000);
    let request = v1::RunToolRequest { max_output_bytes: Some(1000), ..writes_numbered(10_000) };
    let id = park(&server, request.clone()).await;
    let answer = run(&server, request).await;
    let task = ended(&server, &id).await;
    for result in [outcome_of(&task), result_of(&answer)] {
        let expected = [(0, written[..500].to_vec()), (9500, written[9500..].to_vec())];
        assert_eq!(parts_of(result), expected);
        let output = result.output.as_ref().expect("a summary");
        let summary = v1::StreamSummary {
            total_bytes: 10_000,
            kept_bytes: 1000,
            dropped_bytes: 9000,
            cut_offset: Some(500),
        };
        assert_eq!((output.stdout, output.combined), (Some(summary), Some(summary)));
        assert!(output.inline_truncated);
    }
    let head = read(&server, &id, 0, 0).await;
    assert_eq!((&head.data[..], head.next_offset, head.eof), (&written[..500], 500, false));
    // Inside the hole: on with what follows it.
    let tail = read(&server, &id, head.next_offset, 0).await;
    assert_eq!((tail.offset, &tail.data[..], tail.eof), (9500, &written[9500..], true));
    assert_eq!((tail.total_bytes, tail.dropped_bytes), (10_000, 9000));
}

#[tokio::test]
async fn no_output_is_kept_where_none_is_wanted() {
    let server = TestServer::start().await;
    let request = v1::RunToolRequest { max_output_bytes: Some(0), ..writes_numbered(800) };
    let answer = run(&server, request).await;
    let result = result_of(&answer);
    assert_eq!(parts_of(result), []);
    let stdout = result.output.as_ref().and_then(|output| output.stdout).expect("a summary");
    assert_eq!((stdout.total_bytes, stdout.kept_bytes, stdout.dropped_bytes), (800, 0, 800));
}

#[tokio::test]
async fn output_that_is_not_utf_8_comes_as_bytes() {
    let server = TestServer::start().await;
    let code = "import os; os.write(1, bytes(range(256))); os.write(2, b'plain')";
    let answer = run(&server, python(code)).await;
    let result = result_of(&answer);
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!((stdout_of(result), stderr_of(result)), (all, b"plain".to_vec()));
    let kind = |stream: v1::OutputStream| {
        let of = |content: &&v1::Content| content.stream() == stream;
        result.content.iter().find(of).and_then(|content| content.kind.clone())
    };
    let Some(v1::content::Kind::Binary(binary)) = kind(v1::OutputStream::Stdout) else {
        panic!("no binary: {result:?}");
    };
    assert_eq!(binary.media_type, "application/octet-stream");
    let plain = Some(v1::content::Kind::Text("plain".into()));
    assert_eq!(kind(v1::OutputStream::Stderr), plain);
}

#[tokio::test]
async fn one_line_of_twenty_megabytes_is_kept_byte_exact() {
    const SIZE: usize = 20_000_000;
    let server = TestServer::start().await;
    let code =
        format!("import sys; sys.stdout.write(''.join('%08d' % n for n in range({})))", SIZE / 8);
    let id = park(&server, python(&code)).await;
    let task = ended(&server, &id).await;
    let result = outcome_of(&task);
    let parts = parts_of(result);
    let expected = |at: usize, length: usize| -> Vec<u8> {
        let lines = (at / 8)..((at + length).div_ceil(8));
        let digits: Vec<u8> = lines.flat_map(|n| format!("{n:08}").into_bytes()).collect();
        digits[at % 8..at % 8 + length].to_vec()
    };
    assert!(parts[0].1 == expected(0, MIB) && parts[1].1 == expected(SIZE - MIB, MIB));
    let combined = result.output.as_ref().and_then(|output| output.combined).expect("counts");
    assert_eq!((combined.total_bytes, combined.kept_bytes), (SIZE as i64, SIZE as i64));
    let middle = read(&server, &id, 10_000_003, 100_000).await;
    assert!(middle.data[..] == expected(10_000_003, 100_000));
    assert_eq!(middle.next_offset, 10_100_003);
}

#[tokio::test]
async fn the_last_lines_are_the_end_of_the_output() {
    let server = TestServer::start().await;
    let mut gate = Gate::new(server.folder(), "gate");
    // More than an answer may hold, in pieces that don't divide it.
    let command = format!("seq -f %07.0f 0 24999; {}", gate.wait());
    let id = park(&server, bash(&command)).await;
    assert_eq!(read(&server, &id, 199_999, 1).await.data.len(), 1);
    let wait = millis(0);
    let request = v1::WaitRequest { background_id: id.clone(), wait, acknowledge: false };
    let answer = server.tasks.clone().wait(request).await.expect("an answer").into_inner();
    let tail = answer.output_tail.expect("a tail");
    let [part] = &tail.content[..] else { panic!("{tail:?}") };
    let lines: String = (24_900..25_000).map(|line| format!("{line:07}\n")).collect();
    assert_eq!(part.kind, Some(v1::content::Kind::Text(lines)));
    assert_eq!((part.offset, tail.dropped_bytes), (199_200, 199_200));
    gate.open();
    ended(&server, &id).await;
    let request = v1::ReadOutputRequest {
        background_id: id,
        position: Some(v1::read_output_request::Position::TailLines(2)),
        ..Default::default()
    };
    let last = server.tasks.clone().read_output(request).await.expect("an answer").into_inner();
    assert_eq!(&last.data[..], b"0024998\n0024999\n");
    assert_eq!((last.offset, last.next_offset, last.eof), (199_984, 200_000, true));
}
