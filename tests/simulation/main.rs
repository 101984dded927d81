//! Clients and a server in a simulated network: partitions, delays, crashes, and a store that fails
//! now and then, on simulated time.
//!
//! The clients are `callpark-client`, the server is the whole of it above its store: services,
//! engine, HTTP/2. The store is the one in memory, which outlives a crash of the server as a disk
//! would, and takes its time. A run is drawn from a seed: who does what, and what goes wrong when.
//! After the last fault everything must come to its end, and each invariant of [`invariants`] hold
//! over what the clients saw and what the log says.
//!
//! [`replicas`] does the same with three engines over one database, without a network of HTTP/2.
//!
//! A failure prints its seed. `SIMULATION_SEED=7 cargo test --test simulation` runs that one again,
//! and `SIMULATION_RUNS=5000` so many. The seed decides all faults and all work; the order in
//! which tokio takes branches that are ready at the same time it doesn't, so try a seed that
//! doesn't fail again a few times.

#![expect(unreachable_pub, reason = "the modules are a small library of this program")]
#![expect(clippy::expect_used, clippy::panic, reason = "that is how a test says what is wrong")]

#[path = "../it/support/appends.rs"]
mod appends;
mod clients;
mod disk;
mod faults;
mod history;
mod invariants;
mod network;
mod replicas;
mod run;
mod server;
mod tool;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of seeds by default.
const RUNS: u64 = 200;

/// Threads that try them.
const THREADS: usize = 2;

#[expect(clippy::disallowed_methods, reason = "of this test, not of the server")]
fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// All that is wrong with the run of this seed.
fn wrong_with(seed: u64) -> Option<String> {
    let run = std::panic::catch_unwind(|| run::run(seed));
    let found = match run {
        Ok(Ok(history)) => {
            let found = invariants::violations(&history);
            (!found.is_empty()).then(|| found.join("\n  "))
        }
        Ok(Err(error)) => Some(error),
        Err(_) => Some("a panic".to_owned()),
    };
    found.map(|found| format!("SIMULATION_SEED={seed}:\n  {found}"))
}

/// Tries the seeds of this run: so many by default, or those that variables of the environment name. Panics
/// with those of them that fail, and returns the other results of each.
fn try_seeds<T: Send>(runs: u64, wrong_with: impl Fn(u64) -> (Option<String>, T) + Sync) -> Vec<T> {
    let seeds: Vec<u64> = match variable("SIMULATION_SEED") {
        Some(seed) => vec![seed],
        None => match variable("SIMULATION_RUNS") {
            // Others each time.
            Some(runs) => (rand::random::<u32>().into()..).take(runs as usize).collect(),
            None => (0..runs).collect(),
        },
    };
    println!("{} seeds from {}", seeds.len(), seeds[0]);
    let (next, failures) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let (failure, result) = wrong_with(*seed);
                    failures.lock().expect("no panic").extend(failure);
                    results.lock().expect("no panic").push(result);
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic");
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), seeds.len(), failures.join("\n"));
    results.into_inner().expect("no panic")
}

#[test]
fn every_invariant_holds_whatever_the_network_does() {
    try_seeds(RUNS, |seed| (wrong_with(seed), ()));
}
