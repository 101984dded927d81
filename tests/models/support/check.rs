//! Runs a story under many orders of its steps.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};

use crate::time;

/// Steps that a story may take: far more than any does, so that one that goes round in circles
/// is found.
const STEPS_MAX: usize = 200_000;

/// The changes of priority in an order at which the scheduler looks for those that matter.
const PRIORITY_CHANGES: usize = 3;

/// Time leaps up to here; who waits for longer waits for ever.
const TIME_LIMIT: Duration = Duration::from_secs(100);

/// Tries the story in so many random orders, and in as many that let one task run until
/// another is put before it.
#[track_caller]
pub fn check<F>(runs: usize, story: fn() -> F)
where
    F: Future<Output = ()> + 'static,
{
    if let Some(file) = variable("MODELS_SCHEDULE") {
        let scheduler = ReplayScheduler::new_from_file(file).expect("a file with a schedule");
        return run(scheduler, story);
    }
    let factor = variable("MODELS_RUNS").map_or(1, |runs| runs.parse().expect("a number"));
    let runs = runs * factor;
    run(RandomScheduler::new(runs), story);
    run(PctScheduler::new(PRIORITY_CHANGES, runs), story);
}

/// The same, and each of these outcomes comes about in one of the orders: a model that never gets
/// to its race fails.
#[track_caller]
pub fn check_both<F>(runs: usize, outcomes: [&'static str; 2], story: fn() -> F)
where
    F: Future<Output = ()> + 'static,
{
    SEEN.take();
    check(runs, story);
    let seen = SEEN.take();
    let is_replay = variable("MODELS_SCHEDULE").is_some();
    println!("seen: {seen:?}");
    for outcome in outcomes {
        assert!(is_replay || seen.contains_key(outcome), "no order led to: {outcome}");
    }
}

/// Notes how a story came out.
pub fn saw(outcome: &'static str) {
    SEEN.with_borrow_mut(|seen| *seen.entry(outcome).or_insert(0_u32) += 1);
}

thread_local! {
    // All orders of a story are tried on one thread.
    static SEEN: RefCell<BTreeMap<&'static str, u32>> = const { RefCell::new(BTreeMap::new()) };
}

/// Tries the story in every order, without time passing.
#[track_caller]
pub fn check_all<F>(story: fn() -> F)
where
    F: Future<Output = ()> + 'static,
{
    let runs_max = 200_000;
    let tried = Runner::new(DfsScheduler::new(Some(runs_max), false), config()).run(move || {
        time::reset();
        shuttle::future::block_on(story());
    });
    assert!(tried < runs_max, "there are more than {runs_max} orders");
    println!("all {tried} orders tried");
}

/// The same for a story with a mistake: it fails, and says so in these words.
#[track_caller]
pub fn finds<F>(words: &str, runs: usize, story: fn() -> F)
where
    F: Future<Output = ()> + 'static,
{
    let failed = std::panic::catch_unwind(|| check(runs, story));
    let cause = failed.expect_err("the mistake is found in one of the orders");
    let said = cause.downcast_ref::<String>().cloned();
    let said = said.or_else(|| cause.downcast_ref::<&str>().map(|said| (*said).to_owned()));
    let said = said.expect("words");
    assert!(said.contains(words), "it failed in other words: {said}");
}

fn run<F>(scheduler: impl Scheduler + 'static, story: fn() -> F)
where
    F: Future<Output = ()> + 'static,
{
    Runner::new(scheduler, config()).run(move || {
        time::reset();
        shuttle::future::block_on(async move {
            drop(shuttle::future::spawn(time::pass(TIME_LIMIT)));
            story().await;
        });
    });
}

fn config() -> Config {
    let mut config = Config::new();
    // The engine's futures are large in a build without optimization.
    config.stack_size = 512 * 1024;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config
}

#[expect(clippy::disallowed_methods, reason = "a test is configured by its environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
