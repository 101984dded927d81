//! Tables with aligned columns.

use super::text::{first_line, sanitize};

/// The minimum width of the last cell of a line on a narrow terminal, in characters.
const LAST_CELL_CHARACTERS_MIN: usize = 10;

/// A table: a header, and rows with as many cells.
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

    /// Returns `true` if the table has no row below its header.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() <= 1
    }

    /// Returns the lines, with columns two spaces apart and no space at the end of a line. A line
    /// that is too long is truncated in its last cell, of which a few characters always remain.
    pub(super) fn render(&self, cell_characters_max: usize, line_characters_max: usize) -> String {
        let mut rows: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| {
                row.iter().map(|cell| sanitize(&first_line(cell, cell_characters_max))).collect()
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
    fn a_long_cell_is_truncated_and_a_row_stays_one_line() {
        let mut table = Table::new(["TEXT"]);
        table.row(["abcdefgh".into()]);
        table.row(["ab\ncd".into()]);
        assert_eq!(table.render(4, usize::MAX), "TEXT\nabc…\nab…\n");
    }

    #[test]
    fn no_cell_controls_the_terminal() {
        let mut table = Table::new(["TEXT"]);
        table.row(["\x1b]0;x\x07".into()]);
        assert!(!table.render(usize::MAX, usize::MAX).contains('\x1b'));
    }

    #[test]
    fn a_line_is_no_longer_than_the_terminal_is_wide() {
        let mut table = Table::new(["ID", "DESCRIPTION"]);
        table.row(["bg-1".into(), "a description that is long".into()]);
        let lines = |width| table.render(usize::MAX, width);
        assert_eq!(lines(20), "ID    DESCRIPTION\nbg-1  a description…\n");
        assert_eq!(lines(5), "ID    DESCRIPTI…\nbg-1  a descrip…\n");
    }
}
