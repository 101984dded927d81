//! Limits per tenant: the rates of its requests, and what it may have at the same time.
//!
//! [`Quotas`] has an entry for each tenant that a `[[tenant_limits]]` table names and that uses something.
//! A guard, [`Held`], holds each thing that is counted, so that an error or a caller that leaves gives it back.
//! A limit is compared and counted in one atomic step: of any number of requests at the same time, exactly
//! as many pass as the limit lets in.

mod error;
mod limits;
mod rate;
mod tenant;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use crate::model::Tenant;
use crate::telemetry::{Metrics, TenantLimit};
use tenant::TenantState;

pub use error::Exceeded;
pub use limits::TenantLimits;
pub use tenant::{Held, Use};

/// The number of entries from which on those of idle tenants are dropped.
const ENTRIES_BEFORE_SWEEP: usize = 256;

/// The kind of a request, as far as rates are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// A request that starts or creates something.
    Start,
    /// Any other request, such as a read, a wait or a cancel.
    Other,
}

/// The limits of all tenants, and what they use.
#[derive(Clone, Default)]
pub struct Quotas(Option<Arc<Shared>>);

struct Shared {
    tables: Vec<Arc<TenantLimits>>,
    metrics: Metrics,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    tenants: HashMap<Tenant, Arc<TenantState>>,
    /// The number of entries at which idle ones are looked for again.
    sweep_at: usize,
}

impl Quotas {
    /// Creates the quotas of these tables. The first one whose name matches is that of a tenant; a tenant
    /// without a table has no limits.
    pub fn new(tables: Vec<TenantLimits>, metrics: Metrics) -> Self {
        if tables.is_empty() {
            return Self::default();
        }
        let tables = tables.into_iter().map(Arc::new).collect();
        let entries = Mutex::new(Entries::default());
        Self(Some(Arc::new(Shared { tables, metrics, entries })))
    }

    /// Counts a request of a tenant.
    ///
    /// # Errors
    ///
    /// The tenant has sent as many as its rate allows.
    pub fn request(&self, tenant: &Tenant, kind: RequestKind) -> Result<(), Exceeded> {
        self.checked(tenant, |state| state.request(kind)).map(Option::unwrap_or_default)
    }

    /// Counts one more use of what a tenant may have at the same time, until the guard is dropped. Returns
    /// `None` if the tenant has no such limit.
    ///
    /// # Errors
    ///
    /// The tenant uses as much as it may.
    pub fn hold(&self, tenant: &Tenant, kind: Use) -> Result<Option<Held>, Exceeded> {
        self.checked(tenant, |state| TenantState::hold(state, kind)).map(Option::flatten)
    }

    /// Counts a use that exists already, also beyond the limit.
    pub fn keep(&self, tenant: &Tenant, kind: Use) -> Option<Held> {
        TenantState::keep(&self.state(tenant)?, kind)
    }

    /// Counts a session that a tenant creates, until the guard is dropped: when the session is stored, or is
    /// not. Returns `None` if the tenant has no such limit.
    ///
    /// `stored` counts the open sessions in the store, up to a number. It is asked only where the limit may
    /// have been reached, so that closing a session needs no entry here.
    ///
    /// # Errors
    ///
    /// The tenant has as many as it may, or the store cannot be read.
    pub async fn create_session<E: From<Exceeded>>(
        &self,
        tenant: &Tenant,
        stored: impl AsyncFnOnce(u32) -> Result<u32, E>,
    ) -> Result<Option<Held>, E> {
        let Some(state) = self.state(tenant) else { return Ok(None) };
        match TenantState::create_session(&state, stored).await? {
            Ok(held) => Ok(held),
            Err(exceeded) => {
                self.count(exceeded.limit);
                Err(exceeded.into())
            }
        }
    }

    /// Returns whether some tenant has a limit of calls.
    pub fn counts_calls(&self) -> bool {
        let counts = |table: &Arc<TenantLimits>| {
            table.max_live_calls.is_some() || table.max_running_calls.is_some()
        };
        self.0.as_ref().is_some_and(|shared| shared.tables.iter().any(counts))
    }

    /// Makes a check of a tenant that has limits, and counts the refusal.
    fn checked<T>(
        &self,
        tenant: &Tenant,
        check: impl FnOnce(&Arc<TenantState>) -> Result<T, Exceeded>,
    ) -> Result<Option<T>, Exceeded> {
        let Some(state) = self.state(tenant) else { return Ok(None) };
        check(&state).map(Some).inspect_err(|exceeded| self.count(exceeded.limit))
    }

    fn count(&self, limit: TenantLimit) {
        if let Some(shared) = &self.0 {
            shared.metrics.quotas().refused(limit);
        }
    }

    /// Returns the entry of a tenant, or `None` if it has no limits.
    fn state(&self, tenant: &Tenant) -> Option<Arc<TenantState>> {
        let shared = self.0.as_ref()?;
        let mut entries = shared.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = entries.tenants.get(tenant) {
            return Some(state.clone());
        }
        let table = shared.tables.iter().find(|table| table.matches(tenant.as_str()))?;
        let now = Instant::now();
        if entries.tenants.len() >= entries.sweep_at.max(ENTRIES_BEFORE_SWEEP) {
            // Nobody else has an idle entry, and none can be taken out while the map is locked.
            entries.tenants.retain(|_, state| Arc::strong_count(state) > 1 || !state.is_idle(now));
            entries.sweep_at = entries.tenants.len() * 2;
        }
        let state = Arc::new(TenantState::new(tenant.clone(), table.clone(), now));
        entries.tenants.insert(tenant.clone(), state.clone());
        Some(state)
    }
}

impl fmt::Debug for Quotas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quotas").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
