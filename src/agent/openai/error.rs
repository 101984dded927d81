//! Errors of requests to a chat endpoint.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};
use serde_json::Value;

use super::error_report::{DEPTH_MAX, ErrorReport};
use super::error_words::{DESCRIPTION_FIELDS, KIND_FIELDS};
use super::lenient;
use super::overflow;
use crate::agent::{ModelError, ModelErrorCode};

/// The part of an error response that is read, in bytes.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// The endpoint's own words in an error, in bytes. The rest is left out.
const WORDS_BYTES_MAX: usize = 600;

/// The words behind which a text repeats the request, where an error is only written like JSON.
const ECHOES: [&str; 3] = ["'input':", "\"input\":", "input_value="];

/// A response that is not a success.
pub(super) struct Refusal {
    pub(super) error: ModelError,
    /// The beginning of the body.
    pub(super) body: String,
    /// The pause that the response asks for.
    pub(super) pause: Option<Duration>,
}

/// The failure of an answer under a status of success.
#[derive(Debug)]
pub(super) struct AnswerError {
    pub(super) error: ModelError,
    /// The reason as the endpoint gives it, if it reports the error in the place of an answer.
    pub(super) reason: Option<String>,
}

impl From<ModelError> for AnswerError {
    fn from(error: ModelError) -> Self {
        Self { error, reason: None }
    }
}

fn error(code: ModelErrorCode, message: String) -> ModelError {
    ModelError { code, message }
}

/// Returns the error for a connection that failed.
pub(super) fn transport_error(cause: reqwest::Error, url: &str) -> ModelError {
    // The address of the request may hold a key.
    let cause = cause.without_url();
    if cause.is_timeout() && !cause.is_connect() {
        let message = format!("{url} sent nothing for too long: see read_timeout of the model");
        return error(ModelErrorCode::Timeout, message);
    }
    let causes = std::iter::successors(Some(&cause as &dyn std::error::Error), |e| e.source());
    let root = causes.last().map(ToString::to_string).unwrap_or_default();
    if cause.is_connect() {
        return error(
            ModelErrorCode::Connection,
            format!(
                "{url} cannot be reached: {root}; check that it is running, and endpoint of the model"
            ),
        );
    }
    error(ModelErrorCode::Connection, format!("the connection to {url} was lost: {root}"))
}

/// Returns the error for a piece of an answer that cannot be parsed.
pub(super) fn malformed(cause: &serde_json::Error, piece: &str, url: &str) -> ModelError {
    let piece = truncated(piece);
    let message = format!("a piece of the answer of {url} cannot be parsed: {cause}: {piece}");
    error(ModelErrorCode::Malformed, message)
}

/// Returns the error for an answer that exceeds a limit.
pub(super) fn too_large(url: &str) -> ModelError {
    error(ModelErrorCode::TooLarge, format!("the answer of {url} exceeds the size limit"))
}

/// Returns the error for an answer that ended before it was complete. `words` are those that the
/// endpoint sent where a piece of the answer was expected.
pub(super) fn truncated_answer(words: &str, url: &str) -> ModelError {
    let message = format!("the answer of {url} ended before it was complete");
    let words = truncated(words);
    let message = if words.is_empty() { message } else { format!("{message}: {words}") };
    error(ModelErrorCode::Truncated, message)
}

/// Returns the error for a success whose body is no answer, such as a web page.
pub(super) fn not_an_answer(content_type: &str, body: &str, url: &str) -> ModelError {
    let kind = if content_type.is_empty() { "no content type" } else { content_type };
    let words = words_of_page(body);
    error(
        ModelErrorCode::NotAnAnswer,
        format!(
            "{url} did not send an answer but a body of {kind} that begins with: {words}; see \
             endpoint of the model, and what stands between callpark and the endpoint"
        ),
    )
}

/// Returns the error for an answer that ends with an error as its reason.
pub(super) fn failed_answer(code: ModelErrorCode, reason: &str, url: &str) -> ModelError {
    let message = format!("{url} ended its answer with the reason `{}`", truncated(reason));
    error(code, format!("{message}; {}", advice(code)))
}

/// Returns the error that the endpoint reports inside a success.
pub(super) fn reported_error(report: &ErrorReport, url: &str) -> ModelError {
    let (code, words) = (report.code(None), truncated(&report.words()));
    let is_overflow = overflow::is_overflow(None, &report.text());
    let code = if is_overflow { ModelErrorCode::ContextExceeded } else { code };
    error(code, format!("{url} failed while it was answering: {words}; {}", advice(code)))
}

/// Reads a response that is not a success.
pub(super) async fn response_error(mut response: Response, url: &str) -> Refusal {
    let status = response.status();
    let headers = response.headers().clone();
    let mut body = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        body.extend_from_slice(&piece[..piece.len().min(BODY_BYTES_MAX - body.len())]);
        if body.len() >= BODY_BYTES_MAX {
            break;
        }
    }
    refusal(status, &headers, String::from_utf8_lossy(&body).into_owned(), url)
}

fn refusal(status: StatusCode, headers: &HeaderMap, body: String, url: &str) -> Refusal {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let mut report = match lenient::parse(body.trim()) {
        Ok(value) => ErrorReport::of(&value),
        Err(_) => ErrorReport::of_text(&words_of_page(&body)),
    };
    report.pause = requested_pause(headers).or(report.pause);
    // The rest of the body may repeat the request, whose words are not those of the endpoint.
    let code = match overflow::is_overflow(Some(status), &report.text()) {
        true => ModelErrorCode::ContextExceeded,
        false if status == StatusCode::PAYLOAD_TOO_LARGE => ModelErrorCode::BodyTooLarge,
        false => report.code(Some(status.as_u16())),
    };
    let mut words = truncated(&report.words());
    if let Some(target) = header(LOCATION).filter(|_| status.is_redirection()) {
        words = format!("a redirect to {}", truncated(&shown_target(target, url)));
    } else if words.is_empty() {
        words = format!("a body of {}", header(CONTENT_TYPE).unwrap_or("no content type"));
    }
    let error = error(code, format!("{url} answered {status}: {words}; {}", advice(code)));
    Refusal { error, body, pause: report.pause }
}

/// Returns the target of a redirect without what may hold a key: its query, its fragment and its user.
/// `url` is what the target may be relative to.
fn shown_target(target: &str, url: &str) -> String {
    let Ok(mut target) = Url::parse(url).and_then(|url| url.join(target)) else {
        return "an address that cannot be read".to_owned();
    };
    target.set_query(None);
    target.set_fragment(None);
    // A URL without a host has no user, so it doesn't matter that this fails.
    let _ = target.set_username("");
    let _ = target.set_password(None);
    target.into()
}

/// Returns what a refusal says itself, without the parts of the request that it repeats.
pub(super) fn own_words(body: &str) -> String {
    let mut words = own_words_in(body, 0);
    if let Some(echo) = ECHOES.iter().filter_map(|echo| words.find(echo)).min() {
        words.truncate(echo);
    }
    words
}

fn own_words_in(text: &str, depth: usize) -> String {
    let is_json = text.trim_start().starts_with(['{', '[']) && depth < DEPTH_MAX;
    match lenient::parse(text.trim()).ok().filter(|_| is_json) {
        Some(value) => own_words_of(&value, depth + 1),
        None => text.to_owned(),
    }
}

fn own_words_of(value: &Value, depth: usize) -> String {
    let join = |values: Vec<&Value>| {
        let words = values.into_iter().map(|value| own_words_of(value, depth + 1));
        words.filter(|words| !words.is_empty()).collect::<Vec<_>>().join(" ")
    };
    match value {
        Value::String(text) => own_words_in(text, depth),
        Value::Array(items) if depth < DEPTH_MAX => join(items.iter().collect()),
        // Other fields, such as `input`, may repeat the request. The place of an error stands before its
        // description, which may end with a list of what the endpoint would accept.
        Value::Object(map) if depth < DEPTH_MAX => {
            let fields = KIND_FIELDS.iter().chain(DESCRIPTION_FIELDS);
            join(fields.filter_map(|name| map.get(*name)).collect())
        }
        _ => String::new(),
    }
}

fn advice(code: ModelErrorCode) -> &'static str {
    match code {
        ModelErrorCode::RateLimited => "try later",
        ModelErrorCode::QuotaExhausted => {
            "the quota of the key is used up: see the plan and the billing of its account"
        }
        ModelErrorCode::Unauthenticated => "see api_key_environment or api_key_file of the model",
        ModelErrorCode::ContextExceeded | ModelErrorCode::BodyTooLarge => {
            "send a shorter prompt or fewer tools, or see context_tokens of the model"
        }
        ModelErrorCode::Refused => "see endpoint and model of the model, and the prompt",
        _ => "try again",
    }
}

/// Returns the pause that a response asks for: a number of seconds, or the time from its date on.
fn requested_pause(headers: &HeaderMap) -> Option<Duration> {
    let header = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    // A pause that doesn't fit a Duration exceeds every limit.
    let span = |text: &str, unit: f64| {
        let number: f64 = text.parse().ok().filter(|number| *number >= 0.0)?;
        Some(Duration::try_from_secs_f64(number * unit).unwrap_or(Duration::MAX))
    };
    if let Some(pause) = header("retry-after-ms").and_then(|text| span(text, 0.001)) {
        return Some(pause);
    }
    let text = header(RETRY_AFTER.as_str())?;
    span(text, 1.0).or_else(|| {
        let date = |text: &str| jiff::fmt::rfc2822::parse(text).ok();
        let (end, now) = (date(text)?, date(header("date")?)?);
        Some(Duration::try_from(end.duration_since(&now)).unwrap_or_default())
    })
}

/// Returns the first words of a body. Tags of a web page, its scripts and its styles are left out.
fn words_of_page(body: &str) -> String {
    let body = body.trim();
    if !body.starts_with('<') {
        return truncated(body);
    }
    let (mut words, mut rest) = (String::new(), body);
    while let Some(start) = rest.find('<') {
        words.push_str(&rest[..start]);
        words.push(' ');
        let tag = &rest[start..];
        let is_hidden =
            |name: &&&str| tag.get(1..=name.len()).is_some_and(|t| t.eq_ignore_ascii_case(name));
        let end = match ["script", "style"].iter().find(is_hidden) {
            Some(name) => tag.to_ascii_lowercase().find(&format!("</{name}")).unwrap_or(tag.len()),
            None => 0,
        };
        let tag = &tag[end..];
        rest = tag.find('>').map_or("", |end| &tag[end + 1..]);
        if words.len() > WORDS_BYTES_MAX {
            break;
        }
    }
    words.push_str(rest);
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    // A page without words is shown as it is.
    truncated(if words.is_empty() { body } else { &words })
}

/// Returns the beginning of what an endpoint said.
pub(super) fn truncated(text: &str) -> String {
    let text = text.trim();
    let end = text.floor_char_boundary(WORDS_BYTES_MAX);
    if end < text.len() { format!("{}…", &text[..end]) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[(&'static str, &str)]) -> HeaderMap {
        values.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_page_is_reduced_to_its_words() {
        for (page, words) in [
            ("<html>Please log in</html>", "Please log in"),
            (
                "<!DOCTYPE html>\n<head><title>502</title><style>a > b {}</style></head>\n<p>Bad gateway",
                "502 Bad gateway",
            ),
            ("<script>x<y</script>nginx", "nginx"),
            ("<html", "<html"),
            ("upstream  reset", "upstream  reset"),
        ] {
            assert_eq!(words_of_page(page), words, "{page}");
        }
        let long = "é".repeat(WORDS_BYTES_MAX);
        assert_eq!(words_of_page(&long).len(), WORDS_BYTES_MAX + '…'.len_utf8());
    }

    #[test]
    fn a_pause_is_read_in_every_form() {
        for (values, seconds) in [
            (&[("retry-after", "2")][..], Some(2.0)),
            (&[("retry-after", "0.2")], Some(0.2)),
            (&[("retry-after", "3"), ("retry-after-ms", "500")], Some(0.5)),
            (
                &[
                    ("retry-after", "Wed, 21 Oct 2015 07:28:30 GMT"),
                    ("date", "Wed, 21 Oct 2015 07:28:00 GMT"),
                ],
                Some(30.0),
            ),
            (
                &[
                    ("retry-after", "Wed, 21 Oct 2015 07:27:00 GMT"),
                    ("date", "Wed, 21 Oct 2015 07:28:00 GMT"),
                ],
                Some(0.0),
            ),
            (&[("retry-after", "Wed, 21 Oct 2015 07:28:30 GMT")], None),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "-1")], None),
            (&[("retry-after", "NaN")], None),
            (&[("retry-after", "inf")], Some(Duration::MAX.as_secs_f64())),
            (&[], None),
        ] {
            let pause = requested_pause(&headers(values));
            assert_eq!(pause.map(|pause| pause.as_secs_f64()), seconds, "{values:?}");
        }
    }

    #[test]
    fn secrets_of_a_redirect_are_not_shown() {
        for (target, shown) in [
            ("https://me:pw@login/a?key=k#f", "https://login/a"),
            ("/v2/chat?key=k", "http://model/v2/chat"),
            ("//me:pw@other/v1#key", "http://other/v1"),
            ("http://[", "an address that cannot be read"),
        ] {
            assert_eq!(shown_target(target, "http://model/v1/chat"), shown, "{target}");
        }
    }

    #[test]
    fn words_of_the_request_in_a_refusal_are_not_those_of_the_endpoint() {
        let body = r#"{"detail":[{"msg":"bad tool","input":"maximum context length"}]}"#;
        let refused = refusal(StatusCode::BAD_REQUEST, &headers(&[]), body.into(), "http://model");
        assert_eq!(refused.error.code, ModelErrorCode::Refused);
    }

    #[test]
    fn the_message_names_what_the_endpoint_said() {
        let cases = [
            (StatusCode::BAD_REQUEST, "", "a body of text/plain"),
            (StatusCode::BAD_GATEWAY, "<h1>Bad gateway</h1>", "Bad gateway"),
            (StatusCode::FOUND, "", "a redirect to https://login"),
            (StatusCode::BAD_REQUEST, "[{\"error\":{\"message\":\"bad tool\"}}]", "bad tool"),
        ];
        for (status, body, words) in cases {
            let headers = headers(&[("location", "https://login"), ("content-type", "text/plain")]);
            let error = refusal(status, &headers, body.to_owned(), "http://model").error;
            assert!(error.message.contains(words), "{error}");
            assert!(
                error.message.starts_with(&format!("http://model answered {status}")),
                "{error}"
            );
        }
    }
}
