//! The values that a shell proposes for an argument: names and ids that the server knows, and names
//! of states and kinds.
//!
//! The arguments are known by the names of their values, such as `ID`, and by their command.

use std::ffi::OsString;
use std::time::Duration;

use callpark_client::v1::{
    FollowUpPolicy, FollowUpState, Kind, PayloadKind, SessionState, State, ToolView,
};
use callpark_client::{Client, ListFollowUps, ListSessions, ListTasks, ListTools};
use clap::{Arg, Command, Parser as _};
use clap_complete::{ArgValueCandidates, CompletionCandidate};
use tokio::time::timeout;

use super::{
    args::connect::ConnectArgs,
    print::{
        labels::{Labeled, label, values},
        text::{first_line, sanitize},
    },
};

/// The time that a person waits for the values of the server before there are none.
const TIME_MAX: Duration = Duration::from_secs(1);

/// The number of ids that are proposed, the newest first.
const IDS_MAX: u32 = 50;

/// The longest description beside a value, in characters.
const HELP_CHARACTERS_MAX: usize = 50;

/// The flags that say which server to ask. All of them take a value.
const CONNECTION_FLAGS: [&str; 6] =
    ["--endpoint", "--token-file", "--config", "--ca-file", "--cert-file", "--key-file"];

/// Adds the values of the arguments to the declaration of the command line. `words` is the line that
/// is being completed.
pub(super) fn add(command: Command, words: &[OsString]) -> Command {
    let name = command.get_name().to_owned();
    let command = command.mut_args(|argument| match source(&name, &argument) {
        Some(source) => {
            let words = words.to_owned();
            argument.add(ArgValueCandidates::new(move || source.candidates(&words)))
        }
        None => argument,
    });
    command.mut_subcommands(|subcommand| add(subcommand, words))
}

/// The source of the values of an argument.
#[derive(Debug, Clone, Copy)]
enum Source {
    Tools,
    Tasks,
    Sessions,
    FollowUps,
    Labels(fn() -> Vec<String>),
}

/// Returns the source of the values of an argument of a command, or `None` if they can be anything.
fn source(command: &str, argument: &Arg) -> Option<Source> {
    let value = argument.get_value_names().and_then(|names| names.first());
    let value = value.map_or("", |name| name.as_str());
    Some(match (value, command, argument.get_id().as_str()) {
        ("TOOL", ..) => Source::Tools,
        ("ID", _, "session") | ("ID", "events" | "close", _) => Source::Sessions,
        ("ID", "retry", _) => Source::FollowUps,
        ("ID", ..) => Source::Tasks,
        ("STATE", "sessions", _) => Source::Labels(labels::<SessionState>),
        ("STATE", "follow-ups", _) => Source::Labels(labels::<FollowUpState>),
        ("STATE", ..) => Source::Labels(labels::<State>),
        ("KIND", "events", _) => Source::Labels(labels::<PayloadKind>),
        ("KIND", ..) => Source::Labels(labels::<Kind>),
        ("WHEN", ..) => Source::Labels(labels::<FollowUpPolicy>),
        _ => return None,
    })
}

fn labels<E: Labeled>() -> Vec<String> {
    values::<E>().into_iter().map(label).collect()
}

impl Source {
    /// Returns the values. There are none if the server does not answer in time, or refuses.
    fn candidates(self, words: &[OsString]) -> Vec<CompletionCandidate> {
        if let Self::Labels(labels) = self {
            return labels().into_iter().map(CompletionCandidate::new).collect();
        }
        let asked = async {
            let client = client(words)?;
            timeout(TIME_MAX, self.ask(&client)).await.ok()?.ok()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let answer = runtime.ok().and_then(|runtime| {
            let answer = runtime.block_on(asked);
            // A lookup of a name that hangs in its thread would hold the shell.
            runtime.shutdown_background();
            answer
        });
        let values = answer.unwrap_or_default().into_iter().enumerate();
        let candidate = |(index, (value, help)): (usize, (String, String))| {
            let help = sanitize(&first_line(&help, HELP_CHARACTERS_MAX));
            CompletionCandidate::new(value)
                .help((!help.is_empty()).then(|| help.into()))
                .display_order(Some(index))
        };
        values.map(candidate).collect()
    }

    /// Returns the values with their descriptions.
    async fn ask(self, client: &Client) -> Result<Vec<(String, String)>, callpark_client::Error> {
        Ok(match self {
            Self::Tools => {
                let request = ListTools::new().view(ToolView::Basic);
                let tools = client.tools().list_with(request).await?.tools;
                tools.into_iter().map(|tool| (tool.name, tool.description)).collect()
            }
            Self::Tasks => {
                let request = ListTasks::new().page_size(IDS_MAX);
                let tasks = client.tasks().list(request).await?.tasks;
                let described = |task: callpark_client::v1::Task| {
                    let help =
                        format!("{} {} {}", label(task.state()), task.tool, task.description);
                    (task.background_id, help)
                };
                tasks.into_iter().map(described).collect()
            }
            Self::Sessions => {
                let request = ListSessions::new().page_size(IDS_MAX);
                let sessions = client.sessions().list(request).await?.sessions;
                let described = |session: callpark_client::v1::Session| {
                    let help = format!("{} {}", label(session.state()), session.description);
                    (session.session_id, help)
                };
                sessions.into_iter().map(described).collect()
            }
            Self::FollowUps => {
                let request = ListFollowUps::new().page_size(IDS_MAX);
                let follow_ups = client.follow_ups().list(request).await?.follow_ups;
                let described = |follow_up: callpark_client::v1::FollowUp| {
                    let help = label(follow_up.state());
                    (follow_up.follow_up_id, help)
                };
                follow_ups.into_iter().map(described).collect()
            }
            Self::Labels(labels) => {
                labels().into_iter().map(|label| (label, String::new())).collect()
            }
        })
    }
}

/// The flags that a line to be completed may hold already.
#[derive(Debug, clap::Parser)]
struct GivenFlags {
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Returns a client of the server that the line names, or `None` if it is not complete there.
fn client(words: &[OsString]) -> Option<Client> {
    let given = GivenFlags::try_parse_from(connection_words(words)).ok()?;
    given.connect.client().ok().map(|(client, _)| client)
}

/// Returns the first word of a line, and those that say which server to ask.
fn connection_words(words: &[OsString]) -> Vec<OsString> {
    let mut words = words.iter();
    let mut found: Vec<OsString> = words.next().cloned().into_iter().collect();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        let flag = CONNECTION_FLAGS.iter().find(|flag| text.starts_with(**flag));
        match flag.map(|flag| &text[flag.len()..]) {
            Some("") => found.extend([word].into_iter().chain(words.next()).cloned()),
            Some(rest) if rest.starts_with('=') => found.push(word.clone()),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::declaration;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn every_id_tool_and_state_has_values() {
        fn check(command: &Command, seen: &mut usize) {
            for argument in command.get_arguments() {
                let names = argument.get_value_names().unwrap_or_default();
                let has_values = names
                    .iter()
                    .any(|name| ["TOOL", "ID", "STATE", "KIND", "WHEN"].contains(&name.as_str()));
                if has_values {
                    let source = source(command.get_name(), argument);
                    assert!(source.is_some(), "{} {argument}", command.get_name());
                    *seen += 1;
                }
            }
            command.get_subcommands().for_each(|command| check(command, seen));
        }
        let mut seen = 0;
        check(&declaration(), &mut seen);
        assert!(seen > 15, "{seen}");
    }

    #[test]
    fn a_line_that_is_not_complete_says_which_server_to_ask() {
        let found = connection_words(&words(
            "callpark --endpoint http://a:1 wait --config=x.toml bg-1 --endpoints y --token-file",
        ));
        assert_eq!(found, words("callpark --endpoint http://a:1 --config=x.toml --token-file"));
    }

    #[test]
    fn states_are_those_of_the_contract() {
        assert!(labels::<State>().contains(&"timed_out".to_owned()));
        assert!(labels::<PayloadKind>().contains(&"tool_call_parked".to_owned()));
    }
}
