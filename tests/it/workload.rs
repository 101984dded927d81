//! A random workload on one server, which is stopped in the middle of it: every invariant holds.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio_util::sync::CancellationToken;

use crate::history::life::{Lived, World, count_effects, live};
use crate::history::processes::{descriptors, marked};
use crate::history::recorder::Recorded;
use crate::history::{End, History, Recorder, collect};
use crate::support::program::Clients;
use crate::support::waiting::start_of;
use crate::support::{TestServer, bash, seed, soon, v1};
use v1::State;

/// Fewer places than calls, so that some wait for their turn, and stops that don't take long.
const SETTINGS: [(&str, &str); 3] =
    [("max-running-calls", "12"), ("grace", "200ms"), ("drain", "200ms")];

/// Some sessions at the same time, each with a connection of its own.
async fn live_some(
    connections: Vec<Clients>,
    recorder: &Recorder,
    world: &World,
    seed: u64,
) -> Vec<Lived> {
    let mut random = StdRng::seed_from_u64(seed);
    let lives = connections.into_iter().map(|clients| {
        let random = StdRng::seed_from_u64(random.random());
        live(recorder.clients(clients), world.clone(), random)
    });
    join_all(lives).await.into_iter().flatten().collect()
}

fn connections(server: &TestServer, count: usize) -> Vec<Clients> {
    (0..count).map(|_| server.connect()).collect()
}

/// Looks at a process of a call while it runs. Those of the other calls come and go.
async fn look_at_a_child(recorded: &Recorded) {
    let reply = recorded.start(start_of(bash("exec sleep 30"))).await.expect("started");
    let seen = async {
        loop {
            let seen = descriptors(&marked(&[reply.call_id.as_str()].into()));
            if !seen.is_empty() {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    recorded.recorder.saw(soon("a process", seen).await);
    let background_id = reply.background_id;
    let cancel = v1::CancelRequest { background_id, force: true, ..Default::default() };
    recorded.cancel(cancel).await.expect("cancelled");
}

#[tokio::test]
async fn a_random_workload_with_a_restart_keeps_every_invariant() {
    let mut random = StdRng::seed_from_u64(seed());
    let tools = vec![crate::in_process::count()];
    let server = TestServer::with_tools_and(tools, &SETTINGS).await;
    let folder = server.folder().join("effects");
    std::fs::create_dir(&folder).expect("a folder");
    let recorder = Recorder::new();
    let world = World { folder: folder.clone(), has_count: true, steps: 16, closes: false };
    live_some(connections(&server, 6), &recorder, &world, random.random()).await;
    let endless = World { steps: u32::MAX, ..world.clone() };
    let cut = live_some(connections(&server, 5), &recorder, &endless, random.random());
    // The moment is the subject of the test.
    let moment = Duration::from_millis(random.random_range(200..1_000));
    let restart = async {
        tokio::time::sleep(moment).await;
        recorder.stopped();
        server.restart().await
    };
    let (cut, server) = futures::future::join(cut, restart).await;
    let clients = server.connect();
    for Lived { life, mut readers } in cut {
        life.resend_all(&recorder.clients(clients.clone())).await;
        for reader in &mut readers {
            let end = reader.read(&clients, false, usize::MAX, &CancellationToken::new()).await;
            assert_eq!(end, End::Ok, "what was left of a log");
        }
    }
    live_some(connections(&server, 2), &recorder, &world, random.random()).await;
    look_at_a_child(&recorder.clients(clients.clone())).await;
    let mut history = collect(&clients, &recorder, None).await;
    count_effects(&mut history, &folder);
    println!("{}", summary(&history));
    history.assert_holds();
    check_that_all_has_happened(&history);
}

/// Returns the figures of a history in one line.
fn summary(history: &History) -> String {
    let (calls, events) = (history.calls().len(), history.logs.iter().map(|log| log.events.len()));
    let (reply, seen) = (history.replies().count(), history.processes.len());
    format!(
        "{} sessions, {calls} calls {:?}, {} events; {} questions, {reply} answers, {} streams, \
         {seen} processes",
        history.logs.len(),
        ends(history),
        events.sum::<usize>(),
        history.exchanges.len(),
        history.deliveries.len(),
    )
}

/// Returns the number of calls that have ended, by their terminal state.
fn ends(history: &History) -> BTreeMap<&'static str, usize> {
    let mut ends = BTreeMap::new();
    for (_, end) in history.calls().values().filter_map(|call| call.end()) {
        *ends.entry(end.state().as_str_name()).or_default() += 1;
    }
    ends
}

/// Checks that enough has happened for the invariants to mean something.
fn check_that_all_has_happened(history: &History) {
    let ends = ends(history);
    for state in [State::Succeeded, State::Failed, State::Cancelled, State::TimedOut, State::Lost] {
        assert!(ends.contains_key(state.as_str_name()), "no call ended {state:?}: {ends:?}");
    }
    let dropped = history.outputs.iter().filter(|output| output.dropped_bytes > 0).count();
    let replayed = history.replies().filter(|(_, _, reply)| reply.replayed).count();
    let cut = history.deliveries.iter().filter(|delivery| delivery.end != End::Ok).count();
    let calls = history.calls();
    let queued = calls.values().filter(|call| {
        call.events.len() > 1 && {
            let accepted = call.accepted().map(|(event, _)| event.sequence);
            accepted != call.began().map(|(event, _)| event.sequence)
        }
    });
    assert!(dropped > 0 && replayed > 10 && cut > 10 && queued.count() > 0, "too little");
    assert!(!history.processes.is_empty(), "no process was looked at");
}
