//! The sizes of messages in a request.

use crate::model::{Message, RESULT_OVERHEAD_BYTES};

/// The weight of an image, in bytes of text. Models count an image by its tiles, whatever its size in
/// bytes is.
const IMAGE_WEIGHT: usize = 6_000;

/// The size of what surrounds the text of a result, in bytes.
pub(super) const RESULT_OVERHEAD: usize = RESULT_OVERHEAD_BYTES;

/// Returns the approximate size of a message in a request, in bytes.
pub(super) fn bytes(message: &Message) -> usize {
    message.size_bytes(|data| data.len().div_ceil(3) * 4)
}

/// Returns the approximate size of a message in the context of a model, in bytes of text.
pub(super) fn weight(message: &Message) -> usize {
    message.size_bytes(|_| IMAGE_WEIGHT)
}
