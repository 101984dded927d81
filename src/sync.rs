//! The locks of the engine. The models in `tests/models/` compile the engine with others in their
//! place, between whose steps a scheduler can put any other task.

pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};
