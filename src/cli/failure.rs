//! Why a command failed, in one or two lines that say what to do next.

use std::io;

use callpark_client::{Code, Error, Origin, Reason, Violation};

use super::{connect::Connection, exit::Exit, output::clean, time::span};

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nobody reads standard output any more. No error: who reads decides how much.
    Closed,
    /// A request to the server failed.
    Client(Box<Error>),
    /// Anything else.
    Told {
        /// The exit code.
        exit: Exit,
        /// One or two lines.
        text: String,
    },
}

impl Failure {
    /// The command line, or what it names, is wrong.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Told { exit: Exit::Usage, text: text.into() }
    }

    /// The server answered outside its contract.
    pub(crate) fn answer(text: impl Into<String>) -> Self {
        let text = format!("{}\nuse a client and a server of the same version", text.into());
        Self::Told { exit: Exit::Internal, text }
    }

    /// Writing to standard output failed.
    pub(crate) fn writing(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Told {
                exit: Exit::Io,
                text: format!("cannot write to standard output: {error}"),
            },
        }
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Closed => Exit::Success,
            Self::Client(error) => Exit::of_error(error),
            Self::Told { exit, .. } => *exit,
        }
    }

    /// What to write to standard error. `None`: nothing.
    pub(crate) fn text(&self, connection: &Connection) -> Option<String> {
        let text = match self {
            Self::Closed => return None,
            Self::Told { text, .. } => text.clone(),
            Self::Client(error) => match (error.origin(), error.code()) {
                (Origin::Transport, _) => unreachable(error, connection),
                (Origin::Token, _) | (Origin::Server, Code::Unauthenticated) => {
                    refused(error, connection)
                }
                (Origin::Server, _) => answered(error),
                _ => error.to_string(),
            },
        };
        Some(format!("error: {}", clean(&text)))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Client(Box::new(error))
    }
}

fn unreachable(error: &Error, connection: &Connection) -> String {
    let Connection { endpoint, .. } = connection;
    let roots = if endpoint.starts_with("https:") {
        "; --ca-file names the roots of its certificate"
    } else {
        ""
    };
    format!(
        "no server at {endpoint}: {}\n\
         start one with `callpark serve`, or name another with --endpoint{roots}",
        error.message(),
    )
}

fn refused(error: &Error, connection: &Connection) -> String {
    let what = match error.origin() {
        Origin::Token => "the token can't be read",
        _ => "the server refuses the token",
    };
    format!(
        "{what}: {}\n{}; name another file with --token-file",
        error.message(),
        connection.token.tell()
    )
}

/// The server's own words, what they leave out, and the command that helps.
fn answered(error: &Error) -> String {
    let mut text = error.message().to_owned();
    for Violation { subject, description, .. } in error.field_violations() {
        if !text.contains(description.as_str()) {
            text.push_str(&format!("; {subject}: {description}"));
        }
    }
    if let Some(next) = next(error) {
        text.push('\n');
        text.push_str(&next);
    }
    text
}

/// What to do about an error of the server. `None`: its words say it all.
fn next(error: &Error) -> Option<String> {
    let next = match error.reason() {
        Some(Reason::TaskNotFound) => "`callpark list` shows the tasks there are",
        Some(Reason::SessionNotFound) => "`callpark sessions` shows the sessions there are",
        Some(Reason::FollowUpNotFound) => "`callpark follow-ups` shows the follow-ups there are",
        Some(Reason::ToolNotFound) => {
            "`callpark tools` shows the tools there are, with `--session` those that it allows"
        }
        Some(Reason::ArgumentsInvalid) => "`callpark tools --json` shows what each tool takes",
        Some(Reason::SessionClosed) => {
            "name another session, or none: then the call gets a new one"
        }
        Some(Reason::TaskRunning) => "`callpark cancel` stops it",
        Some(Reason::TaskLimit) => {
            "`callpark list --state running` shows the tasks that could be cancelled"
        }
        _ => return later(error),
    };
    Some(next.to_owned())
}

fn later(error: &Error) -> Option<String> {
    if let Some(delay) = error.retry_delay() {
        return Some(format!("the server asks to try again in {}", span(delay)));
    }
    let id = &error.details().request_id;
    match (error.code(), id.is_empty()) {
        (Code::Internal | Code::Unknown, false) => {
            Some(format!("the server's log has it under {id}"))
        }
        _ => None,
    }
}
