//! Tests of processes that end by themselves, and of the rest of their group.

use super::*;
use crate::exec::unix::mark::{MARK, SERVER_PROCESS, read_mark};
use crate::exec::unix::status::ProcessStatus;

#[tokio::test]
async fn codes_and_signals_are_reported() {
    for code in [0, 1, 42, 255] {
        let observed = run(bash(&format!("exit {code}"))).await;
        let expected = ExitReport {
            exit: Exit::Code(code),
            stopped: false,
            survivors: vec![],
            left: None,
            output_incomplete: false,
        };
        assert_eq!(observed.report, expected);
    }
    for signal in [9, 11, 15] {
        let observed = run(bash(&format!("kill -{signal} $$"))).await;
        assert_eq!(observed.report.exit, Exit::Signal(signal));
        assert!(!observed.report.stopped);
    }
}

#[tokio::test]
async fn after_the_end_nothing_comes() {
    let mut process = start(spec(&["true"]));
    follow(process.as_mut()).await;
    let more = tokio::time::timeout(Duration::from_millis(20), process.next()).await;
    assert!(more.is_err());
}

#[tokio::test]
async fn a_process_without_open_pipes_is_still_waited_for() {
    let observed = run(bash("exec >&- 2>&-; sleep 0.2; exit 3")).await;
    assert_eq!(observed.report.exit, Exit::Code(3));
}

#[tokio::test]
async fn a_grandchild_that_holds_the_pipe_delays_the_end_by_the_drain_only() {
    let executor = executor_with(Duration::from_millis(300));
    let mut process = executor.start(CallId::random(), bash("sleep 60 & echo $!; exit 5")).unwrap();
    let begin = Instant::now();
    let grandchild = pid_line(process.as_mut()).await;
    let observed = follow(process.as_mut()).await;
    let took = begin.elapsed();
    assert_eq!(observed.report.exit, Exit::Code(5));
    assert!(observed.report.output_incomplete && !observed.report.stopped);
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(5), "{took:?}");
    wait_until_gone(grandchild).await;
}

#[tokio::test]
async fn output_of_a_grandchild_during_the_drain_is_returned() {
    let observed = run(bash("(sleep 0.2; echo late) & exit 0")).await;
    assert_eq!(observed.stdout(), "late\n");
    assert!(!observed.report.output_incomplete);
}

#[tokio::test]
async fn a_grandchild_that_never_stops_writing_does_not_delay_the_end() {
    let executor = executor_with(Duration::from_millis(200));
    let mut process = executor.start(CallId::random(), bash("yes & exit 0")).unwrap();
    let begin = Instant::now();
    let observed = follow(process.as_mut()).await;
    assert!(observed.report.output_incomplete && observed.report.survivors.is_empty());
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_background_child_does_not_outlive_its_call() {
    let mut process = start(bash("sleep 60 > /dev/null 2>&1 & echo $!"));
    let child = pid_line(process.as_mut()).await;
    let observed = follow(process.as_mut()).await;
    assert!(!observed.report.output_incomplete);
    wait_until_gone(child).await;
}

#[tokio::test]
async fn a_descendant_that_left_the_group_and_holds_the_pipe_is_killed_after_the_drain() {
    let executor = executor_with(Duration::from_millis(200));
    let script = "setsid bash -c 'echo $$; exec sleep 60' & exit 0";
    let mut process = executor.start(CallId::random(), bash(script)).unwrap();
    let descendant = pid_line(process.as_mut()).await;
    let observed = follow(process.as_mut()).await;
    assert!(observed.report.survivors.is_empty());
    wait_until_gone(descendant).await;
}

/// A child that is no member of the group and holds no output; the script says its id.
const AWAY: &str = "setsid -f bash -c 'echo $$ >&3; exec sleep 60 3>&-' 3>&1 > /dev/null 2>&1";

#[tokio::test]
async fn a_descendant_that_left_the_group_and_holds_nothing_goes_soon_after_its_call() {
    let executor = executor();
    let mut other = executor.start(CallId::random(), bash(&format!("{AWAY}; sleep 60"))).unwrap();
    let mut process = executor.start(CallId::random(), bash(AWAY)).unwrap();
    let (descendant, of_other) = (pid_line(process.as_mut()).await, pid_line(other.as_mut()).await);
    let observed = follow(process.as_mut()).await;
    assert!(!observed.report.stopped && !observed.report.output_incomplete);
    wait_until_gone(descendant).await;
    assert!(is_alive(of_other), "its call runs");
    other.stop(Stop::Kill);
    follow(other.as_mut()).await;
}

#[tokio::test]
async fn an_executor_that_goes_leaves_nothing_of_calls_that_have_ended_or_were_dropped() {
    let executor = executor();
    let mut ended = executor.start(CallId::random(), bash(AWAY)).unwrap();
    let mut dropped = executor.start(CallId::random(), bash(&format!("{AWAY}; sleep 60"))).unwrap();
    let pids = [pid_line(ended.as_mut()).await, pid_line(dropped.as_mut()).await];
    follow(ended.as_mut()).await;
    drop(dropped);
    within(executor.reaped()).await;
    assert!(!pids.into_iter().any(is_alive), "{pids:?}");
}

#[tokio::test]
async fn dropping_a_process_kills_its_group_and_reaps_it() {
    let executor = executor();
    let mut process =
        executor.start(CallId::random(), bash("sleep 60 & echo $!; trap '' TERM; wait")).unwrap();
    let (leader, child) = (process.pid(), pid_line(process.as_mut()).await);
    drop(process);
    within(executor.reaped()).await;
    assert!(!fs::exists(format!("/proc/{leader}")).unwrap(), "the leader is a zombie");
    wait_until_gone(child).await;
}

#[tokio::test]
async fn dropping_a_process_that_has_exited_reaps_it() {
    let executor = executor();
    let process = executor.start(CallId::random(), spec(&["true"])).unwrap();
    let pid = process.pid();
    wait_until_gone(pid).await;
    drop(process);
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap());
    within(executor.reaped()).await;
}

#[tokio::test]
async fn leftovers_of_a_dead_server_are_killed() {
    let executor = executor();
    let (dead, alive) = (CallId::random(), CallId::random());
    let mut left =
        executor.start(dead, bash("setsid -f bash -c 'echo $$; exec sleep 60'")).unwrap();
    let mut other = executor.start(alive, bash("echo $$; exec sleep 60")).unwrap();
    let mut stubborn =
        executor.start(dead, bash("trap '' TERM; echo $$; while :; do sleep 1; done")).unwrap();
    let left_pid = pid_line(left.as_mut()).await;
    let stubborn_pid = pid_line(stubborn.as_mut()).await;
    let other_pid = pid_line(other.as_mut()).await;
    let sweeper = executor.clone();
    let survivors = tokio::task::spawn_blocking(move || sweeper.kill_leftovers(&[dead]));
    assert_eq!(within(survivors).await.unwrap(), []);
    wait_until_gone(left_pid).await;
    wait_until_gone(stubborn_pid).await;
    assert!(is_alive(other_pid));
    assert_eq!(executor.kill_leftovers(&[]), []);
}

#[tokio::test]
async fn processes_of_another_server_that_is_alive_are_spared() {
    let sleep = || {
        let mut command = std::process::Command::new("sleep");
        command.arg("60");
        command
    };
    let mut server = sleep().spawn().unwrap();
    let status = ProcessStatus::read(pid_of(&server)).unwrap();
    let identity = format!("{}.{}", server.id(), status.start_ticks);
    let call_id = CallId::random();
    let mut process =
        sleep().env(MARK, call_id.to_string()).env(SERVER_PROCESS, identity).spawn().unwrap();
    let executor = executor();
    assert_eq!(executor.kill_leftovers(&[call_id]), []);
    assert_eq!(process.try_wait().unwrap(), None, "its server runs");
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(executor.kill_leftovers(&[call_id]), []);
    assert_eq!(process.wait().unwrap().code(), None, "a signal ended it");
}

#[test]
fn a_process_that_is_being_executed_has_its_mark() {
    let mut environment = Vec::new();
    for _ in 0..100 {
        let call_id = CallId::random();
        let mut command = std::process::Command::new("sleep");
        let mut process = command.arg("60").env(MARK, call_id.to_string()).spawn().unwrap();
        assert_eq!(read_mark(pid_of(&process), &mut environment), Some(call_id));
        process.kill().unwrap();
        process.wait().unwrap();
    }
}

fn pid_of(child: &std::process::Child) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()
}
