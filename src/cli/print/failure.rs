//! Failures of commands, in one or two lines that say what to do next.

use callpark_client::{Code, ConnectFault, Error, Origin, Reason, Violation};

use super::{output::eprint_line, time::format_span};
use crate::cli::{connection::Connection, error::Failure};

/// Prints a failure on standard error, unless it is only a closed output.
pub(crate) fn eprint_failure(failure: &Failure, connection: &Connection) {
    let text = match failure {
        Failure::OutputClosed => return,
        Failure::Message { text, .. } => text.clone(),
        Failure::Client(error) => match (error.origin(), error.code()) {
            (Origin::Transport, _) => match error.connect_fault() {
                Some(fault) => unusable(fault, connection),
                None => unreachable(error, connection),
            },
            (Origin::Proxy, _) => answered_by_another(error, connection),
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
    let endpoint = connection.endpoints();
    let reason = match error.endpoint_failures() {
        [] => format!("no server at {endpoint}: {}", error.message()),
        _ => format!("no server can be reached{}", failed_endpoints(error)),
    };
    let advice = "start one with `callpark serve`, or pass another address with --endpoint";
    format!("{reason}\n{advice}")
}

/// Returns the failures of several endpoints, as the end of a line.
fn failed_endpoints(error: &Error) -> String {
    let failures = error.endpoint_failures().iter();
    failures.map(|one| format!("; {}: {}", one.endpoint, one.failure)).collect()
}

fn unusable(fault: &ConnectFault, connection: &Connection) -> String {
    let endpoint = connection.endpoints();
    let with_scheme = |from, to| {
        let endpoints = connection.endpoints.iter().map(|one| one.replacen(from, to, 1));
        format!("use --endpoint {}", endpoints.collect::<Vec<_>>().join(","))
    };
    let advice = match fault {
        ConnectFault::ServerSpeaksTls => with_scheme("http:", "https:"),
        ConnectFault::ServerSpeaksNoTls | ConnectFault::ClosedInHandshake => {
            with_scheme("https:", "http:")
        }
        ConnectFault::CertificateNotTrusted => {
            "pass the file of that certificate with --ca-file".to_owned()
        }
        ConnectFault::ClientCertificateRequired | ConnectFault::ClientCertificateRefused(_) => {
            "pass the files of another one with --cert-file and --key-file".to_owned()
        }
        _ => "pass another address with --endpoint".to_owned(),
    };
    format!("{endpoint} cannot be used: {fault}\n{advice}")
}

fn answered_by_another(error: &Error, connection: &Connection) -> String {
    let endpoint = connection.endpoints();
    let advice = match error.code() {
        Code::Unavailable => "try again later, or check whether the proxy there reaches callpark",
        Code::Unauthenticated | Code::PermissionDenied => "the proxy there does not let you pass",
        _ => "check the address, and that the proxy there passes gRPC on",
    };
    let (message, others) = (error.message(), failed_endpoints(error));
    format!("no callpark answered at {endpoint}: {message}{others}\n{advice}")
}

fn unauthenticated(error: &Error, connection: &Connection) -> String {
    let what = match error.origin() {
        Origin::Token => "the token cannot be read",
        _ => "the server rejected the credentials",
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
    text.push_str(&failed_endpoints(error));
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
