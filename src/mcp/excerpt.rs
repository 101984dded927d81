//! Words of a server, for messages.

/// The bytes of a text that a reason repeats.
const EXCERPT_BYTES: usize = 400;

/// Returns the beginning of a text, in one line.
pub(super) fn excerpt(text: &str) -> String {
    let beginning = &text[..text.floor_char_boundary(EXCERPT_BYTES)];
    let mut words = beginning.split_whitespace().collect::<Vec<&str>>().join(" ");
    if beginning.len() < text.len() {
        words.push('…');
    }
    words
}
