//! Logs on standard error.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;

use crate::redact::redacted;

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
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Redacted(io::stderr()));
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

/// Writes entries without their secrets. An entry is written at once.
struct Redacted<W>(W);

impl<W: Write> Write for Redacted<W> {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(entry);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let mut shown = redacted(line);
        shown.push_str(&text[line.len()..]);
        self.0.write_all(shown.as_bytes())?;
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn entries_have_no_secrets_in_either_format() {
        for is_json in [false, true] {
            let written = Written::default();
            let writer = written.clone();
            let builder = tracing_subscriber::fmt().with_writer(move || Redacted(writer.clone()));
            let entry = || {
                let (line, password) = ("got --token abc and Bearer xyz", "hunter");
                let span = tracing::info_span!("rpc", secret = "rosebud");
                let _entered = span.enter();
                tracing::info!(line, password, number = 7, "an entry");
            };
            match is_json {
                true => tracing::subscriber::with_default(builder.json().finish(), entry),
                false => {
                    tracing::subscriber::with_default(builder.with_ansi(false).finish(), entry)
                }
            }
            let text = String::from_utf8(written.0.lock().unwrap().clone()).expect("text");
            for secret in ["abc", "xyz", "hunter", "rosebud"] {
                assert!(!text.contains(secret), "{text}");
            }
            assert!(text.contains("an entry") && text.contains('7') && text.ends_with('\n'));
            assert_eq!(text.lines().count(), 1);
            if is_json {
                serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
            }
        }
    }

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
