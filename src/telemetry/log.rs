//! Logs on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// The format of a line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LogFormat {
    /// Text for people: time, level, target, message, fields. It has colors on a terminal.
    #[default]
    Text,
    /// One JSON object a line, including the fields of spans.
    Json,
}

/// The error of a failed set-up of the logs.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not valid.
    #[error(
        "`{filter}` is not a log filter: {source}; write a level (error, warn, info, debug, trace) or \
         directives such as `info,callpark::engine=debug`"
    )]
    Filter {
        /// The filter.
        filter: String,
        /// The error of the parser.
        source: tracing_subscriber::filter::ParseError,
    },
}

/// Sends the logs of the process to standard error. `filter` is a level or a list of directives
/// such as `info,callpark::engine=debug`.
///
/// The first subscriber of a process stays: a later call checks its filter and changes nothing.
///
/// # Errors
///
/// Returns an error if the filter is not valid.
pub fn init_tracing(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|source| TelemetryError::Filter { filter: filter.to_owned(), source })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An entry that cannot be written, such as one for a file on a full disk, is lost. A report of that
    // would go the same way, and end what is reporting.
    let builder = builder.log_internal_errors(false);
    // This fails if a test or a program that embeds the server has set a subscriber before.
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
    fn a_second_set_up_is_accepted() {
        assert!(init_tracing(LogFormat::Json, "off").is_ok());
        assert!(init_tracing(LogFormat::Text, "off,callpark=off").is_ok());
    }

    #[test]
    fn the_error_names_the_bad_filter_and_the_valid_forms() {
        let error = init_tracing(LogFormat::Text, "callpark=loud").expect_err("no such level");
        let text = error.to_string();
        assert!(text.contains("`callpark=loud`"), "{text}");
        assert!(text.contains("error, warn, info, debug, trace"), "{text}");
    }
}
