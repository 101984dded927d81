//! The loss of the work of a call.

use crate::model::{Timestamp, TurnLoss};

/// The loss of a call's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// The cause.
    pub cause: LossCause,
    /// The time of the last activity of the call or its session.
    pub last_known: Timestamp,
}

impl Loss {
    /// Creates the loss of work that ended with its server.
    pub fn with_server(last_known: Timestamp) -> Self {
        Self { cause: LossCause::ServerStopped, last_known }
    }
}

/// The cause for which a call's work is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossCause {
    /// The server stopped, and the work ended with it.
    ServerStopped,
    /// The owner of the call's process ended, and the process was killed.
    OwnerEnded,
    /// The owner of the call's process killed it, because no server had given a sign in time.
    ServerSilent,
    /// The service that did the work outside of this server no longer knows it.
    HandleForgotten,
    /// No later server can go on with the turn.
    Turn(TurnLoss),
}
