//! The reasons for the ends of calls, for programs.

use super::{Call, Exit, Outcome, State, StopCause, ToolKind, enum_table};

enum_table! {
    /// The reason for the end of a call.
    pub enum EndReason {
        /// The work completed.
        Completed => "completed",
        /// The process exited with a code other than 0.
        ExitCode => "exit_code",
        /// A signal that callpark did not send ended the process.
        Signal => "signal",
        /// The process could not be started.
        SpawnFailed => "spawn_failed",
        /// The tool reported an error.
        ToolError => "tool_error",
        /// The turn ended with an error.
        TurnError => "turn_error",
        /// The run reached its execution timeout.
        ExecutionTimeout => "execution_timeout",
        /// The run reached its idle timeout.
        IdleTimeout => "idle_timeout",
        /// A caller or an agent cancelled the call.
        CancelledByRequest => "cancelled_by_request",
        /// The caller went away or its deadline passed, and the call was to be cancelled then.
        CallerGone => "caller_gone",
        /// The call made room in a full session.
        Evicted => "evicted",
        /// A new task or turn replaced the call.
        Replaced => "replaced",
        /// The session of the call was closed.
        SessionClosed => "session_closed",
        /// The server that ran the call stopped.
        ServerLost => "server_lost",
    }
}

enum_table! {
    /// The cause of a cancel.
    #[derive(Default)]
    pub enum CancelCause {
        /// A caller or an agent asked for it.
        #[default]
        Request => "request",
        /// The caller went away or its deadline passed.
        CallerGone => "caller_gone",
        /// The session was full.
        Evicted => "evicted",
        /// A new task or turn replaces the call.
        Replaced => "replaced",
        /// The session was closed.
        SessionClosed => "session_closed",
    }
}

impl Call {
    /// Returns the reason for the end of the call, or `None` if it is live.
    pub fn end_reason(&self) -> Option<EndReason> {
        match self.state {
            State::Pending | State::Running | State::Cancelling => None,
            State::Succeeded => Some(EndReason::Completed),
            State::Failed => Some(self.failure_reason()),
            State::TimedOut => Some(match self.stopping.map(|stopping| stopping.cause) {
                Some(StopCause::IdleTimeout) => EndReason::IdleTimeout,
                _ => EndReason::ExecutionTimeout,
            }),
            State::Cancelled => {
                let cause = self.cancellation.as_ref().map(|cancellation| cancellation.cause);
                Some(match cause.unwrap_or_default() {
                    CancelCause::Request => EndReason::CancelledByRequest,
                    CancelCause::CallerGone => EndReason::CallerGone,
                    CancelCause::Evicted => EndReason::Evicted,
                    CancelCause::Replaced => EndReason::Replaced,
                    CancelCause::SessionClosed => EndReason::SessionClosed,
                })
            }
            State::Lost => Some(EndReason::ServerLost),
        }
    }

    fn failure_reason(&self) -> EndReason {
        let exit = match &self.outcome {
            Some(Outcome::Result(result)) => result.exit,
            Some(Outcome::Failure(_)) | None => None,
        };
        match (exit, self.kind) {
            (Some(Exit::Code(_)), _) => EndReason::ExitCode,
            (Some(Exit::Signal(_)), _) => EndReason::Signal,
            (None, ToolKind::Command) => EndReason::SpawnFailed,
            (None, _) if self.turn.is_some() => EndReason::TurnError,
            (None, _) => EndReason::ToolError,
        }
    }
}
