//! Logs on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LogFormat {
    /// For a person: time, level, target, message, fields. Coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line, span fields included.
    Json,
}

/// Why the logs couldn't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter can't be read.
    #[error(
        "`{filter}` is no log filter: {source}; write a level (error, warn, info, debug, trace) or \
         directives such as `info,callpark::engine=debug`"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// Where it goes wrong.
        source: tracing_subscriber::filter::ParseError,
    },
}

/// Sends the process's logs to standard error: `filter` is a level or a list of directives as in
/// `info,callpark::engine=debug`.
///
/// The first subscriber of a process stays: a later call checks its filter and changes nothing.
///
/// # Errors
/// The filter can't be read.
pub fn init_tracing(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|source| TelemetryError::Filter { filter: filter.to_owned(), source })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Refused when a subscriber is there already: a test, or a program that embeds the server,
    // has chosen its own.
    let _already_set = match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_set_up_is_no_error() {
        assert!(init_tracing(LogFormat::Json, "off").is_ok());
        assert!(init_tracing(LogFormat::Text, "off,callpark=off").is_ok());
    }

    #[test]
    fn a_bad_filter_is_named_with_what_would_be_good() {
        let error = init_tracing(LogFormat::Text, "callpark=loud").expect_err("no such level");
        let text = error.to_string();
        assert!(text.contains("`callpark=loud`"), "{text}");
        assert!(text.contains("error, warn, info, debug, trace"), "{text}");
    }
}
