//! Requests that are small to send and large to read, in every field that takes JSON.

use super::cases::{Case, Expected, NAMED, case};
use super::encode::{delimited, json};
use super::structs::{Nest, keys, nested};

/// The encoded content of a field, with a description and the expected answer.
pub type Bomb = (&'static str, Vec<u8>, Expected);

/// The cases of a field of this type.
pub fn cases(message: &str, at: u32, bombs: Vec<Bomb>) -> Vec<Case> {
    let content = |object: Vec<u8>| match message {
        "google.protobuf.Value" => json::object(&object),
        _ => object,
    };
    let bomb = |(how, object, then)| case(how, delimited(at, &content(object)), then);
    bombs.into_iter().map(bomb).collect()
}

/// Objects that are nested too deep to be read at all.
pub fn deep() -> Vec<Bomb> {
    vec![
        ("objects 40 deep", nested(Nest::Objects, 40), Expected::TooDeep),
        ("objects 10,000 deep", nested(Nest::Objects, 10_000), Expected::TooDeep),
        ("objects 200,000 deep", nested(Nest::Objects, 200_000), Expected::TooDeep),
        ("lists 10,000 deep", nested(Nest::Lists, 10_000), Expected::TooDeep),
        ("lists 300,000 deep", nested(Nest::Lists, 300_000), Expected::TooDeep),
        ("objects and lists 10,000 deep", nested(Nest::Both, 10_000), Expected::TooDeep),
    ]
}

/// Objects that hold far too much.
pub fn large() -> Vec<Bomb> {
    let list = |values: Vec<u8>| json::field("a", &json::list(&values));
    let text = |bytes: usize| json::field("a", &json::text(&vec![b'x'; bytes]));
    let not_numbers = json::item(&json::number(f64::NAN)).repeat(50_000);
    vec![
        ("a million keys", keys(1_000_000), Expected::TooLarge),
        ("as many keys as a request holds", keys(370_000), NAMED),
        ("one key 600,000 times", json::field("", b"").repeat(600_000), Expected::AsGood),
        ("a list of a million", list(json::item(b"").repeat(1_000_000)), NAMED),
        ("a list of all that fits", list(json::item(b"").repeat(524_000)), Expected::AsGood),
        ("a text of almost a request", text((4 << 20) - 1_000), NAMED),
        ("a text of more than a request", text(4 << 20), Expected::TooLarge),
        ("numbers that are none", list(not_numbers), NAMED),
        ("wide at every level", wide(30, 800), Expected::AsGood),
        ("wide at every level and too large", wide(30, 5_000), NAMED),
    ]
}

/// An object of so many levels, each with so many keys beside the next.
fn wide(depth: usize, width: usize) -> Vec<u8> {
    let level =
        |inner: Vec<u8>, _| [keys(width), json::field("next", &json::object(&inner))].concat();
    (1..depth).fold(keys(width), level)
}
