//! What the processes that callpark talks to are started with.

use std::sync::Arc;

use super::UnixExecutor;
use crate::model::Environment;

/// What all such processes of this server share.
#[derive(Debug, Clone)]
pub struct Launcher {
    /// Starts them.
    pub executor: UnixExecutor,
    /// Variables of this server that they may be allowed to see.
    pub environment: Arc<Environment>,
}

impl Launcher {
    /// The environment of a process that may see these variables, and has these of its own, which
    /// win.
    pub fn environment_with(&self, allowed: &[String], own: &Environment) -> Environment {
        let seen = self.environment.iter().filter(|(name, _)| allowed.contains(name));
        seen.chain(own).map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}
