//! Reading what a task writes, while it runs and after.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tonic::Code;
use v1::OutputStream::{Combined, Stderr, Stdout};
use v1::read_output_request::Position;

use crate::support::streams::{
    Gate, ended, new_session, run, start_of, started, task, task_now, tool_start,
};
use crate::support::wire::bad_fields;
use crate::support::{TestServer, check_reason, millis, python, soon, v1};

async fn read(server: &TestServer, request: v1::ReadOutputRequest) -> v1::ReadOutputResponse {
    let answer = soon("output", server.tasks.clone().read_output(request)).await;
    answer.expect("output").into_inner()
}

fn at(task: &v1::Task, stream: v1::OutputStream, offset: i64) -> v1::ReadOutputRequest {
    v1::ReadOutputRequest {
        background_id: task.background_id.clone(),
        stream: stream.into(),
        position: Some(Position::Offset(offset)),
        ..Default::default()
    }
}

fn tail(task: &v1::Task, stream: v1::OutputStream, lines: i32) -> v1::ReadOutputRequest {
    let position = Some(Position::TailLines(lines));
    v1::ReadOutputRequest { position, ..at(task, stream, 0) }
}

/// Follows a stream as its documentation says: the pieces with their offsets.
async fn followed(
    server: &TestServer,
    first: v1::ReadOutputRequest,
) -> (Vec<(i64, Bytes)>, v1::ReadOutputResponse) {
    let (mut pieces, mut request) = (Vec::new(), first);
    for _ in 0..1_000 {
        let answer = read(server, request.clone()).await;
        if !answer.data.is_empty() {
            pieces.push((answer.offset, answer.data.clone()));
        }
        if answer.eof {
            return (pieces, answer);
        }
        request.position = Some(Position::Offset(answer.next_offset));
    }
    panic!("no end of the output in a thousand reads, after {pieces:?}");
}

#[tokio::test]
async fn output_is_read_from_every_byte_on() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let task = task(&server, &session_id, r"printf 'a\377\000b\342\202\254\nend'").await;
    ended(&server, &task.background_id).await;
    let whole = b"a\xff\0b\xe2\x82\xac\nend";
    for offset in 0..=whole.len() {
        let answer = read(&server, at(&task, Stdout, offset as i64)).await;
        assert_eq!(answer.data, whole[offset..], "from {offset}");
        assert_eq!(answer.offset, offset as i64);
        assert_eq!((answer.next_offset, answer.total_bytes), (11, 11));
        assert!(answer.eof && answer.dropped_bytes == 0, "{answer:?}");
        for max_bytes in 1..=whole.len() - offset {
            let max = max_bytes as i32;
            let request =
                v1::ReadOutputRequest { max_bytes: max, ..at(&task, Stdout, offset as i64) };
            let answer = read(&server, request).await;
            let end = offset + max_bytes;
            assert_eq!(answer.data, whole[offset..end], "{max_bytes} from {offset}");
            assert_eq!((answer.next_offset, answer.eof), (end as i64, end == whole.len()));
        }
    }
    for beyond in [12, 1_000_000, i64::MAX] {
        let answer = read(&server, at(&task, Stdout, beyond)).await;
        assert!(answer.data.is_empty() && answer.eof, "from {beyond}: {answer:?}");
    }
}

#[tokio::test]
async fn streams_are_read_apart_and_together() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let command = "echo one; sleep 0.2; echo two >&2; sleep 0.2; echo three";
    let task = task(&server, &session_id, command).await;
    ended(&server, &task.background_id).await;
    for (stream, text) in
        [(Stdout, "one\nthree\n"), (Stderr, "two\n"), (Combined, "one\ntwo\nthree\n")]
    {
        let answer = read(&server, at(&task, stream, 0)).await;
        assert_eq!(answer.data, text, "{stream:?}");
        assert_eq!(answer.total_bytes, text.len() as i64);
        for offset in 0..=text.len() {
            let answer = read(&server, at(&task, stream, offset as i64)).await;
            assert_eq!(answer.data, text[offset..], "{stream:?} from {offset}");
        }
    }
    let unset =
        v1::ReadOutputRequest { background_id: task.background_id.clone(), ..Default::default() };
    assert_eq!(read(&server, unset).await.data, "one\ntwo\nthree\n");
}

#[tokio::test]
async fn the_last_lines_are_read_as_far_as_max_bytes_reaches() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let task = task(&server, &session_id, "printf 'one\ntwo\nthree\nend'; echo x >&2").await;
    ended(&server, &task.background_id).await;
    let cases = [
        (1, "end"),
        (2, "three\nend"),
        (4, "one\ntwo\nthree\nend"),
        (i32::MAX, "one\ntwo\nthree\nend"),
    ];
    for (lines, text) in cases {
        let answer = read(&server, tail(&task, Stdout, lines)).await;
        assert_eq!(answer.data, text, "{lines} lines");
        assert_eq!(answer.offset, 17 - text.len() as i64);
        assert!(answer.eof && answer.next_offset == 17, "{answer:?}");
    }
    let short = v1::ReadOutputRequest { max_bytes: 5, ..tail(&task, Stdout, 2) };
    let answer = read(&server, short).await;
    assert_eq!((answer.data.as_ref(), answer.offset), (&b"e\nend"[..], 12));
    for lines in [0, -1] {
        let request = tail(&task, Stdout, lines);
        let status = server.tasks.clone().read_output(request).await.expect_err("refused");
        check_reason(&status, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(bad_fields(&status), ["tail_lines"]);
    }
}

#[tokio::test]
async fn an_answer_holds_64_kib_by_default_and_a_mebibyte_at_most() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let code = "import sys; sys.stdout.buffer.write(bytes(i * 7 % 251 for i in range(1500000)))";
    let task = started(&server, tool_start(&session_id, python(code))).await;
    ended(&server, &task.background_id).await;
    let whole: Vec<u8> = (0..1_500_000_u32).map(|i| (i * 7 % 251) as u8).collect();
    for (asked, most) in [(0, 64 << 10), (1 << 20, 1 << 20), (i32::MAX, 1 << 20)] {
        let request = v1::ReadOutputRequest { max_bytes: asked, ..at(&task, Stdout, 1) };
        let data = read(&server, request).await.data;
        // An answer may end with the piece of output that makes it full, or nearly so.
        assert!(data.len() <= most && data.len() > most - (32 << 10), "{asked}: {}", data.len());
        assert!(data == whole[1..=data.len()], "the bytes of {asked}");
    }
    let request = v1::ReadOutputRequest { max_bytes: 70_001, ..at(&task, Combined, 0) };
    let (pieces, last) = followed(&server, request).await;
    assert_eq!((last.total_bytes, last.dropped_bytes), (1_500_000, 0));
    assert!(pieces.iter().flat_map(|(_, data)| data).eq(&whole), "all bytes, in order");
}

#[tokio::test]
async fn a_read_waits_for_more_and_eof_comes_with_the_end_only() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let (go, end) = (Gate::new(&server, "go"), Gate::new(&server, "end"));
    let command = format!("echo one; {}; echo two; {}", go.command(), end.command());
    let task = task(&server, &session_id, &command).await;
    let wait = v1::ReadOutputRequest { wait: millis(30_000), ..at(&task, Stdout, 0) };
    let answer = read(&server, wait.clone()).await;
    assert_eq!((answer.data.as_ref(), answer.eof), (&b"one\n"[..], false));
    let now = read(&server, at(&task, Stdout, 4)).await;
    assert!(now.data.is_empty() && !now.eof && now.next_offset == 4, "{now:?}");
    let next = v1::ReadOutputRequest { position: Some(Position::Offset(4)), ..wait.clone() };
    let open = async {
        // Long enough for the read to have begun.
        tokio::time::sleep(Duration::from_millis(200)).await;
        go.open();
    };
    let (answer, ()) = tokio::join!(read(&server, next), open);
    assert_eq!((answer.data.as_ref(), answer.eof), (&b"two\n"[..], false));
    let short = v1::ReadOutputRequest { wait: millis(300), ..at(&task, Stdout, 8) };
    let began = Instant::now();
    let answer = read(&server, short).await;
    assert!(answer.data.is_empty() && !answer.eof, "{answer:?}");
    assert!(began.elapsed() >= Duration::from_millis(290), "it waited");
    end.open();
    let last = v1::ReadOutputRequest { position: Some(Position::Offset(8)), ..wait };
    let answer = read(&server, last).await;
    assert!(answer.data.is_empty() && answer.eof && answer.total_bytes == 8, "{answer:?}");
}

#[tokio::test]
async fn a_read_leaves_the_dropped_middle_out_and_counts_it() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let mut start = start_of(&session_id, "printf '0123456789abcdefghij'");
    let Some(v1::start_request::Work::ToolCall(call)) = &mut start.work else { panic!() };
    call.max_output_bytes = Some(10);
    let task = started(&server, start).await;
    let task = ended(&server, &task.background_id).await;
    let summary = task.output.and_then(|output| output.stdout).expect("a summary");
    assert_eq!((summary.total_bytes, summary.kept_bytes, summary.dropped_bytes), (20, 10, 10));
    assert_eq!(summary.cut_offset, Some(5));
    for offset in 0..=20_usize {
        let answer = read(&server, at(&task, Stdout, offset as i64)).await;
        let (from, text) = match offset {
            0..5 => (offset, &"01234"[offset..]),
            5..15 => (15, "fghij"),
            _ => (offset, &"fghij"[offset - 15..]),
        };
        assert_eq!((answer.offset, &answer.data[..]), (from as i64, text.as_bytes()), "{offset}");
        assert_eq!((answer.total_bytes, answer.dropped_bytes), (20, 10));
        assert_eq!(answer.eof, offset >= 5, "{offset}");
    }
    let (pieces, _) = followed(&server, at(&task, Stdout, 0)).await;
    assert_eq!(pieces, [(0, Bytes::from("01234")), (15, Bytes::from("fghij"))]);
}

#[tokio::test]
async fn a_stream_whose_end_was_dropped_has_an_end_all_the_same() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let commands = [
        ("printf 0123456789", 1, "0"),
        ("printf 0123456789", 0, ""),
        ("printf 0123456789; sleep 0.2; printf abcdefghijklmnop >&2", 8, "0123"),
    ];
    for (command, max, kept) in commands {
        let mut start = start_of(&session_id, command);
        let Some(v1::start_request::Work::ToolCall(call)) = &mut start.work else { panic!() };
        call.max_output_bytes = Some(max);
        let task = started(&server, start).await;
        ended(&server, &task.background_id).await;
        for from in [0, 5] {
            let (pieces, last) = followed(&server, at(&task, Stdout, from)).await;
            let data: Vec<u8> = pieces.into_iter().flat_map(|(_, data)| data).collect();
            let kept = if from == 0 { kept } else { "" };
            assert_eq!(data, kept.as_bytes(), "{command} of {max} from {from}");
            assert_eq!((last.total_bytes, last.dropped_bytes > 0), (10, true));
        }
    }
}

#[tokio::test]
async fn reading_changes_nothing_and_bad_reads_are_refused_whole() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    run(&server, &session_id, "true").await;
    let task = task(&server, &session_id, "echo one").await;
    let before = ended(&server, &task.background_id).await;
    for _ in 0..3 {
        assert_eq!(read(&server, at(&task, Stdout, 0)).await.data, "one\n");
    }
    assert_eq!(task_now(&server, &task.background_id).await, before);
    let bad = v1::ReadOutputRequest {
        background_id: "bg-1".into(),
        stream: 9,
        position: Some(Position::Offset(-1)),
        max_bytes: -1,
        wait: None,
    };
    let status = server.tasks.clone().read_output(bad).await.expect_err("refused");
    check_reason(&status, Code::InvalidArgument, "INVALID_FIELD");
    let mut fields = bad_fields(&status);
    fields.sort();
    assert_eq!(fields, ["background_id", "max_bytes", "offset", "stream"]);
}
