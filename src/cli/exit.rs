//! Exit codes: what each command's end means to a program.

use std::process::ExitCode;

use callpark_client::{
    Code, Error, Origin,
    v1::{State, Task, ToolResult, tool_result},
};

use super::result::result_of;

/// The table of exit codes, for the help of `callpark` and of `callpark run`.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done
  N    run, wait: the tool's own exit code; 128+N: it was ended by signal N
  1    the tool failed without an exit code; one of several ids failed
  2    wrong usage, or arguments that the tool or the server refuses
  66   no such session, task, tool or follow-up
  69   no server is reachable, or it stops
  70   something unexpected, in the server or here
  71   the task was lost: its host died and left no result
  73   the server refuses for now: a limit is reached, the session is closed or busy
  74   reading or writing here failed
  75   not ended yet: the call was parked, or the wait was over before the task or the follow-up
  77   no permission: the token is missing, wrong, or not enough
  78   the server's configuration is wrong, or it can't start
  124  the tool was stopped at its time limit
  125  the task was cancelled
  130  stopped by Ctrl-C; a call goes on
  143  the server was stopped at once by a second SIGTERM

A tool may end with one of these codes itself. `--json` tells which it was: only a call that has
ended gives `toolCallFinished` or a task with an outcome.";

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Success,
    /// The tool failed and gave no exit code, or one of several ids failed.
    Failed,
    /// The command line, or what it says, is wrong.
    Usage,
    /// No such session, task, tool or follow-up.
    NotFound,
    /// No server answers.
    Unreachable,
    /// Something unexpected.
    Internal,
    /// The task was lost.
    Lost,
    /// The server refuses for now.
    Refused,
    /// Reading or writing failed on this side.
    Io,
    /// The work hasn't ended yet.
    StillRunning,
    /// The token is missing, wrong, or not enough.
    NotAllowed,
    /// The server can't start as it is configured.
    Config,
    /// The tool was stopped at its time limit.
    TimedOut,
    /// The task was cancelled.
    Cancelled,
    /// Stopped by Ctrl-C.
    Interrupted,
    /// Stopped by SIGTERM.
    Terminated,
    /// The tool's own exit code.
    Tool(u8),
}

impl Exit {
    /// The number that the process ends with.
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
            Self::StillRunning => 75,
            Self::NotAllowed => 77,
            Self::Config => 78,
            Self::TimedOut => 124,
            Self::Cancelled => 125,
            Self::Interrupted => 130,
            Self::Terminated => 143,
            Self::Tool(code) => code,
        }
    }

    /// What a failed request means.
    pub(crate) fn of_error(error: &Error) -> Self {
        match (error.origin(), error.code()) {
            (Origin::Options, _) => Self::Usage,
            (Origin::Token, _) => Self::NotAllowed,
            (Origin::Transport | Origin::Silence | Origin::EndedEarly, _) => Self::Unreachable,
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

    /// What the end of a call means. `result`: what it gave back, if anything.
    pub(crate) fn of_end(state: State, result: Option<&ToolResult>) -> Self {
        match state {
            State::Succeeded => Self::Success,
            State::Failed => result.map_or(Self::Failed, Self::of_failure),
            State::TimedOut => Self::TimedOut,
            State::Cancelled => Self::Cancelled,
            State::Lost => Self::Lost,
            State::Pending | State::Running | State::InputRequired | State::Cancelling => {
                Self::StillRunning
            }
            State::Unspecified => Self::Internal,
        }
    }

    /// What the end of a task means.
    pub(crate) fn of_task(task: &Task) -> Self {
        Self::of_end(task.state(), result_of(task))
    }

    /// A tool that failed never counts as a success, whatever it says of its exit.
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
    fn a_tools_own_code_is_passed_on() {
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
    fn the_state_says_more_than_the_signal_that_brought_it_about() {
        let exit = Some(tool_result::Exit::Signal(15));
        let result = ToolResult { is_error: true, exit, ..Default::default() };
        assert_eq!(Exit::of_end(State::TimedOut, Some(&result)).code(), 124);
        assert_eq!(Exit::of_end(State::Cancelled, Some(&result)).code(), 125);
        assert_eq!(Exit::of_end(State::Lost, None).code(), 71);
        assert_eq!(Exit::of_end(State::Cancelling, None).code(), 75);
    }

    #[test]
    fn every_code_stands_in_the_help() {
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
