//! Standard output and standard error.

use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;
use tokio::io::{AsyncWriteExt as _, Stdout};

use super::{
    json::{self, JsonMessage},
    table::Table,
    text::{count, sanitize},
};
use crate::cli::error::Failure;

/// The longest cell of a table on a terminal, in characters.
const CELL_CHARACTERS_MAX: usize = 60;

/// Standard output, and how to write to it.
///
/// Every write is flushed, so that what a tool wrote to its two streams arrives in order. A write
/// waits while the reader is slow, and a command can be stopped meanwhile.
#[derive(Debug)]
pub(crate) struct Out {
    stdout: Stdout,
    /// `true` if the output is JSON, for programs.
    pub(crate) json: bool,
    /// `true` if standard output is a terminal.
    pub(crate) terminal: bool,
    /// `true` if the last byte that was written did not end a line.
    line_is_open: bool,
}

impl Out {
    pub(crate) fn new(json: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self { stdout: tokio::io::stdout(), json, terminal, line_is_open: false }
    }

    /// Writes bytes unchanged.
    pub(crate) async fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = async {
            self.stdout.write_all(bytes).await?;
            self.stdout.flush().await
        };
        written.await.map_err(|error| Failure::stdout(&error))?;
        self.line_is_open = bytes.last().map_or(self.line_is_open, |last| *last != b'\n');
        Ok(())
    }

    /// Ends the last line, unless it has ended.
    pub(crate) async fn end_line(&mut self) -> Result<(), Failure> {
        if self.line_is_open { self.bytes(b"\n").await } else { Ok(()) }
    }

    /// Writes bytes that are not text. On a terminal, writes their type and size instead.
    pub(crate) async fn data(&mut self, media_type: &str, data: &[u8]) -> Result<(), Failure> {
        if self.terminal {
            return self.line(&format!("({media_type}, {})", count(data.len(), "byte"))).await;
        }
        self.bytes(data).await
    }

    /// Writes a line of text for people.
    pub(crate) async fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(format!("{}\n", sanitize(text)).as_bytes()).await
    }

    /// Writes a table for people. On a terminal long cells are truncated.
    pub(crate) async fn table(&mut self, table: &Table) -> Result<(), Failure> {
        let text = if self.terminal {
            let width = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
            table.render(CELL_CHARACTERS_MAX, width.unwrap_or(usize::MAX))
        } else {
            table.render(usize::MAX, usize::MAX)
        };
        self.bytes(text.as_bytes()).await
    }

    /// Writes a list: as one JSON document, or as a table of `noun`, such as `sessions`, with a
    /// note if there are more entries.
    pub(crate) async fn list<M: JsonMessage>(
        &mut self,
        list: &M,
        table: &Table,
        noun: &str,
        has_more: bool,
    ) -> Result<(), Failure> {
        if self.json {
            return self.document(list).await;
        }
        if table.is_empty() {
            eprint_note(&format!("no {noun} found"));
            return Ok(());
        }
        self.table(table).await?;
        if has_more {
            eprint_note(&format!("there are more {noun}; raise --limit to see them"));
        }
        Ok(())
    }

    /// Writes a message as one JSON document.
    pub(crate) async fn document<M: JsonMessage>(&mut self, message: &M) -> Result<(), Failure> {
        self.json(&json::canonical(message)?).await
    }

    /// Writes a message as one line of JSON.
    pub(crate) async fn json_line<M: JsonMessage>(&mut self, message: &M) -> Result<(), Failure> {
        self.json_text(serde_json::to_string(&json::canonical(message)?)).await
    }

    /// Writes a value as one JSON document.
    pub(crate) async fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        self.json_text(serde_json::to_string_pretty(value)).await
    }

    async fn json_text(&mut self, text: serde_json::Result<String>) -> Result<(), Failure> {
        let text = text.map_err(|error| {
            Failure::unexpected_answer(format!("the answer cannot be written as JSON: {error}"))
        })?;
        self.bytes(format!("{text}\n").as_bytes()).await
    }
}

/// Writes bytes of a tool to standard error, unchanged.
pub(crate) async fn eprint_bytes(bytes: &[u8]) {
    let mut stderr = tokio::io::stderr();
    // A closed standard error is not an error of the command.
    let _closed = stderr.write_all(bytes).await;
    let _closed = stderr.flush().await;
}

/// Prints a line for people on standard error.
pub(crate) fn eprint_line(text: &str) {
    let _closed = writeln!(std::io::stderr().lock(), "{}", sanitize(text));
}

/// Prints a note of this program on standard error.
pub(crate) fn eprint_note(text: &str) {
    eprint_line(&format!("callpark: {text}"));
}
