//! Being asked to stop: TERM, grace, KILL.

use super::*;

#[tokio::test]
async fn term_stops_the_process() {
    let mut process =
        start(bash("trap 'echo bye; exit 9' TERM; echo up; while :; do sleep 0.01; done"));
    assert_eq!(line(process.as_mut()).await, "up");
    process.stop(Stop::Graceful(BOUND));
    let observed = follow(process.as_mut()).await;
    assert_eq!(observed.stdout(), "bye\n");
    assert_eq!(observed.report.exit, Exit::Code(9));
    assert!(observed.report.stopped && !observed.report.output_incomplete);
}

#[tokio::test]
async fn term_reaches_the_whole_group() {
    let mut process = start(bash("sleep 60 & echo $!; wait"));
    let child = pid_line(process.as_mut()).await;
    process.stop(Stop::Graceful(BOUND));
    assert_eq!(follow(process.as_mut()).await.report.exit, Exit::Signal(15));
    wait_until_gone(child).await;
}

#[tokio::test]
async fn a_process_that_ignores_term_is_killed_after_the_grace() {
    let mut process = start(bash("trap '' TERM; sleep 60 & echo $!; while :; do sleep 60; done"));
    let child = pid_line(process.as_mut()).await;
    let begin = Instant::now();
    process.stop(Stop::Graceful(Duration::from_millis(200)));
    let observed = follow(process.as_mut()).await;
    assert_eq!(observed.report.exit, Exit::Signal(9));
    assert!(observed.report.stopped);
    assert!(begin.elapsed() >= Duration::from_millis(200));
    wait_until_gone(child).await;
}

#[tokio::test]
async fn a_kill_does_not_wait() {
    let mut process = start(bash("trap '' TERM; echo up; while :; do sleep 60; done"));
    line(process.as_mut()).await;
    process.stop(Stop::Kill);
    let observed = follow(process.as_mut()).await;
    assert_eq!(observed.report.exit, Exit::Signal(9));
    assert!(observed.report.stopped && !observed.report.output_incomplete);
}

#[tokio::test]
async fn asking_again_shortens_the_grace_and_never_lengthens_it() {
    let mut process = start(bash("trap '' TERM; echo up; while :; do sleep 60; done"));
    line(process.as_mut()).await;
    process.stop(Stop::Graceful(Duration::MAX));
    process.stop(Stop::Graceful(Duration::from_millis(50)));
    process.stop(Stop::Graceful(BOUND * 2));
    assert_eq!(follow(process.as_mut()).await.report.exit, Exit::Signal(9));
}

#[tokio::test]
async fn a_flood_does_not_delay_the_kill() {
    let mut process = start(bash("trap '' TERM; yes"));
    within(process.next()).await;
    process.stop(Stop::Graceful(Duration::from_millis(100)));
    let begin = Instant::now();
    let observed = follow(process.as_mut()).await;
    assert!(observed.report.stopped);
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_process_that_has_ended_was_not_stopped() {
    let mut process = start(bash("echo done; exit 4"));
    wait_until_gone(process.pid()).await;
    process.stop(Stop::Kill);
    let observed = follow(process.as_mut()).await;
    assert_eq!(observed.stdout(), "done\n");
    assert_eq!(observed.report.exit, Exit::Code(4));
    assert!(!observed.report.stopped);
}

#[tokio::test]
async fn output_from_before_the_kill_is_returned() {
    let mut process = start(bash("head -c 60000 /dev/zero; echo up >&2; exec sleep 60"));
    let mut total = 0;
    loop {
        match within(process.next()).await {
            ProcessEvent::Output { stream: OutputStream::Stdout, data } => total += data.len(),
            ProcessEvent::Output { .. } => break,
            ProcessEvent::Exited(report) => panic!("{report:?}"),
        }
    }
    process.stop(Stop::Kill);
    total += follow(process.as_mut()).await.stdout.len();
    assert_eq!(total, 60_000);
}

#[tokio::test]
async fn a_descendant_that_left_the_group_is_killed_too() {
    for stop in [Stop::Kill, Stop::Graceful(Duration::from_millis(200))] {
        for redirect in ["", "> /dev/null 2>&1"] {
            let script = format!(
                "setsid bash -c 'trap \"\" TERM; echo $$ >&3; while :; do sleep 60; done' 3>&1 \
                 {redirect} & exec sleep 60"
            );
            let mut process = start(bash(&script));
            let descendant = pid_line(process.as_mut()).await;
            process.stop(stop);
            let observed = follow(process.as_mut()).await;
            assert!(observed.report.stopped && observed.report.survivors.is_empty());
            wait_until_gone(descendant).await;
        }
    }
}

#[tokio::test]
async fn many_stops_at_once_share_the_search() {
    let executor = executor();
    let script = "setsid sleep 60 & echo $!; exec sleep 60";
    let mut processes: Vec<_> =
        (0..20).map(|_| executor.start(CallId::random(), bash(script)).unwrap()).collect();
    for process in &mut processes {
        pid_line(process.as_mut()).await;
        process.stop(Stop::Kill);
    }
    for process in &mut processes {
        let observed = follow(process.as_mut()).await;
        assert!(observed.report.stopped && observed.report.survivors.is_empty());
    }
}

#[tokio::test]
async fn a_stop_during_the_drain_ends_it() {
    let mut process = executor_with(BOUND * 2)
        .start(CallId::random(), bash("sleep 60 & echo $!; exit 6"))
        .unwrap();
    let child = pid_line(process.as_mut()).await;
    wait_until_gone(process.pid()).await;
    process.stop(Stop::Kill);
    let observed = follow(process.as_mut()).await;
    assert_eq!(observed.report.exit, Exit::Code(6));
    assert!(!observed.report.stopped);
    wait_until_gone(child).await;
}
