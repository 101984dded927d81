//! Pages while tasks and sessions come, change and go on other connections.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use tokio_util::sync::CancellationToken;
use v1::State;

use crate::support::nap::{nap, server};
use crate::support::streams::{close, new_session};
use crate::support::waiting::{cancel, cancel_of, ended, session, start, start_of};
use crate::support::{TestServer, request_id, soon, v1};

const THERE: usize = 40;
const ROUNDS: usize = 20;

/// The number of tasks that come and go during the rounds, at least.
const COME_MIN: usize = 60;

/// More pages than there can be of anything here: a list that goes on is going round.
const PAGES_MAX: usize = 5_000;

/// All ids that the pages of a list give, in their order.
async fn listed(server: &TestServer, request: &v1::ListRequest) -> Vec<String> {
    let (mut ids, mut request) = (Vec::new(), request.clone());
    for _ in 0..PAGES_MAX {
        let page = soon("a page", server.tasks.clone().list(request.clone())).await;
        let page = page.expect("a page").into_inner();
        assert!(page.tasks.len() <= usize::try_from(request.page_size).expect("a size"));
        ids.extend(page.tasks.into_iter().map(|task| task.background_id));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return ids;
        }
    }
    panic!("{PAGES_MAX} pages and no end");
}

/// The same of sessions.
async fn listed_sessions(server: &TestServer, page_size: i32) -> Vec<String> {
    let (mut ids, mut page_token) = (Vec::new(), String::new());
    for _ in 0..PAGES_MAX {
        let request = v1::ListSessionsRequest { page_size, page_token, ..Default::default() };
        let page = soon("a page", server.tools.clone().list_sessions(request)).await;
        let page = page.expect("a page").into_inner();
        ids.extend(page.sessions.into_iter().map(|session| session.session_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return ids;
        }
    }
    panic!("{PAGES_MAX} pages and no end");
}

/// Checks that no id is listed twice, and that all of `newest_first` are listed in their order.
#[track_caller]
fn check_listed(seen: &[String], newest_first: &[String]) {
    let mut counts = BTreeMap::<&String, u32>::new();
    for id in seen {
        *counts.entry(id).or_default() += 1;
    }
    let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "more than once: {twice:?}");
    let stable: Vec<_> = seen.iter().filter(|id| newest_first.contains(id)).collect();
    assert_eq!(stable, newest_first.iter().collect::<Vec<_>>(), "each that was there throughout");
}

/// Tasks and sessions that come and go beside those that are there throughout.
#[derive(Default)]
struct Churn {
    tasks: AtomicUsize,
    enough: CancellationToken,
}

impl Churn {
    /// Tasks come, end and go, in sessions that come and close, until it is enough. Each task is
    /// deleted soon: a list stays short, however much has come on a slow machine before its end.
    async fn run(&self, server: &TestServer) {
        while !self.enough.is_cancelled() {
            let session_id = session(server, Default::default()).await;
            let mut left = Vec::new();
            for number in 0..4 {
                let call = nap(number, Duration::from_millis(number));
                let call = v1::RunToolRequest { session_id: session_id.clone(), ..call };
                let id = start(server, start_of(call)).await.background_id;
                self.tasks.fetch_add(1, Ordering::Relaxed);
                if number % 2 == 0 {
                    delete(server, id).await;
                } else {
                    left.push(id);
                }
            }
            close(server, &session_id).await;
            for id in left {
                delete(server, id).await;
            }
        }
    }

    /// The rounds in which lists are checked: so many, and more until enough has come meanwhile.
    fn rounds(&self) -> impl Iterator<Item = usize> {
        let enough = || self.tasks.load(Ordering::Relaxed) >= COME_MIN;
        (0..).take_while(move |round| *round < ROUNDS || !enough())
    }
}

/// Deletes a task once it has ended.
async fn delete(server: &TestServer, id: String) {
    ended(server, &id).await;
    let request = v1::DeleteRequest { background_id: id, request_id: request_id() };
    server.tasks.clone().delete(request).await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_tasks_give_each_that_was_there_throughout_once() {
    let server = server().await;
    let session_id = new_session(&server).await;
    let label = BTreeMap::from([("kind".to_owned(), "there".to_owned())]);
    let mut there = Vec::new();
    for number in 0..THERE {
        // Half of them run throughout, until each is cancelled on the way.
        let hours = if number.is_multiple_of(2) { 1 } else { 0 };
        let call = v1::RunToolRequest {
            session_id: if number < 20 { session_id.clone() } else { String::new() },
            labels: label.clone().into_iter().collect(),
            ..nap(0, Duration::from_secs(3_600 * hours))
        };
        there.insert(0, start(&server, start_of(call)).await.background_id);
    }
    let churn = Churn::default();
    let churning = join_all((0..3).map(|_| churn.run(&server)));
    let pages = async {
        for round in churn.rounds() {
            let page_size = [1, 3, 7, 50, 1_000][round % 5];
            let all = v1::ListRequest { page_size, ..Default::default() };
            check_listed(&listed(&server, &all).await, &there);
            let labels = label.clone().into_iter().collect();
            let labelled = v1::ListRequest { labels, ..all.clone() };
            assert_eq!(listed(&server, &labelled).await, there);
            let here = v1::ListRequest { session_id: session_id.clone(), ..all };
            assert_eq!(listed(&server, &here).await, there[THERE - 20..]);
            // It changes, and stays where it is.
            let runs = &there[THERE - 1 - (round * 2) % THERE];
            let state = cancel(&server, cancel_of(runs)).await.task.expect("a task").state();
            assert_eq!(state, State::Cancelled);
        }
        churn.enough.cancel();
    };
    tokio::join!(churning, pages);
    println!("{} tasks came meanwhile", churn.tasks.into_inner());
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_sessions_give_each_that_was_there_throughout_once() {
    let server = server().await;
    let mut there = Vec::new();
    for _ in 0..THERE {
        there.insert(0, new_session(&server).await);
    }
    let churn = Churn::default();
    let churning = join_all((0..3).map(|_| churn.run(&server)));
    let pages = async {
        for round in churn.rounds() {
            let page_size = [1, 3, 7, 50, 1_000][round % 5];
            check_listed(&listed_sessions(&server, page_size).await, &there);
            // It changes, and stays where it is.
            close(&server, &there[round % THERE]).await;
        }
        churn.enough.cancel();
    };
    tokio::join!(churning, pages);
    println!("{} tasks came meanwhile", churn.tasks.into_inner());
}
