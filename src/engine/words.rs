//! Calls and their results in words, for people and models.

use crate::model::{Content, ContentKind, ResourceBody, State};

/// The text of a result's pieces. What is no text is told of.
pub(super) fn content<'a>(pieces: impl IntoIterator<Item = &'a Content>) -> String {
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

/// A text of at most so many bytes: the middle of a longer one is left out, and the text says how
/// much of it.
pub(super) fn without_middle(text: &str, bytes_max: usize) -> String {
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
        assert_eq!(without_middle("short", 5), "short");
        assert_eq!(without_middle("abcdefghij", 4), "ab\n[6 bytes are left out here]\nij");
        // A character is left out whole.
        assert_eq!(without_middle("ää-öö", 6), "ä\n[5 bytes are left out here]\nö");
    }
}
