//! Images in the results of calls, which a model is shown beside the text.

use crate::agent::prompts::{self, ResultText};
use crate::model::limits::MODEL_PICTURES_BYTES_MAX;
use crate::model::{Call, Content, ContentKind, Image, Outcome};

/// The bytes of images that the results of one round may still show.
pub(super) struct ImageBudget(usize);

impl Default for ImageBudget {
    fn default() -> Self {
        Self(MODEL_PICTURES_BYTES_MAX)
    }
}

impl ImageBudget {
    /// Returns the images that fit the budget. Adds a note to `text`, which names all of them, about how
    /// many don't fit.
    pub(super) fn select(&mut self, images: Vec<Image>, text: &mut ResultText) -> Vec<Image> {
        let count = images.len();
        let fits = |image: &Image| match self.0.checked_sub(image.data.len()) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => false,
        };
        let shown: Vec<Image> = images.into_iter().filter(fits).collect();
        if shown.len() < count {
            text.note_after(prompts::images_left_out(count - shown.len()));
        }
        shown
    }
}

/// Returns the images in a call's result.
pub(super) fn images_of(call: &Call) -> Vec<Image> {
    let Some(Outcome::Result(result)) = &call.outcome else { return Vec::new() };
    let images = result.content.iter().filter(|content| is_image(content));
    let images = images.filter_map(|content| match &content.kind {
        ContentKind::Image { media_type, data } => {
            Some(Image { media_type: media_type.clone(), data: data.clone() })
        }
        _ => None,
    });
    images.collect()
}

/// Returns an image as a piece of a result.
pub(super) fn image_content(image: Image) -> Content {
    let Image { media_type, data } = image;
    Content { kind: ContentKind::Image { media_type, data }, stream: None, offset: 0 }
}

/// Returns `true` for an image of a kind that models accept, whose bytes begin as its kind does. An
/// endpoint rejects a request with any other image; since images stay in the history, it would reject
/// all later requests, too.
pub(super) fn is_image(content: &Content) -> bool {
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

    fn image(bytes: usize) -> Image {
        Image { media_type: "image/png".into(), data: vec![0; bytes].into() }
    }

    #[test]
    fn images_that_exceed_the_budget_are_counted_in_the_text() {
        let (mut budget, mut text) = (ImageBudget::default(), ResultText::own("two"));
        let half = image(MODEL_PICTURES_BYTES_MAX / 2);
        assert_eq!(budget.select(vec![half.clone()], &mut text), [half]);
        assert_eq!(text.render(), "two");
        let images =
            vec![image(MODEL_PICTURES_BYTES_MAX), image(1), image(MODEL_PICTURES_BYTES_MAX)];
        assert_eq!(budget.select(images, &mut text), [image(1)], "a small one still fits");
        let text = text.render();
        assert!(text.starts_with("two\n[2 of the images are not shown: "), "{text}");
    }

    #[test]
    fn only_images_that_models_accept_are_shown() {
        let is = |media_type: &str, data: &[u8]| {
            let (media_type, data) = (media_type.to_owned(), data.to_vec().into());
            is_image(&image_content(Image { media_type, data }))
        };
        assert!(is("image/png", b"\x89PNG\r\n\x1a\n..."));
        assert!(is("image/jpeg", b"\xff\xd8\xff\xe0"));
        assert!(is("image/gif", b"GIF89a.."));
        assert!(is("image/webp", b"RIFF\0\0\0\0WEBPVP8 "));
        assert!(!is("image/webp", b"RIFF"));
        assert!(!is("image/png", b"\xff\xd8\xff\xe0"), "the bytes are a JPEG's");
        assert!(!is("image/svg+xml", b"<svg/>"));
    }
}
