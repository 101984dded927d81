//! The caller's deadline, which ends the RPC and never the work.
//!
//! tonic drops a handler whose deadline passes, and ignores the deadline of a stream. So a handler
//! that waits answers a margin before the deadline, and a stream ends itself. What is to be stored
//! before the answer, such as the parking of a call, takes as long as the store: the margin follows it.

use std::time::Duration;

use async_stream::stream;
use futures::{Stream, StreamExt};
use http::HeaderValue;
use tokio::time::Instant;
use tonic::{Request, Status};

use crate::engine::{Engine, Error};
use crate::model::limits::DEADLINE_MARGIN_MS;

/// The header with the time until the caller's deadline.
pub(crate) const TIMEOUT: &str = "grpc-timeout";

/// The time for the way back from another replica that has the request, beside its own margins.
const WAY_BACK: Duration = Duration::from_millis(5);

/// The caller's deadline, as it came with the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline {
    start: Instant,
    end: Instant,
}

impl Deadline {
    /// Parses a `grpc-timeout` value: up to 8 digits and a unit. Returns `None` for any other
    /// value, which gRPC ignores.
    pub(crate) fn parse(value: &str, now: Instant) -> Option<Self> {
        let unit = value.chars().last()?;
        let digits = value.strip_suffix(unit)?;
        if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let count: u64 = digits.parse().ok()?;
        let span = match unit {
            'H' => Duration::from_secs(count.saturating_mul(3600)),
            'M' => Duration::from_secs(count.saturating_mul(60)),
            'S' => Duration::from_secs(count),
            'm' => Duration::from_millis(count),
            'u' => Duration::from_micros(count),
            'n' => Duration::from_nanos(count),
            _ => return None,
        };
        Some(Self { start: now, end: now + span })
    }

    /// Returns the deadline of a request, or `None` if it has none.
    pub(crate) fn of<T>(request: &Request<T>) -> Option<Self> {
        request.extensions().get().copied()
    }

    /// Returns the time at which a handler without an answer is aborted. The error still reaches
    /// the caller before the deadline.
    pub(crate) fn abort_at(&self) -> Instant {
        self.end - self.margin() / 5
    }

    /// Returns the `grpc-timeout` for another replica, whose answer is to be here before the request is
    /// aborted.
    pub(crate) fn forward(&self, now: Instant) -> HeaderValue {
        let left = self.abort_at().saturating_duration_since(now).saturating_sub(WAY_BACK);
        let (count, unit) = match left.as_micros().max(1) {
            micros @ ..100_000_000 => (micros, 'u'),
            micros @ ..100_000_000_000 => (micros / 1_000, 'm'),
            micros => ((micros / 1_000_000).min(99_999_999), 'S'),
        };
        // Digits and a letter are always a header value.
        HeaderValue::try_from(format!("{count}{unit}"))
            .unwrap_or_else(|_| HeaderValue::from_static("1u"))
    }

    /// Returns the time at which a handler should answer, in front of a store whose appends take so
    /// long: early enough for two of them, one that is under way and one more. A slow store takes half
    /// of the caller's time at most.
    fn answer_at(&self, append_time: Duration) -> Instant {
        let margin = self.margin().saturating_add(append_time.saturating_mul(2));
        self.end - margin.min((self.end - self.start) / 2)
    }

    /// Returns the time that an answer needs: a fixed one, or a third of the caller's if that is
    /// shorter.
    fn margin(&self) -> Duration {
        Duration::from_millis(DEADLINE_MARGIN_MS).min((self.end - self.start) / 3)
    }
}

/// Returns the time at which a request with this deadline should be answered, as far as it is known
/// now, or `None` if it has no deadline.
pub(crate) fn answer_at(engine: &Engine, deadline: Option<Deadline>) -> Option<Instant> {
    deadline.map(|deadline| deadline.answer_at(engine.append_time()))
}

/// Returns the requested wait, shortened to the time until `answer_at`.
pub(crate) fn cap_wait(wait: Duration, answer_at: Option<Instant>) -> Duration {
    match answer_at {
        Some(at) => wait.min(at.saturating_duration_since(Instant::now())),
        None => wait,
    }
}

/// Ends a stream with DEADLINE_EXCEEDED at `answer_at`.
pub(crate) fn bounded<T: Send>(
    items: impl Stream<Item = Result<T, Status>> + Send,
    answer_at: Option<Instant>,
) -> impl Stream<Item = Result<T, Status>> + Send {
    stream! {
        let mut items = std::pin::pin!(items);
        loop {
            tokio::select! {
                item = items.next() => match item {
                    Some(item) => yield item,
                    None => return,
                },
                () = crate::engine::sleep_until(answer_at) => {
                    yield Err(Error::DeadlineExceeded.into());
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn timeouts_are_parsed_in_all_units() {
        let now = Instant::now();
        let after = |value: &str| Deadline::parse(value, now).map(|deadline| deadline.end - now);
        assert_eq!(after("300m"), Some(Duration::from_millis(300)));
        assert_eq!(after("5S"), Some(Duration::from_secs(5)));
        assert_eq!(after("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for wrong in ["", "S", "1", "-1S", "1s", "123456789S", "1.5S", "é"] {
            assert_eq!(after(wrong), None, "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_replica_gets_what_is_left() {
        let now = Instant::now();
        let forwarded = |value: &str, millis| {
            let deadline = Deadline::parse(value, now).expect("a deadline");
            let value = deadline.forward(now + Duration::from_millis(millis));
            let left = Deadline::parse(value.to_str().expect("text"), now).expect("a deadline");
            (value, left.end - now, deadline.abort_at() - now)
        };
        for (value, millis) in [("300m", 0), ("10S", 4_000), ("50M", 1), ("99999999H", 0)] {
            let (text, left, abort_at) = forwarded(value, millis);
            let expected = abort_at - WAY_BACK - Duration::from_millis(millis);
            let expected = expected.min(Duration::from_secs(99_999_999));
            let lost = expected - left;
            assert!(lost < Duration::from_secs(1), "{value}: {text:?} of {expected:?}");
            assert!(text.len() <= 9, "{text:?}");
        }
        assert_eq!(forwarded("300m", 299).0, "1u");
        assert_eq!(forwarded("300m", 900).0, "1u");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_due_before_the_deadline() {
        let now = Instant::now();
        let due = |value: &str, append_millis| {
            let append_time = Duration::from_millis(append_millis);
            Deadline::parse(value, now).map(|d| (d.answer_at(append_time) - now).as_millis())
        };
        assert_eq!(due("300m", 0), Some(200));
        assert_eq!(due("10S", 0), Some(9_850));
        assert_eq!(due("10S", 1), Some(9_848));
        assert_eq!(due("3S", 500), Some(1_850));
        assert_eq!(due("3S", 5_000), Some(1_500), "half of the time, however slow the store is");
        assert_eq!(due("300m", 50), Some(150));
    }
}
