//! Texts that are almost JSON: what can be mended, and the ids in what cannot. And reports of
//! progress whose fields have odd types.

use std::iter::Peekable;
use std::str::CharIndices;

use serde_json::{Map, Value, json};

/// The character in place of half of a surrogate pair.
const REPLACEMENT: char = '\u{fffd}';

/// Returns the text with its usual faults mended: halves of surrogate pairs and control characters in
/// texts, `NaN` and infinities. Returns `None` if it has none of them.
pub(super) fn mended(text: &str) -> Option<String> {
    let mut mend = Mend { output: String::with_capacity(text.len()), changed: false };
    let mut chars = text.char_indices().peekable();
    while let Some((at, character)) = chars.next() {
        if character == '"' {
            mend.output.push('"');
            mend.string(text, &mut chars);
        } else if let Some(name) =
            ["-Infinity", "Infinity", "NaN"].into_iter().find(|name| text[at..].starts_with(name))
        {
            mend.output.push_str("null");
            mend.changed = true;
            // All of them are ASCII.
            (1..name.len()).for_each(|_| {
                chars.next();
            });
        } else {
            mend.output.push(character);
        }
    }
    mend.changed.then_some(mend.output)
}

struct Mend {
    output: String,
    changed: bool,
}

impl Mend {
    /// Copies the rest of a string, and its closing quote.
    fn string(&mut self, text: &str, chars: &mut Peekable<CharIndices<'_>>) {
        while let Some((at, character)) = chars.next() {
            match character {
                '"' => {
                    self.output.push('"');
                    return;
                }
                '\\' => {
                    let length = self.escape(&text[at..]);
                    (1..length).for_each(|_| {
                        chars.next();
                    });
                }
                control if control < ' ' => {
                    self.output.push_str(&format!("\\u{:04x}", u32::from(control)));
                    self.changed = true;
                }
                other => self.output.push(other),
            }
        }
    }

    /// Copies an escape sequence, and returns its length in characters.
    fn escape(&mut self, text: &str) -> usize {
        let Some(unit) = code_unit(text) else {
            let mut escape = text.chars().take(2);
            self.output.extend(escape.by_ref());
            return text.chars().take(2).count();
        };
        let is_low = |unit: u16| (0xdc00..0xe000).contains(&unit);
        let is_high = (0xd800..0xdc00).contains(&unit);
        if is_high && code_unit(&text[6..]).is_some_and(is_low) {
            self.output.push_str(&text[..12]);
            return 12;
        }
        if is_high || is_low(unit) {
            self.output.push(REPLACEMENT);
            self.changed = true;
        } else {
            self.output.push_str(&text[..6]);
        }
        6
    }
}

/// Returns the code unit of an escape sequence such as `\u00fc` at the beginning of a text.
fn code_unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let is_hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hexadecimal.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
}

/// Turns the fields of a report of progress into the types that they should have.
pub(super) fn simplify_progress(params: &mut Map<String, Value>) {
    params.retain(|_, value| !value.is_null());
    for key in ["progress", "total"] {
        if let Some(Value::String(text)) = params.get(key)
            && let Ok(number) = text.trim().parse::<f64>()
        {
            params.insert(key.to_owned(), json!(number));
        }
    }
    if params.get("message").is_some_and(|message| !message.is_string()) {
        let message = params.remove("message").unwrap_or_default();
        params.insert("message".to_owned(), json!(message.to_string()));
    }
}

/// The keys of a broken message that say whose it is.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Address {
    pub(super) id: Option<Value>,
    /// `true` if the message is a request or a notification.
    pub(super) has_method: bool,
    /// `true` if it has a key that only messages have: a result, an error, or a version.
    pub(super) is_message: bool,
}

/// Returns the addresses of the messages in a text that is not valid JSON, as far as they can be seen.
pub(super) fn addresses(text: &str) -> Vec<Address> {
    let mut found: Vec<Address> = Vec::new();
    let mut depth = 0_usize;
    // A batch has its messages one level deeper.
    let base = usize::from(text.starts_with('['));
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        match character {
            '{' | '[' => {
                depth += 1;
                if depth == base + 1 {
                    found.push(Address::default());
                }
            }
            '}' | ']' => depth = depth.saturating_sub(1),
            quote @ ('"' | '\'') => {
                let (content, after) = string(&rest[1..], quote);
                if depth == base + 1
                    && let Some(value) = after.trim_start().strip_prefix(':')
                    && let Some(address) = found.last_mut()
                {
                    address.has_method |= content == "method";
                    address.is_message |= ["result", "error", "jsonrpc"].contains(&content);
                    if content == "id" && address.id.is_none() {
                        address.id = scalar(value.trim_start());
                    }
                }
                rest = after;
                continue;
            }
            _ => {}
        }
        rest = &rest[character.len_utf8()..];
    }
    if found.iter().all(|address| address.id.is_none())
        && let Some(id) = id_at_end(text)
    {
        found = vec![Address { id: Some(id), has_method: false, is_message: true }];
    }
    found
}

/// Splits a text at the end of the string in which it begins.
fn string(text: &str, quote: char) -> (&str, &str) {
    let mut is_escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            end if end == quote => return (&text[..at], &text[at + 1..]),
            _ => {}
        }
    }
    (text, "")
}

/// Returns the number or the string with which a text begins.
fn scalar(text: &str) -> Option<Value> {
    if let Some(quote @ ('"' | '\'')) = text.chars().next() {
        return Some(Value::String(string(&text[1..], quote).0.to_owned()));
    }
    let end = text.find(|c: char| !(c.is_ascii_digit() || "+-.eE".contains(c)));
    let number = &text[..end.unwrap_or(text.len())];
    // A number at the very end of the text may be the beginning of a longer one.
    end.and_then(|_| serde_json::from_str(number).ok())
}

/// Returns the id with which a message ends, beside its version. Quotes in the wrong place before it
/// don't matter.
pub(super) fn id_at_end(text: &str) -> Option<Value> {
    const VERSION: &str = r#""jsonrpc":"2.0""#;
    let tail: String = text.chars().rev().take(200).filter(|c| !c.is_whitespace()).collect();
    let tail: String = tail.chars().rev().collect();
    let tail = tail.trim_end_matches(']').strip_suffix('}')?;
    let (before, value) = tail.rsplit_once("\"id\":")?;
    let number = match value.strip_suffix(VERSION) {
        Some(number) => number.strip_suffix(',')?,
        None => before.strip_suffix(',')?.ends_with(VERSION).then_some(value)?,
    };
    number.parse::<u64>().ok().map(Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mended_value(text: &str) -> Value {
        assert!(serde_json::from_str::<Value>(text).is_err(), "{text}");
        serde_json::from_str(&mended(text).expect("a change")).expect("valid JSON")
    }

    #[test]
    fn usual_faults_are_mended() {
        for (text, value) in [
            (r#"{"a":"x\ud83d y"}"#, json!({"a": "x\u{fffd} y"})),
            (r#"{"a":"\udc00\ud83d\ude00\\ud83d"}"#, json!({"a": "\u{fffd}😀\\ud83d"})),
            ("{\"a\":\"one\ttwo\u{1}\"}", json!({"a": "one\ttwo\u{1}"})),
            (
                r#"{"a":[NaN,-Infinity,Infinity],"b":"NaN \" NaN"}"#,
                json!({"a": [null, null, null], "b": "NaN \" NaN"}),
            ),
        ] {
            assert_eq!(mended_value(text), value, "{text}");
        }
    }

    #[test]
    fn what_has_no_usual_fault_is_left_alone() {
        for text in [r#"{"a":"😀\ud83d\ude00 \u00fc"}"#, "{", r#"{"a":"\"#, r#""\u12"#, ""] {
            assert_eq!(mended(text), None, "{text}");
        }
    }

    fn ids(text: &str) -> Vec<Value> {
        addresses(text).into_iter().filter(|a| !a.has_method).filter_map(|a| a.id).collect()
    }

    #[test]
    fn the_id_of_a_broken_message_is_found() {
        for (text, expected) in [
            (r#"{"jsonrpc":"2.0","id":5,"result":{"content":[{"type":"text","te"#, json!(5)),
            (r#"{"result":{"id":7,"x":[{"id":8}]},"id" : "5", oops}"#, json!("5")),
            ("{'jsonrpc': '2.0', 'id': 5, 'result': None}", json!(5)),
            (r#"[{"id":5,"result":{},}]"#, json!(5)),
            (r#"{"result":{"text":"say "hi" now"},"jsonrpc":"2.0","id":5}"#, json!(5)),
            (r#"{"result":{"text":"a " b"},"jsonrpc":"2.0","id":5}"#, json!(5)),
            (r#"{"result":{"text":"a " b"},"id":5,"jsonrpc":"2.0"}"#, json!(5)),
        ] {
            assert_eq!(ids(text), [expected], "{text}");
        }
    }

    #[test]
    fn what_is_no_id_of_the_message_is_not_taken_for_one() {
        for text in [
            r#"{"result":{"id":5,"#,
            r#"{"jsonrpc":"2.0","method":"ping","id":5,"#,
            r#"{"text":"\"id\":5","#,
            r#"{"jsonrpc":"2.0","id":5"#,
            r#"{"result":{"a " b":{"id":5}"#,
            "id: 5",
            "",
        ] {
            assert_eq!(ids(text), [] as [Value; 0], "{text}");
        }
    }
}
