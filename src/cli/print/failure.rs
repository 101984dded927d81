//! Failures of commands, in one or two lines that say what to do next.

use callpark_client::{Code, Error, Origin, Reason, Violation};

use super::{output::eprint_line, time::format_span};
use crate::cli::{connection::Connection, error::Failure};

/// Prints a failure on standard error, unless it is only a closed output.
pub(crate) fn eprint_failure(failure: &Failure, connection: &Connection) {
    let text = match failure {
        Failure::OutputClosed => return,
        Failure::Message { text, .. } => text.clone(),
        Failure::Client(error) => match (error.origin(), error.code()) {
            (Origin::Transport, _) => unreachable(error, connection),
            (Origin::Token, _) | (Origin::Server, Code::Unauthenticated) => {
                unauthenticated(error, connection)
            }
            (Origin::Server, _) => server_error(error),
            _ => error.to_string(),
        },
    };
    eprint_line(&format!("error: {text}"));
}

fn unreachable(error: &Error, connection: &Connection) -> String {
    let Connection { endpoint, .. } = connection;
    let roots = if endpoint.starts_with("https:") {
        "; if its certificate has a private root, pass that with --ca-file"
    } else {
        ""
    };
    format!(
        "no server at {endpoint}: {}\n\
         start one with `callpark serve`, or pass another address with --endpoint{roots}",
        error.message(),
    )
}

fn unauthenticated(error: &Error, connection: &Connection) -> String {
    let what = match error.origin() {
        Origin::Token => "the token cannot be read",
        _ => "the server rejected the token",
    };
    let origin = connection.token.describe();
    format!("{what}: {}\n{origin}; pass another file with --token-file", error.message())
}

/// Returns the server's message, the details that it leaves out, and a hint.
fn server_error(error: &Error) -> String {
    let mut text = error.message().to_owned();
    for Violation { subject, description, .. } in error.field_violations() {
        if !text.contains(description.as_str()) {
            text.push_str(&format!("; {subject}: {description}"));
        }
    }
    if let Some(hint) = hint(error) {
        text.push('\n');
        text.push_str(&hint);
    }
    text
}

/// Returns what to do about an error of the server, or `None` if its message says it all.
fn hint(error: &Error) -> Option<String> {
    let hint = match error.reason() {
        Some(Reason::TaskNotFound) => "list the tasks with `callpark list`",
        Some(Reason::SessionNotFound) => "list the sessions with `callpark sessions`",
        Some(Reason::FollowUpNotFound) => "list the follow-ups with `callpark follow-ups`",
        Some(Reason::ToolNotFound) => {
            "list the tools with `callpark tools`; with --session it lists those that a session \
             allows"
        }
        Some(Reason::ArgumentsInvalid) => {
            "see the arguments of each tool with `callpark tools --json`"
        }
        Some(Reason::SessionClosed) => {
            "use another session, or leave out --session to create a new one"
        }
        Some(Reason::TaskRunning) => "stop it first with `callpark cancel`",
        Some(Reason::TaskLimit) => "find tasks to cancel with `callpark list --state running`",
        _ => return retry_or_log_hint(error),
    };
    Some(hint.to_owned())
}

fn retry_or_log_hint(error: &Error) -> Option<String> {
    if let Some(delay) = error.retry_delay() {
        return Some(format!("try again in {}, as the server asks", format_span(delay)));
    }
    let id = &error.details().request_id;
    match (error.code(), id.is_empty()) {
        (Code::Internal | Code::Unknown, false) => {
            Some(format!("for details, search the server's log for {id}"))
        }
        _ => None,
    }
}
