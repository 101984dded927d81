//! Writing: data to standard output, everything else to standard error.

use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;
use tokio::io::{AsyncWriteExt as _, Stdout};

use super::{
    failure::Failure,
    json::{self, Named},
};

/// The longest cell of a table on a terminal, in characters.
const CELL_CHARACTERS_MAX: usize = 60;

/// What always stays of the last cell of a line on a terminal, however narrow, in characters.
const LAST_CELL_CHARACTERS_MIN: usize = 10;

/// Standard output, and how to write to it.
///
/// Everything is flushed as it is written, so that what a tool wrote to its two streams arrives in
/// the order in which it came. Writing waits while the reader is slow, and a command can be stopped
/// meanwhile.
#[derive(Debug)]
pub(crate) struct Out {
    stdout: Stdout,
    /// Write JSON, for programs.
    pub(crate) json: bool,
    /// Standard output is a terminal.
    pub(crate) terminal: bool,
}

impl Out {
    pub(crate) fn new(json: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self { stdout: tokio::io::stdout(), json, terminal }
    }

    /// Writes bytes as they are.
    pub(crate) async fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = async {
            self.stdout.write_all(bytes).await?;
            self.stdout.flush().await
        };
        written.await.map_err(|error| Failure::writing(&error))
    }

    /// Writes bytes that are no text. A terminal is told of them instead.
    pub(crate) async fn data(&mut self, media_type: &str, data: &[u8]) -> Result<(), Failure> {
        if self.terminal {
            return self.line(&format!("({media_type}, {} bytes)", data.len())).await;
        }
        self.bytes(data).await
    }

    /// Writes a line of text for people.
    pub(crate) async fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(format!("{}\n", clean(text)).as_bytes()).await
    }

    /// Writes a table for people. On a terminal long cells are cut.
    pub(crate) async fn table(&mut self, table: &Table) -> Result<(), Failure> {
        let text = if self.terminal {
            let width = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
            table.render(CELL_CHARACTERS_MAX, width.unwrap_or(usize::MAX))
        } else {
            table.render(usize::MAX, usize::MAX)
        };
        self.bytes(text.as_bytes()).await
    }

    /// Shows a list: as one JSON document, or as a table of `what`, such as `sessions`, which says
    /// when there are more.
    pub(crate) async fn list<M: Named>(
        &mut self,
        list: &M,
        table: &Table,
        what: &str,
        has_more: bool,
    ) -> Result<(), Failure> {
        if self.json {
            return self.document(list).await;
        }
        if table.is_empty() {
            tell(&format!("callpark: there are no such {what}"));
            return Ok(());
        }
        self.table(table).await?;
        if has_more {
            tell("callpark: there are more; --limit shows them");
        }
        Ok(())
    }

    /// Writes a message as one JSON document.
    pub(crate) async fn document<M: Named>(&mut self, message: &M) -> Result<(), Failure> {
        self.json(&json::canonical(message)?, true).await
    }

    /// Writes a message as one line of JSON.
    pub(crate) async fn json_line<M: Named>(&mut self, message: &M) -> Result<(), Failure> {
        self.json(&json::canonical(message)?, false).await
    }

    /// Writes a value as JSON: as a document, or in one line.
    pub(crate) async fn json(
        &mut self,
        value: &impl Serialize,
        document: bool,
    ) -> Result<(), Failure> {
        let text = if document {
            serde_json::to_string_pretty(value)
        } else {
            serde_json::to_string(value)
        };
        let text = text.map_err(|error| Failure::answer(format!("no JSON: {error}")))?;
        self.bytes(format!("{text}\n").as_bytes()).await
    }
}

/// Writes bytes of a tool to standard error, as they are.
pub(crate) async fn stderr_bytes(bytes: &[u8]) {
    let mut stderr = tokio::io::stderr();
    // Who closes standard error doesn't want to be told.
    let _closed = stderr.write_all(bytes).await;
    let _closed = stderr.flush().await;
}

/// Tells a person something on standard error.
pub(crate) fn tell(text: &str) {
    let _closed = writeln!(std::io::stderr().lock(), "{}", clean(text));
}

/// Text without control characters but for line breaks: what comes from elsewhere must not steer
/// the terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// The first line of a text, at most so many characters of it.
pub(crate) fn first_line(text: &str, characters_max: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.len() == text.len() && line.chars().count() <= characters_max {
        return line.to_owned();
    }
    let mut cut: String = line.chars().take(characters_max.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// A table: a header and rows with as many cells.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(header: [&str; N]) -> Self {
        Self { rows: vec![header.map(str::to_owned).into()] }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// Whether there is nothing but the header.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() <= 1
    }

    /// The lines, with columns two spaces apart and no space at the end of a line. What a line is
    /// too long by is cut from its last cell, of which a little always stays.
    fn render(&self, cell_characters_max: usize, line_characters_max: usize) -> String {
        let mut rows: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| {
                row.iter().map(|cell| clean(&first_line(cell, cell_characters_max))).collect()
            })
            .collect();
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let before: usize = widths.iter().rev().skip(1).map(|width| width + 2).sum();
        let left = line_characters_max.saturating_sub(before).max(LAST_CELL_CHARACTERS_MIN);
        for last in rows.iter_mut().filter(|row| row.len() == columns).filter_map(|r| r.last_mut())
        {
            *last = first_line(last, left);
        }
        rows.iter().map(|row| line(row, &widths)).collect()
    }
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let padded: Vec<String> =
        cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
    format!("{}\n", padded.join("  ").trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["ID", "STATE", "TEXT"]);
        table.row(["1".into(), "running".into(), String::new()]);
        table.row(["äöü".into(), "lost".into(), "why".into()]);
        let expected = "ID   STATE    TEXT\n1    running\näöü  lost     why\n";
        assert_eq!(table.render(usize::MAX, usize::MAX), expected);
    }

    #[test]
    fn a_long_cell_is_cut_and_a_row_stays_one_line() {
        let mut table = Table::new(["TEXT"]);
        table.row(["abcdefgh".into()]);
        table.row(["ab\ncd".into()]);
        assert_eq!(table.render(4, usize::MAX), "TEXT\nabc…\nab…\n");
    }

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\r\n\tc"), "a\u{fffd}[2Jb\u{fffd}\n\u{fffd}c");
        let mut table = Table::new(["TEXT"]);
        table.row(["\x1b]0;x\x07".into()]);
        assert!(!table.render(usize::MAX, usize::MAX).contains('\x1b'));
    }

    #[test]
    fn a_short_line_is_left_alone() {
        assert_eq!(first_line("abc", 3), "abc");
        assert_eq!(first_line("", 3), "");
        assert_eq!(first_line("abcd", 3), "ab…");
    }

    #[test]
    fn a_line_is_as_long_as_the_terminal_is_wide() {
        let mut table = Table::new(["ID", "DESCRIPTION"]);
        table.row(["bg-1".into(), "a description that is long".into()]);
        let lines = |width| table.render(usize::MAX, width);
        assert_eq!(lines(20), "ID    DESCRIPTION\nbg-1  a description…\n");
        assert_eq!(lines(5), "ID    DESCRIPTI…\nbg-1  a descrip…\n");
    }
}
