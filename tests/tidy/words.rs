//! Words that have no place in the code or in what is said about it.

use crate::{check, rust, sources};

/// Finds the lines that hold one of these words.
fn lines_with(path: &str, text: &str, words: &[&str]) -> Vec<String> {
    let lines = text.lines().zip(1..);
    let found = lines.flat_map(|(line, number)| {
        let held = words.iter().filter(move |word| line.contains(**word));
        held.map(move |word| format!("{path}:{number}: {word}"))
    });
    found.collect()
}

#[test]
fn nothing_is_left_unfinished_or_silenced() {
    // A lint that has to be broken is expected, with the reason: then the compiler reports it once
    // it isn't broken any more. A test that isn't run by default says why.
    let words =
        ["todo!(", "unimplemented!(", "dbg!(", "#[ignore]", "#[allow(", "#![allow(", " allow("];
    let sources = rust();
    let broken = sources.iter().flat_map(|s| lines_with(&s.path, &s.code(), &words));
    check("unfinished or silenced", &broken.collect::<Vec<_>>());
}

#[test]
fn every_channel_is_bounded() {
    let mut broken = Vec::new();
    for source in rust() {
        let code = source.code();
        broken.extend(lines_with(&source.path, &code, &["unbounded_channel", "mpsc::unbounded"]));
        // The standard library's: its channel has a bound when it is a sync_channel.
        let endless = code.lines().zip(1..).filter(|(line, _)| {
            let mut calls = line.split("mpsc::channel").skip(1);
            calls.any(|call| call.starts_with("()") || call.contains(">()"))
        });
        broken.extend(endless.map(|(_, number)| format!("{}:{number}: channel()", source.path)));
    }
    check("a channel without a bound; bounds stand in model/limits.rs", &broken);
}

#[test]
fn the_docs_describe_the_present() {
    let words = [
        "TODO",
        "FIXME",
        "XXX",
        "TBD",
        "not yet",
        "will be ",
        "in the future",
        "for now",
        "planned",
        "coming soon",
        "To be written",
        "to be written",
        "issue #",
        "issue 1",
        "issue 2",
        "issue 3",
        "roadmap",
        "Roadmap",
    ];
    let places = [
        ".ci",
        "benches",
        "client",
        "docs",
        "examples",
        "polyglot",
        "proto",
        "src",
        "tests",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "README.md",
        "SECURITY.md",
    ];
    let mut sources = sources(&places, "md");
    sources.extend(crate::sources(&["proto"], "proto"));
    let broken = sources.iter().flat_map(|s| lines_with(&s.path, &s.text, &words));
    check("the docs speak of issues or of the future", &broken.collect::<Vec<_>>());
}
