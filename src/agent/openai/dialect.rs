//! The part of the protocol that an endpoint accepts: as configured, and as it turned out.
//!
//! Gateways refuse a request for a field that they don't know, and name it. The request is then sent
//! once more without it. If it is accepted, so are all later ones until the server restarts.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::images::{self, ImageSet};
use super::provider_data::{CALL_FIELDS, MESSAGE_FIELDS};
use super::refusal_reason::RefusalReason;
use crate::agent::config::{CallIds, MaxTokensField};
use crate::agent::{ModelConfig, ModelErrorCode};

/// The fields that a request can do without.
const OPTIONAL_FIELDS: [&str; 5] =
    ["stream_options", "parallel_tool_calls", "tool_choice", "temperature", "reasoning_effort"];

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
    /// The images that the endpoint refused. A note stands in their place.
    refused_images: ImageSet,
}

/// A change of what an endpoint is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Adaptation {
    WithoutField(&'static str),
    MaxTokensAs(MaxTokensField),
    ShortCallIds,
    WithoutImages,
    /// Others may be accepted.
    WithoutTheseImages(ImageSet),
}

impl fmt::Display for Adaptation {
    /// Writes the end of a sentence about the requests that are sent: the setting that has the same
    /// effect, if there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let setting = match self {
            Self::WithoutField(field) => format!("omit = [\"{field}\"]"),
            Self::MaxTokensAs(field) => format!("max_tokens_field = \"{}\"", field.as_str()),
            Self::ShortCallIds => "call_ids = \"short\"".to_owned(),
            Self::WithoutImages => "pictures = false".to_owned(),
            Self::WithoutTheseImages(images) => {
                return write!(f, "with a note in the place of images: {}", images.len());
            }
        };
        write!(f, "as with {setting} in [[models]]")
    }
}

/// A request that an endpoint refused.
pub(super) struct Refused<'a> {
    pub(super) body: &'a Value,
    pub(super) code: ModelErrorCode,
    pub(super) reason: &'a str,
    /// The changes with which it was sent, compared to the first time.
    pub(super) tried: &'a [Adaptation],
}

impl Dialect {
    pub(super) fn new(config: &ModelConfig) -> Self {
        let style = Style { images: config.pictures, short_ids: config.call_ids == CallIds::Short };
        let max_tokens_field = config.max_tokens_field;
        let omitted = config.omit.iter().cloned().collect();
        Self {
            style,
            max_tokens_field,
            has_swapped: false,
            omitted,
            refused: BTreeSet::new(),
            refused_images: ImageSet::default(),
        }
    }

    /// Returns the URL of an image, or `None` if a note stands in its place.
    pub(super) fn image_url(&self, media_type: &str, data: &[u8]) -> Option<String> {
        let url = || images::url(media_type, data);
        self.style.images.then(url).filter(|url| !self.refused_images.contains(url))
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
    /// A field for which `is_added` returns `true` is one of the configuration, and never left out: it
    /// may be there to protect something.
    pub(super) fn adaptations(
        &self,
        refused: &Refused<'_>,
        is_added: impl Fn(&str) -> bool,
    ) -> Vec<Adaptation> {
        let body = refused.body;
        let reason = RefusalReason::new(refused.reason);
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
            if reason.is_about_images() && images::has_images(body) {
                result.push(Adaptation::WithoutImages);
            }
        }
        if !self.style.short_ids && reason.is_about_call_ids() {
            result.push(Adaptation::ShortCallIds);
        }
        if result.is_empty() && reason.names_image() {
            result.extend(refused.without_images());
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
            Adaptation::WithoutTheseImages(images) => self.refused_images.extend(&images),
        }
    }
}

impl Refused<'_> {
    /// Returns the change for a request of which the endpoint refuses an image. The earlier images were
    /// probably accepted before: the newest ones are left out first, and all of them if that does not
    /// help. A failure of the endpoint says nothing about them.
    fn without_images(&self) -> Option<Adaptation> {
        if self.code != ModelErrorCode::Refused || !images::has_images(self.body) {
            return None;
        }
        let is_again = |tried: &Adaptation| matches!(tried, Adaptation::WithoutTheseImages(_));
        let images = match self.tried.iter().any(is_again) {
            true => images::all(self.body),
            false => images::newest(self.body),
        };
        Some(Adaptation::WithoutTheseImages(images))
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

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

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

    fn refused<'a>(body: &'a Value, reason: &'a str) -> Refused<'a> {
        Refused { body, code: ModelErrorCode::Refused, reason, tried: &[] }
    }

    fn adaptations(reason: &str) -> Vec<Adaptation> {
        dialect().adaptations(&refused(&body(), reason), |field| field == "parallel_tool_calls")
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
        assert_eq!(adaptations(reason), from_ref(&swap));
        let mut dialect = dialect();
        dialect.adapt(swap);
        let body = json!({ "messages": [], "max_tokens": 10 });
        let reason = "Unsupported parameter: 'max_tokens' is not supported with this model. Use \
                      'max_completion_tokens' instead.";
        assert_eq!(dialect.adaptations(&refused(&body, reason), |_| false), []);
        let mut other = Dialect { has_swapped: false, ..dialect };
        let swap = Adaptation::MaxTokensAs(MaxTokensField::MaxCompletionTokens);
        assert_eq!(other.adaptations(&refused(&body, reason), |_| false), from_ref(&swap));
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
    fn an_image_that_is_refused_is_left_out_and_others_are_sent() {
        let message = |url: &str| {
            let image = json!({ "type": "image_url", "image_url": { "url": url } });
            json!({ "role": "user", "content": [{ "type": "text", "text": "look" }, image] })
        };
        let answer = json!({ "role": "assistant", "content": "I see." });
        let body = json!({ "messages": [message("data:a"), answer, message("data:b"), answer] });
        let dialect = dialect();
        let adapt = |code, reason: &str, tried: &[Adaptation]| {
            dialect.adaptations(&Refused { body: &body, code, reason, tried }, |_| false)
        };
        let newest = Adaptation::WithoutTheseImages(images::newest(&body));
        for reason in [
            "Unsupported image format",
            "image/bmp is not supported",
            "Invalid image: the file is not supported",
            "the URL of the image is not supported",
            "this image is too large: not supported",
            "messages.2.content.1.image.source.base64: Could not process image",
            "too many images",
        ] {
            let first = adapt(ModelErrorCode::Refused, reason, &[]);
            assert_eq!(first, from_ref(&newest), "{reason}");
            let all = Adaptation::WithoutTheseImages(images::all(&body));
            assert_eq!(adapt(ModelErrorCode::Refused, reason, &first), [all], "{reason}");
            assert_eq!(adapt(ModelErrorCode::Server, reason, &[]), [], "{reason}");
        }
        let mut adapted = dialect.clone();
        adapted.adapt(newest);
        let is_refused = |url: &str| adapted.refused_images.contains(url);
        assert!(is_refused("data:b") && !is_refused("data:a"));
        assert_eq!(adapt(ModelErrorCode::Refused, "imagery is fine", &[]), []);
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
            let setting = r#"as with omit = ["stream_options"] in [[models]]"#;
            assert_eq!(adaptation.to_string(), setting);
            dialect.adapt(adaptation);
        }
        assert!(!dialect.accepts("stream_options") && dialect.accepts("temperature"));
    }
}
