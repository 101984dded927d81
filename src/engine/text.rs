//! Calls and their results as text, for people and models.

use crate::model::{Content, ContentKind, ResourceBody, State};

/// Returns the text of a result's pieces, with a note for each piece that is not text.
pub(crate) fn content<'a>(pieces: impl IntoIterator<Item = &'a Content>) -> String {
    let texts = pieces.into_iter().map(|content| match &content.kind {
        ContentKind::Text(text) => text.clone(),
        ContentKind::Json(value) => value.to_string(),
        ContentKind::Image { media_type, data } | ContentKind::Binary { media_type, data } => {
            format!("[{} bytes of {media_type}]", data.len())
        }
        ContentKind::Resource { body: Some(ResourceBody::Text(text)), .. } => text.clone(),
        ContentKind::Resource { uri, .. } => format!("[{uri}]"),
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// The name of a state.
pub(super) fn state_name(state: State) -> String {
    state.as_str().replace('_', " ")
}

/// Returns a text of at most `bytes_max` bytes and a note: the middle of a longer text is left out,
/// and the note gives its size.
pub(crate) fn truncate_middle(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let head = text.floor_char_boundary(bytes_max / 2);
    let tail = text.ceil_char_boundary(text.len() - bytes_max / 2);
    let left_out = tail - head;
    format!("{}\n[{left_out} bytes are left out here]\n{}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_a_long_text_is_left_out_and_counted() {
        assert_eq!(truncate_middle("short", 5), "short");
        assert_eq!(truncate_middle("abcdefghij", 4), "ab\n[6 bytes are left out here]\nij");
        // Characters are never split.
        assert_eq!(truncate_middle("ää-öö", 6), "ä\n[5 bytes are left out here]\nö");
    }
}
