//! The parts of a result: its text, which becomes the output of the call, and everything else.

use serde_json::{Map, Value};

use crate::agent::prompts;
use crate::model::limits::RESULT_CONTENT_BYTES_MAX;
use crate::model::{Content, ContentKind, ResourceBody, ToolResult};
use crate::tool::ToolContext;

/// The result of a call, and its text, which becomes the output of the call.
#[derive(Debug, Default)]
pub(super) struct ConvertedResult {
    pub(super) text: String,
    pub(super) result: ToolResult,
}

impl ConvertedResult {
    /// Emits the text as output, and returns the result.
    pub(super) async fn deliver(self, context: &ToolContext) -> ToolResult {
        let emitting = context.output(self.text);
        // The log may be full, and a stop ends the wait for it.
        let _emitted = context.cancellation_token().run_until_cancelled(emitting).await;
        self.result
    }
}

/// The parts of a result so far.
#[derive(Default)]
pub(super) struct Parts {
    text: String,
    content: Vec<ContentKind>,
    budget: ContentBudget,
}

impl Parts {
    pub(super) fn new() -> Self {
        Self { budget: ContentBudget(RESULT_CONTENT_BYTES_MAX), ..Self::default() }
    }

    pub(super) fn into_result(self) -> ConvertedResult {
        let Self { text, content, .. } = self;
        let plain = |kind| Content { kind, stream: None, offset: 0 };
        let content = content.into_iter().map(plain).collect();
        ConvertedResult { text, result: ToolResult { content, ..ToolResult::default() } }
    }

    /// Adds a block. Text has no bound here: the output of a call has one of its own.
    pub(super) fn push(&mut self, kind: ContentKind) {
        let size = kind.size_bytes();
        match kind {
            ContentKind::Text(text) => self.note(&text),
            kind if self.budget.take(size) => self.content.push(kind),
            ContentKind::Json(_) => self.leave_out("a JSON value", size),
            ContentKind::Image { media_type, .. } | ContentKind::Binary { media_type, .. } => {
                self.leave_out(&media_type, size);
            }
            ContentKind::Resource { uri, media_type, body, link } => {
                match body {
                    Some(ResourceBody::Text(text)) => {
                        self.note(&prompts::document_text(&uri, &text));
                    }
                    Some(ResourceBody::Blob(_)) => self.leave_out(&uri, size),
                    None => {}
                }
                self.content.push(ContentKind::Resource { uri, media_type, body: None, link });
            }
        }
    }

    /// Adds a structured result. Returns it if it is an object that fits.
    pub(super) fn push_structured(&mut self, value: Value) -> Option<Box<Map<String, Value>>> {
        match value {
            Value::Object(map) => {
                let size = Value::Object(map.clone()).to_string().len();
                let fits = self.budget.take(size);
                if !fits && !is_copy(&map, &self.text) {
                    self.leave_out("the structured result", size);
                }
                fits.then(|| Box::new(map))
            }
            Value::Null => None,
            other => {
                self.push(ContentKind::Json(other));
                None
            }
        }
    }

    /// Adds a note in the place of content that doesn't fit.
    fn leave_out(&mut self, what: &str, size: usize) {
        let note = format!(
            "[{what} of {size} bytes was left out: beside its text, a result holds at most \
             {RESULT_CONTENT_BYTES_MAX} bytes]"
        );
        self.content.push(ContentKind::Text(note));
    }

    /// Adds text, in a line of its own.
    pub(super) fn note(&mut self, text: &str) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.text.push_str(text);
    }
}

/// The bytes of content beside its text that a result may still take.
#[derive(Default)]
struct ContentBudget(usize);

impl ContentBudget {
    fn take(&mut self, size: usize) -> bool {
        let fits = size <= self.0;
        if fits {
            self.0 -= size;
        }
        fits
    }
}

/// Returns `true` for a structured result that only repeats the text: as JSON, as the protocol
/// recommends, or as the only field, as FastMCP wraps it.
fn is_copy(structured: &Map<String, Value>, text: &str) -> bool {
    let wrapped = structured.values().next().and_then(Value::as_str);
    let is_wrapped = structured.len() == 1 && wrapped == Some(text);
    let as_json = || serde_json::from_str::<Map<String, Value>>(text).ok();
    is_wrapped || as_json().is_some_and(|json| json == *structured)
}
