//! Suggestions for commands that callpark does not have.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Commands of other programs, and the ones of callpark that do the same.
const SYNONYMS: &[(&[&str], &str)] = &[
    (&["attach", "log", "logs", "tail"], "output"),
    (&["jobs", "ls", "ps", "tasks", "status", "top"], "list"),
    (&["exec", "call"], "run"),
    (&["spawn", "submit", "background", "bg"], "start"),
    (&["inspect", "describe", "get", "info"], "show"),
    (&["kill", "stop", "abort"], "cancel"),
    (&["rm", "remove"], "delete"),
    (&["fg", "join", "result"], "wait"),
    (&["server", "up", "daemon"], "serve"),
    (&["session"], "sessions"),
    (&["history", "stream", "watch"], "events"),
    (&["ask", "agent", "prompt"], "chat"),
    (&["settings", "configuration"], "config"),
    (&["completion"], "completions"),
];

/// Not suggested for a misspelling: it cancels tasks, so it must be meant.
const NEVER: &str = "close";

/// Returns the error with better suggestions if it is about an unknown command.
pub(super) fn improve(mut error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return error;
    }
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidSubcommand) else {
        return error;
    };
    let synonym = SYNONYMS.iter().find(|(others, _)| others.contains(&given.as_str()));
    let suggested = match (synonym, error.get(ContextKind::SuggestedSubcommand)) {
        (Some((_, name)), _) => vec![(*name).to_owned()],
        (None, Some(ContextValue::String(name))) => vec![name.clone()],
        (None, Some(ContextValue::Strings(names))) => names.clone(),
        (None, _) => Vec::new(),
    };
    let suggested: Vec<String> = suggested.into_iter().filter(|name| name != NEVER).collect();
    // The other suggestion, to pass the command as a value, makes no sense here.
    error.remove(ContextKind::Suggested);
    error.remove(ContextKind::SuggestedSubcommand);
    if !suggested.is_empty() {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(suggested));
    }
    error
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, declaration};

    fn message(command: &str) -> String {
        let error = Cli::try_parse_from(["callpark", command]).expect_err("an unknown command");
        improve(error).to_string()
    }

    #[test]
    fn a_command_of_another_program_leads_to_the_one_here() {
        for (given, name) in [("logs", "output"), ("ps", "list"), ("kill", "cancel")] {
            let message = message(given);
            assert!(message.contains(&format!("'{name}'")), "{message}");
        }
        for (others, name) in SYNONYMS {
            let has = |command: &str| declaration().find_subcommand(command).is_some();
            assert!(has(name) && !others.iter().any(|other| has(other)), "{name}");
        }
    }

    #[test]
    fn a_misspelling_leads_to_its_command_but_never_to_close() {
        assert!(message("outptu").contains("'output'"), "{}", message("outptu"));
        for given in ["clos", "closee", "clsoe", "lose", "clone", "logs", "xyz"] {
            assert!(!message(given).contains("close'"), "{}", message(given));
        }
        assert!(message("xyz").contains("unrecognized subcommand 'xyz'"), "{}", message("xyz"));
    }
}
