//! The endpoints that one call has used.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Pool, table::AddressId};
use crate::error::{EndpointFailure, Error};

/// The maximum number of endpoints that an error names.
const NAMED_MAX: usize = 8;

/// The endpoints that one call or stream has used, so that a retry goes to another one.
#[derive(Default)]
pub(crate) struct Route {
    state: Mutex<State>,
    tried: Mutex<Vec<AddressId>>,
}

#[derive(Default)]
struct State {
    /// The pool of the newest attempt.
    pool: Option<Arc<Pool>>,
    /// The endpoint of the newest attempt, or `None` if there was no connection.
    current: Option<Arc<str>>,
    /// The newest failure at each endpoint.
    failures: Vec<(Arc<str>, String)>,
}

impl Route {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an attempt in a pool.
    pub(super) fn enter(&self, pool: &Arc<Pool>) {
        let mut state = self.state();
        state.pool = Some(Arc::clone(pool));
        state.current = None;
    }

    pub(super) fn tried(&self) -> MutexGuard<'_, Vec<AddressId>> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn chosen(&self, label: Arc<str>) {
        self.state().current = Some(label);
    }

    /// Records the failure of the newest attempt.
    pub(crate) fn failed(&self, error: &Error) {
        let mut state = self.state();
        let Some(current) = state.current.clone() else { return };
        let is_alone = state.pool.as_ref().is_none_or(|pool| pool.table().len() == 1);
        if is_alone {
            return;
        }
        let failure = error.failure_text();
        if let Some((_, known)) = state.failures.iter_mut().find(|(label, _)| *label == current) {
            *known = failure;
        } else if state.failures.len() < NAMED_MAX {
            state.failures.push((current, failure));
        }
    }

    /// Returns whether the next attempt has an endpoint that this call has not tried.
    pub(crate) fn has_other(&self) -> bool {
        let (pool, tried) = (self.state().pool.clone(), self.tried().clone());
        pool.is_some_and(|pool| pool.has_other(&tried))
    }

    /// Returns the failure of each endpoint: of this call there, or of connecting to it. Empty if there
    /// is one endpoint only.
    pub(crate) fn failures(&self) -> Vec<EndpointFailure> {
        let state = self.state();
        let Some(pool) = &state.pool else { return Vec::new() };
        let (addresses, down) = {
            let table = pool.table();
            (table.len(), table.failures())
        };
        if addresses == 1 {
            return Vec::new();
        }
        let of_call = state.failures.iter().cloned();
        let down = down
            .into_iter()
            .filter(|(label, _)| !state.failures.iter().any(|(known, _)| known == label));
        let down = down.map(|(label, status)| (label, Error::from(status).failure_text()));
        let all = of_call.chain(down).take(NAMED_MAX);
        all.map(|(endpoint, failure)| EndpointFailure { endpoint: endpoint.to_string(), failure })
            .collect()
    }
}
