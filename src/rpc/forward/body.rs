//! The body of a request that is sent to another replica.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// The bytes of a request, which a clone shares.
#[derive(Debug, Clone, Default)]
pub(in crate::rpc) struct KeptBody {
    chunks: VecDeque<Bytes>,
    bytes: usize,
}

impl KeptBody {
    /// Adds bytes to the end.
    pub(in crate::rpc) fn push(&mut self, chunk: Bytes) {
        self.bytes += chunk.len();
        self.chunks.push_back(chunk);
    }

    /// Returns the number of bytes.
    pub(in crate::rpc) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl http_body::Body for KeptBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = self.chunks.pop_front();
        self.bytes -= chunk.as_ref().map_or(0, Bytes::len);
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes as u64)
    }
}
