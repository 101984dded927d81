//! Processes: how they are stopped, and that nothing of them is left.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::support::waiting::{
    Gate, call, cancel, cancel_of, ended, is_alive, lines_of, outcome_of, park, pids, run, span_of,
    task, time,
};
use crate::support::{TestServer, bash, millis, result_of, soon, stdout_of, v1};

use v1::tool_result::Exit;

/// Waits until a task has written these bytes to stdout.
async fn until_written(server: &TestServer, id: &str, bytes: &[u8]) {
    let mut written = Vec::new();
    while written.len() < bytes.len() {
        let offset = written.len() as i64;
        let part = read_from(server, id, offset).await;
        assert!(!part.eof, "ended after {:?}", String::from_utf8_lossy(&written));
        written.extend_from_slice(&part.data);
    }
    assert!(written.starts_with(bytes), "{:?}", String::from_utf8_lossy(&written));
}

async fn read_from(server: &TestServer, id: &str, offset: i64) -> v1::ReadOutputResponse {
    let request = v1::ReadOutputRequest {
        background_id: id.into(),
        stream: v1::OutputStream::Stdout.into(),
        position: Some(v1::read_output_request::Position::Offset(offset)),
        max_bytes: 1 << 20,
        wait: millis(25_000),
    };
    let answer = soon("output", server.tasks.clone().read_output(request)).await;
    answer.expect("an answer").into_inner()
}

/// The task that a cancel has ended.
#[track_caller]
fn cancelled(answer: v1::CancelResponse) -> v1::Task {
    assert!(!answer.still_running, "{answer:?}");
    assert_eq!(answer.survivors, []);
    let task = answer.task.expect("a task");
    assert_eq!(task.state(), v1::State::Cancelled);
    task
}

#[tokio::test]
async fn a_process_that_honours_term_ends_in_its_own_way() {
    let server = TestServer::start().await;
    let id = park(&server, bash("trap 'echo bye; exit 7' TERM; echo up; sleep 300 & wait")).await;
    until_written(&server, &id, b"up\n").await;
    // Longer than the timeout of this test: KILL would come too late for it.
    let request =
        v1::CancelRequest { grace: millis(60_000), reason: "enough".into(), ..cancel_of(&id) };
    let task = cancelled(cancel(&server, request).await);
    let result = outcome_of(&task);
    assert_eq!(stdout_of(result), b"up\nbye\n");
    assert_eq!((result.exit, result.is_error), (Some(Exit::ExitCode(7)), true));
    assert_eq!(task.reason, "enough");
    let cancellation = task.cancellation.as_ref().expect("a cancellation");
    assert_eq!(cancellation.reason, "enough");
    assert!(!cancellation.requested_by.is_empty());
    assert!(time(&cancellation.request_time) <= time(&cancellation.acknowledged_time));
}

#[tokio::test]
async fn what_python_prints_is_seen_at_once_and_kept() {
    let server = TestServer::start().await;
    let code = "print('step 1')\nimport time\ntime.sleep(300)";
    let shell = format!("python3 -c \"{}\"", code.replace('\n', "; "));
    for request in [call("python", json!({ "code": code })), bash(&shell)] {
        let id = park(&server, request).await;
        until_written(&server, &id, b"step 1\n").await;
        let task = cancelled(cancel(&server, cancel_of(&id)).await);
        assert_eq!(stdout_of(outcome_of(&task)), b"step 1\n");
    }
}

#[tokio::test]
async fn a_process_that_ignores_term_is_killed_after_the_grace() {
    let server = TestServer::start().await;
    let id = park(&server, bash("trap '' TERM; echo up; sleep 300 & wait")).await;
    until_written(&server, &id, b"up\n").await;
    let request = v1::CancelRequest { grace: millis(300), ..cancel_of(&id) };
    let task = cancelled(cancel(&server, request).await);
    assert_eq!(outcome_of(&task).exit, Some(Exit::Signal(9)));
    assert_eq!(stdout_of(outcome_of(&task)), b"up\n");
    let asked = time(&task.cancellation.as_ref().expect("a cancellation").request_time);
    let took = time(&task.end_time) - asked;
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(4), "{took:?}");
}

const SAYS_BYE: &str = "trap 'echo bye; exit 7' TERM; echo up; sleep 300 & wait";

#[tokio::test]
async fn force_kills_at_once() {
    let server = TestServer::start().await;
    let id = park(&server, bash(SAYS_BYE)).await;
    until_written(&server, &id, b"up\n").await;
    let request = v1::CancelRequest { force: true, grace: millis(60_000), ..cancel_of(&id) };
    let task = cancelled(cancel(&server, request).await);
    assert_eq!(outcome_of(&task).exit, Some(Exit::Signal(9)));
    assert_eq!(stdout_of(outcome_of(&task)), b"up\n");
}

#[tokio::test]
async fn force_cuts_a_grace_short() {
    let server = TestServer::start().await;
    let id = park(&server, bash("trap '' TERM; echo up; sleep 300 & wait")).await;
    until_written(&server, &id, b"up\n").await;
    let gently = v1::CancelRequest { grace: millis(60_000), wait: millis(0), ..cancel_of(&id) };
    let answer = cancel(&server, gently).await;
    assert!(answer.still_running);
    assert_eq!(answer.task.expect("a task").state(), v1::State::Cancelling);
    let task =
        cancelled(cancel(&server, v1::CancelRequest { force: true, ..cancel_of(&id) }).await);
    assert_eq!(outcome_of(&task).exit, Some(Exit::Signal(9)));
}

#[tokio::test]
async fn a_cancel_after_the_end_returns_the_real_result() {
    let server = TestServer::start().await;
    let id = park(&server, bash("echo done")).await;
    let before = ended(&server, &id).await;
    let answer = cancel(&server, cancel_of(&id)).await;
    assert!(!answer.still_running && !answer.dry_run);
    assert_eq!(answer.task, Some(before));
}

#[tokio::test]
async fn a_dry_run_of_a_cancel_leaves_the_task_alone() {
    let server = TestServer::start().await;
    let mut gate = Gate::new(server.folder(), "gate");
    let id = park(&server, bash(&gate.wait())).await;
    let answer = cancel(&server, v1::CancelRequest { dry_run: true, ..cancel_of(&id) }).await;
    assert!(answer.dry_run);
    assert!(answer.task.expect("a task").reason.contains("[dry-run]"));
    let alive = task(&server, &id).await;
    assert_eq!((alive.state(), alive.cancellation), (v1::State::Running, None));
    gate.open();
    assert_eq!(ended(&server, &id).await.state(), v1::State::Succeeded);
}

/// A shell's commands that start a child in the background, one that has left the group and the
/// session, and one below that, and write down all ids.
fn family(file: &Path) -> String {
    let file = file.display();
    format!(
        "echo $$ >> {file}; sleep 300 & echo $! >> {file}; \
         setsid bash -c 'echo $$ >> {file}; sleep 300 & echo $! >> {file}; wait' & \
         (setsid setsid bash -c 'trap \"\" TERM HUP; echo $$ >> {file}; sleep 300; true' &)"
    )
}

const FAMILY_SIZE: usize = 5;

async fn check_family_ends(force: bool) {
    let server = TestServer::start().await;
    let file = server.folder().join("family");
    let id = park(&server, bash(&format!("{}; wait", family(&file)))).await;
    let family = pids(&lines_of(&file, FAMILY_SIZE).await);
    assert!(family.iter().all(|pid| is_alive(*pid)), "{family:?}");
    let request = v1::CancelRequest { grace: millis(300), force, ..cancel_of(&id) };
    cancelled(cancel(&server, request).await);
    let left: Vec<&u32> = family.iter().filter(|pid| is_alive(**pid)).collect();
    assert!(left.is_empty(), "{left:?} of {family:?}");
}

#[tokio::test]
async fn a_cancel_ends_children_and_grandchildren_that_have_left_the_session() {
    check_family_ends(false).await;
}

#[tokio::test]
async fn a_forced_cancel_ends_them_too() {
    check_family_ends(true).await;
}

#[tokio::test]
async fn a_hard_limit_ends_them_too() {
    let server = TestServer::with(&[("grace", "200ms")]).await;
    let file = server.folder().join("family");
    let request = v1::RunToolRequest {
        // Long enough for all of them to come up on a busy machine.
        execution_timeout: millis(4000),
        ..bash(&format!("{}; wait", family(&file)))
    };
    let id = park(&server, request).await;
    let family = pids(&lines_of(&file, FAMILY_SIZE).await);
    assert_eq!(ended(&server, &id).await.state(), v1::State::TimedOut);
    assert!(!family.iter().any(|pid| is_alive(*pid)), "{family:?}");
}

#[tokio::test]
async fn a_grandchild_that_holds_stdout_does_not_hold_the_call() {
    let server = TestServer::with(&[("output-drain", "400ms")]).await;
    let file = server.folder().join("pids");
    let [inside, outside] = ["", "setsid "].map(|away| {
        let file = file.display();
        bash(&format!(
            "{away}bash -c 'echo $$ >> {file}; sleep 300; echo late' & \
             until [ -s {file} ]; do sleep 0.02; done; echo so far; exit 0"
        ))
    });
    for request in [inside, outside] {
        let answer = run(&server, request).await;
        let result = result_of(&answer);
        assert_eq!((stdout_of(result), result.is_error), (b"so far\n".to_vec(), false));
        assert_eq!(result.exit, Some(Exit::ExitCode(0)));
        let took = time(&result.end_time) - time(&result.start_time);
        assert!(took >= Duration::from_millis(400) && took < Duration::from_secs(10), "{took:?}");
        let grandchild = pids(&lines_of(&file, 1).await)[0];
        assert!(!is_alive(grandchild));
        std::fs::remove_file(&file).expect("removed");
    }
}

#[tokio::test]
async fn output_of_a_grandchild_within_the_drain_is_not_lost() {
    let server = TestServer::with(&[("output-drain", "20s")]).await;
    let answer = run(&server, bash("(sleep 0.3; echo late) & echo early; exit 5")).await;
    let result = result_of(&answer);
    assert_eq!(stdout_of(result), b"early\nlate\n");
    assert_eq!(result.exit, Some(Exit::ExitCode(5)));
}

#[tokio::test]
async fn endless_output_is_cancelled_with_exact_counts() {
    const KEPT: i64 = 256 * 1024;
    let server = TestServer::start().await;
    let file = server.folder().join("more than is kept");
    let command = format!("yes | head -c 1000000; echo written > '{}'; exec yes", file.display());
    let request = v1::RunToolRequest { max_output_bytes: Some(KEPT), ..bash(&command) };
    let id = park(&server, request).await;
    let head = vec![b'y'; (KEPT / 2) as usize];
    let head: Vec<u8> = head
        .iter()
        .zip((0..).map(|n| n % 2))
        .map(|(y, n)| if n == 0 { *y } else { b'\n' })
        .collect();
    until_written(&server, &id, &head).await;
    lines_of(&file, 1).await;
    let task = cancelled(cancel(&server, cancel_of(&id)).await);
    let output = outcome_of(&task).output.as_ref().expect("a summary");
    let stdout = output.stdout.expect("a summary");
    assert_eq!(output.combined, Some(stdout));
    assert_eq!(stdout.total_bytes, stdout.kept_bytes + stdout.dropped_bytes);
    assert_eq!((stdout.kept_bytes, stdout.cut_offset), (KEPT, Some(KEPT / 2)));
    assert!(stdout.dropped_bytes > 0);
    let tail = read_from(&server, &id, KEPT / 2).await;
    assert_eq!(tail.offset, stdout.dropped_bytes + KEPT / 2);
    assert_eq!((tail.next_offset, tail.eof), (stdout.total_bytes, true));
    assert_eq!((tail.total_bytes, tail.dropped_bytes), (stdout.total_bytes, stdout.dropped_bytes));
    let right = |(at, byte): (i64, &u8)| *byte == if at % 2 == 0 { b'y' } else { b'\n' };
    assert!((tail.offset..).zip(&tail.data).all(right));
}

/// The process is a child of this one that has ended and wasn't waited for.
fn is_zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((_, rest)) = stat.rsplit_once(')') else { return false };
    let fields: Vec<&str> = rest.split_whitespace().take(2).collect();
    fields == ["Z", &std::process::id().to_string()]
}

#[tokio::test]
async fn no_process_that_has_ended_stays_a_zombie() {
    let server = TestServer::start().await;
    let file = server.folder().join("family");
    let mut ours = Vec::new();
    for n in 0..10 {
        for command in [format!("echo $$; exit {n}"), "echo $$; kill -9 $$".into()] {
            let answer = run(&server, bash(&command)).await;
            ours.push(String::from_utf8_lossy(&stdout_of(result_of(&answer))).into_owned());
        }
    }
    let id = park(&server, bash(&format!("{}; wait", family(&file)))).await;
    ours.extend(lines_of(&file, FAMILY_SIZE).await);
    cancelled(cancel(&server, v1::CancelRequest { force: true, ..cancel_of(&id) }).await);
    let ours = pids(&ours);
    let gone = async {
        while ours.iter().any(|pid| is_zombie(*pid)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(2), gone).await.expect("no zombie after 2 s");
}

#[tokio::test]
async fn a_call_can_be_cancelled_before_its_process_has_come_up() {
    let server = TestServer::start().await;
    for _ in 0..20 {
        let id = park(&server, bash("sleep 300")).await;
        let task = cancelled(cancel(&server, cancel_of(&id)).await);
        assert!(task.start_time.is_none() || span_of(&task.elapsed) < Duration::from_secs(30));
        assert_eq!(ended(&server, &id).await, task);
    }
}
