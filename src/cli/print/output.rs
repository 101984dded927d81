//! Standard output and standard error.

use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;
use tokio::io::{AsyncWriteExt as _, Stdout};

use super::{
    colour::{self, paint_state},
    json::{self, JsonList, JsonMessage},
    table::{Medium, Table},
    terminal_filter::TerminalFilter,
    text::{count, first_line, sanitize, short_id, with_json_escapes},
};
use crate::cli::error::Failure;

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
    /// The filter of what tools wrote to their standard output, or `None` if it is written unchanged.
    stdout_filter: Option<TerminalFilter>,
    /// The same for standard error.
    stderr_filter: Option<TerminalFilter>,
}

impl Out {
    pub(crate) fn new(json: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self {
            stdout: tokio::io::stdout(),
            json,
            terminal,
            line_is_open: false,
            stdout_filter: terminal.then(TerminalFilter::default),
            stderr_filter: std::io::stderr().is_terminal().then(TerminalFilter::default),
        }
    }

    /// Passes the output of tools to a terminal unchanged, too.
    pub(crate) fn set_raw(&mut self) {
        (self.stdout_filter, self.stderr_filter) = (None, None);
    }

    /// Writes what a tool wrote to its standard output: unchanged, but for a terminal without what
    /// would control it.
    pub(crate) async fn tool_output(&mut self, data: &[u8]) -> Result<(), Failure> {
        match &mut self.stdout_filter {
            Some(filter) => {
                let shown = filter.pass(data);
                self.bytes(shown.as_bytes()).await
            }
            None => self.bytes(data).await,
        }
    }

    /// Writes what a tool wrote to its standard error, in the same way.
    pub(crate) async fn tool_errors(&mut self, data: &[u8]) {
        match &mut self.stderr_filter {
            Some(filter) => eprint_bytes(filter.pass(data).as_bytes()).await,
            None => eprint_bytes(data).await,
        }
    }

    /// Ends the output of tools: resets the colours of a terminal, and notes what was left out.
    pub(crate) async fn end_tool_output(&mut self) -> Result<(), Failure> {
        let mut left_out = 0;
        if let Some(filter) = &mut self.stdout_filter {
            let (end, count) = filter.finish();
            left_out += count;
            if !end.is_empty() {
                let line_is_open = self.line_is_open;
                self.bytes(end.as_bytes()).await?;
                self.line_is_open = line_is_open;
            }
        }
        if let Some(filter) = &mut self.stderr_filter {
            let (end, count) = filter.finish();
            left_out += count;
            eprint_bytes(end.as_bytes()).await;
        }
        if left_out > 0 {
            if self.line_is_open {
                eprint_line("");
            }
            let controls = count(left_out, "control sequence");
            eprint_note(&format!("{controls} of the output left out on the terminal; see --raw"));
        }
        Ok(())
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

    /// Writes an entry of a log for people. On a terminal it is truncated to one line.
    pub(crate) async fn entry(&mut self, text: &str) -> Result<(), Failure> {
        match self.medium() {
            Medium::Terminal { columns, .. } => self.line(&first_line(text, columns)).await,
            Medium::Pipe => self.line(text).await,
        }
    }

    /// Writes a state after its name.
    pub(crate) async fn state(&mut self, name: &str, state: &str) -> Result<(), Failure> {
        let (name, state) = (sanitize(name), sanitize(state));
        let state = match self.medium() {
            Medium::Terminal { is_coloured: true, .. } => paint_state(&state),
            Medium::Terminal { .. } | Medium::Pipe => state,
        };
        self.bytes(format!("{name}{state}\n").as_bytes()).await
    }

    /// Returns the id as people read it: its beginning on a terminal, else the whole id.
    pub(crate) fn id(&self, id: &str) -> String {
        if self.terminal { short_id(id) } else { id.to_owned() }
    }

    /// Writes a table for people. On a terminal a row is one line.
    pub(crate) async fn table(&mut self, table: &Table) -> Result<(), Failure> {
        self.bytes(table.render(self.medium()).as_bytes()).await
    }

    fn medium(&self) -> Medium {
        if !self.terminal {
            return Medium::Pipe;
        }
        let width = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        let columns = width.filter(|&width| width > 0).unwrap_or(usize::MAX);
        Medium::Terminal { columns, is_coloured: colour::is_wanted() }
    }

    /// Writes a list: as one JSON document, or as a table of `noun`, such as `sessions`, with a
    /// note if there are more entries.
    pub(crate) async fn list<M: JsonList>(
        &mut self,
        list: &M,
        table: &Table,
        noun: &str,
        has_more: bool,
    ) -> Result<(), Failure> {
        if self.json {
            return self.list_document(list).await;
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

    /// Writes a list as one JSON document, which has the key of its entries even if there are none.
    pub(crate) async fn list_document<M: JsonList>(&mut self, list: &M) -> Result<(), Failure> {
        let document = serde_json::to_value(json::canonical(list)?);
        let mut document = document.map_err(|error| unwritable(&error))?;
        if let serde_json::Value::Object(members) = &mut document {
            members.entry(M::ENTRIES).or_insert_with(|| serde_json::json!([]));
        }
        self.json(&document).await
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
        let text = text.map_err(|error| unwritable(&error))?;
        let text = if self.terminal { with_json_escapes(&text) } else { text };
        self.bytes(format!("{text}\n").as_bytes()).await
    }
}

fn unwritable(error: &serde_json::Error) -> Failure {
    Failure::unexpected_answer(format!("the answer cannot be written as JSON: {error}"))
}

/// Writes bytes to standard error, unchanged.
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

/// Prints a note if a list leaves out records that are damaged.
pub(crate) fn eprint_unreadable(number: i32, noun: &str) {
    if number != 0 {
        eprint_note(&format!("{} cannot be read: see the server's log", count(number, noun)));
    }
}

/// Prints a note of this program on standard error.
pub(crate) fn eprint_note(text: &str) {
    eprint_line(&format!("callpark: {text}"));
}
