//! The newest output of a task that still runs: the last 100 lines of each stream, 64 KiB in total.

use callpark_proto::v1::content::Kind;

use crate::in_process::count;
use crate::support::waiting::{Gate, call, cancel, cancel_of, park};
use crate::support::{TestServer, bash, millis, soon, v1};

const BYTES_MAX: usize = 64 << 10;

async fn wait(server: &TestServer, id: &str) -> v1::WaitResponse {
    let wait = millis(100);
    let request = v1::WaitRequest { background_id: id.into(), wait, acknowledge: false };
    let answer = soon("a wait", server.tasks.clone().wait(request)).await;
    let answer = answer.expect("an answer").into_inner();
    assert!(answer.still_running, "{answer:?}");
    answer
}

/// The tail once the server has read so many bytes of output.
async fn tail(server: &TestServer, id: &str, bytes: i64) -> v1::OutputTail {
    let read = async {
        loop {
            let answer = wait(server, id).await;
            let output = answer.task.expect("a task").output.expect("output");
            if output.combined.is_some_and(|combined| combined.total_bytes == bytes) {
                // The tail is read before the counts.
                return wait(server, id).await.output_tail.expect("a tail");
            }
        }
    };
    soon("output", read).await
}

fn text(part: &v1::Content) -> &str {
    match &part.kind {
        Some(Kind::Text(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// The bytes that a tail shows.
fn shown(tail: &v1::OutputTail) -> usize {
    tail.content.iter().map(|part| text(part).len()).sum()
}

fn lines(numbers: std::ops::RangeInclusive<u32>) -> String {
    numbers.map(|number| format!("{number:04}\n")).collect()
}

#[tokio::test]
async fn each_stream_shows_its_last_hundred_lines() {
    let server = TestServer::start().await;
    let gate = Gate::new(server.folder(), "gate");
    let command = format!("seq -f %04.0f 1 200; seq -f %04.0f 501 700 >&2; {}", gate.wait());
    let id = park(&server, bash(&command)).await;
    let tail = tail(&server, &id, 2_000).await;
    let [stdout, stderr] = &tail.content[..] else { panic!("{tail:?}") };
    assert_eq!((stdout.stream(), stdout.offset), (v1::OutputStream::Stdout, 500));
    assert_eq!((stderr.stream(), stderr.offset), (v1::OutputStream::Stderr, 500));
    assert_eq!((text(stdout), text(stderr)), (&*lines(101..=200), &*lines(601..=700)));
    assert_eq!(tail.dropped_bytes, 1_000);
}

#[tokio::test]
async fn fewer_lines_are_all_shown() {
    let server = TestServer::start().await;
    let gate = Gate::new(server.folder(), "gate");
    let id = park(&server, bash(&format!("seq -f %04.0f 1 100; {}", gate.wait()))).await;
    let tail = tail(&server, &id, 500).await;
    assert_eq!((text(&tail.content[0]), tail.dropped_bytes), (&*lines(1..=100), 0));
}

#[tokio::test]
async fn long_lines_show_their_last_64_kib_in_total() {
    let server = TestServer::start().await;
    let gate = Gate::new(server.folder(), "gate");
    // Three lines of 100 KB, two on one stream and the last on the other, which ends without a break.
    let line = |letter: char| format!("head -c 99999 /dev/zero | tr '\\0' {letter}; echo");
    let command = format!(
        "{}; {}; sleep 0.5; printf %s \"$(head -c 40000 /dev/zero | tr '\\0' c)\" >&2; {}",
        line('a'),
        line('b'),
        gate.wait()
    );
    let id = park(&server, bash(&command)).await;
    let tail = tail(&server, &id, 240_000).await;
    assert_eq!(shown(&tail), BYTES_MAX, "of {} parts", tail.content.len());
    assert_eq!(tail.dropped_bytes, 240_000 - BYTES_MAX as i64);
    let [stdout, stderr] = &tail.content[..] else { panic!("{} parts", tail.content.len()) };
    let rest = BYTES_MAX - 40_000;
    assert_eq!(text(stdout), format!("{}\n", "b".repeat(rest - 1)));
    assert_eq!(text(stderr), "c".repeat(40_000));
    assert_eq!(stdout.offset, 200_000 - rest as i64);
}

#[tokio::test]
async fn without_output_the_tail_is_empty_and_without_streams_there_is_none() {
    let server = TestServer::with_tools(vec![count()]).await;
    let gate = Gate::new(server.folder(), "gate");
    let id = park(&server, bash(&gate.wait())).await;
    let tail = wait(&server, &id).await.output_tail;
    assert_eq!(tail, Some(v1::OutputTail::default()));
    let id = park(&server, call("count", serde_json::json!({ "then": "wait" }))).await;
    assert_eq!(wait(&server, &id).await.output_tail, None);
    cancel(&server, cancel_of(&id)).await;
}

#[tokio::test]
async fn a_line_is_shown_as_a_terminal_shows_it_at_its_end() {
    let server = TestServer::start().await;
    let gate = Gate::new(server.folder(), "gate");
    let written = r"begin\n10 %%\r 50 %%\r100 %%\n\033[32mok\033[0m\n";
    let command = format!("printf '{written}'; {}", gate.wait());
    let id = park(&server, bash(&command)).await;
    let tail = tail(&server, &id, 6 + 17 + 12).await;
    let [part] = &tail.content[..] else { panic!("{tail:?}") };
    assert_eq!((text(part), tail.dropped_bytes), ("begin\n100 %\nok\n", 0));
    cancel(&server, cancel_of(&id)).await;
}
