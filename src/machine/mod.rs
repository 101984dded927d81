//! The state machine of a session: a pure function from a command to changes and effects.
//!
//! There is no I/O, clock, randomness or async: the same projection and the same command always give
//! the same decision. [`decide`] reads, [`Projection::apply`] writes. The engine appends the written
//! records to the store and only then runs the effects. Each command has its own file: the listing
//! of `decide/` is the specification.

mod apply;
mod change;
mod command;
mod decide;
mod follow_up;
mod loss;
mod projection;
#[cfg(test)]
mod tests;
mod turn;

pub use apply::Written;
pub use change::{Change, Decision, Effect, Refusal, Reply, Timer};
pub use command::{
    Cancel, Close, Command, Concurrency, DeliveryOutcome, Finish, FollowUpOrder, Start, StartTurn,
    Update,
};
pub use decide::decide;
pub use follow_up::SESSION_CLOSED;
pub use loss::{Loss, LossCause};
pub use projection::{Projection, Settings};
pub use turn::{final_text, turn_stop};
