//! The bytes of a request, kept for the owner of its session.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body::Frame;

use crate::rpc::forward::KeptBody;

/// The length of the flag and the length in front of a message, in bytes.
const PREFIX_BYTES: usize = 5;

/// Keeps the bytes of a request as they are read.
#[derive(Clone)]
pub(super) struct Keeper(Arc<Mutex<Kept>>);

struct Kept {
    body: KeptBody,
    bytes_max: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Incomplete,
    Complete,
    TooLarge,
}

impl Keeper {
    /// Creates a keeper of one message with up to `message_bytes_max` bytes.
    pub(super) fn new(message_bytes_max: usize) -> Self {
        let bytes_max = message_bytes_max.saturating_add(PREFIX_BYTES);
        Self(Arc::new(Mutex::new(Kept {
            body: KeptBody::default(),
            bytes_max,
            state: State::Incomplete,
        })))
    }

    /// Takes note of what was read: a frame, an error, or the end.
    pub(super) fn read<E>(&self, frame: Option<&Result<Frame<Bytes>, E>>, is_end: bool) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let data = match frame {
            Some(Ok(frame)) => frame.data_ref(),
            Some(Err(_)) => return,
            None => None,
        };
        if let Some(data) = data.filter(|_| kept.state == State::Incomplete) {
            if data.len() > kept.bytes_max - kept.body.bytes() {
                (kept.body, kept.state) = (KeptBody::default(), State::TooLarge);
            } else {
                kept.body.push(data.clone());
            }
        }
        if kept.state == State::Incomplete && (is_end || frame.is_none()) {
            kept.state = State::Complete;
        }
    }

    /// Returns the body, or `None` if its end has not been read, or it is too large.
    pub(super) fn body(&self) -> Option<KeptBody> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.state == State::Complete).then(|| kept.body.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = Result<Frame<Bytes>, ()>;

    fn data(bytes: &'static [u8]) -> Read {
        Ok(Frame::data(Bytes::from_static(bytes)))
    }

    #[test]
    fn only_a_whole_body_within_the_bound_is_kept() {
        let kept = |parts: &[&'static [u8]], end: Option<&Read>, is_end| {
            let keeper = Keeper::new(3);
            parts.iter().for_each(|part| keeper.read(Some(&data(part)), false));
            assert!(keeper.body().is_none(), "its end has not been read");
            keeper.read(end, is_end);
            keeper.body().map(|body| body.bytes())
        };
        assert_eq!(kept(&[b"1234", b"567"], None, false), Some(7));
        assert_eq!(kept(&[b"1234"], Some(&data(b"5678")), true), Some(8));
        assert_eq!(kept(&[b"1234", b"56789"], None, false), None);
        assert_eq!(kept(&[b"123456789", b""], None, false), None);
        assert_eq!(kept(&[b"1234"], Some(&Err(())), true), None);
    }
}
