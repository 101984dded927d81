//! The part of the protocol that an endpoint accepts: as configured, and as it turned out.
//!
//! Gateways refuse a request for a field that they don't know, and name it. The request is then sent
//! once more without it. If it is accepted, so are all later ones until the server restarts.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::error;
use super::lenient;
use super::provider_data::{CALL_FIELDS, MESSAGE_FIELDS};
use crate::agent::ModelConfig;
use crate::agent::config::{CallIds, MaxTokensField};

/// The fields that a request can do without.
const OPTIONAL_FIELDS: [&str; 5] =
    ["stream_options", "parallel_tool_calls", "tool_choice", "temperature", "reasoning_effort"];

/// The words by which endpoints say that they don't accept a field, rather than its value.
const REFUSALS: [&str; 13] = [
    "unsupported",
    "not support",
    "n't support",
    "unknown",
    "unrecognized",
    "unrecognised",
    "unexpected",
    "extra input",
    "extra field",
    "extra_forbidden",
    "not permitted",
    "not allowed",
    "additional propert",
];

/// The words behind which endpoints list what they do accept.
const ALTERNATIVES: [&str; 6] =
    ["expected one of", "instead", "use '", "use `", "supported fields", "did you mean"];

/// The words of a complaint about a single image, rather than about images.
const IMAGE_COMPLAINTS: [&str; 16] = [
    "unsupported image",
    "format",
    "formats",
    "mime",
    "media type",
    "media_type",
    "too large",
    "invalid",
    "decode",
    "decoded",
    "decoding",
    "corrupt",
    "corrupted",
    "download",
    "base64",
    "url",
];

/// The choices that a model's configuration leaves, or that its endpoint turned out to demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    /// `true` if images are sent. Otherwise a note stands in their place.
    pub(super) images: bool,
    /// `true` if each call has an id of nine letters and digits, in place of the model's own.
    pub(super) short_ids: bool,
}

/// The part of the protocol that an endpoint accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dialect {
    pub(super) style: Style,
    pub(super) max_tokens_field: MaxTokensField,
    /// `true` if the endpoint refused the other name of the field.
    has_swapped: bool,
    /// The fields that are not sent, by the configuration.
    omitted: BTreeSet<String>,
    /// The fields that the endpoint refused.
    refused: BTreeSet<&'static str>,
}

/// A change of what an endpoint is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Adaptation {
    WithoutField(&'static str),
    MaxTokensAs(MaxTokensField),
    ShortCallIds,
    WithoutImages,
}

impl fmt::Display for Adaptation {
    /// Writes the settings that have the same effect.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WithoutField(field) => write!(f, "omit = [\"{field}\"]"),
            Self::MaxTokensAs(field) => write!(f, "max_tokens_field = \"{}\"", field.as_str()),
            Self::ShortCallIds => f.write_str("call_ids = \"short\""),
            Self::WithoutImages => f.write_str("pictures = false"),
        }
    }
}

impl Dialect {
    pub(super) fn new(config: &ModelConfig) -> Self {
        let style = Style { images: config.pictures, short_ids: config.call_ids == CallIds::Short };
        let max_tokens_field = config.max_tokens_field;
        let omitted = config.omit.iter().cloned().collect();
        Self { style, max_tokens_field, has_swapped: false, omitted, refused: BTreeSet::new() }
    }

    /// Returns `true` if a field is sent.
    pub(super) fn accepts(&self, field: &str) -> bool {
        !self.omits(field) && !self.refused.contains(field)
    }

    /// Returns `true` if the configuration leaves a field out.
    pub(super) fn omits(&self, field: &str) -> bool {
        self.omitted.contains(field)
    }

    /// Returns the changes with which an endpoint may accept a request that it refused, by its reason.
    /// `fields` are those that the configuration adds, which are never left out: they may be there to
    /// protect something.
    pub(super) fn adaptations(
        &self,
        body: &Value,
        reason: &str,
        is_added: impl Fn(&str) -> bool,
    ) -> Vec<Adaptation> {
        let reason = Reason::new(reason);
        let mut result = Vec::new();
        if reason.is_refusal() {
            let sent = |field: &&str| body.get(*field).is_some() && !is_added(field);
            let refused = OPTIONAL_FIELDS.into_iter().filter(sent).filter(|f| reason.names(f));
            result.extend(refused.map(Adaptation::WithoutField));
            let of_provider = MESSAGE_FIELDS.iter().chain(CALL_FIELDS);
            let refused = of_provider.filter(|f| self.accepts(f) && reason.is_about(f));
            result.extend(
                refused.filter(|f| is_in_messages(body, f)).map(|f| Adaptation::WithoutField(f)),
            );
            let field = self.max_tokens_field;
            if !self.has_swapped && sent(&field.as_str()) && reason.names(field.as_str()) {
                result.push(Adaptation::MaxTokensAs(field.other()));
            }
            if self.style.images && reason.is_about_images() && has_images(body) {
                result.push(Adaptation::WithoutImages);
            }
        }
        if !self.style.short_ids && reason.is_about_call_ids() {
            result.push(Adaptation::ShortCallIds);
        }
        result
    }

    pub(super) fn adapt(&mut self, adaptation: Adaptation) {
        match adaptation {
            Adaptation::WithoutField(field) => drop(self.refused.insert(field)),
            Adaptation::MaxTokensAs(field) => {
                self.max_tokens_field = field;
                self.has_swapped = true;
            }
            Adaptation::ShortCallIds => self.style.short_ids = true,
            Adaptation::WithoutImages => self.style.images = false,
        }
    }
}

/// The reason of a refusal, as the endpoint words it.
struct Reason {
    text: String,
    /// The length of the text before what the endpoint would accept.
    refusal_bytes: usize,
    /// The field, if the endpoint gives it apart from its message.
    field: Option<String>,
}

impl Reason {
    fn new(text: &str) -> Self {
        let body = lenient::parse(text).ok();
        let error = body.as_ref().map(|body| body.get("error").unwrap_or(body));
        let field = error.and_then(|error| lenient::text(error, "param"));
        let field = field.map(str::to_ascii_lowercase);
        let text = error::own_words(text).to_ascii_lowercase();
        let ends = ALTERNATIVES.iter().filter_map(|words| text.find(words));
        let refusal_bytes = ends.min().unwrap_or(text.len());
        Self { refusal_bytes, field, text }
    }

    fn is_refusal(&self) -> bool {
        REFUSALS.iter().any(|words| self.text.contains(words))
    }

    /// Returns `true` if the reason names a field as one that is refused.
    fn names(&self, field: &str) -> bool {
        match &self.field {
            Some(named) => named.split('.').next() == Some(field),
            None => contains_word(&self.text[..self.refusal_bytes], field),
        }
    }

    /// Returns `true` if the reason has a field of a message as a word.
    fn is_about(&self, field: &str) -> bool {
        contains_word(&self.text[..self.refusal_bytes], field)
    }

    fn is_about_call_ids(&self) -> bool {
        let is_id = ["tool_call", "tool call", "tool_use"].iter().any(|w| self.text.contains(w))
            && contains_word(&self.text, "id")
            || contains_word(&self.text, "tool_call_id");
        let is_form = ["length", "too long", "pattern", "characters", "a-z"];
        is_id && is_form.iter().any(|words| self.text.contains(words))
    }

    fn is_about_images(&self) -> bool {
        let is_single = self.text.contains("image/")
            || IMAGE_COMPLAINTS.iter().any(|words| contains_word(&self.text, words));
        let names = ["image", "vision", "multimodal", "multi-modal"];
        !is_single && names.iter().any(|words| self.text.contains(words))
    }
}

/// Returns `true` if a message, or a call in one, has a field.
fn is_in_messages(body: &Value, field: &str) -> bool {
    let messages = body.get("messages").and_then(Value::as_array).into_iter().flatten();
    let calls = |message: &Value| {
        let calls = message.get("tool_calls").and_then(Value::as_array).into_iter().flatten();
        calls.into_iter().any(|call| call.get(field).is_some())
    };
    messages.into_iter().any(|message| message.get(field).is_some() || calls(message))
}

fn has_images(body: &Value) -> bool {
    let messages = body.get("messages").and_then(Value::as_array);
    let contents = messages.into_iter().flatten().filter_map(|message| message.get("content"));
    contents
        .filter_map(Value::as_array)
        .flatten()
        .any(|part| part.get("type").and_then(Value::as_str) == Some("image_url"))
}

/// Returns `true` if a text has a word that isn't part of a longer one.
fn contains_word(text: &str, word: &str) -> bool {
    let is_inside = |character: Option<char>| {
        character.is_some_and(|character| character.is_ascii_alphanumeric() || character == '_')
    };
    text.match_indices(word).any(|(start, _)| {
        !is_inside(text[..start].chars().next_back())
            && !is_inside(text[start + word.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn dialect() -> Dialect {
        let toml = "name = 'm'\nendpoint = 'http://127.0.0.1:1'";
        Dialect::new(&toml::from_str(toml).expect("a model"))
    }

    fn body() -> Value {
        json!({
            "messages": [
                { "role": "user", "content": [{ "type": "image_url", "image_url": {} }] },
                { "role": "assistant", "content": null, "reasoning": "hm", "tool_calls": [] },
            ],
            "stream": true,
            "stream_options": { "include_usage": true },
            "max_completion_tokens": 10,
            "temperature": 0.5,
            "parallel_tool_calls": false,
        })
    }

    fn adaptations(reason: &str) -> Vec<Adaptation> {
        dialect().adaptations(&body(), reason, |field| field == "parallel_tool_calls")
    }

    #[test]
    fn a_field_that_is_refused_by_name_is_left_out() {
        for (reason, field) in [
            ("stream_options: extra inputs are not permitted", "stream_options"),
            ("Unrecognized request argument supplied: stream_options", "stream_options"),
            (r#"json: unknown field "stream_options""#, "stream_options"),
            (
                r#"{"error":[{"type":"extra_forbidden","loc":["body","stream_options"],"msg":"Extra inputs are not permitted"}]}"#,
                "stream_options",
            ),
            ("'messages.2' : property 'reasoning' is unsupported", "reasoning"),
            (
                "unknown field `stream_options`, expected one of `model`, `temperature`",
                "stream_options",
            ),
            (
                r#"{"error":{"message":"Unsupported value: 'temperature' does not support 0.5 with this model.","param":"temperature"}}"#,
                "temperature",
            ),
        ] {
            assert_eq!(adaptations(reason), [Adaptation::WithoutField(field)], "{reason}");
        }
    }

    #[test]
    fn a_limit_of_tokens_gets_its_other_name_once() {
        let swap = Adaptation::MaxTokensAs(MaxTokensField::MaxTokens);
        let reason = "max_completion_tokens: extra inputs are not permitted";
        assert_eq!(adaptations(reason), [swap]);
        let mut dialect = dialect();
        dialect.adapt(swap);
        let body = json!({ "messages": [], "max_tokens": 10 });
        let reason = "Unsupported parameter: 'max_tokens' is not supported with this model. Use \
                      'max_completion_tokens' instead.";
        assert_eq!(dialect.adaptations(&body, reason, |_| false), []);
        let mut other = Dialect { has_swapped: false, ..dialect };
        let swap = Adaptation::MaxTokensAs(MaxTokensField::MaxCompletionTokens);
        assert_eq!(other.adaptations(&body, reason, |_| false), [swap]);
        other.adapt(swap);
        assert_eq!(other.max_tokens_field, MaxTokensField::MaxCompletionTokens);
    }

    #[test]
    fn ids_and_images_that_are_refused_are_sent_differently() {
        for reason in [
            "Tool call id was call_1 but must be a-z, A-Z, 0-9, with a length of 9.",
            "Invalid 'messages[2].tool_calls[0].id': string too long. Expected 40.",
            "messages.1.content.0.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'",
        ] {
            assert_eq!(adaptations(reason), [Adaptation::ShortCallIds], "{reason}");
        }
        for reason in [
            "unknown variant `image_url`, expected `text`",
            "this model does not support image input",
            "No endpoints found that don't support vision",
        ] {
            assert_eq!(adaptations(reason), [Adaptation::WithoutImages], "{reason}");
        }
    }

    #[test]
    fn other_refusals_change_nothing() {
        for reason in [
            "temperature must be between 0 and 2",
            "unknown model",
            "the model does not support tools",
            "parallel_tool_calls: extra inputs are not permitted",
            "max_completion_tokens is too large: 10",
            "my_stream_options_2: extra inputs are not permitted",
            "",
            "Unsupported image format",
            "image/bmp is not supported",
            "Invalid image: the file is not supported",
            "the URL of the image is not supported",
            "this image is too large: not supported",
            r#"{"detail":[{"msg":"unknown tool","input":{"stream_options":{}}}],"body":"temperature"}"#,
            r#"{"message":"[{'msg': 'unknown tool', 'input': {'image_url': 1, 'temperature': 1}}]"}"#,
        ] {
            assert_eq!(adaptations(reason), [], "{reason}");
        }
    }

    #[test]
    fn what_was_refused_is_left_out_from_then_on() {
        let mut dialect = dialect();
        for adaptation in adaptations("stream_options: extra inputs are not permitted") {
            assert_eq!(adaptation.to_string(), r#"omit = ["stream_options"]"#);
            dialect.adapt(adaptation);
        }
        assert!(!dialect.accepts("stream_options") && dialect.accepts("temperature"));
    }
}
