//! Tables with aligned columns.

use super::{
    colour::paint_state,
    text::{first_line, sanitize, short_id, width},
};

/// The columns of a terminal between two columns of a table.
const GAP: usize = 2;

/// The width down to which a column is narrowed before others are.
const NARROW: usize = 8;

/// The content of a column, which decides what becomes of it where there is little room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    /// Ids, of which the beginning is enough.
    Id,
    /// States, which have colours.
    State,
    /// Short values, such as numbers.
    Value,
    /// Texts of any length, which are truncated first.
    Text,
}

/// The medium that a table is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    /// A pipe or a file. Nothing is shortened, for programs.
    Pipe,
    /// A terminal. A row is one line.
    Terminal {
        /// The width.
        columns: usize,
        /// `true` if states have colours.
        is_coloured: bool,
    },
}

/// A table: a header, and rows with as many cells.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(columns: [(&'static str, Column); N]) -> Self {
        let (header, columns) = columns.into_iter().unzip();
        Self { header, columns, rows: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// Returns `true` if the table has no row below its header.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the lines, with no space at the end of a line. On a terminal no line is longer than it
    /// is wide: ids are shortened, and the widest columns are truncated.
    pub(super) fn render(&self, medium: Medium) -> String {
        let rows: Vec<Vec<String>> = self.rows.iter().map(|row| self.cells(row, medium)).collect();
        let of_header = self.header.iter().map(|name| width(name));
        let mut widths: Vec<usize> = of_header.collect();
        for row in &rows {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = width(cell).max(*widest);
            }
        }
        let mut paints = false;
        if let Medium::Terminal { columns, is_coloured } = medium {
            self.narrow(&mut widths, columns);
            paints = is_coloured;
        }
        let header: Vec<String> = self.header.iter().map(|&name| name.to_owned()).collect();
        let mut lines = self.line(&header, &widths, false);
        lines.extend(rows.iter().map(|row| self.line(row, &widths, paints)));
        lines
    }

    /// Returns the cells of a row, each in one line.
    fn cells(&self, row: &[String], medium: Medium) -> Vec<String> {
        let cell = |(cell, column): (&String, &Column)| match (column, medium) {
            (Column::Id, Medium::Terminal { .. }) => sanitize(&short_id(cell)),
            _ => sanitize(&first_line(cell, usize::MAX)),
        };
        row.iter().zip(&self.columns).map(cell).collect()
    }

    /// Narrows columns until a line fits: texts first, then all but ids and states, then all.
    fn narrow(&self, widths: &mut [usize], columns_max: usize) {
        let gaps = GAP * widths.len().saturating_sub(1);
        let available = columns_max.saturating_sub(gaps);
        self.narrow_some(widths, available, NARROW, |column| column == Column::Text);
        let is_content = |column| !matches!(column, Column::Id | Column::State);
        self.narrow_some(widths, available, NARROW, is_content);
        self.narrow_some(widths, available, 1, |_| true);
    }

    /// Narrows the widest of some columns, again and again, down to `least`.
    fn narrow_some(
        &self,
        widths: &mut [usize],
        available: usize,
        least: usize,
        may_narrow: impl Fn(Column) -> bool,
    ) {
        while widths.iter().sum::<usize>() > available {
            let candidates = widths.iter_mut().zip(&self.columns);
            let widest = candidates
                .filter(|(width, column)| may_narrow(**column) && **width > least)
                .max_by_key(|(width, _)| **width);
            let Some((width, _)) = widest else { break };
            *width -= 1;
        }
    }

    fn line(&self, cells: &[String], widths: &[usize], paints: bool) -> String {
        let mut line = String::new();
        let last = cells.len().saturating_sub(1);
        for (index, ((cell, &columns), kind)) in
            cells.iter().zip(widths).zip(&self.columns).enumerate()
        {
            let cell = first_line(cell, columns);
            let padding = match index == last {
                true => 0,
                false => columns.saturating_sub(width(&cell)) + GAP,
            };
            match paints && *kind == Column::State {
                true => line.push_str(&paint_state(&cell)),
                false => line.push_str(&cell),
            }
            line.push_str(&" ".repeat(padding));
        }
        format!("{}\n", line.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terminal(columns: usize) -> Medium {
        Medium::Terminal { columns, is_coloured: false }
    }

    fn tasks() -> Table {
        let mut table = Table::new([
            ("ID", Column::Id),
            ("STATE", Column::State),
            ("N", Column::Value),
            ("TEXT", Column::Text),
        ]);
        let id = "bg-0123456789abcdef0123456789abcdef";
        table.row([id.into(), "running".into(), "1".into(), "a description that is long".into()]);
        table
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table =
            Table::new([("ID", Column::Id), ("STATE", Column::State), ("TEXT", Column::Text)]);
        table.row(["1".into(), "running".into(), String::new()]);
        table.row(["äöü".into(), "lost".into(), "why".into()]);
        let expected = "ID   STATE    TEXT\n1    running\näöü  lost     why\n";
        assert_eq!(table.render(Medium::Pipe), expected);
    }

    #[test]
    fn a_pipe_gets_everything_and_a_terminal_what_fits() {
        let whole = "ID                                   STATE    N  TEXT\n\
                     bg-0123456789abcdef0123456789abcdef  running  1  a description that is long\n";
        assert_eq!(tasks().render(Medium::Pipe), whole);
        let wide = "ID           STATE    N  TEXT\n\
                    bg-01234567  running  1  a description that is long\n";
        assert_eq!(tasks().render(terminal(80)), wide);
        let narrow = "ID           STATE    N  TEXT\nbg-01234567  running  1  a descript…\n";
        assert_eq!(tasks().render(terminal(36)), narrow);
    }

    #[test]
    fn no_line_is_longer_than_the_terminal_is_wide() {
        let mut table = tasks();
        table.row(["bg-1".into(), "failed".into(), "2".into(), "日本語".repeat(20)]);
        for columns in 10..100 {
            for line in table.render(terminal(columns)).lines() {
                assert!(width(line) <= columns, "{columns}: {line}");
            }
        }
    }

    #[test]
    fn a_row_stays_one_line() {
        let mut table = Table::new([("TEXT", Column::Text)]);
        table.row(["ab\ncd".into()]);
        assert_eq!(table.render(terminal(80)), "TEXT\nab…\n");
        assert_eq!(table.render(Medium::Pipe), "TEXT\nab…\n");
    }

    #[test]
    fn only_states_have_colours_and_no_cell_controls_the_terminal() {
        let mut table = Table::new([("STATE", Column::State), ("TEXT", Column::Text)]);
        table.row(["failed".into(), "failed".into()]);
        table.row(["lost".into(), "\x1b]0;x\x07".into()]);
        let text = table.render(Medium::Terminal { columns: 80, is_coloured: true });
        let expected = "STATE   TEXT\n\x1b[31mfailed\x1b[0m  failed\n\
                        \x1b[31mlost\x1b[0m    \u{fffd}]0;x\u{fffd}\n";
        assert_eq!(text, expected);
        assert!(!table.render(terminal(80)).contains('\x1b'));
    }
}
