//! Errors as endpoints report them, in every shape, and the kind of failure that they stand for.

use std::time::Duration;

use serde_json::{Map, Value};

use super::error_words::{
    AUTHENTICATION_KINDS, AUTHENTICATION_WORDS, DESCRIPTION_FIELDS, KEY_KINDS, QUOTA_KINDS,
    QUOTA_WORDS, RATE_KINDS, RATE_WORDS, REFUSAL_KINDS, REFUSAL_WORDS, SERVER_KINDS,
};
use super::lenient;
use crate::agent::ModelErrorCode;

/// An error that an endpoint reports, with a status of its own or inside a success.
#[derive(Debug, Default)]
pub(super) struct ErrorReport {
    /// The HTTP status that the error names.
    status: Option<u16>,
    /// The types and codes that the error names, in lower case.
    kinds: String,
    /// The description in the endpoint's own words.
    words: Vec<String>,
    /// The whole error, which may have more than its description.
    pub(super) source: String,
    /// The pause that the error asks for.
    pub(super) pause: Option<Duration>,
    /// `true` if a limit of a whole day was reached.
    is_daily: bool,
}

/// The depth of nested errors that are read. Deeper ones are left out.
pub(super) const DEPTH_MAX: usize = 6;

/// The number of descriptions that are kept of one error.
const WORDS_MAX: usize = 3;

/// Names of types and codes.
const KINDS: [&str; 9] = [
    "code",
    "type",
    "status",
    "status_code",
    "statusCode",
    "error_code",
    "error_type",
    "reason",
    "quotaId",
];

impl ErrorReport {
    /// Reads an error whose place says that it is one.
    pub(super) fn of(value: &Value) -> Self {
        let mut report = Self { source: lenient::whole(&value.to_string()), ..Self::default() };
        report.read(value, 0);
        if report.words.is_empty() && !lenient::is_nothing(value) {
            report.words.push(value.to_string());
        }
        report
    }

    /// Returns an error with this description.
    pub(super) fn of_text(text: &str) -> Self {
        let mut report = Self { source: text.to_owned(), ..Self::default() };
        report.read(&Value::String(text.to_owned()), 0);
        report
    }

    /// Finds the error in a piece of an answer, or in a document in the place of one.
    pub(super) fn find(piece: &Map<String, Value>) -> Option<Self> {
        let get = |name: &str| piece.get(name).filter(|value| !lenient::is_nothing(value));
        let choices: Vec<&Value> = get("choices").into_iter().flat_map(lenient::items).collect();
        let nested = choices.iter().filter_map(|choice| choice.get("error"));
        let nested = nested.chain(piece.get("x_groq").and_then(|own| own.get("error")));
        if get("error").is_some() || nested.into_iter().any(|error| !lenient::is_nothing(error)) {
            let error = choices.iter().find_map(|choice| lenient::field(choice, "error"));
            let error = error.or_else(|| piece.get("x_groq").and_then(|own| own.get("error")));
            return Some(match get("error") {
                Some(_) => Self::of(&Value::Object(without_choices(piece))),
                None => Self::of(error.unwrap_or(&Value::Null)),
            });
        }
        if !choices.is_empty() {
            return None;
        }
        let base = get("base_resp")
            .filter(|base| lenient::number(base, "status_code").is_some_and(|code| code != 0));
        if let Some(base) = base {
            return Some(Self::of(base));
        }
        let names_error = |name: &str| {
            let kind = get(name).and_then(Value::as_str).unwrap_or_default();
            kind.to_ascii_lowercase().contains("error")
        };
        let has_words = ["message", "detail", "msg", "errors"]
            .iter()
            .filter_map(|name| get(name))
            .any(|words| words.is_string() || words.is_array());
        let is_piece = piece.contains_key("choices") || piece.contains_key("usage");
        let is_error = names_error("object") || names_error("type") || (has_words && !is_piece);
        is_error.then(|| Self::of(&Value::Object(piece.clone())))
    }

    fn read(&mut self, value: &Value, depth: usize) {
        match value {
            Value::String(text) => self.read_text(text, depth),
            Value::Array(items) if depth < DEPTH_MAX => {
                items.iter().for_each(|item| self.read(item, depth + 1));
            }
            Value::Object(map) => {
                for value in KINDS.iter().filter_map(|name| map.get(*name)) {
                    self.read_kind(value);
                }
                if let Some(pause) = lenient::text(value, "retryDelay").and_then(seconds) {
                    self.pause = Some(pause);
                }
                if depth < DEPTH_MAX {
                    let inner = DESCRIPTION_FIELDS.iter().filter_map(|name| map.get(*name));
                    let inner = inner.chain(map.get("violations"));
                    inner.for_each(|inner| self.read(inner, depth + 1));
                }
            }
            _ => {}
        }
    }

    fn read_kind(&mut self, value: &Value) {
        let number = lenient::as_number(value).and_then(|number| u16::try_from(number).ok());
        if let Some(status) = number.filter(|status| (400..=599).contains(status)) {
            self.status.get_or_insert(status);
        }
        if let Some(kind) = value.as_str().filter(|_| number.is_none()) {
            self.is_daily |= kind.contains("PerDay");
            self.kinds.push_str(&kind.to_ascii_lowercase());
            self.kinds.push(' ');
        }
    }

    /// Reads a description, which may be another error as JSON.
    fn read_text(&mut self, text: &str, depth: usize) {
        let text = text.trim();
        if text.starts_with(['{', '['])
            && depth < DEPTH_MAX
            && let Ok(inner) = lenient::parse(text)
        {
            return self.read(&inner, depth + 1);
        }
        let text = lenient::whole(text);
        let is_known = self.words.iter().any(|known| known.contains(&text));
        if !is_known && self.words.len() < WORDS_MAX {
            self.words.push(text);
        }
    }

    /// Returns the description.
    pub(super) fn words(&self) -> String {
        self.words.join(": ")
    }

    /// Returns the description, with the types and codes.
    pub(super) fn text(&self) -> String {
        format!("{}{}", self.kinds, self.words())
    }

    /// Returns the kind of failure. `http` is the status of the response if it wasn't a success.
    pub(super) fn code(&self, http: Option<u16>) -> ModelErrorCode {
        let status = http.or(self.status);
        let words = self.words().to_lowercase();
        let names = |names: &[&str]| names.iter().any(|name| self.kinds.contains(name));
        let says = |phrases: &[&str]| phrases.iter().any(|phrase| words.contains(phrase));
        let is_passing = self.pause.is_some() && !self.is_daily;
        if names(QUOTA_KINDS)
            || [status, self.status].contains(&Some(402))
            || (!is_passing && (self.is_daily || says(QUOTA_WORDS)))
        {
            return ModelErrorCode::QuotaExhausted;
        }
        if [status, self.status].contains(&Some(429)) || names(RATE_KINDS) {
            return ModelErrorCode::RateLimited;
        }
        match status {
            _ if names(KEY_KINDS) => ModelErrorCode::Unauthenticated,
            Some(403) if says(&["moderation", "flagged"]) => ModelErrorCode::Refused,
            Some(401 | 403) => ModelErrorCode::Unauthenticated,
            Some(408) => ModelErrorCode::Timeout,
            // Conflicts and early data pass.
            Some(409 | 425 | 500..) => ModelErrorCode::Server,
            Some(400..) => ModelErrorCode::Refused,
            _ if names(AUTHENTICATION_KINDS) => ModelErrorCode::Unauthenticated,
            _ if names(REFUSAL_KINDS) => ModelErrorCode::Refused,
            _ if names(SERVER_KINDS) => ModelErrorCode::Server,
            _ if says(RATE_WORDS) => ModelErrorCode::RateLimited,
            _ if says(AUTHENTICATION_WORDS) => ModelErrorCode::Unauthenticated,
            _ if says(REFUSAL_WORDS) => ModelErrorCode::Refused,
            _ => ModelErrorCode::Server,
        }
    }
}

/// Returns a piece without the part of the answer that it holds.
fn without_choices(piece: &Map<String, Value>) -> Map<String, Value> {
    let mut rest = piece.clone();
    for name in ["choices", "usage", "object", "id", "model"] {
        rest.remove(name);
    }
    rest
}

/// Reads a span such as `27s` or `0.5s`.
fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.trim().strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use ModelErrorCode::{QuotaExhausted, RateLimited, Refused, Server, Timeout, Unauthenticated};

    fn find(piece: &Value) -> Option<(ModelErrorCode, String)> {
        let report = ErrorReport::find(piece.as_object().expect("an object"))?;
        Some((report.code(None), report.words()))
    }

    #[test]
    fn errors_inside_a_success_are_found_in_every_shape() {
        for (piece, code, words) in [
            (json!({ "error": { "message": "no", "code": 400 } }), Refused, "no"),
            (json!({ "error": "model overloaded" }), Server, "model overloaded"),
            (
                json!({ "error": { "message": { "detail": "no" }, "code": "429" } }),
                RateLimited,
                "no",
            ),
            (
                json!({ "object": "error", "message": "too long", "type": "BadRequestError", "code": 400.0 }),
                Refused,
                "too long",
            ),
            (
                json!({ "type": "error", "error": { "type": "overloaded_error", "message": "Overloaded" } }),
                Server,
                "Overloaded",
            ),
            (
                json!({ "message": "no", "statusCode": 400, "error": "Bad Request" }),
                Refused,
                "Bad Request: no",
            ),
            (
                json!({ "detail": [{ "loc": ["body"], "msg": "field required" }] }),
                Server,
                "field required",
            ),
            (
                json!({ "success": false, "errors": [{ "code": 7003, "message": "No such route" }] }),
                Refused,
                "No such route",
            ),
            (
                json!({ "base_resp": { "status_code": 1002, "status_msg": "rate limit" } }),
                RateLimited,
                "rate limit",
            ),
            (
                json!({ "choices": [{ "delta": {}, "finish_reason": "error", "error": { "code": 502, "message": "lost" } }] }),
                Server,
                "lost",
            ),
            (
                json!({ "choices": [], "x_groq": { "error": "over capacity" } }),
                Server,
                "over capacity",
            ),
            (
                json!({ "error": { "code": 400, "message": "Provider returned error",
                "metadata": { "raw": "{\"error\":{\"message\":\"bad tool\"}}", "provider_name": "X" } } }),
                Refused,
                "Provider returned error: bad tool",
            ),
        ] {
            assert_eq!(find(&piece), Some((code, words.to_owned())), "{piece}");
        }
        for piece in [
            json!({ "error": null, "choices": [{ "delta": { "content": "hi" } }] }),
            json!({ "error": {}, "message": "", "choices": [] }),
            json!({ "error": { "message": "", "code": null }, "choices": [{ "delta": {} }] }),
            json!({ "message": "a piece", "choices": [{ "delta": {}, "error": null }] }),
            json!({ "base_resp": { "status_code": 0, "status_msg": "" }, "choices": null }),
            json!({ "type": "ping" }),
            json!({ "usage": { "prompt_tokens": 1 }, "message": "counted" }),
        ] {
            assert_eq!(find(&piece), None, "{piece}");
        }
    }

    #[test]
    fn quota_that_is_used_up_differs_from_a_rate_limit() {
        let current =
            "You exceeded your current quota, please check your plan and billing details.";
        let retry =
            json!([{ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "27s" }]);
        let daily = json!([
            { "violations": [{ "quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier" }] },
            { "retryDelay": "27s" },
        ]);
        for (error, status, code) in [
            (
                json!({ "message": current, "type": "insufficient_quota", "code": "insufficient_quota" }),
                429,
                QuotaExhausted,
            ),
            (
                json!({ "message": current, "code": 429, "status": "RESOURCE_EXHAUSTED", "details": retry }),
                429,
                RateLimited,
            ),
            (
                json!({ "message": current, "code": 429, "status": "RESOURCE_EXHAUSTED", "details": daily }),
                429,
                QuotaExhausted,
            ),
            (
                json!({ "message": current, "code": 429, "status": "RESOURCE_EXHAUSTED" }),
                429,
                QuotaExhausted,
            ),
            (
                json!({ "message": "suspended", "type": "exceeded_current_quota_error" }),
                429,
                QuotaExhausted,
            ),
            (
                json!({ "message": "Insufficient Balance", "type": "unknown_error" }),
                402,
                QuotaExhausted,
            ),
            (json!({ "message": "Insufficient credits", "code": 402 }), 200, QuotaExhausted),
            (
                json!({ "message": "Your credit balance is too low to access the API", "type": "invalid_request_error" }),
                400,
                QuotaExhausted,
            ),
            (
                json!({ "message": "Rate limit reached on tokens per day (TPD)", "code": "rate_limit_exceeded" }),
                429,
                RateLimited,
            ),
            (json!({ "message": "Quota exceeded for requests per minute" }), 429, RateLimited),
            (json!({ "message": "slow down", "type": "rate_limit_error" }), 200, RateLimited),
        ] {
            let report = ErrorReport::of(&json!({ "error": error }));
            let http = Some(status).filter(|status| *status >= 400);
            assert_eq!(report.code(http), code, "{error}");
        }
        assert_eq!(
            ErrorReport::of(&json!({ "error": { "details": retry } })).pause,
            Some(Duration::from_secs(27))
        );
    }

    #[test]
    fn the_status_of_the_response_comes_first() {
        for (status, code) in [
            (400, Refused),
            (401, Unauthenticated),
            (403, Unauthenticated),
            (404, Refused),
            (408, Timeout),
            (409, Server),
            (413, Refused),
            (422, Refused),
            (429, RateLimited),
            (500, Server),
            (529, Server),
        ] {
            assert_eq!(ErrorReport::of_text("not now").code(Some(status)), code, "{status}");
        }
        assert_eq!(ErrorReport::of_text("flagged by moderation").code(Some(403)), Refused);
        let wrapped = json!({ "error": { "code": 429, "message": "busy" } });
        assert_eq!(ErrorReport::of(&wrapped).code(Some(500)), RateLimited);
        assert_eq!(ErrorReport::of(&json!([wrapped])).words(), "busy");
        assert_eq!(ErrorReport::of(&json!({ "odd": 1 })).words(), r#"{"odd":1}"#);
    }
}
