//! JSON in messages: at its bounds, over them, and far over them.

use super::cases::{Case, Expected, HUGE, MANY, NAMED, case};
use super::encode::{delimited, json};

const AS_GOOD: Expected = Expected::AsGood;

/// The bounds of arguments: depth and bytes.
const DEPTH_MAX: usize = 32;
const BYTES_MAX: usize = 1 << 20;

/// All that is tried with arguments of a tool that takes any.
pub fn cases(at: u32) -> Vec<Case> {
    let object = |fields: &[u8]| delimited(at, fields);
    let one = |value: &[u8]| delimited(at, &json::field("key", value));
    let numbers = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    let in_list = |number: f64| json::list(&json::item(&json::number(number)));
    let deep_number = json::object(&json::field("a", &in_list(f64::NAN)));
    let mut cases = vec![
        case("unset", Vec::new(), AS_GOOD),
        case("empty", object(b""), AS_GOOD),
        case("NUL", object(&json::field("a\0b", &json::text(b"c\0d"))), AS_GOOD),
        case("control characters", object(&json::field("\x1b[31m", &json::text(b"\r\n"))), AS_GOOD),
        case("an empty key", object(&json::field("", &json::text(b""))), AS_GOOD),
        case("a value of no kind", one(b""), AS_GOOD),
        case("an unknown number of null", one(&json::null(-7)), AS_GOOD),
        case("the largest number", one(&json::number(f64::MAX)), AS_GOOD),
        case("the smallest number", one(&json::number(5e-324)), AS_GOOD),
        case("a number that is none, deep down", one(&deep_number), NAMED),
        case("many keys", object(&keys(MANY)), AS_GOOD),
        case("at the bound of size", object(&sized(BYTES_MAX)), AS_GOOD),
        case("one over the bound of size", object(&sized(BYTES_MAX + 1)), NAMED),
        case("a huge key", object(&json::field(&"k".repeat(HUGE), b"")), NAMED),
        case("a wrong number under a long key", object(&long_key_to_nan()), NAMED),
        case("not UTF-8", one(&json::text(b"\xff\xfe")), Expected::Undecodable),
    ];
    cases.extend(numbers.map(|n| case("a number that is none", one(&json::number(n)), NAMED)));
    for nest in [Nest::Objects, Nest::Lists, Nest::Both] {
        let deep = |depth: usize| delimited(at, &nested(nest, depth));
        cases.extend([
            case("at the bound of depth", deep(DEPTH_MAX), AS_GOOD),
            case("one over the bound of depth", deep(DEPTH_MAX + 1), NAMED),
        ]);
    }
    cases
}

/// The content of an object of exactly this size.
fn sized(bytes: usize) -> Vec<u8> {
    let overhead = json::field("key", &json::text(&vec![b'x'; HUGE - 100])).len() - (HUGE - 100);
    let object = json::field("key", &json::text(&vec![b'x'; bytes - overhead]));
    assert_eq!(object.len(), bytes, "all lengths are of three bytes");
    object
}

fn long_key_to_nan() -> Vec<u8> {
    json::field(&"k".repeat(500_000), &json::number(f64::NAN))
}

/// The content of an object of so many keys without values.
pub fn keys(count: usize) -> Vec<u8> {
    (0..count).flat_map(|n| json::field(&format!("{n:05x}"), b"")).collect()
}

/// The kinds of nesting.
#[derive(Debug, Clone, Copy)]
pub enum Nest {
    /// Objects in objects.
    Objects,
    /// Lists in lists.
    Lists,
    /// By turns.
    Both,
}

/// The content of an object that is so many levels deep, itself included, made from the inside out:
/// neither side may recurse.
pub fn nested(nest: Nest, depth: usize) -> Vec<u8> {
    let mut reversed: Vec<u8> = Vec::new();
    // Everything inside lies behind a length, so what is written first comes last.
    let mut wrap = |tag: u8, before: &[u8]| {
        reversed.extend(before.iter().rev());
        let mut length = Vec::new();
        prost::encoding::encode_varint(reversed.len() as u64, &mut length);
        reversed.extend(length.iter().rev());
        reversed.push(tag);
    };
    for level in (2..=depth).rev() {
        let is_object = |level: usize| match nest {
            _ if level == 1 => true,
            Nest::Objects => true,
            Nest::Lists => false,
            Nest::Both => level % 2 == 1,
        };
        // The value that holds this level, and where that lies in the level above.
        wrap(if is_object(level) { 0x2a } else { 0x32 }, b"");
        if is_object(level - 1) {
            wrap(0x12, b"");
            wrap(0x0a, b"\x0a\x01a");
        } else {
            wrap(0x0a, b"");
        }
    }
    reversed.reverse();
    reversed
}
