//! `kill -9` of the server, again and again: nothing that runs is lost.

use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio_util::sync::CancellationToken;

use super::owners::Bystanders;
use super::worker::Job;
use crate::history::{History, Recorder, SessionReader, Shims, check_everything_with};
use crate::program::crash::kill_at_start;
use crate::support::program::{Program, Site};
use crate::support::proofs::repetitions;
use crate::support::streams::sequences;
use crate::support::waiting::lines_of;
use crate::support::{remote, seed, soon};

/// The calls that each server is asked to start.
const CALLS_OF_A_CYCLE: usize = 5;

/// The cycles that share a session, whose log is read in each of them.
const CYCLES_OF_A_SESSION: usize = 10;

/// The calls whose whole output is compared with what readers were given.
const CALLS_COMPARED_MAX: usize = CYCLES_OF_A_SESSION * CALLS_OF_A_CYCLE;

/// The starts of a server that are killed in a row, now and then.
const KILLED_STARTS: usize = 3;

/// The flags of servers whose calls run beside each other.
pub const FLAGS: [&str; 6] =
    ["--max-running-calls", "1000", "--max-live-tasks", "1000", "--drain", "50ms"];

#[tokio::test]
async fn nothing_whose_shim_lives_is_lost_and_every_byte_is_there() {
    let mut random = StdRng::seed_from_u64(seed());
    let site = Site::new();
    let files = site.folder().join("files");
    std::fs::create_dir(&files).expect("a folder");
    let mut bystanders = Bystanders::start(&site);
    let cycles = repetitions(300, 8);
    let mut server = site.serve(&FLAGS).await;
    let recorder = Recorder::new();
    let (mut session_id, mut reader) = (String::new(), SessionReader::new(&recorder, ""));
    let leave = CancellationToken::new();
    let mut jobs: Vec<Job> = Vec::new();
    let (mut stops, mut adopted) = (0, 0);
    for cycle in 0..cycles {
        if cycle % CYCLES_OF_A_SESSION == 0 {
            session_id = remote::session(&server.connect()).await;
            reader = SessionReader::new(&recorder, &session_id);
        }
        for _ in 0..CALLS_OF_A_CYCLE {
            let session_id = if random.random_bool(0.6) { &session_id } else { "" };
            jobs.push(Job::new(&files, jobs.len(), session_id, &mut random));
        }
        let clients = server.connect();
        let starts = jobs.iter_mut().filter(|job| job.id.is_none()).map(|job| job.start(&clients));
        // The moment is the subject of the test.
        let kill = async {
            tokio::time::sleep(Duration::from_millis(random.random_range(10..250))).await;
            let running = site.processes().len();
            match random.random_bool(0.75) {
                true => server.kill().await,
                false => drop(server.terminate().await),
            }
            running
        };
        // One reader of all servers, each of which goes on where the one before was killed.
        let read = reader.read(&clients, true, usize::MAX, &leave);
        let (_, running, _) = tokio::join!(join_all(starts), kill, soon("the reader", read));
        adopted += running;
        stops += 1;
        if random.random_bool(0.3) {
            for _ in 0..random.random_range(1..=KILLED_STARTS) {
                kill_at_start(&site, &mut random).await;
                stops += 1;
            }
        }
        server = site.serve(&FLAGS).await;
        check_cycle(&server, &session_id, &jobs).await;
        bystanders.check();
    }
    check_ends(&server, &mut jobs).await;
    site.quiet().await;
    bystanders.check();
    let works = jobs.iter().take(CALLS_COMPARED_MAX).map(Job::work).collect();
    let history = recorder.history();
    let known = History { stops, shims: Shims::Lived, works, is_complete: false, ..history };
    check_everything_with(&server.connect(), known).await;
    println!("{} calls, {adopted} ran at a stop", jobs.len());
    assert!(adopted > cycles, "too little was running");
}

/// Checks that a server continues the life of the one before: the log has no gap, and of a random call
/// the beginning of its output is there.
async fn check_cycle(server: &Program, session_id: &str, jobs: &[Job]) {
    let clients = server.connect();
    let log = remote::log(&clients, session_id).await;
    let all: Vec<i64> = (1..).take(log.len()).collect();
    assert_eq!(sequences(&log), all, "a gap");
    if let Some(job) = jobs.get(log.len() % jobs.len()) {
        job.check_prefix(&clients).await;
    }
}

/// Waits for the ends of all calls and checks them. None is lost, since the shim has lived all the time:
/// one whose server was killed before it could start the process is begun by the next one.
pub async fn check_ends(server: &Program, jobs: &mut [Job]) {
    let clients = server.connect();
    for job in jobs {
        if job.id.is_none() {
            assert!(job.start(&clients).await, "no answer");
        }
        let id = job.id.as_deref().expect("an id");
        let task = remote::ended(&clients, id).await;
        job.check(&clients, &task).await;
    }
}

#[tokio::test]
async fn a_server_is_killed_three_times_while_it_adopts() {
    let mut random = StdRng::seed_from_u64(seed());
    let site = Site::new();
    let server = site.serve(&[]).await;
    let gate = site.folder().join("gate");
    let begun = site.folder().join("begun");
    let command =
        |number: usize| format!("echo >> {}; {}", begun.display(), flood_behind(&gate, number));
    let mut ids = Vec::new();
    for number in 0..20 {
        let call = crate::support::bash(&command(number));
        ids.push(remote::start(&server.connect(), call).await.background_id);
    }
    // One that has not begun would be lost with its server.
    lines_of(&begun, ids.len()).await;
    server.kill().await;
    for _ in 0..KILLED_STARTS {
        kill_at_start(&site, &mut random).await;
    }
    std::fs::write(&gate, "").expect("a gate");
    for _ in 0..KILLED_STARTS {
        kill_at_start(&site, &mut random).await;
    }
    let server = site.serve(&[]).await;
    let clients = server.connect();
    for (number, id) in ids.iter().enumerate() {
        let task = remote::ended(&clients, id).await;
        assert_eq!(super::code_of(&task), i32::try_from(number).expect("small"), "{task:?}");
        let written: String = (1..=5_000).map(|line| format!("{number} {line}\n")).collect();
        super::check_outputs(&clients, id, [written.as_bytes(), b""]).await;
    }
    let known = History { stops: 1, shims: Shims::Lived, ..History::default() };
    check_everything_with(&clients, known).await;
}

fn flood_behind(gate: &Path, number: usize) -> String {
    format!(
        "until [ -e {} ]; do sleep 0.02; done; seq -f '{number} %.0f' 1 5000; exit {number}",
        gate.display()
    )
}
