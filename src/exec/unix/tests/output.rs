//! Tests that all output of a process arrives, in pieces of a good size.

use super::*;

#[tokio::test]
async fn both_streams_arrive_byte_by_byte() {
    let observed = run(bash(r"printf 'a\0\377\xc3('; printf '\xfe\0' >&2")).await;
    assert_eq!(observed.stdout, b"a\0\xff\xc3(");
    assert_eq!(observed.stderr, b"\xfe\0");
}

#[tokio::test]
async fn a_hundred_megabytes_without_a_newline_come_in_bounded_pieces() {
    let mut process = start(spec(&["head", "-c", "100000000", "/dev/zero"]));
    let (mut total, mut pieces) = (0, 0);
    loop {
        match within(process.next()).await {
            ProcessEvent::Output { data, .. } => {
                assert!(data.len() <= CHUNK_BYTES);
                assert!(data.iter().all(|byte| *byte == 0));
                total += data.len();
                pieces += 1;
            }
            ProcessEvent::Exited(report) => {
                assert_eq!(report.exit, Exit::Code(0));
                break;
            }
        }
    }
    assert_eq!(total, 100_000_000);
    assert!(pieces <= 100_000_000 / CHUNK_BYTES * 2, "{pieces} pieces");
}

#[tokio::test]
async fn many_small_writes_become_few_pieces() {
    let observed = run(bash("for i in {1..2000}; do echo $i; done")).await;
    assert_eq!(observed.stdout.iter().filter(|byte| **byte == b'\n').count(), 2000);
    // 9 KB within a few times 50 ms; a busy machine may take longer, so the bound is generous.
    assert!(observed.pieces.len() <= 40, "{:?}", observed.pieces);
}

#[tokio::test]
async fn output_is_returned_while_the_process_runs() {
    let mut process = start(bash("echo first; read -r line < /dev/zero"));
    assert_eq!(line(process.as_mut()).await, "first");
    assert!(is_alive(process.pid()));
}

#[tokio::test]
async fn streams_keep_the_order_in_which_their_pieces_began() {
    let observed = run(bash("echo 1 >&2; sleep 0.4; echo 2; sleep 0.4; echo 3 >&2")).await;
    let streams: Vec<OutputStream> = observed.pieces.iter().map(|(stream, _)| *stream).collect();
    assert_eq!(streams, [OutputStream::Stderr, OutputStream::Stdout, OutputStream::Stderr]);
}

#[tokio::test]
async fn a_dropped_future_loses_nothing() {
    let script = "for i in {1..3000}; do echo line $i; echo err $i >&2; done; exit 7";
    let mut process = start(bash(script));
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let exit = within(async {
        loop {
            let event = tokio::select! {
                biased;
                event = process.next() => event,
                // Ready at the second poll of the select at the latest: most calls are dropped.
                () = tokio::task::yield_now() => continue,
            };
            match event {
                ProcessEvent::Output { stream: OutputStream::Stdout, data } => stdout.extend(data),
                ProcessEvent::Output { stream: OutputStream::Stderr, data } => stderr.extend(data),
                ProcessEvent::Exited(report) => break report.exit,
            }
        }
    })
    .await;
    let expected = |word: &str| (1..=3000).map(|i| format!("{word} {i}\n")).collect::<String>();
    assert_eq!(exit, Exit::Code(7));
    assert!(stdout == expected("line").into_bytes());
    assert!(stderr == expected("err").into_bytes());
}

#[tokio::test]
async fn a_slow_reader_gets_everything_also_after_the_drain() {
    let executor = executor_with(Duration::from_millis(1));
    let mut process = executor
        .start(CallId::random(), bash("head -c 200000 /dev/zero; head -c 60000 /dev/zero >&2"))
        .unwrap();
    let (mut total, mut incomplete) = (0, None);
    while incomplete.is_none() {
        // Slower than the drain: deadlines pass between two reads.
        tokio::time::sleep(Duration::from_millis(10)).await;
        match within(process.next()).await {
            ProcessEvent::Output { data, .. } => total += data.len(),
            ProcessEvent::Exited(report) => incomplete = Some(report.output_incomplete),
        }
    }
    assert_eq!((total, incomplete), (260_000, Some(false)));
}

#[tokio::test]
async fn a_reader_that_does_not_ask_blocks_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let written = directory.path().join("written");
    let script = bash("head -c 1000000 /dev/zero; touch written");
    let working_directory = Some(directory.path().to_owned());
    let mut process = start(ProcessSpec { working_directory, ..script });
    within(process.next()).await;
    // Time enough for a process that isn't blocked; one that is can't fail this.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!written.exists());
    follow(process.as_mut()).await;
    assert!(written.exists());
}

#[tokio::test]
async fn a_small_piece_holds_little_memory() {
    let mut process = start(spec(&["echo", "hi"]));
    let ProcessEvent::Output { data, .. } = within(process.next()).await else {
        panic!("no output");
    };
    let vec = Vec::from(data);
    assert!(vec.capacity() <= 8, "{}", vec.capacity());
}
