//! The caller's deadline, which ends the RPC and never the work.
//!
//! tonic drops a handler whose deadline passes, and ignores the deadline of a stream. So a handler
//! that waits answers a margin before the deadline, and a stream ends itself.

use std::time::Duration;

use async_stream::stream;
use futures::{Stream, StreamExt};
use tokio::time::Instant;
use tonic::{Request, Status};

use crate::engine::Error;
use crate::model::limits::DEADLINE_MARGIN_MS;

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

    /// Returns the time at which a handler without an answer is aborted. The error still reaches
    /// the caller before the deadline.
    pub(crate) fn abort_at(&self) -> Instant {
        self.end - (self.end - self.answer_at()) / 5
    }

    /// Returns the time at which a handler should answer: a fixed margin before the deadline, or a
    /// third of the time if that is shorter.
    pub(crate) fn answer_at(&self) -> Instant {
        let span = self.end - self.start;
        let margin = Duration::from_millis(DEADLINE_MARGIN_MS).min(span / 3);
        self.end - margin
    }
}

/// Returns the time at which this request must be answered, or `None` if it has no deadline.
pub(crate) fn answer_at<T>(request: &Request<T>) -> Option<Instant> {
    request.extensions().get::<Deadline>().map(Deadline::answer_at)
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
    async fn an_answer_is_due_before_the_deadline() {
        let now = Instant::now();
        let due = |value: &str| Deadline::parse(value, now).map(|d| d.answer_at() - now);
        assert_eq!(due("300m"), Some(Duration::from_millis(200)));
        assert_eq!(due("10S"), Some(Duration::from_millis(9_850)));
    }
}
