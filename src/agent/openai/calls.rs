//! The calls of an answer, put together from their pieces.

use serde_json::Value;

use super::lenient::{self, TextJoiner};
use super::names::ToolNames;
use super::provider_data::{self, Collected};
use crate::agent::RequestedCall;

/// A piece of a call. Endpoints differ in what they leave out.
#[derive(Debug, Default)]
struct CallPiece<'v> {
    /// The number of the call in the answer. Some endpoints give none, or 0 to every call.
    index: Option<u64>,
    id: Option<&'v str>,
    name: Option<&'v str>,
    arguments: Option<&'v Value>,
    /// The other fields of the call.
    rest: Option<&'v Value>,
}

impl<'v> CallPiece<'v> {
    fn of(value: &'v Value) -> Self {
        // Some endpoints leave out the object around name and arguments.
        let function = lenient::field(value, "function").unwrap_or(value);
        Self {
            index: lenient::number(value, "index"),
            id: lenient::text(value, "id"),
            name: lenient::text(function, "name"),
            arguments: lenient::field(function, "arguments"),
            rest: Some(value),
        }
    }

    /// Returns `true` if the piece has nothing but, at most, an index.
    fn is_empty(&self) -> bool {
        self.id.is_none() && self.name.is_none() && self.arguments.is_none()
    }

    /// Returns `true` if the piece only adds to the arguments of a call.
    fn is_continuation(&self) -> bool {
        self.id.is_none() && self.name.is_none()
    }

    /// Returns `true` if the arguments could be the beginning of those of a call.
    fn begins_arguments(&self) -> bool {
        match self.arguments {
            Some(Value::String(text)) => text.trim_start().starts_with('{'),
            Some(value) => value.is_object(),
            None => false,
        }
    }
}

#[derive(Debug, Default)]
struct Call {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
    joiner: TextJoiner,
    data: Collected,
}

impl Call {
    fn has_whole_arguments(&self) -> bool {
        serde_json::from_str::<serde::de::IgnoredAny>(&self.arguments).is_ok()
    }

    /// Returns `true` if a piece that no id assigns may belong to this call. One that repeats the
    /// name does, unless it begins other arguments.
    fn is_continued_by(&self, piece: &CallPiece<'_>) -> bool {
        match piece.name {
            None => true,
            Some(_) if self.name.is_empty() => true,
            Some(name) if name != self.name => false,
            Some(_) => !(piece.begins_arguments() && self.has_whole_arguments()),
        }
    }

    /// Adds a piece, and returns the size of what it adds.
    fn push(&mut self, piece: &CallPiece<'_>) -> usize {
        let mut bytes = 0;
        self.index = self.index.or(piece.index);
        // The first id counts; some endpoints give another to each piece.
        if let Some(id) = piece.id.filter(|_| self.id.is_empty()) {
            self.id = lenient::whole(id);
            bytes += id.len();
        }
        // The name is never split; some endpoints repeat it in each piece.
        if let Some(name) = piece.name.filter(|name| *name != self.name) {
            self.name = lenient::whole(name);
            bytes += name.len();
        }
        match piece.arguments {
            Some(Value::String(text)) => {
                let added = self.joiner.push(text);
                bytes += added.len();
                self.arguments.push_str(&added);
            }
            // Arguments that are no text are whole.
            Some(value) => {
                let mut value = value.clone();
                lenient::make_whole(&mut value);
                self.arguments = value.to_string();
                bytes += self.arguments.len();
            }
            None => {}
        }
        if let Some(rest) = piece.rest {
            bytes += self.data.push(rest, provider_data::CALL_FIELDS);
        }
        bytes
    }
}

/// The calls that have been received, in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct Calls {
    calls: Vec<Call>,
}

impl Calls {
    /// Adds the pieces of one event, and returns the size of what they add.
    pub(super) fn push(&mut self, pieces: &Value) -> usize {
        let pieces: Vec<CallPiece<'_>> = lenient::items(pieces)
            .filter(|value| value.is_object())
            .map(CallPiece::of)
            .filter(|piece| !piece.is_empty())
            .collect();
        let are_continuations = pieces.len() > 1
            && pieces.iter().all(|piece| piece.index.is_none() && piece.is_continuation());
        let mut taken = Vec::with_capacity(pieces.len());
        let mut bytes = 0;
        for (position, piece) in pieces.iter().enumerate() {
            let found = match are_continuations {
                true => Some(position).filter(|position| *position < self.calls.len()),
                false => self.find(piece, &taken),
            };
            let at = found.unwrap_or(self.calls.len());
            if at == self.calls.len() {
                self.calls.push(Call::default());
            }
            bytes += self.calls[at].push(piece);
            taken.push(at);
        }
        bytes
    }

    /// Adds a piece of the only call that endpoints had before they had lists of them.
    pub(super) fn push_single(&mut self, function: &Value) -> usize {
        let piece = CallPiece { rest: None, ..CallPiece::of(function) };
        if piece.is_empty() {
            return 0;
        }
        if self.calls.is_empty() {
            self.calls.push(Call::default());
        }
        self.calls.last_mut().map_or(0, |call| call.push(&piece))
    }

    /// Finds the call that a piece continues: by its id, else by its index, else the last one. A new id
    /// begins a call only with a name, or where none is open. `taken` are the calls of earlier pieces
    /// of the same event: one with a name and without an id continues none of them.
    fn find(&self, piece: &CallPiece<'_>, taken: &[usize]) -> Option<usize> {
        let at_index = |call: &Call| piece.index.is_some() && call.index == piece.index;
        if let Some(id) = piece.id {
            let same = self.calls.iter().rposition(|call| {
                call.id == id
                    && (call.index == piece.index || piece.index.is_none() || call.index.is_none())
            });
            if same.is_some() || piece.name.is_some() {
                // The id and the name of a call may arrive after its first piece.
                let is_bare = |c: &Call| c.id.is_empty() && c.name.is_empty() && at_index(c);
                return same.or_else(|| self.calls.iter().rposition(is_bare));
            }
        }
        let found = match piece.index {
            Some(_) => self.calls.iter().rposition(at_index)?,
            None => self.calls.len().checked_sub(1)?,
        };
        let is_other = piece.name.is_some() && taken.contains(&found);
        (!is_other && self.calls[found].is_continued_by(piece)).then_some(found)
    }

    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Returns `true` if the arguments of each call are complete.
    pub(super) fn are_whole(&self) -> bool {
        self.calls.iter().all(|call| call.arguments.trim().is_empty() || call.has_whole_arguments())
    }

    /// Returns the calls.
    pub(super) fn finish(self, names: &ToolNames) -> Vec<(RequestedCall, Collected)> {
        let finished = |(position, mut call): (usize, Call)| {
            call.arguments.extend(call.joiner.finish());
            let arguments = lenient::without_halves(&call.arguments).unwrap_or(call.arguments);
            // Some endpoints give no id, and all of them require one back.
            let id = if call.id.is_empty() { format!("call_{position}") } else { call.id };
            let tool = names.resolve(&call.name);
            let arguments = names.unwrap_arguments(&call.name, arguments);
            (RequestedCall { id, tool, arguments, provider_data: None }, call.data)
        };
        self.calls.into_iter().enumerate().map(finished).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Puts calls together from the pieces of each event, and returns their ids, names and arguments.
    fn calls(events: &[Value]) -> Vec<(String, String, String)> {
        let mut calls = Calls::default();
        for event in events {
            calls.push(event);
        }
        let finished = calls.finish(&ToolNames::default()).into_iter();
        finished.map(|(call, _)| (call.id, call.tool, call.arguments)).collect()
    }

    fn owned(calls: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
        calls.iter().map(|&(id, name, args)| (id.into(), name.into(), args.into())).collect()
    }

    /// A piece with the fields that aren't null or empty.
    fn piece(index: Option<u64>, id: &str, name: &str, arguments: &str) -> Value {
        json!({ "index": index, "id": id, "function": { "name": name, "arguments": arguments } })
    }

    #[test]
    fn parallel_calls_are_told_apart() {
        let (one, two) = (r#"{"c":1}"#, r#"{"c":2}"#);
        let both = [("a", "t", one), ("b", "t", two)];
        for (form, events) in [
            (
                "no index",
                vec![json!([piece(None, "a", "t", one)]), json!([piece(None, "b", "t", two)])],
            ),
            (
                "no index, one event",
                vec![json!([piece(None, "a", "t", one), piece(None, "b", "t", two)])],
            ),
            (
                "index 0",
                vec![
                    json!([piece(Some(0), "a", "t", one)]),
                    json!([piece(Some(0), "b", "t", two)]),
                ],
            ),
            (
                "a single piece in the place of the list",
                vec![
                    piece(None, "a", "t", one),
                    json!([null, piece(None, "b", "t", two), "odd", { "index": 0, "function": null }]),
                ],
            ),
            (
                "arguments as objects",
                vec![json!([
                    { "id": "a", "function": { "name": "t", "arguments": { "c": 1 } } },
                    { "id": "b", "name": "t", "arguments": { "c": 2 } },
                ])],
            ),
        ] {
            assert_eq!(calls(&events), owned(&both), "{form}");
        }
    }

    #[test]
    fn pieces_continue_their_own_calls() {
        let (one, two) = (r#"{"c":1}"#, r#"{"c":2}"#);
        let both = [("a", "t", one), ("b", "t", two)];
        for (form, events) in [
            (
                "indexes",
                vec![
                    json!([piece(Some(0), "a", "t", "")]),
                    json!([piece(Some(0), "", "", r#"{"c""#)]),
                    json!([piece(Some(1), "b", "t", "")]),
                    json!([piece(Some(1), "", "", two), piece(Some(0), "", "", ":1}")]),
                ],
            ),
            (
                "index 0 in pieces",
                vec![
                    json!([piece(Some(0), "a", "t", r#"{"c""#)]),
                    json!([piece(Some(0), "", "", ":1}")]),
                    json!([piece(Some(0), "b", "t", "")]),
                    json!([piece(Some(0), "", "", two)]),
                ],
            ),
            (
                "no index, in pieces",
                vec![
                    json!([piece(None, "a", "t", r#"{"c""#)]),
                    json!([piece(None, "", "", ":1}")]),
                    json!([piece(None, "b", "t", two)]),
                ],
            ),
            (
                "no index, pieces by position",
                vec![
                    json!([piece(None, "a", "t", r#"{"c""#), piece(None, "b", "t", r#"{"c""#)]),
                    json!([piece(None, "", "", ":1}"), piece(None, "", "", ":2}")]),
                ],
            ),
            (
                "the id and the name in each piece",
                vec![
                    json!([piece(Some(0), "a", "t", r#"{"c""#)]),
                    json!([piece(None, "b", "t", r#"{"c""#)]),
                    json!([piece(None, "b", "t", ":2}")]),
                    json!([piece(Some(0), "a", "t", ":1}")]),
                ],
            ),
            (
                "the id late",
                vec![
                    json!([piece(Some(0), "", "t", "")]),
                    json!([piece(Some(0), "a", "", one)]),
                    json!([piece(Some(1), "b", "t", two)]),
                ],
            ),
        ] {
            assert_eq!(calls(&events), owned(&both), "{form}");
        }
    }

    #[test]
    fn pieces_with_ids_of_their_own_continue_the_open_call() {
        let pieces = [("a", "t", ""), ("x", "", r#"{"c""#), ("y", "", ":1}"), ("b", "t", "{}")];
        for index in [None, Some(0)] {
            let events = pieces.map(|(id, name, arguments)| piece(index, id, name, arguments));
            let expected = owned(&[("a", "t", r#"{"c":1}"#), ("b", "t", "{}")]);
            assert_eq!(calls(&events), expected, "{index:?}");
        }
    }

    #[test]
    fn calls_without_ids_are_told_apart_by_position() {
        let (one, two) = (r#"{"c":1}"#, r#"{"c":2}"#);
        let both = [("call_0", "t", one), ("call_1", "t", two)];
        for (form, events) in [
            (
                "no index",
                vec![json!([piece(None, "", "t", one)]), json!([piece(None, "", "t", two)])],
            ),
            (
                "index 0",
                vec![json!([piece(Some(0), "", "t", one)]), json!([piece(Some(0), "", "t", two)])],
            ),
            ("one event", vec![json!([piece(None, "", "t", one), piece(None, "", "t", two)])]),
            (
                "the name in each piece",
                vec![
                    json!([piece(Some(0), "", "t", r#"{"c""#)]),
                    json!([piece(Some(0), "", "t", ":1}")]),
                    json!([piece(Some(1), "", "t", two)]),
                ],
            ),
        ] {
            assert_eq!(calls(&events), owned(&both), "{form}");
        }
        let events =
            [json!([piece(None, "", "t", ""), piece(None, "", "t", ""), piece(None, "", "u", "")])];
        let three = [("call_0", "t", ""), ("call_1", "t", ""), ("call_2", "u", "")];
        assert_eq!(calls(&events), owned(&three), "none is lost");
        let same = [json!([piece(Some(0), "a", "t", one), piece(Some(1), "a", "t", two)])];
        assert_eq!(calls(&same), owned(&[("a", "t", one), ("a", "t", two)]), "ids that repeat");
    }

    #[test]
    fn halves_of_a_character_are_put_together() {
        let pieces = [
            lenient::parse(r#"[{"id":"a","function":{"name":"t","arguments":"{\"c\":\"\ud83d"}}]"#),
            lenient::parse(r#"[{"function":{"arguments":"\ude00\\ud83d\"}"}}]"#),
        ];
        let pieces = pieces.map(|piece| piece.expect("can be parsed"));
        assert_eq!(calls(&pieces), owned(&[("a", "t", "{\"c\":\"😀\u{FFFD}\"}")]));
    }

    #[test]
    fn a_single_function_call_is_read() {
        let mut calls = Calls::default();
        calls.push_single(&json!({ "name": "t", "arguments": "" }));
        calls.push_single(&json!({ "arguments": "{}" }));
        let (call, _) = calls.finish(&ToolNames::default()).remove(0);
        assert_eq!((call.tool.as_str(), call.arguments.as_str()), ("t", "{}"));
    }
}
