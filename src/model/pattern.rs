//! Patterns of names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A name in which each `*` stands for any text, also an empty one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    /// Creates the pattern with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether a name fits the pattern. Upper and lower case differ.
    pub fn matches(&self, name: &str) -> bool {
        let Some((start, rest)) = self.0.split_once('*') else { return self.0 == name };
        let Some(mut left) = name.strip_prefix(start) else { return false };
        let mut middle: Vec<&str> = rest.split('*').collect();
        let end = middle.pop().unwrap_or_default();
        for part in middle {
            // The first place leaves the most for the parts behind it.
            let Some((_, behind)) = left.split_once(part) else { return false };
            left = behind;
        }
        left.ends_with(end)
    }

    /// Returns whether a name that begins so may fit the pattern.
    pub fn may_begin_with(&self, prefix: &str) -> bool {
        match self.0.split_once('*') {
            Some((start, _)) => start.starts_with(prefix) || prefix.starts_with(start),
            None => self.0.starts_with(prefix),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        let fits = [
            ("bash", "bash"),
            ("*", ""),
            ("*", "bash"),
            ("files__*", "files__"),
            ("files__*", "files__read"),
            ("*_read", "files__read"),
            ("a*b*c", "abc"),
            ("a*b*c", "aXbXbXc"),
            ("a**c", "abc"),
            ("*a*", "banana"),
            ("*b*d", "abcd"),
        ];
        for (pattern, name) in fits {
            assert!(Pattern::new(pattern).matches(name), "{pattern} {name}");
        }
        let differs = [
            ("bash", "bash2"),
            ("bash", "Bash"),
            ("", "bash"),
            ("files__*", "files_"),
            ("*_read", "files__reads"),
            ("a*b*c", "acb"),
            ("ab*ba", "aba"),
            ("*ab*ab", "ab"),
        ];
        for (pattern, name) in differs {
            assert!(!Pattern::new(pattern).matches(name), "{pattern} {name}");
        }
    }
}
