//! Images in requests, and those that an endpoint has refused.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The most refused images that are remembered. Beyond it the oldest is forgotten, and may be refused
/// once more.
const REFUSED_MAX: usize = 1_000;

/// Images by the digests of their URLs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ImageSet(VecDeque<[u8; 32]>);

impl ImageSet {
    pub(super) fn contains(&self, url: &str) -> bool {
        !self.0.is_empty() && self.0.contains(&digest(url))
    }

    pub(super) fn extend(&mut self, images: &Self) {
        for image in &images.0 {
            if self.0.contains(image) {
                continue;
            }
            if self.0.len() >= REFUSED_MAX {
                self.0.pop_front();
            }
            self.0.push_back(*image);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

fn digest(url: &str) -> [u8; 32] {
    Sha256::digest(url.as_bytes()).into()
}

/// Returns the URL with the bytes of an image.
pub(super) fn url(media_type: &str, data: &[u8]) -> String {
    format!("data:{media_type};base64,{}", STANDARD.encode(data))
}

/// Returns `true` if a request has images.
pub(super) fn has_images(body: &Value) -> bool {
    messages(body).any(|message| urls(message).next().is_some())
}

/// Returns the images of the last message of a request that has some.
pub(super) fn newest(body: &Value) -> ImageSet {
    let sets = messages(body).map(|message| ImageSet(urls(message).map(digest).collect()));
    sets.filter(|set| set.len() > 0).last().unwrap_or_default()
}

/// Returns all images of a request.
pub(super) fn all(body: &Value) -> ImageSet {
    ImageSet(messages(body).flat_map(urls).map(digest).collect())
}

fn messages(body: &Value) -> impl Iterator<Item = &Value> {
    body.get("messages").and_then(Value::as_array).into_iter().flatten()
}

/// Returns the URLs of the images in a message.
fn urls(message: &Value) -> impl Iterator<Item = &str> {
    let parts = message.get("content").and_then(Value::as_array).into_iter().flatten();
    let images = parts.filter(|part| part.get("type").is_some_and(|kind| kind == "image_url"));
    images.map(|image| {
        let url = image.get("image_url").and_then(|image| image.get("url"));
        url.and_then(Value::as_str).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(urls: &[&str]) -> ImageSet {
        ImageSet(urls.iter().map(|url| digest(url)).collect())
    }

    #[test]
    fn the_oldest_of_too_many_images_is_forgotten() {
        let mut refused = set(&["first"]);
        for number in 1..=REFUSED_MAX {
            assert!(refused.contains("first"));
            // Twice: what is known takes no room.
            refused.extend(&set(&[&number.to_string()]));
            refused.extend(&set(&[&number.to_string()]));
        }
        assert!(!refused.contains("first") && refused.contains("1"));
        assert_eq!(refused.len(), REFUSED_MAX);
    }
}
