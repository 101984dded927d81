//! Results and errors of a server, as results and errors of callpark.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rmcp::model::{CallToolResult, ContentBlock, ErrorCode, ResourceContents, Role};
use rmcp::service::{ClientInitializeError, ServiceError};
use rmcp::transport::streamable_http_client::StreamableHttpError;
use serde_json::Value;

use super::answer_error::OWN_ERROR;
use super::excerpt::excerpt;
use super::result_parts::{ConvertedResult, Parts};
use crate::model::{ContentKind, ResourceBody, ResourceLink, ToolResult};

/// Converts the result of a call. Content other than text that is too large for a record is left
/// out, with a note in its place.
pub(super) fn result(result: CallToolResult) -> ConvertedResult {
    let mut parts = Parts::new();
    for block in result.content {
        parts.push(kind(block));
    }
    // After the blocks: it usually repeats them, and must not displace any.
    let structured = result.structured_content.and_then(|value| parts.push_structured(value));
    let mut converted = parts.into_result();
    converted.result.structured = structured;
    converted.result.is_error = result.is_error.unwrap_or(false);
    converted
}

/// Returns the result of a call that was stopped.
pub(super) fn stopped() -> ConvertedResult {
    let result = failure("the call was stopped".to_owned());
    ConvertedResult { result, ..ConvertedResult::default() }
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

pub(super) fn kind(block: ContentBlock) -> ContentKind {
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
        ContentBlock::ResourceLink(linked) => resource_link(linked),
        _ => ContentKind::Text("[content of a kind that callpark does not know]".to_owned()),
    }
}

fn resource_link(linked: rmcp::model::Resource) -> ContentKind {
    let annotations = linked.annotations.unwrap_or_default();
    let audience = annotations.audience.unwrap_or_default();
    let link = ResourceLink {
        name: linked.name,
        title: linked.title.unwrap_or_default(),
        description: linked.description.unwrap_or_default(),
        size_bytes: linked.size,
        audience: audience.iter().map(|role| role_name(role).to_owned()).collect(),
        priority: annotations.priority,
        last_modified: annotations.last_modified.unwrap_or_default(),
    };
    ContentKind::Resource {
        uri: linked.uri,
        media_type: linked.mime_type.unwrap_or_default(),
        body: None,
        link: Some(Box::new(link)),
    }
}

pub(super) fn role_name(role: &Role) -> &'static str {
    match role {
        Role::User => "user",
        Role::Assistant => "assistant",
    }
}

pub(super) fn resource(contents: ResourceContents) -> ContentKind {
    match contents {
        ResourceContents::TextResourceContents { uri, mime_type, text, .. } => {
            let media_type = mime_type.unwrap_or_default();
            let body = Some(ResourceBody::Text(text));
            ContentKind::Resource { uri, media_type, body, link: None }
        }
        ResourceContents::BlobResourceContents { uri, mime_type, blob, .. } => {
            let media_type = mime_type.unwrap_or_default();
            decoded(&blob, "a document", |data| {
                let body = Some(ResourceBody::Blob(data));
                ContentKind::Resource { uri, media_type, body, link: None }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::limits::RESULT_CONTENT_BYTES_MAX;

    fn read(value: Value) -> ConvertedResult {
        result(serde_json::from_value(value).unwrap())
    }

    fn kinds(converted: &ConvertedResult) -> Vec<ContentKind> {
        converted.result.content.iter().map(|content| content.kind.clone()).collect()
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
                { "type": "resource_link", "uri": "file:///c", "name": "c", "title": "The c",
                    "description": "A letter.", "size": 7, "annotations": {
                        "audience": ["user"], "priority": 0.5,
                        "lastModified": "2026-01-01T00:00:00Z" } },
                { "type": "text", "text": "world" },
            ],
            "structuredContent": { "answer": 42 },
        }));
        let data = Bytes::from_static(&[1, 2, 3]);
        let resource = |uri: &str, media_type: &str, body| ContentKind::Resource {
            uri: uri.into(),
            media_type: media_type.into(),
            body,
            link: None,
        };
        let link = ResourceLink {
            name: "c".into(),
            title: "The c".into(),
            description: "A letter.".into(),
            size_bytes: Some(7),
            audience: vec!["user".into()],
            priority: Some(0.5),
            last_modified: "2026-01-01T00:00:00Z".into(),
        };
        assert_eq!(result.text, "hello\nworld");
        assert_eq!(
            kinds(&result),
            [
                ContentKind::Image { media_type: "image/png".into(), data: data.clone() },
                ContentKind::Binary { media_type: "audio/wav".into(), data: data.clone() },
                resource("file:///a", "text/plain", Some(ResourceBody::Text("A".into()))),
                resource("file:///b", "", Some(ResourceBody::Blob(data))),
                ContentKind::Resource {
                    uri: "file:///c".into(),
                    media_type: String::new(),
                    body: None,
                    link: Some(Box::new(link)),
                },
            ]
        );
        assert_eq!(Value::Object(*result.result.structured.unwrap()), json!({ "answer": 42 }));
        assert!(!result.result.is_error);
    }

    #[test]
    fn text_is_never_displaced_and_a_structured_copy_of_it_gives_way() {
        let long = "ü".repeat(RESULT_CONTENT_BYTES_MAX);
        let as_json = json!({ "a": long });
        for (text, structured) in
            [(long.clone(), json!({ "result": long })), (as_json.to_string(), as_json)]
        {
            let read = read(json!({
                "content": [{ "type": "text", "text": text }],
                "structuredContent": structured,
                "isError": true,
            }));
            assert_eq!((read.text, read.result.structured), (text, None));
            assert!(read.result.content.is_empty() && read.result.is_error);
        }
    }

    #[test]
    fn other_content_that_does_not_fit_is_left_out_with_a_note_and_documents_become_text() {
        let long = "x".repeat(RESULT_CONTENT_BYTES_MAX + 1);
        let read = read(json!({
            "content": [
                { "type": "image", "data": STANDARD.encode(&long), "mimeType": "image/png" },
                { "type": "image", "data": "AQID", "mimeType": "image/gif" },
                { "type": "resource", "resource": { "uri": "file:///a", "text": long } },
            ],
            "structuredContent": { "other": long },
        }));
        assert_eq!(read.text.strip_prefix("\"file:///a\":\n"), Some(long.as_str()));
        let kinds = kinds(&read);
        let note = |index: usize, words: &str| match &kinds[index] {
            ContentKind::Text(note) => assert!(note.starts_with(words), "{note}"),
            other => panic!("{other:?}"),
        };
        note(0, &format!("[image/png of {} bytes was left out", long.len()));
        assert!(
            matches!(&kinds[1], ContentKind::Image { media_type, .. } if media_type == "image/gif")
        );
        assert!(matches!(&kinds[2], ContentKind::Resource { body: None, .. }), "{kinds:?}");
        note(3, "[the structured result of");
        assert_eq!(read.result.structured, None);
    }

    #[test]
    fn invalid_base64_is_replaced_by_a_note() {
        let result = read(json!({
            "content": [{ "type": "image", "data": "ü", "mimeType": "image/png" }],
            "structuredContent": [1],
        }));
        assert_eq!(kinds(&result), [ContentKind::Json(json!([1]))]);
        assert_eq!(result.text, "[an image that is not valid base64 was left out]");
    }
}
