//! Fifty equal requests at once: one effect and one id, also when the server is killed meanwhile.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _, join_all};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tonic::Status;

use crate::history::check_everything;
use crate::support::program::{Clients, Site};
use crate::support::waiting::{ended, parked_of, run, start_of, text_of};
use crate::support::{TestServer, bash, millis, remote, request_id, seed, soon, v1};

const EQUAL: usize = 50;

/// A call that leaves a line in a file each time it really runs.
fn counted(file: &Path) -> v1::RunToolRequest {
    let command = format!("echo ran >> {}; echo done", file.display());
    v1::RunToolRequest { request_id: request_id(), ..bash(&command) }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_equal_starts_at_once_are_one_task() {
    let server = TestServer::start().await;
    for round in 0..5 {
        let file = server.folder().join(format!("count-{round}"));
        let request = start_of(counted(&file));
        let answers = join_all((0..EQUAL).map(|_| async {
            let answer = soon("a start", server.tasks.clone().start(request.clone())).await;
            answer.expect("an answer").into_inner()
        }))
        .await;
        let ids = answers.iter().map(|answer| &answer.task.as_ref().expect("a task").background_id);
        let ids: BTreeSet<_> = ids.collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
        ended(&server, ids.first().expect("one")).await;
        assert_eq!(text_of(&file), "ran\n");
    }
    check_everything(&server.connect(), 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_equal_calls_that_park_at_once_are_one_task() {
    let server = TestServer::start().await;
    let file = server.folder().join("count");
    let request = v1::RunToolRequest { call_budget: millis(0), ..counted(&file) };
    let answers = join_all((0..EQUAL).map(|_| run(&server, request.clone()))).await;
    let ids: BTreeSet<_> =
        answers.iter().map(|answer| parked_of(answer).background_id.clone()).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    ended(&server, ids.first().expect("one")).await;
    assert_eq!(text_of(&file), "ran\n");
    let list = server.tasks.clone().list(v1::ListRequest::default()).await.expect("a list");
    assert_eq!(list.into_inner().tasks.len(), 1);
}

/// The call's id that an answer names, if there is one: a connection that is cut has none.
type Ask = BoxFuture<'static, Result<String, Status>>;

/// The same call as a call and as a stream, half of each.
fn calls(clients: &Clients, request: &v1::RunToolRequest) -> Vec<Ask> {
    let one = |number: usize| {
        let (mut tools, request) = (clients.tools.clone(), request.clone());
        if number.is_multiple_of(2) {
            return async move { Ok(tools.run_tool(request).await?.into_inner().call_id) }.boxed();
        }
        async move {
            let mut stream = tools.stream_tool(request).await?.into_inner();
            let mut seen = String::new();
            while let Some(update) = stream.message().await? {
                for event in update.events {
                    assert!(seen.is_empty() || seen == event.call_id, "{seen}: {event:?}");
                    seen = event.call_id;
                }
            }
            Ok(seen)
        }
        .boxed()
    };
    (0..EQUAL).map(one).collect()
}

/// The same call into the background.
fn starts(clients: &Clients, request: &v1::RunToolRequest) -> Vec<Ask> {
    let one = |_| {
        let (mut tasks, request) = (clients.tasks.clone(), start_of(request.clone()));
        async move {
            let task = tasks.start(request).await?.into_inner().task;
            Ok(task.expect("a task").call_id)
        }
        .boxed()
    };
    (0..EQUAL).map(one).collect()
}

/// Asks all at once, kills the server meanwhile, and asks another one again.
async fn check_kill(make: fn(&Clients, &v1::RunToolRequest) -> Vec<Ask>) {
    let mut random = StdRng::seed_from_u64(seed());
    let site = Site::new();
    let mut server = site.serve(&[]).await;
    let (mut returned_before, mut ran) = (0, 0);
    for round in 0..6 {
        let file = site.folder().join(format!("count-{round}"));
        let request = counted(&file);
        // The connection is there: what is measured is the start of the call.
        let clients = server.connect();
        remote::session(&clients).await;
        let asks = join_all(make(&clients, &request));
        let kill = async {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..40))).await;
            server.kill().await;
        };
        let (answers, ()) = soon("the answers", async { tokio::join!(asks, kill) }).await;
        let mut ids: BTreeSet<String> =
            answers.into_iter().flatten().filter(|id| !id.is_empty()).collect();
        returned_before += ids.len();
        server = site.serve(&[]).await;
        let again = join_all(make(&server.connect(), &request));
        for answer in soon("the answers", again).await {
            ids.insert(answer.expect("an answer"));
        }
        assert_eq!(ids.len(), 1, "one call, before and after the kill: {ids:?}");
        let id = ids.first().expect("one").replace("call-", "bg-");
        let call = soon("the call's end", ended_call(&server.connect(), &id)).await;
        let runs = text_of(&file).matches("ran\n").count();
        assert!(runs <= 1, "{runs} runs: {call:?}");
        ran += runs;
    }
    println!("{returned_before} ids returned before a kill, {ran} of 6 calls ran");
    check_everything(&server.connect(), 6).await;
}

/// Waits until a call, which may be no task, has ended: all of its output is there.
async fn ended_call(clients: &Clients, id: &str) -> v1::ReadOutputResponse {
    let background_id = id.replace("bg-", "call-");
    let request =
        v1::ReadOutputRequest { background_id, wait: millis(20_000), ..Default::default() };
    loop {
        let answer = clients.tasks.clone().read_output(request.clone()).await;
        let answer = answer.expect("output").into_inner();
        if answer.eof {
            return answer;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_equal_starts_are_one_task_though_the_server_is_killed_meanwhile() {
    check_kill(starts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_equal_calls_and_streams_are_one_call_though_the_server_is_killed_meanwhile() {
    check_kill(calls).await;
}
