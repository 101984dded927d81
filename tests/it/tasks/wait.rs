//! Waiting for tasks: how long, for how many, and never a lost wake-up.

use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use tokio::time::Instant;
use tonic::{Code, Request, Status};
use v1::{State, WaitMode};

use crate::support::streams::{Gate, ended, new_session, task, task_now};
use crate::support::wire::bad_fields;
use crate::support::{TestServer, check_reason, millis, soon, v1};

fn wait_of(task: &v1::Task, wait: Option<prost_types::Duration>) -> v1::WaitRequest {
    v1::WaitRequest { background_id: task.background_id.clone(), wait, acknowledge: false }
}

async fn wait(server: &TestServer, request: v1::WaitRequest) -> v1::WaitResponse {
    let answer = soon("a wait", server.tasks.clone().wait(request)).await;
    answer.expect("an answer").into_inner()
}

fn many_of(tasks: &[&v1::Task], mode: WaitMode, wait: u64) -> v1::WaitManyRequest {
    v1::WaitManyRequest {
        background_ids: tasks.iter().map(|task| task.background_id.clone()).collect(),
        mode: mode.into(),
        wait: millis(wait),
        acknowledge: false,
    }
}

async fn wait_many(server: &TestServer, request: v1::WaitManyRequest) -> v1::WaitManyResponse {
    let answer = soon("a wait", server.tasks.clone().wait_many(request)).await;
    answer.expect("an answer").into_inner()
}

fn ids(tasks: &[v1::Task]) -> Vec<&str> {
    tasks.iter().map(|task| task.background_id.as_str()).collect()
}

fn spent(answer: &v1::WaitResponse) -> Duration {
    answer.waited.expect("a span").try_into().expect("a span")
}

#[tokio::test]
async fn zero_and_negative_waits_give_the_status_only() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let gate = Gate::new(&server, "zero");
    let task = task(&server, &session_id, &gate.command()).await;
    let negative = prost_types::Duration { seconds: -5, nanos: 0 };
    let least = prost_types::Duration { seconds: i64::MIN, nanos: i32::MIN };
    for span in [millis(0), Some(negative), Some(least)] {
        let answer = wait(&server, wait_of(&task, span)).await;
        assert!(answer.still_running && spent(&answer) < Duration::from_secs(5), "{answer:?}");
        let task = answer.task.expect("a task");
        assert_eq!((task.state(), task.outcome), (State::Running, None));
    }
    gate.open();
}

#[tokio::test]
async fn unset_and_huge_waits_last_until_the_end() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let gate = Gate::new(&server, "huge");
    let task = task(&server, &session_id, &gate.command()).await;
    let huge = prost_types::Duration { seconds: i64::MAX, nanos: 999_999_999 };
    let wrong = prost_types::Duration { seconds: 5, nanos: i32::MAX };
    let waits = [None, Some(huge), Some(wrong)].map(|span| wait(&server, wait_of(&task, span)));
    let open = async {
        // Long enough for the waits to have begun; they must not be over before it.
        tokio::time::sleep(Duration::from_millis(300)).await;
        gate.open();
    };
    let (answers, ()) = tokio::join!(join_all(waits), open);
    for answer in answers {
        assert!(!answer.still_running && answer.output_tail.is_none(), "{answer:?}");
        assert!(spent(&answer) >= Duration::from_millis(250), "{answer:?}");
        assert_eq!(answer.task.expect("a task").state(), State::Succeeded);
    }
}

#[tokio::test]
async fn a_wait_that_comes_too_early_shows_the_last_hundred_lines() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let gate = Gate::new(&server, "tail");
    let command = format!("seq 1 250; {}", gate.command());
    let task = task(&server, &session_id, &command).await;
    let tail = async {
        loop {
            let answer = wait(&server, wait_of(&task, millis(200))).await;
            assert!(answer.still_running && spent(&answer) >= Duration::from_millis(195));
            let tail = answer.output_tail.expect("a tail");
            if !tail.content.is_empty() {
                return tail;
            }
        }
    };
    let tail = soon("output", tail).await;
    let text = tail.content.iter().map(|part| match &part.kind {
        Some(v1::content::Kind::Text(text)) => text.as_str(),
        other => panic!("{other:?}"),
    });
    let text: String = text.collect();
    let expected: String = (151..=250).map(|line| format!("{line}\n")).collect();
    assert_eq!(text, expected);
    let before: usize = (1..=150).map(|line: i32| line.to_string().len() + 1).sum();
    assert_eq!(tail.dropped_bytes, before as i64);
    gate.open();
}

#[tokio::test]
async fn a_deadline_shorter_than_the_wait_is_answered_in_time() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let gate = Gate::new(&server, "deadline");
    let task = task(&server, &session_id, &gate.command()).await;
    // The margin is a tenth of a second, which a busy machine may need for itself now and then.
    let mut in_time = None;
    for _ in 0..5 {
        let mut request = Request::new(wait_of(&task, millis(60_000)));
        request.set_timeout(Duration::from_millis(1_000));
        if let Ok(answer) = soon("an answer", server.tasks.clone().wait(request)).await {
            in_time = Some(answer.into_inner());
            break;
        }
    }
    let answer = in_time.expect("an answer within the deadline");
    assert!(answer.still_running && spent(&answer) >= Duration::from_millis(500), "{answer:?}");
    assert_eq!(task_now(&server, &task.background_id).await.state(), State::Running);
    gate.open();
}

#[tokio::test]
async fn leaving_a_wait_touches_nothing_and_waiting_again_gives_the_same() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let gate = Gate::new(&server, "leave");
    let command = format!("{}; echo out; echo err >&2; exit 4", gate.command());
    let task = task(&server, &session_id, &command).await;
    for _ in 0..3 {
        let waiting = server.tasks.clone();
        let request = wait_of(&task, None);
        let left = tokio::time::timeout(Duration::from_millis(100), async move {
            { waiting }.wait(request).await
        });
        assert!(left.await.is_err(), "it still waits when its caller leaves");
    }
    let now = task_now(&server, &task.background_id).await;
    assert_eq!(
        (now.state(), now.revision, now.cancellation),
        (State::Running, task.revision, None)
    );
    gate.open();
    let first = wait(&server, wait_of(&task, None)).await.task.expect("a task");
    assert_eq!(first.state(), State::Failed);
    let second = wait(&server, wait_of(&task, None)).await.task.expect("a task");
    assert_eq!(first, second);
    let acknowledged = v1::WaitRequest { acknowledge: true, ..wait_of(&task, None) };
    let third = wait(&server, acknowledged).await.task.expect("a task");
    assert_eq!(third.outcome, first.outcome);
    assert_eq!(
        wait(&server, wait_of(&task, None)).await.task.expect("a task").outcome,
        first.outcome
    );
}

#[tokio::test]
async fn wait_many_waits_for_any_or_all_and_sorts_the_tasks() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let gates = ["0", "1", "2"].map(|name| Gate::new(&server, name));
    let mut tasks = Vec::new();
    for gate in &gates {
        tasks.push(task(&server, &session_id, &gate.command()).await);
    }
    let [a, b, c] = [&tasks[0], &tasks[1], &tasks[2]];
    let none = wait_many(&server, many_of(&[c, a, b], WaitMode::Any, 0)).await;
    assert_eq!(
        (none.settled.len(), ids(&none.pending)),
        (0, vec![c.background_id.as_str(), a.background_id.as_str(), b.background_id.as_str()])
    );
    let any = wait_many(&server, many_of(&[c, b, a, b], WaitMode::Any, 60_000));
    let open = async { gates[1].open() };
    let (any, ()) = tokio::join!(any, open);
    assert_eq!(ids(&any.settled), [&b.background_id]);
    assert_eq!(ids(&any.pending), [&c.background_id, &a.background_id]);
    assert!(any.settled[0].outcome.is_some());
    let some = wait_many(&server, many_of(&[a, b, c], WaitMode::All, 300)).await;
    assert_eq!((ids(&some.settled), some.pending.len()), (vec![b.background_id.as_str()], 2));
    let all = wait_many(&server, many_of(&[a, b, c], WaitMode::All, 60_000));
    let open = async {
        gates[2].open();
        gates[0].open();
    };
    let (all, ()) = tokio::join!(all, open);
    assert_eq!(ids(&all.settled), [&a.background_id, &b.background_id, &c.background_id]);
    assert!(all.pending.is_empty());
    let unset = wait_many(&server, many_of(&[a, b], WaitMode::Unspecified, 0)).await;
    assert_eq!(unset.settled.len(), 2);
}

async fn many_error(server: &TestServer, request: v1::WaitManyRequest) -> Status {
    server.tasks.clone().wait_many(request).await.expect_err("refused")
}

#[tokio::test]
async fn wait_many_takes_one_to_a_hundred_known_ids() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let known = task(&server, &session_id, "true").await;
    let request =
        |ids: Vec<String>| v1::WaitManyRequest { background_ids: ids, ..Default::default() };
    for count in [0, 101] {
        let ids = vec![known.background_id.clone(); count];
        let status = many_error(&server, request(ids)).await;
        check_reason(&status, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(bad_fields(&status), ["background_ids"]);
    }
    let full = wait_many(&server, request(vec![known.background_id.clone(); 100])).await;
    assert_eq!(ids(&full.settled), [&known.background_id], "given twice counts once");
    let unknown = "bg-00000000000040008000000000000000".to_owned();
    let ids = vec![known.background_id.clone(), unknown.clone()];
    let status = many_error(&server, request(ids)).await;
    check_reason(&status, Code::NotFound, "TASK_NOT_FOUND");
    assert!(status.message().contains(&unknown), "{status:?}");
    let garbage = vec![known.background_id, "x".into(), "call-1".into()];
    let status = many_error(&server, request(garbage)).await;
    assert_eq!(bad_fields(&status), ["background_ids[1]", "background_ids[2]"]);
}

#[tokio::test]
async fn a_hundred_waiters_all_get_the_end() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let gate = Gate::new(&server, "hundred");
    let task = task(&server, &session_id, &gate.command()).await;
    let waits = (0..100).map(|_| async {
        let answer = wait(&server, wait_of(&task, None)).await;
        (answer, Instant::now())
    });
    let open = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        gate.open();
    };
    let (answers, ()) = tokio::join!(join_all(waits), open);
    let outcome = task_now(&server, &task.background_id).await.outcome;
    assert!(outcome.is_some());
    for (answer, _) in &answers {
        assert_eq!(answer.task.as_ref().expect("a task").outcome, outcome);
    }
    let first = answers.iter().map(|(_, at)| *at).min().expect("one");
    let last = answers.iter().map(|(_, at)| *at).max().expect("one");
    assert!(last - first < Duration::from_secs(5), "{:?}", last - first);
}

/// Each waits with 20 s of time for a task that ends at once: a lost wake-up shows as a wait that
/// took all of it. A page of what they wrote is larger than one message may be.
#[tokio::test]
async fn no_wait_misses_an_end_that_comes_as_it_begins() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let command = "printf %8192s x; printf %8192s x >&2";
    let tries = futures::stream::iter(0..300).map(|_| async {
        let task = task(&server, &session_id, command).await;
        let answer = wait(&server, wait_of(&task, millis(20_000))).await;
        assert!(!answer.still_running, "{answer:?}");
        assert!(spent(&answer) < Duration::from_secs(15), "{answer:?}");
        assert_eq!(ended(&server, &task.background_id).await.state(), State::Succeeded);
    });
    tries.buffer_unordered(8).collect::<Vec<()>>().await;
    let request = v1::ListRequest { page_size: 1_000, ..Default::default() };
    let (mut count, mut token) = (0, String::new());
    loop {
        let request = v1::ListRequest { page_token: token, ..request.clone() };
        let page = server.tasks.clone().list(request).await.expect("a page").into_inner();
        count += page.tasks.len();
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(count, 300);
}
