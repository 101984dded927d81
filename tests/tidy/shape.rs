//! Files and functions that can be read at a sitting.

use crate::{check, rust, sources};

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;

#[test]
fn files_are_short() {
    let tidy = sources(&["tests/tidy"], "rs");
    let sources = rust().into_iter().chain(tidy);
    let lengths = sources.map(|source| (source.text.lines().count(), source.path));
    let long = lengths.filter(|(lines, _)| *lines > FILE_LINES_MAX);
    let broken: Vec<String> = long.map(|(lines, path)| format!("{path}: {lines}")).collect();
    check(&format!("files of more than {FILE_LINES_MAX} lines"), &broken);
}

#[test]
fn functions_are_short() {
    let mut broken = Vec::new();
    for source in rust() {
        let code = source.code();
        let lines: Vec<&str> = code.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let length = if is_function(line) { length(&lines[start..]) } else { 0 };
            if length > FUNCTION_LINES_MAX {
                broken.push(format!("{}:{}: {length}", source.path, start + 1));
            }
        }
    }
    check(&format!("functions of more than {FUNCTION_LINES_MAX} lines"), &broken);
}

fn is_function(line: &str) -> bool {
    let words = line.split_whitespace().take_while(|word| !word.contains("fn("));
    let mut words = words.skip_while(|word| {
        word.starts_with("pub") || matches!(*word, "in" | "const" | "async" | "extern")
    });
    words.next() == Some("fn")
}

/// The lines from the first one to the brace that closes its function: as rustfmt writes it, the
/// first one at the same depth. A function without a body ends at its semicolon.
fn length(lines: &[&str]) -> usize {
    let Some(first) = lines.first() else { return 0 };
    let indent = first.len() - first.trim_start().len();
    let is_at_depth = |line: &str| line.len() - line.trim_start().len() == indent;
    if first.ends_with([';', '}']) {
        return 1;
    }
    let end = lines.iter().skip(1).position(|line| {
        let line_end = line.trim_start();
        is_at_depth(line) && (line_end.starts_with('}') || line_end.ends_with(';'))
    });
    end.map_or(lines.len(), |end| end + 2)
}

#[test]
fn a_function_is_measured_to_its_closing_brace() {
    let lines = ["    fn f(", "        a: u8,", "    ) -> u8 {", "        a", "    }", "    }"];
    assert!(is_function(lines[0]) && !is_function(lines[2]));
    assert_eq!(length(&lines), 5);
    assert_eq!(length(&["    async fn g(", "        &self,", "    );", "    }"]), 3);
    assert!(is_function("    pub(super) async fn g(&self);"));
    assert!(!is_function("    type F = fn(u8);"));
}
