//! The sizes of messages in a request.

use crate::model::{ContentKind, Message, ProviderData, ResourceBody};

/// The weight of an image, in bytes of text. Models count an image by its tiles, whatever its size in
/// bytes is.
const IMAGE_WEIGHT: usize = 6_000;

/// The size of what surrounds the text of a result, in bytes.
pub(super) const RESULT_OVERHEAD: usize = 100;

/// Returns the approximate size of a message in a request, in bytes.
pub(super) fn bytes(message: &Message) -> usize {
    size(message, |data| data.len().div_ceil(3) * 4)
}

/// Returns the approximate size of a message in the context of a model, in bytes of text.
pub(super) fn weight(message: &Message) -> usize {
    size(message, |_| IMAGE_WEIGHT)
}

fn size(message: &Message, image_size: impl Fn(&[u8]) -> usize) -> usize {
    match message {
        Message::User { text, attachments, origin: _ } => {
            let attached = attachments.iter().map(|content| match &content.kind {
                ContentKind::Image { data, .. } => image_size(data),
                ContentKind::Text(text) => text.len(),
                ContentKind::Resource { body: Some(ResourceBody::Text(text)), .. } => text.len(),
                _ => 100,
            });
            text.len() + attached.sum::<usize>()
        }
        Message::Assistant { text, calls, provider_data, note: _, origin: _ } => {
            let calls = calls.iter().map(|call| {
                let data = ProviderData::size_bytes(call.provider_data.as_deref());
                call.tool.len() + call.arguments.len() + data + 100
            });
            text.len() + ProviderData::size_bytes(provider_data.as_deref()) + calls.sum::<usize>()
        }
        Message::Tool { text, pictures: images, .. } => {
            let images = images.iter().map(|image| image_size(&image.data) + 100);
            text.len() + RESULT_OVERHEAD + images.sum::<usize>()
        }
    }
}
