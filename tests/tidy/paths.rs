//! Finds the paths, such as `crate::store::Store`, that a source names.

/// A path in a source. What stands in braces is spelled out.
pub(crate) struct Named {
    /// The line, from 1.
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
}

impl Named {
    pub(crate) fn starts_with(&self, path: &str) -> bool {
        let wanted: Vec<&str> = path.split("::").collect();
        self.segments.len() >= wanted.len()
            && wanted.iter().zip(&self.segments).all(|(wanted, segment)| wanted == segment)
    }
}

/// All paths in code that [`blank`] has gone over.
pub(crate) fn paths(code: &str) -> Vec<Named> {
    let mut reader = Reader { code: code.as_bytes(), at: 0, line: 1, found: Vec::new() };
    while reader.at < reader.code.len() {
        reader.path(&[]);
    }
    reader.found
}

struct Reader<'a> {
    code: &'a [u8],
    at: usize,
    line: usize,
    found: Vec<Named>,
}

impl Reader<'_> {
    fn peek(&self) -> u8 {
        self.code.get(self.at).copied().unwrap_or_default()
    }

    fn step(&mut self) {
        self.line += usize::from(self.peek() == b'\n');
        self.at += 1;
    }

    fn skip_space(&mut self) {
        while self.peek().is_ascii_whitespace() {
            self.step();
        }
    }

    fn word(&mut self) -> Option<String> {
        let start = self.at;
        while self.peek().is_ascii_alphanumeric() || self.peek() == b'_' {
            self.at += 1;
        }
        let word = String::from_utf8_lossy(&self.code[start..self.at]).into_owned();
        (!word.is_empty()).then_some(word)
    }

    /// Reads one path behind `prefix`, or steps over what is none.
    fn path(&mut self, prefix: &[String]) {
        let line = self.line;
        let Some(word) = self.word() else { return self.step() };
        let mut segments = prefix.to_vec();
        segments.push(word);
        while self.code[self.at..].starts_with(b"::") {
            self.at += 2;
            if self.peek() == b'{' {
                return self.group(&segments);
            }
            let Some(word) = self.word() else { break };
            segments.push(word);
        }
        self.found.push(Named { line, segments });
    }

    /// Reads `{a, b::c}` behind `prefix`.
    fn group(&mut self, prefix: &[String]) {
        self.step();
        self.skip_space();
        while !matches!(self.peek(), b'}' | 0) {
            self.path(prefix);
            self.skip_space();
        }
        self.step();
    }
}

/// Blanks out comments and the contents of strings and characters; lines stay where they are.
pub(crate) fn blank(text: &str) -> String {
    let mut rest = text;
    let mut code = String::with_capacity(text.len());
    while let Some(first) = rest.chars().next() {
        let is_inside_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let skipped = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => string(rest),
            'r' if !is_inside_word => raw_string(rest),
            '\'' => character(rest),
            _ => 0,
        };
        let length = if skipped == 0 { first.len_utf8() } else { skipped };
        let (piece, behind) = rest.split_at(length);
        if skipped == 0 {
            code.push_str(piece);
        } else {
            code.extend(piece.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = behind;
    }
    code
}

/// The length of the string that the text begins with.
fn string(text: &str) -> usize {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

/// The length of the raw string that the text begins with; 0 if it begins with none.
fn raw_string(text: &str) -> usize {
    let hashes = text[1..].chars().take_while(|c| *c == '#').count();
    if !text[1 + hashes..].starts_with('"') {
        return 0;
    }
    let begin = 2 + hashes;
    let end = format!("\"{}", "#".repeat(hashes));
    text[begin..].find(&end).map_or(text.len(), |at| begin + at + end.len())
}

/// The length of the character that the text begins with; 0 if it begins with a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    let Some((_, first)) = chars.next() else { return 0 };
    if first == '\\' {
        return chars.skip(1).find(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1);
    }
    match chars.next() {
        Some((at, '\'')) => at + 1,
        _ => 0,
    }
}

#[test]
fn paths_are_found_in_code_only() {
    let text = r###"
use crate::{a::{B, c}, d};
// crate::comment
fn f<'a>() { let x = "crate::text \" crate::more"; g::<crate::e::F>('\'', '"', r#"crate::raw"#); }
"###;
    let found = paths(&blank(text)).into_iter();
    let found = found.map(|named| (named.line, named.segments.join("::")));
    let found: Vec<_> = found.filter(|(_, path)| path.starts_with("crate")).collect();
    let expected = [(2, "crate::a::B"), (2, "crate::a::c"), (2, "crate::d"), (4, "crate::e::F")];
    assert_eq!(found, expected.map(|(line, path)| (line, path.to_owned())));
}
