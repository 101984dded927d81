//! The end of a server that has everything open.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::task::JoinSet;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::support::program::{Clients, Program, Site};
use crate::support::streams::stream_of;
use crate::support::waiting::lines_of;
use crate::support::wire::only_reason;
use crate::support::{bash, millis, remote, soon, v1};

/// Of each kind of open request.
const EACH: usize = 4;
/// The time that unary calls have to finish after the stop, and the time that the server has after
/// that.
const DRAIN: Duration = Duration::from_secs(2);
const LAST: Duration = Duration::from_secs(5);
/// For what happens at once, on a machine that is busy.
const AT_ONCE: Duration = Duration::from_secs(2);

/// The way in which something open has ended.
#[derive(Debug)]
struct End {
    what: &'static str,
    status: Status,
    /// A stream has said before that it would end.
    announced: bool,
    after: Duration,
}

/// All that can be open, each on a connection of its own kind.
struct Open {
    ends: JoinSet<(&'static str, Status, bool, Instant)>,
}

impl Open {
    fn unary<T: std::fmt::Debug>(
        &mut self,
        what: &'static str,
        answer: impl Future<Output = Result<T, Status>> + Send + 'static,
    ) {
        let end = async move { (what, answer.await.map(drop), Instant::now()) };
        self.ends.spawn(async move {
            let (what, answer, at) = end.await;
            (what, answer.expect_err("not ended"), true, at)
        });
    }

    /// A stream that is read to its end; `is_notice` recognizes the message that announces it.
    fn stream<T: Send + 'static>(
        &mut self,
        what: &'static str,
        mut stream: Streaming<T>,
        is_notice: fn(&T) -> bool,
    ) {
        self.ends.spawn(async move {
            let mut announced = false;
            loop {
                match stream.message().await {
                    Ok(Some(message)) => announced = is_notice(&message),
                    Ok(None) => panic!("{what} ended as if it was over"),
                    Err(status) => return (what, status, announced, Instant::now()),
                }
            }
        });
    }

    /// All ends, with the time that each took from `began` on.
    async fn all(self, began: Instant) -> Vec<End> {
        let ends = soon("the ends", self.ends.join_all()).await.into_iter();
        let since = |at: Instant| at.duration_since(began);
        ends.map(|(what, status, announced, at)| End { what, status, announced, after: since(at) })
            .collect()
    }
}

/// The tasks that are waited for: one that heeds TERM, and one that doesn't.
async fn tasks(clients: &Clients, site: &Site) -> [v1::Task; 2] {
    let ready = site.folder().join("ready");
    let say = format!("echo x >> {}", ready.display());
    let quiet = remote::start(clients, bash(&format!("{say}; sleep 300"))).await;
    let stubborn = format!("trap '' TERM; {say}; while :; do sleep 0.2; done");
    let stubborn = remote::start(clients, bash(&stubborn)).await;
    lines_of(&ready, 2).await;
    [quiet, stubborn]
}

async fn open_streams(open: &mut Open, clients: &Clients, task: &v1::Task) {
    let is_draining = |update: &v1::SessionUpdate| {
        matches!(update.control, Some(v1::session_update::Control::Draining(_)))
    };
    let request = stream_of(&task.session_id);
    let stream = clients.tools.clone().stream_session(request).await.expect("a stream");
    open.stream("StreamSession", stream.into_inner(), is_draining);
    let request = bash("sleep 300");
    let stream = clients.tools.clone().stream_tool(request).await.expect("a stream");
    open.stream("StreamTool", stream.into_inner(), is_draining);
    let request = v1::WatchRequest { watch_sequence: Some(0), ..Default::default() };
    let watch = clients.tasks.clone().watch(request).await.expect("a stream");
    // A watch has no word for it: its status says all.
    open.stream("Watch", watch.into_inner(), |_| true);
}

fn open_waits(open: &mut Open, clients: &Clients, [quiet, stubborn]: &[v1::Task; 2]) {
    let wait = millis(300_000);
    let background_id = quiet.background_id.clone();
    let request = v1::WaitRequest { background_id: background_id.clone(), wait, acknowledge: true };
    let mut tasks = clients.tasks.clone();
    open.unary("Wait", async move { tasks.wait(request).await });
    let background_ids = vec![background_id.clone(), stubborn.background_id.clone()];
    let request = v1::WaitManyRequest {
        background_ids,
        wait,
        mode: v1::WaitMode::All.into(),
        acknowledge: false,
    };
    let mut tasks = clients.tasks.clone();
    open.unary("WaitMany", async move { tasks.wait_many(request).await });
    let request = v1::ReadOutputRequest { background_id, wait, ..Default::default() };
    let mut tasks = clients.tasks.clone();
    open.unary("ReadOutput", async move { tasks.read_output(request).await });
    let request = v1::CancelRequest {
        background_id: stubborn.background_id.clone(),
        grace: millis(60_000),
        wait,
        ..Default::default()
    };
    let mut tasks = clients.tasks.clone();
    open.unary("Cancel", async move { tasks.cancel(request).await });
    let mut tools = clients.tools.clone();
    open.unary("RunTool", async move { tools.run_tool(bash("sleep 300")).await });
}

/// A server with so many of everything open, and with tasks without a wait.
async fn everything_open(site: &Site, flags: &[&str]) -> (Program, Open, [v1::Task; 2]) {
    let server = site.serve(flags).await;
    let clients = server.connect();
    let tasks = tasks(&clients, site).await;
    let mut open = Open { ends: JoinSet::new() };
    for _ in 0..EACH {
        let clients = server.connect();
        open_streams(&mut open, &clients, &tasks[0]).await;
        open_waits(&mut open, &clients, &tasks);
        remote::start(&clients, bash("sleep 300")).await;
    }
    // The foreground calls are under way once all processes are: two tasks, and of each the call,
    // the stream's call and the task.
    let all = async {
        while site.processes().len() < 2 + 3 * EACH {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        while remote::task(&clients, &tasks[1].background_id).await.cancellation.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("all processes", all).await;
    (server, open, tasks)
}

#[tokio::test]
async fn a_server_with_everything_open_says_so_to_each_and_ends_in_time() {
    let site = Site::new();
    let (server, open, tasks) = everything_open(&site, &["--drain", "2s", "--stop-runs"]).await;
    let request = HealthCheckRequest { service: String::new() };
    let health = HealthClient::new(server.channel()).watch(request).await;
    let mut health = health.expect("a stream").into_inner();
    soon("health", health.message()).await.expect("no cut").expect("a status");
    let began = Instant::now();
    server.live.signal(Signal::TERM);
    let status = soon("health", health.message()).await.expect("no cut").expect("a status");
    assert_eq!(status.status(), ServingStatus::NotServing);
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    drop(health);
    let (ended, ends) = tokio::join!(server.live.ended(), open.all(began));
    ended.exits(0);
    assert!(began.elapsed() <= DRAIN + LAST, "{:?}", began.elapsed());
    for end in &ends {
        let reason = only_reason(&end.status);
        let found = (end.status.code(), reason.as_deref(), end.announced);
        assert_eq!(found, (Code::Unavailable, Some("DRAINING"), true), "{end:?}");
        // A call in the foreground may end by itself until the drain is over.
        let bound = if end.what == "RunTool" { DRAIN + LAST } else { AT_ONCE };
        assert!(end.after < bound, "{end:?}");
    }
    assert_eq!(ends.len(), 8 * EACH);
    assert_eq!(site.processes(), [0; 0]);
    let server = site.serve(&[]).await;
    let states = remote::tasks(&server.connect()).await.into_iter().map(|task| task.state());
    let states: Vec<_> = states.collect();
    assert!(states.len() >= 2 + EACH, "{states:?}");
    assert!(states.iter().all(|state| *state == v1::State::Lost), "{states:?}");
    let cancelled = remote::task(&server.connect(), &tasks[1].background_id).await;
    assert!(cancelled.cancellation.is_some(), "what was asked for is known: {cancelled:?}");
}

#[tokio::test]
async fn a_second_signal_ends_a_server_with_everything_open_at_once() {
    let site = Site::new();
    let (mut server, open, _) = everything_open(&site, &["--drain", "1h"]).await;
    server.live.signal(Signal::TERM);
    server.live.stderr.until("stopping").await;
    let began = Instant::now();
    server.live.signal(Signal::TERM);
    let ended = server.live.ended().await;
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    assert_eq!(ended.code(), 143, "{ended}");
    assert_eq!(open.all(began).await.len(), 8 * EACH, "none gets a notice of the stop");
    // The processes go on, and the next server has them.
    let server = site.serve(&["--stop-runs", "--drain", "0s"]).await;
    // Beside the tasks, the calls whose callers have gone. They are tasks once their sessions are at work.
    let all = async {
        loop {
            let tasks = remote::tasks(&server.connect()).await;
            if tasks.len() == 2 + 3 * EACH {
                return tasks;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let tasks = soon("all calls", all).await;
    for task in tasks {
        let is_cancelled = task.cancellation.is_some();
        let state = if is_cancelled { v1::State::Cancelling } else { v1::State::Running };
        assert_eq!(task.state(), state, "{task:?}");
    }
    server.terminate().await.0.exits(0);
    assert_eq!(site.processes(), [0; 0]);
}
