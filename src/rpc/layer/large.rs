//! Requests with large bodies: decoding, checking and dropping one takes long enough to be noticed by
//! all other requests on the same thread.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use http::HeaderMap;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;
use tokio_util::sync::PollSemaphore;

use crate::model::limits::LARGE_INPUT_BYTES;

/// The size of a compressed body that counts as large, in bytes. What is smaller becomes a thousand
/// times as large at most, which is read in little enough time.
const LARGE_COMPRESSED_BYTES: usize = 2 * 1024;

/// The size of the body of a request, as far as it has arrived.
#[derive(Debug, Clone)]
pub(super) struct BodySize {
    bytes: Arc<AtomicUsize>,
    large_bytes: usize,
}

impl BodySize {
    /// Creates the size of a body of which nothing has arrived.
    pub(super) fn new(headers: &HeaderMap) -> Self {
        let encoding = headers.get("grpc-encoding");
        let is_compressed = encoding.is_some_and(|encoding| encoding != "identity");
        let large_bytes = if is_compressed { LARGE_COMPRESSED_BYTES } else { LARGE_INPUT_BYTES };
        Self { bytes: Arc::default(), large_bytes }
    }

    /// Adds bytes that have arrived. Returns whether the body has become large by them.
    pub(super) fn add(&self, bytes: usize) -> bool {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        before <= self.large_bytes && before.saturating_add(bytes) > self.large_bytes
    }

    fn is_large(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.large_bytes
    }
}

/// The handling of a request. Once its body is large, it is polled apart: the other tasks of its thread
/// move to another one, and of all such requests a few are polled at the same time.
///
/// On a runtime with one thread there is no other one, and nothing moves.
pub(super) struct Handling<F> {
    handler: F,
    size: BodySize,
    places: PollSemaphore,
}

impl<F> Handling<F> {
    pub(super) fn new(handler: F, size: BodySize, places: PollSemaphore) -> Self {
        Self { handler, size, places }
    }
}

impl<F: Future + Unpin> Future for Handling<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if !self.size.is_large() {
            return Pin::new(&mut self.handler).poll(cx);
        }
        // The semaphore is never closed.
        let _place = ready!(self.places.poll_acquire(cx));
        let handler = Pin::new(&mut self.handler);
        match Handle::current().runtime_flavor() {
            RuntimeFlavor::MultiThread => block_in_place(|| handler.poll(cx)),
            _ => handler.poll(cx),
        }
    }
}
