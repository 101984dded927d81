//! `kill -9` of the server: what it has acknowledged is true afterwards, and nothing else is.

mod client;
mod follow;

use std::collections::HashMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::history::{check_everything, until_rest};
use crate::support::program::{Clients, Live, Program, Site};
use crate::support::proofs::repetitions;
use crate::support::streams::{replay_of, sequences, stream_of};
use crate::support::{bash, request_id, seed, soon, v1};
use client::{Answer, Counts, Sent, Work, load};
use v1::session_event::Payload;

/// Clients at the same time, each on a connection of its own.
const CONNECTIONS: u64 = 3;
/// More calls than can run at once, so that some are killed while they wait for their turn.
const FLAGS: [&str; 4] = ["--max-running-calls", "16", "--max-live-tasks", "1000"];

#[tokio::test]
async fn acknowledged_changes_survive_every_kill() {
    let mut random = StdRng::seed_from_u64(seed());
    let site = Site::new();
    std::fs::create_dir(site.folder().join("effects")).expect("a folder");
    let cycles = u32::try_from(repetitions(100, 10)).expect("not so many");
    let mut server = site.serve(&FLAGS).await;
    let (mut all, mut orphans, mut adopted) = (Vec::new(), 0, 0);
    let counts = watch::Sender::new(Counts::default());
    for cycle in 0..cycles {
        let shared = create_session(&server.connect()).await;
        let clients = loads(&site, &server, &shared, u64::from(cycle), &mut random, &counts);
        let reader = TaskTracker::new().spawn(read_until_gone(server.connect(), shared.clone()));
        // However busy the machine is, each kill meets work.
        let mut happened = counts.subscribe();
        let is_enough = |counts: &Counts| is_enough(counts, cycle as usize + 1);
        soon("enough to kill", happened.wait_for(is_enough)).await.expect("clients");
        // The moment is the subject of the test.
        tokio::time::sleep(Duration::from_millis(random.random_range(0..250))).await;
        let shim_too = random.random_bool(0.4);
        match shim_too {
            true => site.kill_with_shims(server).await,
            false => server.kill().await,
        }
        let mut sent: Vec<Sent> =
            soon("the clients", clients.join_all()).await.into_iter().flatten().collect();
        let read = soon("the reader", reader).await.expect("no panic");
        let before = site.processes();
        orphans += before.len();
        if random.random_bool(0.3) {
            kill_at_start(&site, &mut random).await;
        }
        server = site.serve(&FLAGS).await;
        // Without those of calls that only begin now.
        let left = site.processes().iter().filter(|pid| before.contains(pid)).count();
        match shim_too {
            true => assert_eq!(left, 0, "left by cycle {cycle}"),
            false => adopted += left,
        }
        let kept = log(&server.connect(), &shared).await;
        assert_eq!(read, kept[..read.len()], "what was read before the kill");
        std::fs::write(client::gate(&site.folder().join("effects"), u64::from(cycle)), "")
            .expect("a gate");
        site.quiet().await;
        check(&server, &mut sent, shim_too).await;
        all.extend(sent);
    }
    // What came in by the repetitions is killed, too.
    site.kill_with_shims(server).await;
    let server = site.serve(&FLAGS).await;
    let clients = server.connect();
    for sent in &all {
        check_task(&clients, sent, true).await;
        let runs = sent.effects();
        assert!(runs <= 1, "{runs} effects of {sent:?}");
    }
    check_everything(&clients, cycles + 1).await;
    let count = |what: fn(&&Sent) -> bool| all.iter().filter(what).count();
    let ends = count(|sent| sent.seen.is_some());
    let cancels = count(|sent| sent.is_cancelled);
    let open = count(|sent| sent.answer.as_ref().is_some_and(|answer| answer.is_open));
    println!(
        "{} calls; {ends} ends seen before a kill, {cancels} cancels, {open} streams open, \
         {orphans} processes left by a kill, {adopted} of them taken up",
        all.len()
    );
    assert!(is_enough(&counts.borrow(), cycles as usize), "{:?}", counts.borrow());
    assert!(orphans > cycles as usize, "only {orphans} processes were left in {cycles} cycles");
    // How many cycles leave a shim alone is random, and some of its processes end by themselves.
    assert!(adopted > cycles as usize / 10, "only {adopted} processes were taken up");
}

/// Enough has happened in so many cycles for the checks to mean something.
fn is_enough(counts: &Counts, cycles: usize) -> bool {
    let Counts { calls, ends, cancels } = *counts;
    calls > cycles * 8 && ends > cycles && cancels > cycles * 2 / 5
}

/// Starts the clients of a cycle.
fn loads(
    site: &Site,
    server: &Program,
    session_id: &str,
    cycle: u64,
    random: &mut StdRng,
    counts: &watch::Sender<Counts>,
) -> JoinSet<Vec<Sent>> {
    let mut clients = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let number = cycle * client::NUMBERS_OF_A_CYCLE + connection * 1_000;
        let random = StdRng::seed_from_u64(random.random());
        let folder = site.folder().join("effects");
        let (session_id, counts) = (session_id.to_owned(), counts.clone());
        clients.spawn(load(server.connect(), session_id, folder, number, random, counts));
    }
    clients
}

async fn create_session(clients: &Clients) -> String {
    let request = v1::CreateSessionRequest::default();
    let answer = soon("a session", clients.tools.clone().create_session(request)).await;
    answer.expect("an answer").into_inner().session.expect("a session").session_id
}

/// Reads a session's events until the server is gone.
pub async fn read_until_gone(clients: Clients, session_id: String) -> Vec<v1::SessionEvent> {
    let mut events = Vec::new();
    let stream = clients.tools.clone().stream_session(stream_of(&session_id)).await;
    let Ok(mut stream) = stream.map(tonic::Response::into_inner) else { return events };
    while let Ok(Some(update)) = stream.message().await {
        events.extend(update.events);
    }
    events
}

/// Kills a server while it opens its store, connects to the shims and takes up calls.
pub async fn kill_at_start(site: &Site, random: &mut StdRng) {
    let live = Live::start(site.command(&["serve", "--listen", "127.0.0.1:0"]));
    tokio::time::sleep(Duration::from_millis(random.random_range(0..200))).await;
    live.signal(Signal::KILL);
    live.ended().await;
}

async fn check(server: &Program, sent: &mut [Sent], shim_too: bool) {
    let clients = server.connect();
    let mut logs = HashMap::new();
    for sent in sent.iter() {
        let Some(answer) = &sent.answer else { continue };
        let session_id = answer.session_id.clone();
        if !logs.contains_key(&session_id) {
            until_rest(&clients, &session_id).await;
            logs.insert(session_id.clone(), log(&clients, &session_id).await);
        }
        check_events(&logs[&session_id], answer);
        check_task(&clients, sent, shim_too).await;
    }
    for sent in sent {
        repeat(&clients, sent).await;
    }
}

/// The task is there, has ended, and its end is true.
async fn check_task(clients: &Clients, sent: &Sent, shim_too: bool) {
    let Some(background_id) = sent.answer.as_ref().and_then(Answer::background_id) else { return };
    let request = v1::GetRequest { background_id };
    let answer = soon("a task", clients.tasks.clone().get(request)).await;
    let task = answer.unwrap_or_else(|status| panic!("{status:?}: {sent:?}"));
    let task = task.into_inner().task.expect("a task");
    let exit = match &task.outcome {
        Some(v1::task::Outcome::Result(result)) => result.exit,
        _ => None,
    };
    let code = |code| Some(v1::tool_result::Exit::ExitCode(code));
    match (task.state(), sent.work) {
        (v1::State::Succeeded, Work::Quick(0) | Work::Slow | Work::Family) => {
            assert_eq!((exit, sent.effects()), (code(0), 1), "{task:?}");
            assert_eq!(client::stdout_of(&task), sent.output(), "{task:?}");
        }
        (v1::State::Failed, Work::Quick(3)) => assert_eq!(exit, code(3), "{task:?}"),
        (v1::State::Lost, _) => {
            assert_eq!(exit, None, "{task:?}");
            assert!(shim_too || sent.effects() == 0, "its shim lives: {task:?}");
        }
        (v1::State::Cancelled, _) => {
            assert!(sent.is_cancelled && task.cancellation.is_some(), "{task:?}");
        }
        other => panic!("{other:?}: {task:?}"),
    }
    if let Some(seen) = &sent.seen {
        assert_eq!(seen, &task, "a client has seen another end");
    }
}

/// The whole log of a session, which must be without a gap and reach its head.
async fn log(clients: &Clients, session_id: &str) -> Vec<v1::SessionEvent> {
    let stream = soon("a log", clients.tools.clone().stream_session(replay_of(session_id))).await;
    let mut stream = stream.expect("a log").into_inner();
    let (mut events, mut head) = (Vec::new(), None);
    while let Some(update) = soon("a log", stream.message()).await.expect("no cut") {
        if let Some(v1::session_update::Control::Snapshot(snapshot)) = update.control {
            head = Some(snapshot.head_sequence);
        }
        events.extend(update.events);
    }
    let head = head.expect("a snapshot");
    let sequences = sequences(&events);
    let last = sequences.last().copied().unwrap_or_default();
    assert_eq!(sequences, (1..=last).collect::<Vec<_>>());
    // Calls that were taken up go on while the log is read.
    assert!(last >= head, "the log ends with {last}, before its head {head}");
    events
}

/// Checks that the log has the acceptance of a call, at most one start after it, and one end.
fn check_events(log: &[v1::SessionEvent], answer: &Answer) {
    let of_call = log.iter().filter(|event| event.call_id == answer.call_id);
    let payloads: Vec<_> = of_call.filter_map(|event| event.payload.as_ref()).collect();
    let count = |kind: fn(&Payload) -> bool| payloads.iter().filter(|p| kind(p)).count();
    assert_eq!(count(|p| matches!(p, Payload::ToolCallAccepted(_))), 1, "{payloads:?}");
    assert!(count(|p| matches!(p, Payload::ToolCallStarted(_))) <= 1, "{payloads:?}");
    let is_end = |payload: &&&Payload| matches!(payload, Payload::ToolCallFinished(_));
    assert_eq!(payloads.iter().filter(is_end).count(), 1, "{payloads:?}");
    assert!(matches!(payloads.first(), Some(Payload::ToolCallAccepted(_))), "{payloads:?}");
    assert!(payloads.last().iter().all(is_end), "{payloads:?}");
    if let (Some(result), Some(Payload::ToolCallFinished(finished))) =
        (answer.result(), payloads.last())
    {
        let logged = v1::tool_call_finished::Outcome::Result(result.clone());
        assert_eq!(finished.outcome, Some(logged), "a client got another result");
    }
}

/// The same request again is the same call, if it had been acknowledged.
async fn repeat(clients: &Clients, sent: &mut Sent) {
    let again = sent.request.clone().send(&mut clients.clone()).await;
    let again = again.unwrap_or_else(|status| panic!("{status:?}: {sent:?}"));
    match &sent.answer {
        Some(first) => {
            assert!(again.replayed, "{again:?}: {sent:?}");
            let ids = |answer: &Answer| (answer.session_id.clone(), answer.call_id.clone());
            assert_eq!(ids(&again), ids(first));
            if !first.is_open {
                assert_eq!(again.result(), first.result(), "another result: {sent:?}");
            }
        }
        // It may or may not have reached the server before; now it has.
        None => sent.answer = Some(again),
    }
}

#[tokio::test]
async fn commands_that_stream_or_wait_report_the_loss() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let command = "for i in 1 2 3; do echo line $i; done; sleep 300";
    let id = server.cli(&["start", "bash", command]).await.exits(0).line().to_owned();
    let mut streams = Live::start(server.command(&["run", "bash", "--", command]));
    let mut follows = Live::start(server.command(&["output", "-f", &id]));
    let waits = Live::start(server.command(&["wait", &id]));
    streams.stdout.until("line 3\n").await;
    follows.stdout.until("line 3\n").await;
    let address = server.endpoint.trim_start_matches("http://").to_owned();
    site.kill_with_shims(server).await;
    streams.stderr.until("the connection was lost").await;
    let _server = site.serve(&["--listen", &address]).await;
    let streamed = streams.ended().await.exits(71);
    assert_eq!(streamed.stdout(), "line 1\nline 2\nline 3\n", "each once");
    assert!(streamed.stderr().contains("lost"), "{streamed}");
    let waited = waits.ended().await.exits(71);
    assert!(waited.stderr().contains("lost"), "{waited}");
    assert_eq!(follows.ended().await.exits(0).stdout(), "line 1\nline 2\nline 3\n");
    assert_eq!(site.processes(), [0; 0]);
}

#[tokio::test]
async fn commands_that_stream_or_wait_go_on_with_the_next_server() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let gate = site.folder().join("gate");
    let command = format!(
        "echo line 1; until [ -e {} ]; do sleep 0.02; done; for i in $(seq 2 4000); do \
         echo line $i; done; exit 9",
        gate.display()
    );
    let id = server.cli(&["start", "bash", &command]).await.exits(0).line().to_owned();
    let mut streams = Live::start(server.command(&["run", "bash", "--", &command]));
    let mut follows = Live::start(server.command(&["output", "-f", &id]));
    let waits = Live::start(server.command(&["wait", &id]));
    streams.stdout.until("line 1\n").await;
    follows.stdout.until("line 1\n").await;
    let address = server.endpoint.trim_start_matches("http://").to_owned();
    server.kill().await;
    streams.stderr.until("the connection was lost").await;
    // All of the rest is written while there is no server.
    std::fs::write(&gate, "").expect("a gate");
    site.quiet().await;
    let server = site.serve(&["--listen", &address]).await;
    let all: String = (1..=4_000).map(|number| format!("line {number}\n")).collect();
    // Its caller had gone for a moment: the call was parked, and says where its rest is.
    let streamed = streams.ended().await.exits(75);
    assert_eq!(streamed.stdout(), "line 1\n");
    let parked = streamed.stderr().rsplit("callpark wait ").next().unwrap_or_default().trim();
    assert_eq!(server.cli(&["wait", parked]).await.exits(9).stdout(), all);
    assert_eq!(waits.ended().await.exits(9).stdout(), all);
    assert_eq!(follows.ended().await.exits(0).stdout(), all);
    let shown = server.cli(&["show", "--json", &id]).await.exits(0).json();
    assert_eq!(shown["state"], "STATE_FAILED", "{shown}");
}

#[tokio::test]
async fn a_request_that_never_came_through_runs_once_when_it_is_repeated() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let mut clients = server.connect();
    let session_id = create_session(&clients).await;
    let marker = site.folder().join("marker");
    let request = crate::support::waiting::start_of(v1::RunToolRequest {
        session_id,
        request_id: request_id(),
        ..bash(&format!("echo >> {}", marker.display()))
    });
    server.kill().await;
    soon("a refusal", clients.tasks.start(request.clone())).await.expect_err("no server");
    let server = site.serve(&[]).await;
    let mut clients = server.connect();
    for replayed in [false, true] {
        let answer = soon("a start", clients.tasks.start(request.clone())).await;
        let answer = answer.expect("an answer").into_inner();
        assert_eq!(answer.replayed, replayed);
        server.cli(&["wait", &answer.task.expect("a task").background_id]).await.exits(0);
    }
    assert_eq!(std::fs::read_to_string(marker).expect("a marker"), "\n");
}
