//! Replicas that die, pause, stop and come back.

use std::path::Path;
use std::time::{Duration, Instant};

use callpark_proto::v1;
use rustix::process::Signal;
use tokio_util::task::TaskTracker;
use tonic::{Code, Status};

use super::place::Place;
use crate::cluster::{Cluster, shared};
use crate::history::check_everything;
use crate::support::link::Link;
use crate::support::program::{Clients, Program, Site};
use crate::support::{bash, remote, soon};

/// The longest time from the death of a replica until its sessions are answered by another one.
const TAKE_OVER_MAX: Duration = Duration::from_secs(10);

/// Returns a command that waits for a file.
fn until(gate: &Path) -> String {
    format!("echo begun; until [ -e {} ]; do sleep 0.02; done; echo over", gate.display())
}

/// Starts a replica with a tool that may be run again, which notes each of its runs in the folder.
async fn with_tool(place: &Place<'_>, folder: &Path) -> (Site, Program) {
    let site = Site::new();
    let folder = folder.display();
    let file = site.write(
        "callpark.toml",
        &format!(
            "[[tools]]\nname = \"again\"\ndescription = \"Waits\"\nidempotent = true\n\
             argv = [\"sh\", \"-c\", \"echo run >> {folder}/runs; \
             until [ -e {folder}/gate ]; do sleep 0.02; done\"]\n"
        ),
    );
    let mut command = place.command(&site, "127.0.0.1:0");
    command.arg("--config").arg(file);
    let server = site.serve_with(command).await;
    (site, server)
}

/// Waits until so many processes of calls run in a home.
async fn running(site: &Site, count: usize) {
    let running = async {
        while site.processes().len() < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("processes", running).await;
}

/// Returns a task once it has ended, and when. Its server may be away until then.
async fn ended(clients: &Clients, id: &str) -> (v1::Task, Instant) {
    let ended = async {
        loop {
            let request = v1::WaitRequest { background_id: id.into(), ..Default::default() };
            match clients.tasks.clone().wait(request).await {
                Ok(answer) => return answer.into_inner().task.expect("a task"),
                Err(error) => assert_eq!(error.code(), Code::Unavailable, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    (soon("an end", ended).await, Instant::now())
}

/// Returns the number of terminal events of a task in the log of its session.
async fn ends(clients: &Clients, task: &v1::Task) -> usize {
    let log = remote::log(clients, &task.session_id).await;
    let is_end = |event: &&v1::SessionEvent| {
        matches!(&event.payload, Some(v1::session_event::Payload::ToolCallFinished(_)))
            && event.call_id == task.call_id
    };
    log.iter().filter(is_end).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sessions_of_a_killed_replica_are_taken_over() {
    let place = Place::new(shared());
    let folder = tempfile::tempdir().expect("a folder");
    let (_site_b, b) = with_tool(&place, folder.path()).await;
    let (site_a, a) = with_tool(&place, folder.path()).await;
    let (of_a, of_b) = (a.connect(), b.connect());
    let call = v1::RunToolRequest { tool: "again".into(), ..Default::default() };
    let again = remote::start(&of_a, call).await.background_id;
    let plain = remote::start(&of_a, bash("exec sleep 1000")).await.background_id;
    running(&site_a, 1).await;
    let runs = || std::fs::read_to_string(folder.path().join("runs")).unwrap_or_default();
    let begun = async {
        while runs().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("a run", begun).await;
    let (endpoint, killed) = (a.endpoint.clone(), Instant::now());
    a.kill().await;
    // Those that ask for a session may be faster than those that search for it.
    let first = async {
        let (lost, at) = ended(&of_b, &plain).await;
        assert_eq!(lost.state(), v1::State::Lost, "{lost:?}");
        let after = at - killed;
        assert!(after < TAKE_OVER_MAX, "{after:?}");
        assert_eq!(site_a.processes(), Vec::<u32>::new(), "they had to end before");
        std::fs::write(folder.path().join("gate"), "").expect("a gate");
        lost
    };
    let (lost, (task, _)) = tokio::join!(first, ended(&of_b, &again));
    assert_eq!((task.state(), task.attempt), (v1::State::Succeeded, 2), "{task:?}");
    assert_eq!(runs().lines().count(), 2);
    // It comes back, and answers like the others.
    let a = place.restart(&site_a, &endpoint).await;
    for task in [&lost, &task] {
        let (seen, _) = ended(&a.connect(), &task.background_id).await;
        assert_eq!(seen.state(), task.state(), "{seen:?}");
        assert_eq!(ends(&a.connect(), task).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_paused_writes_nothing_more() {
    let place = Place::new(shared());
    let ((_site_b, b), (site_a, a)) = (place.replica().await, place.replica().await);
    let (of_a, of_b) = (a.connect(), b.connect());
    let gate = site_a.folder().join("gate");
    let id = remote::start(&of_a, bash(&until(&gate))).await.background_id;
    running(&site_a, 1).await;
    a.live.signal(Signal::STOP);
    let (lost, _) = ended(&of_b, &id).await;
    assert_eq!(lost.state(), v1::State::Lost, "{lost:?}");
    assert_eq!(site_a.processes(), Vec::<u32>::new(), "they had to end before");
    std::fs::write(&gate, "").expect("a gate");
    a.live.signal(Signal::CONT);
    // It gives its sessions up, and serves again under another id.
    let answer = async {
        loop {
            match of_a.tools.clone().run_tool(bash("echo here")).await {
                Ok(answer) => return answer.into_inner(),
                Err(error) => assert_eq!(error.code(), Code::Unavailable, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("an answer", answer).await;
    let (seen, _) = ended(&of_a, &id).await;
    assert_eq!(seen, lost);
    assert_eq!(ends(&of_b, &lost).await, 1);
    check_everything(&of_b, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_restarts_goes_on_with_its_calls() {
    let place = Place::new(shared());
    let ((_site_b, b), (site_a, a)) = (place.replica().await, place.replica().await);
    let of_b = b.connect();
    let gate = site_a.folder().join("gate");
    let id = remote::start(&a.connect(), bash(&until(&gate))).await.background_id;
    running(&site_a, 1).await;
    let endpoint = a.endpoint.clone();
    a.terminate().await.0.exits(0);
    let request = v1::WaitRequest { background_id: id.clone(), ..Default::default() };
    let error = soon("an answer", of_b.tasks.clone().wait(request)).await.expect_err("it is away");
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    let a = place.restart(&site_a, &endpoint).await;
    std::fs::write(&gate, "").expect("a gate");
    let (task, _) = ended(&of_b, &id).await;
    assert_eq!((task.state(), task.attempt), (v1::State::Succeeded, 1), "{task:?}");
    assert_eq!(remote::output(&a.connect(), &id).await, b"begun\nover\n");
    assert_eq!(remote::output(&of_b, &id).await, b"begun\nover\n");
    check_everything(&of_b, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_while_the_database_is_away_for_longer_than_a_lease() {
    let cluster = Cluster::start();
    let place = Place::new(&cluster);
    let (first, second) = (place.replica().await, place.replica().await);
    let mut calls = Vec::new();
    for (site, server) in [&first, &second] {
        let gate = site.folder().join("gate");
        let id = remote::start(&server.connect(), bash(&until(&gate))).await.background_id;
        running(site, 1).await;
        calls.push((site, id, gate));
    }
    cluster.crash();
    // Longer than a lease, and than what is left to give one up.
    tokio::time::sleep(Duration::from_secs(11)).await;
    cluster.resume();
    for (site, id, gate) in &calls {
        assert!(!site.processes().is_empty(), "it runs");
        std::fs::write(gate, "").expect("a gate");
        for (_, server) in [&first, &second] {
            let (task, _) = ended(&server.connect(), id).await;
            assert_eq!((task.state(), task.attempt), (v1::State::Succeeded, 1), "{task:?}");
            assert_eq!(ends(&server.connect(), &task).await, 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_alone_has_lost_the_database_ends_its_calls_before_they_are_taken_over() {
    let place = Place::new(shared());
    let (_site_b, b) = place.replica().await;
    let link = Link::start(&format!("http://127.0.0.1:{}", place.cluster.port)).await;
    let port = link.endpoint.rsplit(':').next().and_then(|port| port.parse().ok());
    let site_a = Site::new();
    let command = place.command_by(&site_a, "127.0.0.1:0", port.expect("a port"));
    let a = site_a.serve_with(command).await;
    let id = remote::start(&a.connect(), bash("exec sleep 1000")).await.background_id;
    running(&site_a, 1).await;
    link.cut().await;
    let cut = Instant::now();
    site_a.quiet().await;
    let quiet = Instant::now();
    let of_b = b.connect();
    let (lost, at) = ended(&of_b, &id).await;
    assert_eq!(lost.state(), v1::State::Lost, "{lost:?}");
    assert!(quiet < at, "{:?} {:?}", quiet - cut, at - cut);
    let error = soon("an answer", a.connect().tools.run_tool(bash("true"))).await;
    let error = error.expect_err("it cannot store it");
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    link.mend().await;
    let answer = async {
        while a.connect().tools.run_tool(bash("true")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("an answer", answer).await;
    let (seen, _) = ended(&a.connect(), &id).await;
    assert_eq!(seen, lost);
    check_everything(&a.connect(), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_takes_over_from_itself_runs_nothing_twice() {
    let place = Place::new(shared());
    let (site, server) = place.replica().await;
    let clients = server.connect();
    let runs = site.folder().join("runs");
    let command = format!("echo run >> {}; exec sleep 1000", runs.display());
    let id = remote::start(&clients, bash(&command)).await.background_id;
    // Those that wait for a call, and read its session, are told to come again.
    let session_id = remote::session(&clients).await;
    let follow = v1::StreamSessionRequest { session_id: session_id.clone(), ..Default::default() };
    let stream = soon("a stream", clients.tools.clone().stream_session(follow)).await;
    let mut stream = stream.expect("a stream").into_inner();
    let call = v1::RunToolRequest { session_id, ..bash("exec sleep 1000") };
    let (mut tools, waits) = (clients.tools.clone(), TaskTracker::new());
    let call = waits.spawn(async move { tools.run_tool(call).await });
    let read = waits.spawn(async move {
        while stream.message().await?.is_some() {}
        Ok::<_, Status>(())
    });
    running(&site, 2).await;
    place.cluster.sql(&place.database, "UPDATE callpark.replicas SET state = 3");
    let error =
        soon("an answer", call).await.expect("no panic").expect_err("its server has lost it");
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    let error = soon("an end", read).await.expect("no panic").expect_err("its server has lost it");
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    site.quiet().await;
    // Nobody asks for the session: it is taken over all the same.
    let lost = async {
        loop {
            let task = remote::task(&clients, &id).await;
            if task.state() != v1::State::Running {
                return task;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let lost = soon("an end", lost).await;
    assert_eq!((lost.state(), lost.attempt), (v1::State::Lost, 1), "{lost:?}");
    assert_eq!(site.processes(), Vec::<u32>::new());
    let runs = std::fs::read_to_string(runs).expect("runs");
    assert_eq!(runs.lines().count(), 1);
    check_everything(&clients, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_killed_after_it_lost_its_lease_runs_nothing_twice() {
    let place = Place::new(shared());
    let (site, server) = place.replica().await;
    let runs = site.folder().join("runs");
    let command = format!("echo run >> {}; exec sleep 1000", runs.display());
    let id = remote::start(&server.connect(), bash(&command)).await.background_id;
    running(&site, 1).await;
    place.cluster.sql(&place.database, "UPDATE callpark.replicas SET state = 3");
    site.quiet().await;
    let endpoint = server.endpoint.clone();
    server.kill().await;
    // What it finds is what its shim knows.
    let server = place.restart(&site, &endpoint).await;
    let (lost, _) = ended(&server.connect(), &id).await;
    assert_eq!((lost.state(), lost.attempt), (v1::State::Lost, 1), "{lost:?}");
    assert!(lost.reason.contains("no sign"), "{lost:?}");
    let runs = std::fs::read_to_string(runs).expect("runs");
    assert_eq!(runs.lines().count(), 1);
}
