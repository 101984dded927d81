//! Exit codes, for programs that run a command.

use std::process::ExitCode;

use callpark_client::{
    Code, Error, Origin,
    v1::{State, ToolResult, tool_result},
};

/// The table of exit codes in the help of `callpark` and of `callpark run`.
pub(crate) const HELP: &str = "\
Exit codes:
  0    success
  N    run, wait: the tool's own exit code; 128+N if signal N ended it
  1    the tool failed without an exit code, or one of several ids failed
       doctor, health: there is a problem, or a server is not serving
       audit verify: the chain is broken
  2    wrong usage, or arguments that the tool or the server rejects
  66   the session, task, tool or follow-up does not exist
  69   no server can be reached, or the server is stopping
  70   unexpected error in the server or in this program
  71   the task was lost: its server stopped before the task had a result
  73   the server refuses for now: a limit is reached, or the session is closed or busy
  74   reading or writing failed on this side
  75   not finished: the call was parked, or the wait reached its timeout
       serve: an address or the store is in use by another program; try again later
  77   permission denied: the token is missing, wrong or insufficient
  78   the server cannot start, or its configuration is invalid
  124  the tool was stopped at its time limit
  125  the task was cancelled
  130  stopped by Ctrl-C; a call keeps running in the background
  143  the server was stopped immediately by a second SIGTERM

A tool can exit with one of these codes itself. To distinguish its codes from those of callpark, use
--json: only a call that has finished prints `toolCallFinished` or a task with an outcome.";

/// The way in which a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Success,
    /// The tool failed without an exit code, or one of several ids failed.
    Failed,
    /// The command line, or something that it refers to, is wrong.
    Usage,
    /// The session, task, tool or follow-up does not exist.
    NotFound,
    /// No server answers.
    Unreachable,
    /// An unexpected error.
    Internal,
    /// The task was lost.
    Lost,
    /// The server refuses for now.
    Refused,
    /// Reading or writing failed on this side.
    Io,
    /// The work has not finished yet.
    StillRunning,
    /// The server cannot start while another program uses its address or its store.
    InUse,
    /// The token is missing, wrong or insufficient.
    NotAllowed,
    /// The server cannot start with its configuration.
    Config,
    /// The tool was stopped at its time limit.
    TimedOut,
    /// The task was cancelled.
    Cancelled,
    /// Ctrl-C.
    Interrupted,
    /// SIGTERM.
    Terminated,
    /// The tool's own exit code.
    Tool(u8),
}

impl Exit {
    /// Returns the exit code of the process.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 66,
            Self::Unreachable => 69,
            Self::Internal => 70,
            Self::Lost => 71,
            Self::Refused => 73,
            Self::Io => 74,
            Self::StillRunning | Self::InUse => 75,
            Self::NotAllowed => 77,
            Self::Config => 78,
            Self::TimedOut => 124,
            Self::Cancelled => 125,
            Self::Interrupted => 130,
            Self::Terminated => 143,
            Self::Tool(code) => code,
        }
    }

    /// Returns the exit for a failed request.
    pub(crate) fn of_error(error: &Error) -> Self {
        match (error.origin(), error.code()) {
            (Origin::Options, _) => Self::Usage,
            (Origin::Token, _) => Self::NotAllowed,
            (Origin::Transport | Origin::Silence | Origin::EndedEarly, _) => Self::Unreachable,
            (Origin::Proxy, Code::Unauthenticated | Code::PermissionDenied) => Self::NotAllowed,
            (Origin::Proxy, _) => Self::Unreachable,
            (Origin::Deadline, _) => Self::StillRunning,
            (Origin::Answer, _) => Self::Internal,
            (_, code) => Self::of_code(code),
        }
    }

    fn of_code(code: Code) -> Self {
        match code {
            Code::Ok => Self::Success,
            Code::InvalidArgument | Code::OutOfRange => Self::Usage,
            Code::NotFound => Self::NotFound,
            Code::Unauthenticated | Code::PermissionDenied => Self::NotAllowed,
            Code::Unavailable => Self::Unreachable,
            Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::ResourceExhausted => Self::Refused,
            Code::DeadlineExceeded => Self::StillRunning,
            Code::Cancelled
            | Code::Unknown
            | Code::Unimplemented
            | Code::Internal
            | Code::DataLoss => Self::Internal,
        }
    }

    /// Returns the exit for the state of a call and its result.
    pub(crate) fn of_end(state: State, result: Option<&ToolResult>) -> Self {
        match state {
            State::Succeeded => Self::Success,
            State::Failed => result.map_or(Self::Failed, Self::of_failure),
            State::TimedOut => Self::TimedOut,
            State::Cancelled => Self::Cancelled,
            State::Lost => Self::Lost,
            State::Pending | State::Running | State::Cancelling => Self::StillRunning,
            State::Unspecified => Self::Internal,
        }
    }

    /// Returns the exit for a failed tool, which is never a success, even if its exit code is 0.
    fn of_failure(result: &ToolResult) -> Self {
        let code = match result.exit {
            Some(tool_result::Exit::ExitCode(code)) => u8::try_from(code).unwrap_or(1),
            Some(tool_result::Exit::Signal(signal)) => {
                u8::try_from(signal.saturating_add(128)).unwrap_or(u8::MAX)
            }
            None => 0,
        };
        if code == 0 { Self::Failed } else { Self::Tool(code) }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(exit: Option<tool_result::Exit>) -> u8 {
        let result = ToolResult { is_error: true, exit, ..Default::default() };
        Exit::of_end(State::Failed, Some(&result)).code()
    }

    #[test]
    fn the_exit_code_of_a_tool_is_kept() {
        assert_eq!(failed(Some(tool_result::Exit::ExitCode(3))), 3);
        assert_eq!(failed(Some(tool_result::Exit::Signal(9))), 137);
        assert_eq!(failed(Some(tool_result::Exit::Signal(200))), 255);
    }

    #[test]
    fn a_failure_is_never_a_zero() {
        assert_eq!(failed(Some(tool_result::Exit::ExitCode(0))), 1);
        assert_eq!(failed(Some(tool_result::Exit::ExitCode(4096))), 1);
        assert_eq!(failed(None), 1);
        assert_eq!(Exit::of_end(State::Failed, None).code(), 1);
    }

    #[test]
    fn the_state_takes_precedence_over_the_signal() {
        let exit = Some(tool_result::Exit::Signal(15));
        let result = ToolResult { is_error: true, exit, ..Default::default() };
        assert_eq!(Exit::of_end(State::TimedOut, Some(&result)).code(), 124);
        assert_eq!(Exit::of_end(State::Cancelled, Some(&result)).code(), 125);
        assert_eq!(Exit::of_end(State::Lost, None).code(), 71);
        assert_eq!(Exit::of_end(State::Cancelling, None).code(), 75);
    }

    #[test]
    fn every_code_is_in_the_help() {
        let all = [
            Exit::Success,
            Exit::Failed,
            Exit::Usage,
            Exit::NotFound,
            Exit::Unreachable,
            Exit::Internal,
            Exit::Lost,
            Exit::Refused,
            Exit::Io,
            Exit::StillRunning,
            Exit::InUse,
            Exit::NotAllowed,
            Exit::Config,
            Exit::TimedOut,
            Exit::Cancelled,
            Exit::Interrupted,
            Exit::Terminated,
        ];
        for exit in all {
            assert!(HELP.contains(&format!("\n  {:<3}  ", exit.code())), "{exit:?}");
        }
    }
}
