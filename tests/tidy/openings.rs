//! The form of doc comments: a sentence in the third person, or a noun phrase.

use crate::{Source, check, sources};

/// Words that no doc comment begins with.
const REFUSED: [&str; 13] = [
    "What", "Who", "Whose", "Which", "How", "Why", "Whether", "It", "Its", "Those", "Somebody",
    "Nobody", "Whoever",
];
/// More words that no doc comment in Rust begins with. In the contract a field such as
/// `start_time` may be described by a clause.
const REFUSED_IN_RUST: [&str; 4] = ["When", "Where", "So", "None"];

/// The markers of doc comments: in Rust, and in the contract, where every comment is one.
const RUST: [&str; 2] = ["///", "//!"];
const PROTO: [&str; 1] = ["//"];

/// The first lines of the doc comments of a source, with their line numbers from 1.
fn openings<'a>(text: &'a str, markers: &[&str]) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    let mut previous = None;
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim_start();
        let marker = markers.iter().find(|marker| line.starts_with(**marker)).copied();
        if let Some(marker) = marker.filter(|_| marker != previous) {
            found.push((number, line[marker.len()..].trim()));
        }
        previous = marker;
    }
    found
}

/// The lines of a source that open a doc comment with one of these words.
fn refused(source: &Source, markers: &[&str], words: &[&str]) -> Vec<String> {
    let openings = openings(&source.text, markers).into_iter();
    let refused = openings.filter(|(_, opening)| {
        let word = opening.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        words.contains(&word)
    });
    refused.map(|(line, opening)| format!("{}:{line}: {opening}", source.path)).collect()
}

#[test]
fn doc_comments_open_with_a_sentence_or_a_noun_phrase() {
    let rust = sources(
        &["src", "client", "proto", "tests", "benches", "examples", "fuzz", "build.rs"],
        "rs",
    );
    let words = [&REFUSED[..], &REFUSED_IN_RUST].concat();
    let mut broken: Vec<_> = rust.iter().flat_map(|s| refused(s, &RUST, &words)).collect();
    let proto = sources(&["proto"], "proto");
    broken.extend(proto.iter().flat_map(|source| refused(source, &PROTO, &REFUSED)));
    check("the first line of a doc comment is a sentence or a noun phrase", &broken);
}

#[test]
fn only_the_first_line_of_a_doc_comment_is_an_opening() {
    let text =
        "//! A module.\n//! What follows is free.\n\n/// Which\n/// It\nfn f() {}\n/// None.\n";
    let found = openings(text, &RUST);
    assert_eq!(found, [(1, "A module."), (4, "Which"), (7, "None.")]);
    let source = Source { path: "f.rs".to_owned(), text: text.to_owned() };
    assert_eq!(refused(&source, &RUST, &REFUSED), ["f.rs:4: Which"]);
    assert_eq!(refused(&source, &RUST, &["None"]), ["f.rs:7: None."]);
}
