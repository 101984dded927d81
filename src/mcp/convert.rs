//! Results and errors of a server, as results and errors of callpark.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rmcp::model::{CallToolResult, ContentBlock, ErrorCode, ResourceContents};
use rmcp::service::{ClientInitializeError, ServiceError};
use rmcp::transport::streamable_http_client::StreamableHttpError;
use serde_json::Value;

use super::answer_error::OWN_ERROR;
use super::message::excerpt;
use crate::model::limits::RESULT_CONTENT_BYTES_MAX;
use crate::model::{Content, ContentKind, ResourceBody, ToolResult};

/// Converts the result of a call. Content that is too large for a record is truncated or left out,
/// with a note in its place.
pub(super) fn result(result: CallToolResult) -> ToolResult {
    let mut budget = ContentBudget(RESULT_CONTENT_BYTES_MAX);
    let mut content: Vec<ContentKind> = Vec::new();
    let structured = match result.structured_content {
        Some(Value::Object(map)) => {
            let size = Value::Object(map.clone()).to_string().len();
            match budget.take(size) {
                true => Some(Box::new(map)),
                false => {
                    content.push(left_out("the structured result", size));
                    None
                }
            }
        }
        Some(Value::Null) | None => None,
        Some(other) => {
            content.push(budget.fit(ContentKind::Json(other)));
            None
        }
    };
    content.extend(result.content.into_iter().map(|block| budget.fit(kind(block))));
    let plain = |kind| Content { kind, stream: None, offset: 0 };
    ToolResult {
        content: content.into_iter().map(plain).collect(),
        structured,
        is_error: result.is_error.unwrap_or(false),
        ..ToolResult::default()
    }
}

/// Returns a failed result with this reason.
pub(super) fn failure(error_message: String) -> ToolResult {
    ToolResult { is_error: true, error_message, ..ToolResult::default() }
}

/// Returns the innermost cause of an error of a transport. The outer ones name types of rmcp and
/// repeat the URL.
pub(super) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    // This one does not return its cause as a source.
    let error = match error.downcast_ref::<StreamableHttpError<reqwest::Error>>() {
        Some(StreamableHttpError::Client(cause)) => cause,
        Some(StreamableHttpError::UnexpectedServerResponse(reason)) => return reason.to_string(),
        Some(_) | None => error,
    };
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.last().map(ToString::to_string).unwrap_or_default()
}

/// Describes an error in the answer of a server, as the end of a sentence.
pub(super) fn service_error(error: &ServiceError) -> String {
    match error {
        ServiceError::McpError(error) => {
            let data = error.data.as_ref().map(|data| match data {
                Value::String(text) => excerpt(text),
                other => excerpt(&other.to_string()),
            });
            let data = data.map(|data| format!(": {data}")).unwrap_or_default();
            match error.code {
                OWN_ERROR => format!("{}{data}", error.message),
                ErrorCode(code) => {
                    format!("it returned an error: {} ({code}){data}", error.message)
                }
            }
        }
        ServiceError::UnexpectedResponse => "its answer is not a valid MCP result".to_owned(),
        other => other.to_string(),
    }
}

/// Describes a handshake that failed, as the end of a sentence.
pub(super) fn handshake_error(error: &ClientInitializeError) -> String {
    match error {
        ClientInitializeError::JsonRpcError(error) if error.code == OWN_ERROR => {
            error.message.to_string()
        }
        ClientInitializeError::JsonRpcError(error) => {
            format!("it refused to initialize: {} ({})", error.message, error.code.0)
        }
        ClientInitializeError::ConnectionClosed(_) => {
            "it closed the connection before it was initialized".to_owned()
        }
        ClientInitializeError::TransportError { error, .. } => {
            format!("the connection failed: {}", root_cause(error.error.as_ref()))
        }
        other => format!("it does not follow the MCP protocol: {other}"),
    }
}

fn kind(block: ContentBlock) -> ContentKind {
    match block {
        ContentBlock::Text(text) => ContentKind::Text(text.text),
        ContentBlock::Image(image) => decoded(&image.data, "an image", |data| ContentKind::Image {
            media_type: image.mime_type,
            data,
        }),
        ContentBlock::Audio(audio) => decoded(&audio.data, "a sound", |data| ContentKind::Binary {
            media_type: audio.mime_type,
            data,
        }),
        ContentBlock::Resource(embedded) => resource(embedded.resource),
        ContentBlock::ResourceLink(connection) => ContentKind::Resource {
            uri: connection.uri,
            media_type: connection.mime_type.unwrap_or_default(),
            body: None,
        },
        _ => ContentKind::Text("[content of a kind that callpark does not know]".to_owned()),
    }
}

fn resource(contents: ResourceContents) -> ContentKind {
    match contents {
        ResourceContents::TextResourceContents { uri, mime_type, text, .. } => {
            let media_type = mime_type.unwrap_or_default();
            ContentKind::Resource { uri, media_type, body: Some(ResourceBody::Text(text)) }
        }
        ResourceContents::BlobResourceContents { uri, mime_type, blob, .. } => {
            let media_type = mime_type.unwrap_or_default();
            decoded(&blob, "a document", |data| {
                let body = Some(ResourceBody::Blob(data));
                ContentKind::Resource { uri, media_type, body }
            })
        }
        _ => ContentKind::Text("[a document of a kind that callpark does not know]".to_owned()),
    }
}

fn decoded(base64: &str, what: &str, make: impl FnOnce(Bytes) -> ContentKind) -> ContentKind {
    match STANDARD.decode(base64) {
        Ok(data) => make(Bytes::from(data)),
        Err(_) => ContentKind::Text(format!("[{what} that is not valid base64 was left out]")),
    }
}

fn left_out(what: &str, size: usize) -> ContentKind {
    ContentKind::Text(format!(
        "[{what} of {size} bytes was left out: a result holds at most {RESULT_CONTENT_BYTES_MAX} bytes]"
    ))
}

/// The bytes of content that a result may still take.
struct ContentBudget(usize);

impl ContentBudget {
    fn take(&mut self, size: usize) -> bool {
        let fits = size <= self.0;
        if fits {
            self.0 -= size;
        }
        fits
    }

    /// Returns the content if it fits, a text truncated to what fits, or else a note in its place.
    fn fit(&mut self, kind: ContentKind) -> ContentKind {
        let size = kind.size_bytes();
        if self.take(size) {
            return kind;
        }
        match kind {
            ContentKind::Text(mut text) => {
                let end = text.floor_char_boundary(self.0);
                text.truncate(end);
                self.0 -= end;
                text.push_str(&format!("\n[{} of {size} bytes were truncated]", size - end));
                ContentKind::Text(text)
            }
            ContentKind::Json(_) => left_out("a JSON value", size),
            ContentKind::Image { media_type, .. } | ContentKind::Binary { media_type, .. } => {
                left_out(&media_type, size)
            }
            ContentKind::Resource { uri, media_type, .. } => {
                ContentKind::Resource { uri, media_type, body: None }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> ToolResult {
        result(serde_json::from_value(value).unwrap())
    }

    fn kinds(result: &ToolResult) -> Vec<ContentKind> {
        result.content.iter().map(|content| content.kind.clone()).collect()
    }

    #[test]
    fn every_kind_of_content_is_kept() {
        let result = read(json!({
            "content": [
                { "type": "text", "text": "hello" },
                { "type": "image", "data": "AQID", "mimeType": "image/png" },
                { "type": "audio", "data": "AQID", "mimeType": "audio/wav" },
                { "type": "resource", "resource": {
                    "uri": "file:///a", "mimeType": "text/plain", "text": "A" } },
                { "type": "resource", "resource": { "uri": "file:///b", "blob": "AQID" } },
                { "type": "resource_link", "uri": "file:///c", "name": "c" },
            ],
            "structuredContent": { "answer": 42 },
        }));
        let data = Bytes::from_static(&[1, 2, 3]);
        let resource = |uri: &str, media_type: &str, body| ContentKind::Resource {
            uri: uri.into(),
            media_type: media_type.into(),
            body,
        };
        assert_eq!(
            kinds(&result),
            [
                ContentKind::Text("hello".into()),
                ContentKind::Image { media_type: "image/png".into(), data: data.clone() },
                ContentKind::Binary { media_type: "audio/wav".into(), data: data.clone() },
                resource("file:///a", "text/plain", Some(ResourceBody::Text("A".into()))),
                resource("file:///b", "", Some(ResourceBody::Blob(data))),
                resource("file:///c", "", None),
            ]
        );
        assert_eq!(Value::Object(*result.structured.unwrap()), json!({ "answer": 42 }));
        assert!(!result.is_error);
    }

    #[test]
    fn content_that_does_not_fit_is_truncated_with_a_note() {
        let long = "ü".repeat(RESULT_CONTENT_BYTES_MAX);
        let result = read(json!({
            "content": [
                { "type": "text", "text": "x" },
                { "type": "text", "text": long },
                { "type": "image", "data": "AQID", "mimeType": "image/png" },
            ],
            "isError": true,
        }));
        let kinds = kinds(&result);
        let ContentKind::Text(truncated) = &kinds[1] else { panic!("{:?}", kinds[1]) };
        let kept = truncated.matches('ü').count() * 2;
        assert_eq!(kept, RESULT_CONTENT_BYTES_MAX - 2);
        let lost = 2 * RESULT_CONTENT_BYTES_MAX - kept;
        assert!(
            truncated.ends_with(&format!("[{lost} of {} bytes were truncated]", long.len())),
            "{lost}"
        );
        let ContentKind::Text(note) = &kinds[2] else { panic!("{:?}", kinds[2]) };
        assert!(note.contains("image/png of 3 bytes was left out"), "{note}");
        assert!(result.is_error);
    }

    #[test]
    fn invalid_base64_is_replaced_by_a_note() {
        let result = read(json!({
            "content": [{ "type": "image", "data": "ü", "mimeType": "image/png" }],
            "structuredContent": [1],
        }));
        assert_eq!(
            kinds(&result),
            [
                ContentKind::Json(json!([1])),
                ContentKind::Text("[an image that is not valid base64 was left out]".into()),
            ]
        );
    }
}
