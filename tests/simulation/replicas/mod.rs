//! Three engines over one database, with partitions, stalls, kills and skewed clocks, on simulated time.
//!
//! The engines are those of the server, with all that a replica does. The database is a store in memory
//! with the rules of ownership of PostgreSQL's, and each engine reaches it through a [`link`] of its own,
//! which can fail. A change whose answer is lost may have been made. Two things are left out:
//!
//! - A process that is paused, because all engines have one runtime. The nearest is a link that stalls.
//! - A commit whose outcome stays unknown, because a store never says that it failed: it waits for the
//!   database, and looks the commit up.
//!
//! The seed decides all faults and all work. The ids that the engines make, and the order in which tokio
//! takes branches that are ready at the same time, it doesn't: try a seed that doesn't fail again a few
//! times.

mod check;
mod clients;
mod database;
mod faults;
mod history;
mod link;
mod linked_store;
mod readers;
mod tools;
mod world;

use std::sync::Arc;
use std::time::Duration;

use callpark::model::{Principal, Scopes, Tenant};
use futures::FutureExt as _;
use futures::future::{join, join_all};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use clients::Client;
use database::{Mistake, Record};
use history::Chronicle;
use world::World;

/// The number of seeds by default.
const RUNS: u64 = 80;

/// The number of callers, each with a reader of one of its sessions.
const CALLERS: usize = 3;

/// The number of consumers of follow-ups.
const CONSUMERS: usize = 2;

/// The time after the last fault within which all must come to rest: that of the longest call, beside
/// those of the calls behind it.
const REST: Duration = Duration::from_secs(600);

/// The interval of the looks whether all is at rest.
const LOOK: Duration = Duration::from_millis(500);

/// The counts of a run.
#[derive(Debug, Clone, Default)]
struct Report {
    violations: Vec<String>,
    record: Record,
    faults: usize,
    forwarded: usize,
    acknowledged: usize,
    calls: usize,
}

fn tenant() -> Tenant {
    Tenant::new("simulation")
}

fn who() -> Principal {
    Principal { tenant: tenant(), name: "simulation".into(), scopes: Scopes::ALL }
}

fn fork(random: &mut StdRng) -> StdRng {
    StdRng::seed_from_u64(random.random())
}

/// Runs what the seed says.
fn run(seed: u64, mistake: Option<Mistake>) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(simulate(StdRng::seed_from_u64(seed), mistake))
}

async fn simulate(mut random: StdRng, mistake: Option<Mistake>) -> Report {
    let world = World::new(&mut random, mistake);
    let chronicle = Arc::new(Chronicle::default());
    let done = CancellationToken::new();
    world.run();
    let client = |random: &mut StdRng| Client {
        world: world.clone(),
        chronicle: chronicle.clone(),
        random: fork(random),
    };
    let (mut callers, mut followers) = (Vec::new(), Vec::new());
    for _ in 0..CALLERS {
        let (own, of_reader) = watch::channel(None);
        callers.push(clients::call(client(&mut random), own).boxed_local());
        let reader = readers::read(client(&mut random), of_reader, done.clone());
        followers.push(reader.boxed_local());
    }
    for _ in 0..CONSUMERS {
        followers.push(clients::consume(client(&mut random), done.clone()).boxed_local());
    }
    let faults = faults::make(&world, fork(&mut random));
    let work = async {
        let (_, faults) = join(join_all(callers), faults).await;
        while !world.database.unrest().is_empty() {
            sleep(LOOK).await;
        }
        done.cancel();
        faults
    };
    let all = timeout(faults::FAULTS + REST, join(work, join_all(followers))).await;
    let history = chronicle.history();
    let mut violations = check::violations(&world, &history);
    if all.is_err() {
        violations.insert(0, "it has not come to rest".to_owned());
        violations.extend(world.database.unrest());
    }
    Report {
        violations,
        record: world.database.record(),
        faults: all.map_or(0, |(faults, _)| faults),
        forwarded: history.forwarded,
        acknowledged: history.acknowledged.len(),
        calls: history.accepted.len(),
    }
}

/// Returns all that is wrong with the run of this seed.
fn wrong_with(seed: u64) -> (Option<String>, Report) {
    let report = std::panic::catch_unwind(|| run(seed, None));
    let report = report
        .unwrap_or_else(|_| Report { violations: vec!["a panic".to_owned()], ..Report::default() });
    let is_wrong = !report.violations.is_empty();
    let wrong =
        is_wrong.then(|| format!("SIMULATION_SEED={seed}:\n  {}", report.violations.join("\n  ")));
    (wrong, report)
}

#[test]
fn every_invariant_of_replicas_holds_whatever_fails_between_them() {
    let outcomes = crate::try_seeds(RUNS, wrong_with);
    let sum = |count: fn(&Report) -> usize| outcomes.iter().map(count).sum::<usize>();
    let (refused, taken_over) = (sum(|one| one.record.refused), sum(|one| one.record.taken_over));
    println!(
        "{} runs: {} faults, {} calls, {} forwarded, {} follow-ups, {} dead, {taken_over} taken \
         over, {refused} refused",
        outcomes.len(),
        sum(|one| one.faults),
        sum(|one| one.calls),
        sum(|one| one.forwarded),
        sum(|one| one.acknowledged),
        sum(|one| one.record.dead),
    );
    // Otherwise the faults are too tame.
    let is_proof = outcomes.len() as u64 >= RUNS;
    assert!(!is_proof || (refused > 0 && taken_over > 0), "nobody lost a session");
}

/// Mistakes, by which the invariants show that they see something.
#[test]
fn the_mistakes_of_a_database_are_noticed() {
    let mistakes =
        [Mistake::UncheckedOwners, Mistake::ForgottenAppends, Mistake::ForgottenRequests];
    for mistake in mistakes {
        let found = (0..RUNS).map(|seed| (seed, run(seed, Some(mistake)).violations));
        let found = found.into_iter().find(|(_, violations)| !violations.is_empty());
        let Some((seed, violations)) = found else { panic!("{mistake:?} is not noticed") };
        println!("{mistake:?} is noticed with the seed {seed}:\n  {}", violations.join("\n  "));
    }
}
