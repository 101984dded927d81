//! The limits of one tenant, and what it uses.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::rate::Rate;
use super::{Exceeded, RequestKind, TenantLimits};
use crate::model::Tenant;
use crate::telemetry::TenantLimit;

/// The time after which a request is worth another try if something must end first.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The part of the streams that is kept for those that start nothing: one of so many.
const STREAMS_PER_RESERVED: u32 = 4;

/// A kind of use that lasts for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A stream that starts nothing.
    Stream,
    /// The stream of a call or a turn that it starts.
    StartStream,
    /// A call or a turn that has not ended.
    LiveCall,
    /// A call of a tool that runs.
    RunningCall,
    /// A session that is being created: [`Quotas::create_session`](super::Quotas::create_session).
    NewSession,
}

/// The entry of a tenant.
pub(super) struct TenantState {
    tenant: Tenant,
    limits: Arc<TenantLimits>,
    starts: Option<Rate>,
    others: Option<Rate>,
    streams: AtomicU32,
    live_calls: AtomicU32,
    running_calls: AtomicU32,
    /// Sessions that are being created.
    creating: AtomicU32,
    sessions: SessionCount,
    created: Instant,
    /// The time of the last request, in milliseconds since `created`.
    last_request_ms: AtomicU64,
}

impl TenantState {
    pub(super) fn new(tenant: Tenant, limits: Arc<TenantLimits>, now: Instant) -> Self {
        Self {
            starts: Rate::new(limits.starts_per_second, limits.starts_burst),
            others: Rate::new(limits.requests_per_second, limits.requests_burst),
            tenant,
            limits,
            streams: AtomicU32::new(0),
            live_calls: AtomicU32::new(0),
            running_calls: AtomicU32::new(0),
            creating: AtomicU32::new(0),
            sessions: SessionCount::default(),
            created: now,
            last_request_ms: AtomicU64::new(0),
        }
    }

    /// Returns whether a new entry would be the same: all buckets are full. What is held has the entry, too.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        let last = Duration::from_millis(self.last_request_ms.load(Ordering::Relaxed));
        let quiet = now.saturating_duration_since(self.created + last);
        [&self.starts, &self.others].into_iter().flatten().all(|rate| quiet > rate.fill_time)
    }

    pub(super) fn request(&self, kind: RequestKind) -> Result<(), Exceeded> {
        let elapsed = u64::try_from(self.created.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_request_ms.fetch_max(elapsed, Ordering::Relaxed);
        let limits = &self.limits;
        let (rate, limit, maximum) = match kind {
            RequestKind::Start => {
                (&self.starts, TenantLimit::StartsPerSecond, limits.starts_per_second)
            }
            RequestKind::Other => {
                (&self.others, TenantLimit::RequestsPerSecond, limits.requests_per_second)
            }
        };
        let Some(rate) = rate else { return Ok(()) };
        let maximum = || maximum.unwrap_or_default().to_string();
        rate.take().map_err(|wait| self.exceeded(limit, maximum(), wait))
    }

    /// Counts one more use, or fails if the tenant has as many as it may.
    pub(super) fn hold(state: &Arc<Self>, kind: Use) -> Result<Option<Held>, Exceeded> {
        let Some((limit, maximum)) = state.limit_of(kind) else { return Ok(None) };
        let free = match kind {
            Use::StartStream => maximum - maximum / STREAMS_PER_RESERVED,
            Use::Stream | Use::LiveCall | Use::RunningCall | Use::NewSession => maximum,
        };
        let more = |count: u32| (count < free).then(|| count + 1);
        let counter = state.counter(kind);
        match counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, more) {
            Ok(_) => Ok(Some(Held { state: state.clone(), kind })),
            Err(_) => Err(state.exceeded(limit, maximum.to_string(), RETRY_AFTER)),
        }
    }

    /// Counts a session that is being created. The outer error is that of the store.
    pub(super) async fn create_session<E>(
        state: &Arc<Self>,
        stored: impl AsyncFnOnce(u32) -> Result<u32, E>,
    ) -> Result<Result<Option<Held>, Exceeded>, E> {
        let Some(maximum) = state.limits.max_open_sessions else { return Ok(Ok(None)) };
        if state.sessions.begin(maximum, &state.creating) {
            return Ok(Ok(Some(Held { state: state.clone(), kind: Use::NewSession })));
        }
        // One at a time: a second reader would not count what the first one lets in.
        let _turn = state.sessions.turn.lock().await;
        if state.sessions.begin(maximum, &state.creating) {
            return Ok(Ok(Some(Held { state: state.clone(), kind: Use::NewSession })));
        }
        // Read before the store is: a session that is stored meanwhile counts twice rather than not at all.
        let creating = state.creating.load(Ordering::Acquire);
        let count = stored(maximum).await?.saturating_add(creating);
        if count >= maximum {
            let limit = TenantLimit::OpenSessions;
            return Ok(Err(state.exceeded(limit, maximum.to_string(), RETRY_AFTER)));
        }
        state.sessions.set(count + 1, &state.creating);
        Ok(Ok(Some(Held { state: state.clone(), kind: Use::NewSession })))
    }

    /// Counts one more use in any case.
    pub(super) fn keep(state: &Arc<Self>, kind: Use) -> Option<Held> {
        state.limit_of(kind)?;
        state.counter(kind).fetch_add(1, Ordering::AcqRel);
        Some(Held { state: state.clone(), kind })
    }

    fn limit_of(&self, kind: Use) -> Option<(TenantLimit, u32)> {
        let limits = &self.limits;
        match kind {
            Use::Stream | Use::StartStream => {
                limits.max_streams.map(|max| (TenantLimit::Streams, max))
            }
            Use::LiveCall => limits.max_live_calls.map(|max| (TenantLimit::LiveCalls, max)),
            Use::RunningCall => {
                limits.max_running_calls.map(|max| (TenantLimit::RunningCalls, max))
            }
            Use::NewSession => None,
        }
    }

    fn counter(&self, kind: Use) -> &AtomicU32 {
        match kind {
            Use::Stream | Use::StartStream => &self.streams,
            Use::LiveCall => &self.live_calls,
            Use::RunningCall => &self.running_calls,
            Use::NewSession => &self.creating,
        }
    }

    fn exceeded(&self, limit: TenantLimit, maximum: String, retry_after: Duration) -> Exceeded {
        Exceeded { tenant: self.tenant.clone(), limit, maximum, retry_after }
    }
}

/// The most sessions of a tenant that can be open: those that were when the store was asked, and those that
/// were created since.
#[derive(Default)]
struct SessionCount {
    /// `None` before the store was asked.
    known: std::sync::Mutex<Option<u32>>,
    /// Is held by the one that asks the store.
    turn: tokio::sync::Mutex<()>,
}

impl SessionCount {
    /// Counts one more session, and that it is being created, if there are certainly less than `maximum`.
    fn begin(&self, maximum: u32, creating: &AtomicU32) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *known {
            Some(count) if *count < maximum => {
                *count += 1;
                creating.fetch_add(1, Ordering::AcqRel);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Sets the number, of which one is being created.
    fn set(&self, count: u32, creating: &AtomicU32) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(count);
        creating.fetch_add(1, Ordering::AcqRel);
    }
}

/// A use that counts until this guard is dropped.
#[must_use = "the use counts until the guard is dropped"]
pub struct Held {
    state: Arc<TenantState>,
    kind: Use,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.state.counter(self.kind).fetch_sub(1, Ordering::AcqRel);
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("kind", &self.kind).finish_non_exhaustive()
    }
}
