//! JSON as endpoints write it, and readers of its values that take what they can use.
//!
//! A field that is null, or of a kind that cannot be used, counts as absent. It never costs the rest.

use serde_json::Value;

/// Stands for half of a surrogate pair until the text is put together, followed by a character from
/// [`HALF_BASE`] on that says which half. The mark is a noncharacter, which no text holds.
const HALF_MARK: char = '\u{FDD0}';
const HALF_BASE: u32 = 0xE000;

/// The surrogates, of which the first half are leading ones.
const SURROGATES: std::ops::RangeInclusive<u32> = 0xD800..=0xDFFF;
const SURROGATES_TRAILING: u32 = 0xDC00;

/// Parses JSON. Halves of surrogate pairs, raw control characters, escapes that don't exist, and
/// numbers such as `NaN`, all of which JSON excludes, are accepted. Texts may hold marks for halves:
/// [`TextJoiner`] and [`whole`] replace them.
pub(super) fn parse(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(text)
        .or_else(|error| serde_json::from_str(&Repair::of(text).output).map_err(|_| error))
}

/// Replaces escaped halves of surrogate pairs in a JSON text by U+FFFD. Returns `None` if there are
/// none, or if that doesn't make it valid.
pub(super) fn without_halves(json: &str) -> Option<String> {
    if !json.contains("\\u") {
        return None;
    }
    let repair = Repair::of(json);
    let text = whole(&repair.output);
    (repair.has_halves && serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok())
        .then_some(text)
}

/// Returns a field that is neither absent nor null.
pub(super) fn field<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    value.get(name).filter(|value| !value.is_null())
}

/// Returns a field that is a text and not empty.
pub(super) fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    field(value, name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// Returns a field that is a number, which may be written as a float or as text.
pub(super) fn number(value: &Value, name: &str) -> Option<u64> {
    field(value, name).and_then(as_number)
}

/// Returns a value as a number that is not negative.
pub(super) fn as_number(value: &Value) -> Option<u64> {
    let float = match value {
        Value::Number(number) => match number.as_u64() {
            Some(number) => return Some(number),
            None => number.as_f64(),
        },
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    // The cast saturates.
    float.filter(|float: &f64| float.is_finite() && *float >= 0.0).map(|float| float as u64)
}

/// Returns the elements of a list, or the value itself if it is a single one. Nulls are left out.
pub(super) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    let list = match value {
        Value::Array(list) => list.as_slice(),
        single => std::slice::from_ref(single),
    };
    list.iter().filter(|value| !value.is_null())
}

/// Returns `true` for a value that says nothing: null, `false`, 0, an empty text, or a list or an
/// object of such values.
pub(super) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_nothing),
        Value::Object(map) => map.values().all(is_nothing),
    }
}

/// Returns a text that is complete, with U+FFFD for each half of a surrogate pair that stands alone.
pub(super) fn whole(text: &str) -> String {
    let mut joiner = TextJoiner::default();
    let mut whole = joiner.push(text);
    whole.extend(joiner.finish());
    whole
}

/// Replaces the marks in all texts of a value.
pub(super) fn make_whole(value: &mut Value) {
    match value {
        Value::String(text) if text.contains(HALF_MARK) => *text = whole(text),
        Value::Array(items) => items.iter_mut().for_each(make_whole),
        Value::Object(map) => map.values_mut().for_each(make_whole),
        _ => {}
    }
}

/// Puts a text together from its pieces, which may split a surrogate pair.
#[derive(Debug, Default)]
pub(super) struct TextJoiner {
    /// The leading half at the end of the last piece.
    leading: Option<u16>,
}

impl TextJoiner {
    /// Returns what a piece adds to the text.
    pub(super) fn push(&mut self, piece: &str) -> String {
        if self.leading.is_none() && !piece.contains(HALF_MARK) {
            return piece.to_owned();
        }
        let mut added = String::with_capacity(piece.len());
        let mut characters = piece.chars().peekable();
        while let Some(character) = characters.next() {
            let half = match character {
                HALF_MARK => characters.next_if(|next| half_of(*next).is_some()).and_then(half_of),
                _ => None,
            };
            match half {
                Some(half) => self.push_half(half, &mut added),
                None => {
                    added.extend(self.finish());
                    added.push(character);
                }
            }
        }
        added
    }

    fn push_half(&mut self, half: u16, added: &mut String) {
        let is_leading = u32::from(half) < SURROGATES_TRAILING;
        match (self.leading.take(), is_leading) {
            (Some(leading), false) => {
                added.extend(char::decode_utf16([leading, half]).map_while(Result::ok));
            }
            (earlier, _) => {
                added.extend(earlier.map(|_| char::REPLACEMENT_CHARACTER));
                match is_leading {
                    true => self.leading = Some(half),
                    false => added.push(char::REPLACEMENT_CHARACTER),
                }
            }
        }
    }

    /// Ends the text: returns the replacement of a half that is left.
    pub(super) fn finish(&mut self) -> Option<char> {
        self.leading.take().map(|_| char::REPLACEMENT_CHARACTER)
    }
}

/// Returns the half that the character after a mark stands for.
fn half_of(character: char) -> Option<u16> {
    let half = u32::from(character).checked_sub(HALF_BASE)? + SURROGATES.start();
    SURROGATES.contains(&half).then(|| u16::try_from(half).ok()).flatten()
}

/// A JSON text without what parsers refuse and endpoints write.
struct Repair<'t> {
    rest: &'t str,
    output: String,
    has_halves: bool,
}

impl<'t> Repair<'t> {
    fn of(text: &'t str) -> Self {
        let output = String::with_capacity(text.len());
        let mut repair = Self { rest: text, output, has_halves: false };
        let mut is_in_text = false;
        while let Some(character) = repair.rest.chars().next() {
            match character {
                '"' => {
                    is_in_text = !is_in_text;
                    repair.keep(1);
                }
                '\\' if is_in_text => repair.escape(),
                character if is_in_text && character.is_ascii_control() => {
                    repair.output.push_str(&format!("\\u{:04x}", u32::from(character)));
                    repair.rest = &repair.rest[1..];
                }
                'N' | 'I' | '-' if !is_in_text => repair.number(),
                character => repair.keep(character.len_utf8()),
            }
        }
        repair
    }

    /// Moves so many bytes to the output.
    fn keep(&mut self, bytes: usize) {
        let (kept, rest) = self.rest.split_at(bytes);
        self.output.push_str(kept);
        self.rest = rest;
    }

    fn number(&mut self) {
        let unknown = ["NaN", "Infinity", "-Infinity", "-NaN"];
        match unknown.iter().find(|word| self.rest.starts_with(**word)) {
            Some(word) => {
                self.output.push_str("null");
                self.rest = &self.rest[word.len()..];
            }
            None => self.keep(1),
        }
    }

    fn escape(&mut self) {
        let after = self.rest[1..].chars().next();
        match (after, unit_of(self.rest)) {
            (Some('u'), Some(unit)) if SURROGATES.contains(&unit) => self.surrogate(unit),
            (Some('u'), Some(_)) => self.keep(6),
            (Some('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't'), _) => self.keep(2),
            // An escape that doesn't exist stands for its characters.
            _ => {
                self.output.push_str("\\\\");
                self.rest = &self.rest[1..];
            }
        }
    }

    fn surrogate(&mut self, unit: u32) {
        let next = self.rest.get(6..).and_then(unit_of).unwrap_or_default();
        let is_pair =
            unit < SURROGATES_TRAILING && (SURROGATES_TRAILING..=*SURROGATES.end()).contains(&next);
        if is_pair {
            return self.keep(12);
        }
        self.has_halves = true;
        self.output.push(HALF_MARK);
        self.output.extend(char::from_u32(HALF_BASE + unit - SURROGATES.start()));
        self.rest = &self.rest[6..];
    }
}

/// Returns the number of the escape, such as `\ud83d`, at the beginning of a text.
fn unit_of(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_json_excludes_is_accepted() {
        for (text, expected) in [
            (
                r#"{"a": NaN, "b": [-Infinity, Infinity], "c": -1}"#,
                json!({ "a": null, "b": [null, null], "c": -1 }),
            ),
            ("{\"a\": \"1\t2\n3\"}", json!({ "a": "1\t2\n3" })),
            (r#"{"a": "it\'s \x41 \u12"}"#, json!({ "a": "it\\'s \\x41 \\u12" })),
            (r#"["NaN \\ud83d \" Infinity", NaN]"#, json!(["NaN \\ud83d \" Infinity", null])),
            (r#"["\ud83d\ude00 \u00e4", NaN]"#, json!(["😀 ä", null])),
        ] {
            assert_eq!(parse(text).expect(text), expected);
        }
        for text in ["", "{", "{\"a\": \"\\", "{\"a\": \"\\u", "nope", "\u{FDD0}", "[\"é"] {
            parse(text).expect_err(text);
        }
    }

    #[test]
    fn halves_of_a_pair_become_the_character_or_a_replacement() {
        let texts = |json: &[&str]| {
            let mut joiner = TextJoiner::default();
            let mut text = String::new();
            for piece in json {
                let value = parse(piece).expect("can be parsed");
                text += &joiner.push(value.as_str().expect("is text"));
            }
            text.extend(joiner.finish());
            text
        };
        for (pieces, expected) in [
            (&[r#""a\ud83d""#, r#""\ude00b""#][..], "a😀b"),
            (&[r#""\ud83d""#, r#""""#, r#""\ude00""#], "😀"),
            (&[r#""\ud83d""#, r#""b""#], "\u{FFFD}b"),
            (&[r#""\ud83d""#, r#""\ud83d\ude00""#], "\u{FFFD}😀"),
            (&[r#""\ude00\ud83d""#], "\u{FFFD}\u{FFFD}"),
            (&[r#""\ud83dx\ude00""#], "\u{FFFD}x\u{FFFD}"),
            (&[r#""\uD83D""#, r#""\uDE00 ä\u00e4""#], "😀 ää"),
        ] {
            assert_eq!(texts(pieces), expected, "{pieces:?}");
        }
        let mut nested = parse(r#"{"a": ["\ud83d"]}"#).expect("can be parsed");
        make_whole(&mut nested);
        assert_eq!(nested, json!({ "a": ["\u{FFFD}"] }));
    }

    #[test]
    fn a_json_text_loses_its_halves_only() {
        assert_eq!(without_halves(r#"{"a":"\ud83d!"}"#).as_deref(), Some("{\"a\":\"\u{FFFD}!\"}"));
        for kept in [r#"{"a":"\ud83d\ude00"}"#, r#"{"a":"\ud83d"#, r#"{"a":"\\ud83d"}"#, "{}"] {
            assert_eq!(without_halves(kept), None, "{kept}");
        }
    }

    #[test]
    fn numbers_are_read_in_every_form() {
        for (value, expected) in [
            (json!(3), Some(3)),
            (json!(3.0), Some(3)),
            (json!("3"), Some(3)),
            (json!(" 3.7 "), Some(3)),
            (json!(1e300), Some(u64::MAX)),
            (json!(-1), None),
            (json!("three"), None),
            (json!([3]), None),
            (json!(null), None),
        ] {
            assert_eq!(as_number(&value), expected, "{value}");
        }
    }
}
