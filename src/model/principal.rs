//! The identity of callers.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Scopes;

/// The owner of sessions, tasks and request ids. Ids of another tenant are treated as unknown.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// Creates the tenant with this name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A caller with valid credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The tenant whose sessions and tasks the caller may see and change.
    pub tenant: Tenant,
    /// The name of the caller, for records such as "cancelled by".
    pub name: Arc<str>,
    /// The scopes of the caller. Turns and deliveries, which work for a tenant, have none.
    pub scopes: Scopes,
}
