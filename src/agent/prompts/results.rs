//! Results of calls as text.

use crate::model::{Call, Content, ContentKind, Exit, Outcome, ResourceBody, ResourceLink, State};

/// Returns the pieces of a result as text. A piece that is not text is named.
pub fn content_text<'a>(pieces: impl IntoIterator<Item = &'a Content>) -> String {
    let texts = pieces.into_iter().map(|content| match &content.kind {
        ContentKind::Text(text) => text.clone(),
        ContentKind::Json(value) => value.to_string(),
        ContentKind::Image { media_type, data } | ContentKind::Binary { media_type, data } => {
            format!("[{} bytes of {media_type}]", data.len())
        }
        ContentKind::Resource { body: Some(ResourceBody::Text(text)), .. } => text.clone(),
        ContentKind::Resource { uri, link, .. } => linked_document(uri, link.as_deref()),
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// Returns the address of a document, with what is known about it.
fn linked_document(uri: &str, link: Option<&ResourceLink>) -> String {
    let Some(link) = link else { return format!("[{uri}]") };
    let title = if link.title.is_empty() { &link.name } else { &link.title };
    let title = if title.is_empty() { String::new() } else { format!("{title}: ") };
    let size = link.size_bytes.map(|size| format!(" ({size} bytes)")).unwrap_or_default();
    let description = match link.description.as_str() {
        "" => String::new(),
        description => format!(" {description}"),
    };
    format!("[{title}{uri}{size}]{description}")
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
pub fn call_result(call: &Call, is_shown_apart: impl Fn(&Content) -> bool) -> String {
    let (text, reason) = match &call.outcome {
        Some(Outcome::Result(result)) => {
            let others = result.content.iter().filter(|content| !is_shown_apart(content));
            let mut text = content_text(others);
            if text.trim().is_empty() && result.content.iter().any(&is_shown_apart) {
                "(only images)".clone_into(&mut text);
            }
            let reason = match (result.error_message.as_str(), result.exit) {
                ("", Some(Exit::Code(0)) | None) => String::new(),
                ("", Some(Exit::Code(code))) => format!("exit code {code}"),
                ("", Some(Exit::Signal(signal))) => format!("terminated by signal {signal}"),
                (message, _) => message.to_owned(),
            };
            (text, reason)
        }
        Some(Outcome::Failure(failure)) => (String::new(), failure.message.clone()),
        None => (String::new(), String::new()),
    };
    let text = or_no_output(&text);
    match (call.state, reason.as_str()) {
        (State::Succeeded, _) => text.to_owned(),
        (state, "") => format!("[{}]\n{text}", state_label(state)),
        (state, reason) => format!("[{}: {reason}]\n{text}", state_label(state)),
    }
}

/// Returns the text, or a note if it is blank.
pub(super) fn or_no_output(text: &str) -> &str {
    if text.trim().is_empty() { "(no output)" } else { text }
}
