//! Pictures in the results of calls, which a model is shown beside the words.

use crate::model::limits::MODEL_PICTURES_BYTES_MAX;
use crate::model::{Call, Content, ContentKind, Outcome, Picture};

/// Room for the pictures that a model is shown together.
pub(super) struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Self(MODEL_PICTURES_BYTES_MAX)
    }
}

impl Room {
    /// Those of the pictures that still have room. The text, which names them all, says how many have
    /// none.
    pub(super) fn take(&mut self, pictures: Vec<Picture>, text: &mut String) -> Vec<Picture> {
        let count = pictures.len();
        let fit = |picture: &Picture| match self.0.checked_sub(picture.data.len()) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => false,
        };
        let shown: Vec<Picture> = pictures.into_iter().filter(fit).collect();
        if shown.len() < count {
            text.push_str(&format!(
                "\n[{} of the pictures are not shown: calls that are made together show \
                 {MODEL_PICTURES_BYTES_MAX} bytes of them]",
                count - shown.len()
            ));
        }
        shown
    }
}

/// The pictures in a call's result.
pub(super) fn of(call: &Call) -> Vec<Picture> {
    let Some(Outcome::Result(result)) = &call.outcome else { return Vec::new() };
    let pictures = result.content.iter().filter(|content| is_picture(content));
    let pictures = pictures.filter_map(|content| match &content.kind {
        ContentKind::Image { media_type, data } => {
            Some(Picture { media_type: media_type.clone(), data: data.clone() })
        }
        _ => None,
    });
    pictures.collect()
}

/// A picture as a piece of another result.
pub(super) fn content(picture: Picture) -> Content {
    let Picture { media_type, data } = picture;
    Content { kind: ContentKind::Image { media_type, data }, stream: None, offset: 0 }
}

/// A picture of a kind that models take, and one that begins as its kind does. An endpoint refuses a
/// request with any other one, and would refuse all that follow: the picture stays in the history.
pub(super) fn is_picture(content: &Content) -> bool {
    let ContentKind::Image { media_type, data } = &content.kind else { return false };
    match media_type.as_str() {
        "image/png" => data.starts_with(b"\x89PNG\r\n\x1a\n"),
        "image/jpeg" => data.starts_with(b"\xff\xd8\xff"),
        "image/gif" => data.starts_with(b"GIF87a") || data.starts_with(b"GIF89a"),
        "image/webp" => data.starts_with(b"RIFF") && data.get(8..12) == Some(b"WEBP"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(bytes: usize) -> Picture {
        Picture { media_type: "image/png".into(), data: vec![0; bytes].into() }
    }

    #[test]
    fn pictures_without_room_are_counted_in_the_text() {
        let (mut room, mut text) = (Room::default(), "two".to_owned());
        let half = picture(MODEL_PICTURES_BYTES_MAX / 2);
        assert_eq!(room.take(vec![half.clone()], &mut text), [half]);
        assert_eq!(text, "two");
        let pictures =
            vec![picture(MODEL_PICTURES_BYTES_MAX), picture(1), picture(MODEL_PICTURES_BYTES_MAX)];
        assert_eq!(room.take(pictures, &mut text), [picture(1)], "a small one still fits");
        assert!(text.starts_with("two\n[2 of the pictures are not shown: "), "{text}");
    }

    #[test]
    fn only_what_models_take_is_a_picture() {
        let is = |media_type: &str, data: &[u8]| {
            let (media_type, data) = (media_type.to_owned(), data.to_vec().into());
            is_picture(&content(Picture { media_type, data }))
        };
        assert!(is("image/png", b"\x89PNG\r\n\x1a\n..."));
        assert!(is("image/jpeg", b"\xff\xd8\xff\xe0"));
        assert!(is("image/gif", b"GIF89a.."));
        assert!(is("image/webp", b"RIFF\0\0\0\0WEBPVP8 "));
        assert!(!is("image/webp", b"RIFF"));
        assert!(!is("image/png", b"\xff\xd8\xff\xe0"), "it is something else");
        assert!(!is("image/svg+xml", b"<svg/>"));
    }
}
