//! The time that appends to the store have recently taken.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The length of a period, in seconds.
const PERIOD_SECONDS: u64 = 15;

/// The bits of the longest time in a period, in microseconds: up to 12 days.
const MICROS_BITS: u32 = 40;

/// The longest time of an append in the present period and in the one before it.
///
/// An append is as slow as the disk: what must be stored by a certain time begins earlier by this time.
#[derive(Debug)]
pub(crate) struct AppendTime {
    began: Instant,
    /// Each the number of a period, and the longest time in it. Even periods share one, odd ones the
    /// other.
    periods: [AtomicU64; 2],
}

impl AppendTime {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), periods: Default::default() }
    }

    /// Counts an append that took so long.
    pub(super) fn note(&self, elapsed: Duration) {
        self.note_in(self.period(), elapsed);
    }

    fn note_in(&self, period: u64, elapsed: Duration) {
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let micros = micros.min((1 << MICROS_BITS) - 1);
        // A later period has a higher number, so it wins over the one that it replaces.
        let of_period = if period.is_multiple_of(2) { &self.periods[0] } else { &self.periods[1] };
        of_period.fetch_max((period << MICROS_BITS) | micros, Ordering::Relaxed);
    }

    /// Returns the longest time that an append took in the last 15 to 30 seconds.
    pub(crate) fn longest(&self) -> Duration {
        self.longest_in(self.period())
    }

    fn longest_in(&self, period: u64) -> Duration {
        let micros = self.periods.iter().filter_map(|longest| {
            let longest = longest.load(Ordering::Relaxed);
            let is_recent = (longest >> MICROS_BITS) + 1 >= period;
            is_recent.then_some(longest & ((1 << MICROS_BITS) - 1))
        });
        Duration::from_micros(micros.max().unwrap_or(0))
    }

    fn period(&self) -> u64 {
        self.began.elapsed().as_secs() / PERIOD_SECONDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_time_counts_until_it_is_old() {
        let times = AppendTime { began: Instant::now(), periods: Default::default() };
        let millis = Duration::from_millis;
        assert_eq!(times.longest_in(0), Duration::ZERO);
        times.note_in(0, millis(500));
        times.note_in(0, millis(2));
        assert_eq!(times.longest_in(0), millis(500));
        times.note_in(1, millis(3));
        assert_eq!(times.longest_in(1), millis(500));
        assert_eq!(times.longest_in(2), millis(3));
        assert_eq!(times.longest_in(4), Duration::ZERO);
        times.note_in(4, millis(1));
        assert_eq!(times.longest_in(4), millis(1), "shorter than in the period before");
        times.note_in(5, Duration::MAX);
        assert!(times.longest_in(5) > Duration::from_secs(24 * 3_600));
    }
}
