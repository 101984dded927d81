//! The rate of one kind of requests.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// A bucket that fills at a rate, up to a burst.
pub(super) struct Rate {
    limiter: DefaultDirectRateLimiter,
    clock: DefaultClock,
    /// The time in which an empty bucket becomes full.
    pub(super) fill_time: Duration,
}

impl Rate {
    /// Creates a full bucket, or returns `None` if no rate is set.
    pub(super) fn new(per_second: Option<f64>, burst: Option<u32>) -> Option<Self> {
        let period = Duration::try_from_secs_f64(per_second?.recip()).ok()?;
        let burst = burst.unwrap_or_else(|| burst_of(per_second.unwrap_or_default()));
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(period)?.allow_burst(burst);
        let clock = DefaultClock::default();
        let limiter = RateLimiter::direct_with_clock(quota, clock.clone());
        Some(Self { limiter, clock, fill_time: period.saturating_mul(burst.get()) })
    }

    /// Takes one request out of the bucket.
    ///
    /// # Errors
    ///
    /// The bucket is empty. The error is the time after which it has a request again.
    pub(super) fn take(&self) -> Result<(), Duration> {
        self.limiter.check().map_err(|until| until.wait_time_from(self.clock.now()))
    }
}

/// The requests of one second, and at least one.
fn burst_of(per_second: f64) -> u32 {
    // A rate is at most 1e6, as its table is checked, and the conversion saturates.
    (per_second.ceil() as u32).max(1)
}
