//! Rules of the house that the compiler doesn't know, checked by reading the sources.

#![expect(clippy::expect_used, reason = "that is how a test says what is wrong")]

mod floors;
mod names;
mod openings;
mod paths;
mod shape;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the repository.
struct Source {
    /// From the root of the repository.
    path: String,
    text: String,
}

impl Source {
    /// The text with comments and the contents of literals blanked out, line for line.
    fn code(&self) -> String {
        paths::blank(&self.text)
    }

    fn is_in(&self, folders: &[&str]) -> bool {
        folders.iter().any(|folder| self.path.starts_with(folder))
    }
}

/// All Rust files of the repository but these, which name what they forbid.
fn rust() -> Vec<Source> {
    let sources = sources(&["src", "tests", "benches", "client", "proto", "build.rs"], "rs");
    sources.into_iter().filter(|source| !source.is_in(&["tests/tidy/"])).collect()
}

/// The files of this ending in these folders, in the order of their paths.
fn sources(places: &[&str], ending: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for place in places {
        walk(&root.join(place), &mut found);
    }
    found.retain(|path| path.extension().is_some_and(|extension| extension == ending));
    found.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).ok()?;
        let path = path.strip_prefix(root).expect("a path in the repository");
        Some(Source { path: path.display().to_string(), text })
    };
    found.into_iter().filter_map(read).collect()
}

fn walk(place: &Path, found: &mut Vec<PathBuf>) {
    let name = place.file_name().unwrap_or_default();
    if place.is_file() {
        found.push(place.to_owned());
    } else if name != "target" && name != "node_modules" && name != "gen" && name != ".git" {
        let entries = fs::read_dir(place).into_iter().flatten().flatten();
        entries.for_each(|entry| walk(&entry.path(), found));
    }
}

/// Fails with all that breaks a rule, a line each.
#[track_caller]
fn check(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}\n  {}\n", broken.join("\n  "));
}
