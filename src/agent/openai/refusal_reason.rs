//! Reasons for which endpoints refuse requests, as far as their words say what is refused.

use super::{error, lenient};

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

/// The reason of a refusal, as the endpoint words it.
pub(super) struct RefusalReason {
    text: String,
    /// The length of the text before what the endpoint would accept.
    refusal_bytes: usize,
    /// The field, if the endpoint gives it apart from its message.
    field: Option<String>,
}

impl RefusalReason {
    pub(super) fn new(text: &str) -> Self {
        let body = lenient::parse(text).ok();
        let error = body.as_ref().map(|body| body.get("error").unwrap_or(body));
        let field = error.and_then(|error| lenient::text(error, "param"));
        let field = field.map(str::to_ascii_lowercase);
        let text = error::own_words(text).to_ascii_lowercase();
        let ends = ALTERNATIVES.iter().filter_map(|words| text.find(words));
        let refusal_bytes = ends.min().unwrap_or(text.len());
        Self { refusal_bytes, field, text }
    }

    pub(super) fn is_refusal(&self) -> bool {
        REFUSALS.iter().any(|words| self.text.contains(words))
    }

    /// Returns `true` if the reason names a field as one that is refused.
    pub(super) fn names(&self, field: &str) -> bool {
        match &self.field {
            Some(named) => named.split('.').next() == Some(field),
            None => contains_word(&self.text[..self.refusal_bytes], field),
        }
    }

    /// Returns `true` if the reason has a field of a message as a word.
    pub(super) fn is_about(&self, field: &str) -> bool {
        contains_word(&self.text[..self.refusal_bytes], field)
    }

    pub(super) fn is_about_call_ids(&self) -> bool {
        let is_id = ["tool_call", "tool call", "tool_use"].iter().any(|w| self.text.contains(w))
            && contains_word(&self.text, "id")
            || contains_word(&self.text, "tool_call_id");
        let is_form = ["length", "too long", "pattern", "characters", "a-z"];
        is_id && is_form.iter().any(|words| self.text.contains(words))
    }

    /// Returns `true` if the reason is about images as such: no other image would be accepted.
    pub(super) fn is_about_images(&self) -> bool {
        let is_single = self.text.contains("image/")
            || IMAGE_COMPLAINTS.iter().any(|words| contains_word(&self.text, words));
        let names = ["image", "vision", "multimodal", "multi-modal"];
        !is_single && names.iter().any(|words| self.text.contains(words))
    }

    /// Returns `true` if the reason names an image.
    pub(super) fn names_image(&self) -> bool {
        let names = ["image", "images", "image_url"];
        self.text.contains("image/") || names.iter().any(|name| contains_word(&self.text, name))
    }
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
