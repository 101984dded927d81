//! The reading of what a server sends: texts that should be JSON-RPC messages.
//!
//! The reading is lenient, because a message that is not read is a call that hangs: a batch, a missing version,
//! `error: null` beside a result, an error without a message. A message that bears the id of an open
//! request always ends that request, with the text as the reason if it has no other sense. A log may
//! bear ids, too: what has neither a result nor an error nor a version is no message.

use rmcp::model::{JsonRpcMessage, RequestId, ServerJsonRpcMessage, ServerNotification};
use serde_json::{Deserializer, Map, Value, json};

use super::answer_error::{error_data, is_empty, own_error};
use super::excerpt::excerpt;
use super::mend::{addresses, id_at_end, mended, simplify_progress};
use super::open_requests::{Method, OpenRequests};
use super::result_forms;

/// The messages in a text.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) messages: Vec<ServerJsonRpcMessage>,
    /// The reasons why parts of the text are of no use, with their beginnings.
    pub(super) unreadable: Vec<String>,
}

/// Reads a text that a server has sent. Each open request that it answers is over.
pub(super) fn read(text: &[u8], open: &OpenRequests) -> Reading {
    let mut reader = Reader { open, reading: Reading::default(), only_answers: false };
    reader.text(&String::from_utf8_lossy(text));
    reader.reading
}

/// Reads a message that is too long to be kept, of which the beginning and the end are left. Returns
/// the end of the request that it answers, or `None` if that cannot be seen.
pub(super) fn read_too_long(
    begin: &[u8],
    end: &[u8],
    reason: String,
    open: &OpenRequests,
) -> Option<ServerJsonRpcMessage> {
    let at_begin = addresses(String::from_utf8_lossy(begin).trim_start());
    let at_begin = at_begin.into_iter().find(|address| !address.has_method);
    let id = at_begin.and_then(|address| address.id);
    let id = id.or_else(|| id_at_end(String::from_utf8_lossy(end).trim_end()))?;
    let id = open.find(&id)?;
    open.take(&id);
    Some(own_error(id, reason))
}

struct Reader<'a> {
    open: &'a OpenRequests,
    reading: Reading,
    /// `true` behind other text, which may be a log that repeats callpark's own requests.
    only_answers: bool,
}

impl Reader<'_> {
    fn text(&mut self, text: &str) {
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            return;
        }
        if !text.starts_with(['{', '[']) {
            let Some(start) = text.find("{\"") else {
                return self.unreadable("is not JSON", text);
            };
            self.only_answers = true;
            self.values(&text[start..], true);
            // One text is counted once.
            return match self.reading.messages.is_empty() {
                true => {
                    self.reading.unreadable.clear();
                    self.unreadable("is not JSON", text);
                }
                false => self.unreadable("is not JSON", &text[..start]),
            };
        }
        self.values(text, true);
    }

    /// Reads values one after the other. A text is mended at most once.
    fn values(&mut self, text: &str, may_mend: bool) {
        let mut values = Deserializer::from_str(text).into_iter::<Value>();
        let mut end = 0;
        while let Some(value) = values.next() {
            match value {
                Ok(value) => {
                    end = values.byte_offset();
                    self.value(value);
                }
                Err(error) => {
                    let rest = text[end..].trim_start();
                    match may_mend.then(|| mended(rest)).flatten() {
                        Some(mended) => self.values(&mended, false),
                        None => self.broken(rest, &error),
                    }
                    return;
                }
            }
        }
    }

    /// Ends the requests whose ids are in a text that is not JSON.
    fn broken(&mut self, text: &str, error: &serde_json::Error) {
        let addresses = addresses(text);
        let answers = addresses.iter().filter(|address| address.is_message && !address.has_method);
        let ids: Vec<RequestId> =
            answers.filter_map(|address| self.open.find(address.id.as_ref()?)).collect();
        if ids.is_empty() {
            return self.unreadable("is not JSON", text);
        }
        for id in ids {
            if self.open.take(&id).is_some() {
                let reason = format!("its answer is not valid JSON ({error}): {}", excerpt(text));
                self.reading.messages.push(own_error(id, reason));
            }
        }
    }

    fn value(&mut self, value: Value) {
        match value {
            Value::Object(object) => self.object(object),
            Value::Array(batch) if !batch.is_empty() => {
                for value in batch {
                    match value {
                        Value::Object(object) => self.object(object),
                        other => self.unreadable("is not a message", &other.to_string()),
                    }
                }
            }
            other => self.unreadable("is not a message", &other.to_string()),
        }
    }

    fn object(&mut self, object: Map<String, Value>) {
        let has = |key| object.get(key).is_some_and(|value: &Value| !value.is_null());
        let is_answer = has("result") || has("error");
        let id = object.get("id").filter(|_| self.may_answer(&object));
        let id = id.and_then(|id| self.open.find(id));
        if has("method") && !(is_answer && id.is_some()) {
            return self.request(object);
        }
        match id.or_else(|| self.orphan(&object)) {
            Some(id) => self.answer(id, object),
            None => self.unexpected(object),
        }
    }

    /// Returns `true` if an object with the id of a request ends it. Behind other text a version is not
    /// enough.
    fn may_answer(&self, object: &Map<String, Value>) -> bool {
        object.contains_key("result")
            || object.contains_key("error")
            || (!self.only_answers && object.contains_key("jsonrpc"))
    }

    /// Reads a request or a notification of the server.
    fn request(&mut self, object: Map<String, Value>) {
        let text = || excerpt(&Value::Object(object.clone()).to_string());
        if self.only_answers {
            return self.unreadable("follows other text", &text());
        }
        let mut strict = Map::from_iter([("jsonrpc".to_owned(), json!("2.0"))]);
        for key in ["id", "method", "params"] {
            if let Some(value) = object.get(key).filter(|value| !value.is_null()) {
                strict.insert(key.to_owned(), value.clone());
            }
        }
        let is_progress = strict.get("method") == Some(&json!("notifications/progress"));
        if is_progress && let Some(Value::Object(params)) = strict.get_mut("params") {
            simplify_progress(params);
        }
        let is_unknown = |message: &ServerJsonRpcMessage| {
            matches!(message, JsonRpcMessage::Notification(notification)
                if matches!(notification.notification, ServerNotification::CustomNotification(_)))
        };
        match serde_json::from_value::<ServerJsonRpcMessage>(Value::Object(strict)) {
            Ok(message) if is_progress && is_unknown(&message) => {
                self.unreadable("is not a valid report of progress", &text());
            }
            Ok(message) => self.reading.messages.push(message),
            Err(_) => self.unreadable("is not a valid request or notification", &text()),
        }
    }

    /// Returns the request that an error without an id is about, if there can be only one: a server
    /// that could not read a request does not know its id.
    fn orphan(&self, object: &Map<String, Value>) -> Option<RequestId> {
        let has_id = object.get("id").is_some_and(|id| !id.is_null());
        let error = object.get("error").filter(|error| !is_empty(error))?;
        let (id, method) = self.open.only()?;
        let code = error.get("code").and_then(Value::as_i64);
        let is_beginning = matches!(method, Method::Discover | Method::Initialize);
        let is_unread = matches!(code, Some(-32700 | -32600));
        (!has_id && (is_beginning || is_unread)).then_some(id)
    }

    fn answer(&mut self, id: RequestId, mut object: Map<String, Value>) {
        let method = self.open.take(&id).unwrap_or(Method::Other);
        let result = object.remove("result");
        let error = object.remove("error").filter(|error| !error.is_null());
        let error =
            error.filter(|error| result.as_ref().is_none_or(Value::is_null) || !is_empty(error));
        let message = match (error, result) {
            (Some(error), _) => ServerJsonRpcMessage::error(error_data(error), Some(id)),
            (None, Some(result)) => match result_forms::read(method, result) {
                Ok(result) => ServerJsonRpcMessage::response(result, id),
                Err(reason) => own_error(id, reason),
            },
            (None, None) => {
                let text = excerpt(&Value::Object(object).to_string());
                own_error(id, format!("its answer has neither a result nor an error: {text}"))
            }
        };
        self.reading.messages.push(message);
    }

    /// Passes over a message that answers no open request.
    fn unexpected(&mut self, object: Map<String, Value>) {
        let has_answer = object.contains_key("result") || object.contains_key("error");
        if has_answer && object.get("id").is_some_and(|id| self.open.is_over(id)) {
            tracing::debug!("an MCP server has answered a request that is over");
            return;
        }
        let what = match has_answer {
            true => "answers no request",
            false => "is not a message",
        };
        self.unreadable(what, &Value::Object(object).to_string());
    }

    fn unreadable(&mut self, what: &str, text: &str) {
        self.reading.unreadable.push(format!("{what}: {}", excerpt(text)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open(ids: &[i64]) -> OpenRequests {
        let open = OpenRequests::default();
        ids.iter().for_each(|id| open.insert(RequestId::Number(*id), Method::CallTool));
        open
    }

    /// Returns the ids that the messages answer.
    fn ids(messages: &[ServerJsonRpcMessage]) -> Vec<RequestId> {
        let id = |message: &ServerJsonRpcMessage| match message {
            JsonRpcMessage::Response(response) => Some(response.id.clone()),
            JsonRpcMessage::Error(error) => error.id.clone(),
            _ => None,
        };
        messages.iter().filter_map(id).collect()
    }

    /// Pieces of messages, in an order that makes sense or not.
    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "'",
            "\\",
            "null",
            "true",
            "NaN",
            "-1e9",
            "1",
            "2.0",
            "\"id\"",
            "\"id\":1",
            "\"id\":\"2\",",
            "\"result\":",
            "\"error\":",
            "\"method\":\"ping\"",
            "\"jsonrpc\":\"2.0\",",
            "{\"content\":[]}",
            "\\ud83d",
            "\u{feff}",
            "ü",
            "\n",
            "\u{1}",
            "\"params\":{",
            "\"code\":-32700",
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}",
        ]);
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn a_request_is_answered_once_whatever_came_before(text in pieces()) {
            let open = open(&[1, 2]);
            let mut answered = ids(&read(text.as_bytes(), &open).messages);
            for id in [1, 2] {
                let good = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[]}}}}"#);
                answered.extend(
                    ids(&read(good.as_bytes(), &open).messages)
                );
            }
            answered.retain(|id| [RequestId::Number(1), RequestId::Number(2)].contains(id));
            answered.sort_by_key(ToString::to_string);
            prop_assert_eq!(answered, [RequestId::Number(1), RequestId::Number(2)]);
        }

        #[test]
        fn an_answer_that_is_cut_behind_its_id_ends_its_request(text in pieces(), cut in 0_usize..200) {
            let line = json!({ "content": [{ "type": "text", "text": text }] });
            let line = format!(r#"{{"jsonrpc":"2.0","id":7,"result":{line}}}"#);
            let begin = line.find("7,").unwrap() + 2;
            let end = line.floor_char_boundary((begin + cut).min(line.len()));
            let messages = read(&line.as_bytes()[..end], &open(&[7])).messages;
            prop_assert_eq!(ids(&messages), [RequestId::Number(7)]);
            let is_whole = matches!(messages[0], JsonRpcMessage::Response(_));
            prop_assert_eq!(is_whole, end == line.len());
        }
    }

    #[test]
    fn a_late_answer_is_of_no_interest() {
        let open = open(&[5]);
        let line = br#"{"jsonrpc":"2.0","id":5,"result":{}}"#;
        assert_eq!(read(line, &open).messages.len(), 1);
        let again = read(line, &open);
        assert!(again.messages.is_empty() && again.unreadable.is_empty());
    }

    #[test]
    fn a_log_that_bears_an_id_ends_no_request() {
        let open = open(&[3]);
        for line in [
            r#"INFO fetched {"id":3,"name":"Bob"}"#,
            r#"INFO fetched {"id":3,"name":"Bob"#,
            r#"INFO received {"jsonrpc":"2.0","id":3}"#,
            r#"{"level":"info","id":3}"#,
            r#"{"level":"info","id":3,"name":"Bob"#,
            r#"[{"level":"info","id":3}]"#,
        ] {
            let reading = read(line.as_bytes(), &open);
            assert!(reading.messages.is_empty() && reading.unreadable.len() == 1, "{line}");
        }
        let line = br#"INFO sent {"id":3,"result":{}}"#;
        assert_eq!(ids(&read(line, &open).messages), [RequestId::Number(3)]);
    }

    #[test]
    fn a_message_without_an_answer_ends_its_request() {
        for line in [r#"{"jsonrpc":"2.0","id":3}"#, r#"{"jsonrpc":"2.0","id":3,"resu"#] {
            let messages = read(line.as_bytes(), &open(&[3])).messages;
            assert_eq!(ids(&messages), [RequestId::Number(3)], "{line}");
            assert!(matches!(messages[0], JsonRpcMessage::Error(_)), "{line}");
        }
    }

    #[test]
    fn an_error_without_an_id_is_about_the_only_open_request() {
        let line =
            br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}"#;
        assert_eq!(ids(&read(line, &open(&[5])).messages), [RequestId::Number(5)]);
        for ids in [&[][..], &[5, 6]] {
            let reading = read(line, &open(ids));
            assert!(reading.messages.is_empty() && reading.unreadable.len() == 1);
        }
    }

    #[test]
    fn progress_is_read_in_every_form() {
        let line = br#"{"method":"notifications/progress","params":
            {"progressToken":1,"progress":"0.5","total":null,"message":7}}"#;
        let reading = read(line, &open(&[]));
        let [JsonRpcMessage::Notification(notification)] = &reading.messages[..] else {
            panic!("{reading:?}");
        };
        let ServerNotification::ProgressNotification(progress) = &notification.notification else {
            panic!("{notification:?}");
        };
        assert_eq!((progress.params.progress, progress.params.total), (0.5, None));
        assert_eq!(progress.params.message.as_deref(), Some("7"));
    }
}
