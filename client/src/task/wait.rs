//! Long waits, made of requests that the server answers in time.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::transport::connection::Connection;

/// The longest wait of one request. The server accepts longer ones, but many proxies end a request that
/// is silent for 50 or 60 s.
const REQUEST_WAIT_MAX: Duration = Duration::from_secs(45);
/// An answer that is early and this close to the deadline was caused by the deadline.
const DEADLINE_NEAR: Duration = Duration::from_secs(1);

/// The maximum time to wait for tasks.
///
/// ```
/// use std::time::Duration;
///
/// use callpark_client::WaitLimit;
///
/// assert_eq!(WaitLimit::from(Duration::from_secs(5)), WaitLimit::AtMost(Duration::from_secs(5)));
/// assert_eq!(WaitLimit::from(None), WaitLimit::Unbounded);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WaitLimit {
    /// Wait until the tasks have ended.
    Unbounded,
    /// Wait at most this long.
    AtMost(Duration),
}

impl From<Duration> for WaitLimit {
    fn from(duration: Duration) -> Self {
        Self::AtMost(duration)
    }
}

impl From<Option<Duration>> for WaitLimit {
    fn from(duration: Option<Duration>) -> Self {
        duration.map_or(Self::Unbounded, Self::AtMost)
    }
}

/// A wait of any length, as a chain of requests.
pub(super) struct WaitChain {
    began: Instant,
    /// The time at which the caller wants an answer, whatever it is.
    answer_at: Option<Instant>,
    /// The deadline of the requests. It leaves time for the answer to arrive.
    pub(super) deadline: Option<Instant>,
    pause: Duration,
}

impl WaitChain {
    pub(super) fn new(connection: &Connection, limit: WaitLimit) -> Self {
        let began = Instant::now();
        let answer_at = match limit {
            WaitLimit::Unbounded => None,
            WaitLimit::AtMost(duration) => began.checked_add(duration),
        };
        let arrival_time_max = connection.options().connect_timeout;
        let arrived = answer_at.and_then(|at| at.checked_add(arrival_time_max));
        let deadline = [connection.deadline(), arrived].into_iter().flatten().min();
        Self { began, answer_at, deadline, pause: connection.options().backoff }
    }

    /// Returns the wait of the next request.
    pub(super) fn next(&self) -> ServerWait {
        let start = Instant::now();
        let left = self.answer_at.map(|at| at.saturating_duration_since(start));
        let duration = left.map_or(REQUEST_WAIT_MAX, |left| left.min(REQUEST_WAIT_MAX));
        ServerWait { start, duration }
    }

    /// Returns whether the chain ends with an answer that reports no result.
    ///
    /// A server answers early because the deadline is near or because it is about to stop. In the
    /// latter case the method waits, so that the server is not asked again at once.
    pub(super) async fn ends_with(&self, wait: &ServerWait) -> bool {
        let now = Instant::now();
        let is_early = now < wait.start + wait.duration;
        let is_near = |deadline: Instant| deadline.saturating_duration_since(now) <= DEADLINE_NEAR;
        if self.answer_at.is_some_and(|at| at <= now)
            || (is_early && self.deadline.is_some_and(is_near))
        {
            return true;
        }
        if is_early {
            sleep(self.pause).await;
        }
        false
    }

    /// Returns the time that the chain has taken so far.
    pub(super) fn waited(&self) -> Option<prost_types::Duration> {
        prost_types::Duration::try_from(self.began.elapsed()).ok()
    }
}

/// The wait of one request of a chain.
pub(super) struct ServerWait {
    start: Instant,
    duration: Duration,
}

impl ServerWait {
    /// Creates a wait that only asks for the current state.
    pub(super) fn none() -> Self {
        Self { start: Instant::now(), duration: Duration::ZERO }
    }

    pub(super) fn to_message(&self) -> Option<prost_types::Duration> {
        prost_types::Duration::try_from(self.duration).ok()
    }
}
