//! The time until which the runs of a shim go on without another word of a server.
//!
//! A server that shares its store with others is declared dead if it gives no sign for some time, and
//! others take over its calls. The processes of its runs must have ended before. So it lets its shims
//! keep them for a shorter time, again and again.
//!
//! A deadline stays until a server sets another one or none. A server that only connects changes nothing:
//! others may be about to take over the calls, and only a server that still has the right to them, which
//! says so, may let them go on.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// An order to let the runs of a shim go on for a time, or without a limit.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct KeepFor {
    /// The time from the order on, or nothing if there is no limit.
    #[prost(uint64, optional, tag = "1")]
    time_ms: Option<u64>,
    /// The time of the order on the clock of the system, which both sides share and which starts with the
    /// system, or 0 if it is not known. An order that waits lets nothing go on for longer.
    #[prost(uint64, tag = "2")]
    given_ns: u64,
}

impl KeepFor {
    /// Creates an order that is given now.
    pub(super) fn new(time: Option<Duration>) -> Self {
        let time_ms = time.map(millis);
        Self { time_ms, given_ns: now_ns() }
    }

    /// Returns the deadline that the order sets.
    pub(super) fn deadline(self) -> RunDeadline {
        let Some(time) = self.time_ms.map(Duration::from_millis) else { return RunDeadline::None };
        let age = match self.given_ns {
            0 => 0,
            given => now_ns().saturating_sub(given),
        };
        let left = time.saturating_sub(Duration::from_nanos(age));
        // A time that no clock reaches is no limit.
        Instant::now().checked_add(left).map_or(RunDeadline::None, RunDeadline::At)
    }
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The deadline of all runs of a shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum RunDeadline {
    /// The runs go on for as long as they like.
    #[default]
    None,
    /// The runs are ended at this time. The clock stands still while the system is suspended: they go on
    /// afterwards for what was left.
    At(Instant),
    /// The time is over, and no server has set another one: no run is started.
    Passed,
}

impl RunDeadline {
    /// Returns the time that is still to come, or `None` if there is none.
    pub(super) fn time(self) -> Option<Instant> {
        match self {
            Self::At(time) => Some(time),
            Self::None | Self::Passed => None,
        }
    }

    /// Notes that the time is over. Returns `true` if it is and was not noted before.
    pub(super) fn pass(&mut self) -> bool {
        let is_over = self.time().is_some_and(|time| time <= Instant::now());
        if is_over {
            *self = Self::Passed;
        }
        is_over
    }
}

/// Returns the time since the start of the system, without that in which it was suspended.
fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // Neither is ever negative.
    let part = |number| u64::try_from(number).unwrap_or(0);
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn sent(order: KeepFor) -> KeepFor {
        KeepFor::decode(order.encode_to_vec().as_slice()).unwrap()
    }

    /// Returns the time that an order lets runs go on for.
    fn left(order: KeepFor) -> Option<Duration> {
        let now = Instant::now();
        sent(order).deadline().time().map(|time| time.saturating_duration_since(now))
    }

    #[tokio::test(start_paused = true)]
    async fn an_order_lets_runs_go_on_for_the_time_that_is_left_of_it() {
        let minute = Duration::from_secs(60);
        let order = KeepFor::new(Some(minute));
        let fresh = left(order).unwrap();
        assert!(fresh <= minute && fresh > minute / 2, "{fresh:?}");
        let given_ns = order.given_ns - u64::try_from(minute.as_nanos()).unwrap();
        assert_eq!(left(KeepFor { given_ns, ..order }), Some(Duration::ZERO), "it has waited");
        let given_ns = order.given_ns - 20_000_000_000;
        let old = left(KeepFor { given_ns, ..order }).unwrap();
        assert!(old <= Duration::from_secs(40) && old > Duration::from_secs(10), "{old:?}");
        assert_eq!(left(KeepFor { given_ns: 0, ..order }), Some(minute), "its time is not known");
        assert_eq!(left(KeepFor::new(None)), None);
        assert_eq!(KeepFor::default().deadline(), RunDeadline::None);
        assert!(left(KeepFor::new(Some(Duration::MAX))).unwrap() > 1_000 * minute);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_passes_once_and_not_before_its_time() {
        let time = Instant::now() + Duration::from_secs(5);
        let mut deadline = RunDeadline::At(time);
        tokio::time::advance(Duration::from_millis(4_999)).await;
        assert!(!deadline.pass());
        assert_eq!(deadline, RunDeadline::At(time));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(deadline.pass());
        assert_eq!((deadline, deadline.pass()), (RunDeadline::Passed, false));
        assert!(!RunDeadline::None.pass());
    }
}
