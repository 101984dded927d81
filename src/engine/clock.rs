//! Time: the clock of the machine, which is read here and nowhere else, the even time of an engine, and
//! sleeping until a deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use super::Shared;
use crate::model::Timestamp;

/// The interval of the checks whether the clock was set.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The shortest step that is one. A clock that is corrected gradually moves far less between two checks.
const STEP_MICROS_MIN: u64 = 500_000;

/// A source of the time.
pub trait Clock: Send + Sync + 'static {
    /// Returns the time of day. It steps when the clock is set.
    fn now(&self) -> Timestamp;

    /// Returns the time since a moment that stays the same. It never steps, and it goes on while the
    /// machine sleeps.
    fn uptime(&self) -> Duration;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "only this function reads the clock")]
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }

    fn uptime(&self) -> Duration {
        let time = clock_gettime(ClockId::Boottime);
        // Neither is ever negative.
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
    }
}

/// The time of an engine: that of the clock at its start, and from then on that plus the time that has
/// passed.
///
/// So it is even: when the clock is set, no lease, retention or duration becomes longer or shorter.
/// Timestamps go on from the time before, until the next start.
pub(crate) struct EvenTime {
    clock: Arc<dyn Clock>,
    /// The time at the uptime zero, in microseconds.
    origin_micros: AtomicI64,
}

impl EvenTime {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let time = Self { clock, origin_micros: AtomicI64::new(0) };
        time.origin_micros.store(time.ahead_micros(), Ordering::Relaxed);
        time
    }

    pub(crate) fn now(&self) -> Timestamp {
        let origin = Timestamp::from_micros(self.origin_micros.load(Ordering::Relaxed));
        origin.saturating_add(self.clock.uptime())
    }

    /// Sets the time to another one, before anything depends on it.
    pub(super) fn set(&self, time: Timestamp) {
        let micros = time.as_micros().saturating_sub(self.now().as_micros());
        self.origin_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Sets the time to the newest in the store, if that is later: the clock was set back while the
    /// server was down, or when an earlier one was running. Otherwise what that one left would be due
    /// too late, by as much. Returns the difference, or `None` if there is none.
    pub(super) fn go_on_from(&self, newest: Timestamp) -> Option<Duration> {
        let behind = newest.since(self.now());
        let micros = i64::try_from(behind.as_micros()).unwrap_or(i64::MAX);
        self.origin_micros.fetch_add(micros, Ordering::Relaxed);
        (micros > 0).then_some(behind)
    }

    /// Returns the time by which the clock is ahead of this time, in microseconds.
    fn ahead_micros(&self) -> i64 {
        self.clock.now().as_micros().saturating_sub(self.now().as_micros())
    }
}

/// Starts a task that reports when the clock is set, until the engine stops.
pub(super) fn watch(shared: &Arc<Shared>) {
    let tracker = &shared.tracker;
    let shared = shared.clone();
    tracker.spawn(async move {
        let mut ahead = shared.time.ahead_micros();
        let pause = || tokio::time::sleep(CHECK_INTERVAL);
        while shared.stopping.run_until_cancelled(pause()).await.is_some() {
            let before = std::mem::replace(&mut ahead, shared.time.ahead_micros());
            if ahead.abs_diff(before) >= STEP_MICROS_MIN {
                report(&shared, ahead.abs_diff(before), ahead > before);
            }
        }
    });
}

fn report(shared: &Shared, micros: u64, forward: bool) {
    shared.metrics.clock_stepped(forward);
    let step = Duration::from_micros(micros);
    let direction = if forward { "forward" } else { "back" };
    tracing::warn!(
        ?step,
        direction,
        "the clock of the machine was set: times go on from before it \
        until the server is restarted"
    );
}

/// Returns the time of the next look at a time that may come closer meanwhile: half of the way to it.
pub(crate) fn look_at(time: Option<Instant>) -> Option<Instant> {
    const PAUSE_MIN: Duration = Duration::from_millis(20);
    let now = Instant::now();
    time.map(|time| (now + (time.saturating_duration_since(now) / 2).max(PAUSE_MIN)).min(time))
}

/// Sleeps until the deadline, or forever if there is none.
pub(crate) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600 * 1_000_000;

    /// A clock that can be set, 10 s after the machine was started.
    #[derive(Default)]
    struct Hands {
        day_micros: AtomicI64,
        passed_micros: AtomicI64,
    }

    impl Hands {
        fn pass(&self, micros: i64) {
            self.day_micros.fetch_add(micros, Ordering::Relaxed);
            self.passed_micros.fetch_add(micros, Ordering::Relaxed);
        }

        fn set(&self, by_micros: i64) {
            self.day_micros.fetch_add(by_micros, Ordering::Relaxed);
        }
    }

    impl Clock for Hands {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(100 * HOUR + self.day_micros.load(Ordering::Relaxed))
        }

        fn uptime(&self) -> Duration {
            let passed = self.passed_micros.load(Ordering::Relaxed);
            Duration::from_secs(10) + Duration::from_micros(passed.unsigned_abs())
        }
    }

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(100 * HOUR + micros)
    }

    #[test]
    fn time_passes_evenly_while_the_clock_is_set() {
        let clock = Arc::new(Hands::default());
        let time = EvenTime::new(clock.clone());
        assert_eq!(time.now(), at(0));
        for (passed, step) in [(1, HOUR), (2, -2 * HOUR), (3, 24 * HOUR), (4, -48 * HOUR)] {
            clock.pass(1);
            clock.set(step);
            assert_eq!(time.now(), at(passed));
        }
        assert_eq!(time.ahead_micros(), -25 * HOUR);
    }

    #[test]
    fn time_goes_on_from_the_newest_in_the_store() {
        let clock = Arc::new(Hands::default());
        let time = EvenTime::new(clock.clone());
        assert_eq!(time.go_on_from(at(-5)), None);
        assert_eq!(time.now(), at(0));
        assert_eq!(time.go_on_from(at(HOUR)), Some(Duration::from_secs(3_600)));
        clock.pass(7);
        assert_eq!(time.now(), at(HOUR + 7));
    }

    #[test]
    fn the_clock_of_the_machine_goes_on() {
        let (now, uptime) = (SystemClock.now(), SystemClock.uptime());
        assert!(now > Timestamp::from_micros(0) && uptime > Duration::ZERO);
        assert!(SystemClock.uptime() >= uptime);
    }
}
