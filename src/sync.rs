//! The locks of the engine. The models in `tests/models/` compile the engine with other locks,
//! between whose steps a scheduler can run any other task.

pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};
