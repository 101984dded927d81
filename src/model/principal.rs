//! Who is calling.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The owner of sessions, tasks and request ids. Another tenant's ids answer as unknown ones do.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// The tenant with this name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A caller whose credentials were good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Whose things the caller may see and touch.
    pub tenant: Tenant,
    /// Who it is, for records such as "cancelled by".
    pub name: Arc<str>,
}
