//! Results of calls as text.

use std::char::REPLACEMENT_CHARACTER;

use serde_json::Value;

use super::fence::{FENCE_BYTES, FencedText, harmless, name, quoted, quoted_to};
use super::{AGENT_TOOL, CHECK_TASK_TOOL, READ_OUTPUT_TOOL};
use crate::model::terminal::text_as_shown;
use crate::model::{
    Call, Content, ContentKind, Exit, Outcome, ResourceBody, ResourceLink, State, ToolKind,
    ToolResult,
};
use crate::redact::HIDDEN;

/// The longest error of a call that is shown beside its result, in bytes.
const ERROR_BYTES_MAX: usize = 4096;

/// The result of a call as a model is shown it: a text, and callpark's notes about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultText {
    notes_before: Vec<String>,
    body: Body,
    notes_after: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Body {
    Own(String),
    Foreign(String),
}

impl ResultText {
    /// Creates a result that callpark has written, with all foreign text in it fenced or quoted.
    pub fn own(text: impl Into<String>) -> Self {
        Self::new(Body::Own(text.into()))
    }

    /// Creates a result that is foreign as a whole.
    pub fn foreign(text: impl Into<String>) -> Self {
        Self::new(Body::Foreign(text.into()))
    }

    fn new(body: Body) -> Self {
        Self { notes_before: Vec::new(), body, notes_after: Vec::new() }
    }

    /// Adds a note in front of the others.
    pub fn note_before(&mut self, note: impl Into<String>) {
        self.notes_before.insert(0, note.into());
    }

    /// Adds a note at the end.
    pub fn note_after(&mut self, note: impl Into<String>) {
        self.notes_after.push(note.into());
    }

    /// Removes the middle of the text if it is longer than this. The text says how much is missing.
    pub fn truncate(&mut self, bytes_max: usize) {
        let (Body::Own(text) | Body::Foreign(text)) = &self.body;
        if text.len() > bytes_max {
            // A text that is cut may have lost a line of a fence.
            self.body = Body::Foreign(truncate_middle(&harmless(text), bytes_max));
        }
    }

    /// Returns the text with its notes. The text is fenced if it is foreign and there is a note.
    pub fn render(&self) -> String {
        let Self { notes_before, body, notes_after } = self;
        if let (true, true, Body::Foreign(text)) =
            (notes_before.is_empty(), notes_after.is_empty(), body)
        {
            return harmless(text).into_owned();
        }
        let mut all = FencedText::default();
        for note in notes_before {
            all.own_line(note.as_str());
        }
        match body {
            Body::Own(text) => all.own_line(text.as_str()),
            Body::Foreign(text) => all.foreign(text),
        }
        for note in notes_after {
            all.own_line(note.as_str());
        }
        all.finish()
    }

    /// Returns the text with its notes for people, without a fence.
    pub fn for_people(&self) -> String {
        let (Body::Own(text) | Body::Foreign(text)) = &self.body;
        let parts = self.notes_before.iter().chain([text]).chain(&self.notes_after);
        parts.map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

/// Returns the pieces of a result as foreign text. A piece that is not text is named.
pub fn content_text<'a>(pieces: impl IntoIterator<Item = &'a Content>) -> String {
    let texts = pieces.into_iter().map(|content| match &content.kind {
        ContentKind::Text(text) if content.stream.is_some() => text_as_shown(text).into_owned(),
        ContentKind::Text(text) => text.clone(),
        ContentKind::Json(value) => value.to_string(),
        ContentKind::Binary { data, .. } if content.stream.is_some() => output_text(data),
        ContentKind::Image { media_type, data } | ContentKind::Binary { media_type, data } => {
            bytes_of(data.len(), media_type)
        }
        ContentKind::Resource { body: Some(ResourceBody::Text(text)), .. } => text.clone(),
        ContentKind::Resource { uri, link, .. } => linked_document(uri, link.as_deref()),
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// Returns the address of a document, with what is known about it.
fn linked_document(uri: &str, link: Option<&ResourceLink>) -> String {
    let uri = quoted(uri);
    let Some(link) = link else { return format!("[{uri}]") };
    let title = if link.title.is_empty() { &link.name } else { &link.title };
    let title = if title.is_empty() { String::new() } else { format!("{}: ", quoted(title)) };
    let size = link.size_bytes.map(|size| format!(" ({size} bytes)")).unwrap_or_default();
    let description = match link.description.as_str() {
        "" => String::new(),
        description => format!(" {}", quoted(description)),
    };
    format!("[{title}{uri}{size}]{description}")
}

/// Returns a result as foreign text: its structured part where it has no other text. Pieces for which
/// `is_shown_apart` returns `true` are not named.
pub(super) fn result_text(
    result: &ToolResult,
    is_shown_apart: impl Fn(&Content) -> bool,
) -> String {
    let others = result.content.iter().filter(|content| !is_shown_apart(content));
    let text = content_text(others);
    let is_text = |content: &Content| {
        let ContentKind::Text(text) = &content.kind else { return false };
        !text.trim().is_empty()
    };
    let structured = result.structured.as_ref().filter(|_| !result.content.iter().any(is_text));
    let structured = structured.map(|members| Value::Object((**members).clone()).to_string());
    match structured {
        Some(structured) if text.trim().is_empty() => structured,
        Some(structured) => format!("{structured}\n{text}"),
        None => text,
    }
}

/// Returns output as text, as a terminal shows it at its end, with a mark in place of what is not
/// UTF-8. Output that is hardly text is named.
pub fn output_text(output: &[u8]) -> String {
    let mut text = String::with_capacity(output.len());
    let mut unreadable_bytes = 0;
    for chunk in output.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            unreadable_bytes += chunk.invalid().len();
            text.push(REPLACEMENT_CHARACTER);
        }
    }
    if unreadable_bytes == 0 {
        return text_as_shown(&text).into_owned();
    }
    let odd = text.bytes().filter(|byte| is_odd_control(*byte)).count() + unreadable_bytes;
    let is_text = odd <= (output.len() / 10).max(UNREADABLE_BYTES_MIN) && !output.contains(&0);
    if !is_text {
        return bytes_of(output.len(), "application/octet-stream");
    }
    let text = text_as_shown(&text);
    let line_end = if text.ends_with('\n') { "" } else { "\n" };
    format!(
        "{text}{line_end}[bytes that are not UTF-8: {unreadable_bytes}; each place is shown as \
         {REPLACEMENT_CHARACTER}]"
    )
}

/// The number of bytes that may be unreadable in a text of any length. In a long one, a tenth may.
const UNREADABLE_BYTES_MIN: usize = 8;

/// Returns whether a byte is a control that is rare in texts.
fn is_odd_control(byte: u8) -> bool {
    byte.is_ascii_control() && !matches!(byte, 0x07..=0x0d | 0x1b)
}

fn bytes_of(count: usize, media_type: &str) -> String {
    format!("[{count} bytes of {}]", name(media_type))
}

/// Returns the name of a state.
pub fn state_label(state: State) -> String {
    state.as_str().replace('_', " ")
}

/// Truncates a text to `bytes_max` bytes by removing its middle. The text says how much is missing.
pub fn truncate_middle(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let head = text.floor_char_boundary(bytes_max / 2);
    let tail = text.ceil_char_boundary(text.len() - bytes_max / 2);
    let omitted = tail - head;
    format!("{}\n[{omitted} bytes are left out here]\n{}", &text[..head], &text[tail..])
}

/// Truncates the result of a call in a conversation that is too long to at most `bytes_max` bytes, and
/// says so. Its images are left out.
pub fn shortened_result(text: &str, images: usize, bytes_max: usize) -> String {
    let images = match images {
        0 => String::new(),
        1 => " and an image".to_owned(),
        count => format!(" and {count} images"),
    };
    let note = format!(
        "[A part of this result{images} was left out, because the conversation is too long for \
         you. Repeat the call if you need it, and ask for less.]"
    );
    // The note of the truncation itself takes some, too.
    let room = bytes_max.saturating_sub(note.len() + FENCE_BYTES + 60);
    if room == 0 {
        return note;
    }
    let mut shortened = FencedText::default();
    shortened.foreign(&truncate_middle(&harmless(text), room));
    shortened.own_line(note);
    shortened.finish()
}

/// Truncates a text to `characters_max` characters. The text says how much is missing, followed by
/// `hint`.
pub fn truncate(text: &str, characters_max: usize, hint: &str) -> String {
    match text.char_indices().nth(characters_max) {
        Some((end, _)) => {
            let omitted = text[end..].chars().count();
            format!("{}\n[{omitted} more characters{hint}]", &text[..end])
        }
        None => text.to_owned(),
    }
}

/// Returns the result of a call that has ended, or its error. Pieces for which `is_shown_apart`
/// returns `true` are not named: the model is shown them beside the text.
pub fn call_result(call: &Call, is_shown_apart: impl Fn(&Content) -> bool) -> ResultText {
    let (text, reason) = match &call.outcome {
        Some(Outcome::Result(result)) => {
            let text = result_text(result, &is_shown_apart);
            let reason = match (result.error_message.as_str(), result.exit) {
                ("", Some(Exit::Code(0)) | None) => String::new(),
                ("", Some(Exit::Code(code))) => format!(": exit code {code}"),
                ("", Some(Exit::Signal(signal))) => format!(": terminated by signal {signal}"),
                (message, _) => format!(": {}", error_quoted(message)),
            };
            (text, reason)
        }
        Some(Outcome::Failure(failure)) => {
            (String::new(), format!(": {}", error_quoted(&failure.message)))
        }
        None => (String::new(), String::new()),
    };
    let mut shown = match text.trim().is_empty() {
        true if has_images_apart(call, is_shown_apart) => ResultText::own("(only images)"),
        true => ResultText::own(or_no_output(&text)),
        false if is_written_by_callpark(call) => ResultText::own(text),
        false => ResultText::foreign(text),
    };
    if call.state != State::Succeeded {
        shown.note_before(format!("[{}{reason}]", state_label(call.state)));
    }
    if let Some(note) = processes_left(call) {
        shown.note_after(note);
    }
    shown
}

fn has_images_apart(call: &Call, is_shown_apart: impl Fn(&Content) -> bool) -> bool {
    let Some(Outcome::Result(result)) = &call.outcome else { return false };
    result.content.iter().any(is_shown_apart)
}

fn error_quoted(message: &str) -> String {
    quoted_to(message, ERROR_BYTES_MAX)
}

/// Returns whether the result of a call was made in this folder: foreign text in it is fenced.
fn is_written_by_callpark(call: &Call) -> bool {
    match call.kind {
        ToolKind::BuiltIn => matches!(call.tool.as_str(), CHECK_TASK_TOOL | READ_OUTPUT_TOOL),
        ToolKind::Agent => call.tool == AGENT_TOOL,
        ToolKind::Command | ToolKind::Mcp => false,
    }
}

/// Returns a note about the processes that a call has left behind, or `None` if there were none.
pub(super) fn processes_left(call: &Call) -> Option<String> {
    let Some(Outcome::Result(result)) = &call.outcome else { return None };
    let left = result.left.as_ref()?;
    let others = left.count.checked_sub(left.programs.len()).filter(|others| *others > 0);
    let others = others.map(|others| format!("{others} more"));
    let programs = left.programs.iter().map(|program| name(program).into_owned());
    let programs: Vec<String> = programs.chain(others).collect();
    let were = if left.count == 1 { "process was" } else { "processes were" };
    let budget = call.policy.call_budget.map(|budget| format!(" ({} s)", budget.as_secs()));
    Some(format!(
        "[{} {were} still running when the call ended, and killed: {}. Nothing that a call \
         starts outlives it, also not with &, nohup or setsid. To keep a server running, start \
         it in the foreground in a call of its own: when its budget{} is used up, that call \
         continues in the background.]",
        left.count,
        programs.join(", "),
        budget.unwrap_or_default(),
    ))
}

/// Returns the error for an argument of which the history has only the replacement.
pub fn argument_hidden(name: &str) -> String {
    format!("the value of `{name}` is secret and not kept: give the value itself, not {HIDDEN}")
}

/// Returns the text, or a note if it is blank.
pub fn or_no_output(text: &str) -> &str {
    if text.trim().is_empty() { "(no output)" } else { text }
}
