//! The faults of a run: partitions, stalls, kills, stops and clocks that are set.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::time::{Instant, sleep};

use super::link::Condition;
use super::world::{SITES, World};

/// The time in which faults begin.
pub const FAULTS: Duration = Duration::from_secs(75);

/// Makes faults, and heals all of them at the end. Returns their number.
pub async fn make(world: &Arc<World>, mut random: StdRng) -> usize {
    let (began, mut faults) = (Instant::now(), 0);
    while began.elapsed() < FAULTS {
        sleep(Duration::from_millis(random.random_range(200..6_000))).await;
        fault(world, &mut random);
        faults += 1;
    }
    sleep(Duration::from_millis(random.random_range(0..10_000))).await;
    world.heal();
    faults
}

fn fault(world: &Arc<World>, random: &mut StdRng) {
    let site = random.random_range(0..SITES);
    let millis = match random.random_bool(0.5) {
        true => random.random_range(100..4_000),
        false => random.random_range(4_000..25_000),
    };
    let span = Duration::from_millis(millis);
    let is_separation = matches!(random.random_range(0..12), 0 | 1);
    if is_separation {
        let other = (site + random.random_range(1..SITES)) % SITES;
        world.separate(site, other, true);
        later(world, span, move |world| world.separate(site, other, false));
        return;
    }
    match random.random_range(0..12) {
        0 | 1 => disturb(world, site, Condition::Cut, span),
        2 | 3 => disturb(world, site, Condition::Lossy, span),
        4..=6 => disturb(world, site, Condition::Stalled, span),
        7 => disturb(world, site, Condition::Slow, span),
        8 => {
            // The database is away.
            let condition = [Condition::Cut, Condition::Stalled][random.random_range(0..2)];
            (0..SITES).for_each(|site| disturb(world, site, condition, span));
        }
        9 => world.kill(site, span),
        10 => world.stop(site, span),
        _ => world.set_clock(site, random.random_range(-100_000..100_000)),
    }
}

/// Sets the state of a network for a while.
fn disturb(world: &Arc<World>, site: usize, condition: Condition, span: Duration) {
    world.set(site, condition);
    later(world, span, move |world| world.set(site, Condition::Healthy));
}

fn later(world: &Arc<World>, span: Duration, act: impl FnOnce(&World) + Send + 'static) {
    let of_task = world.clone();
    world.tracker.spawn(async move {
        sleep(span).await;
        act(&of_task);
    });
}
