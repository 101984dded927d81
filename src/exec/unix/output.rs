//! One output stream of a process, read when there is data and returned in pieces.

use std::future::pending;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use tokio::net::unix::pipe::Receiver;
use tokio::time::Instant;

use super::{is_transient, unless_shut_down};

/// The size of the first read of a piece. A buffer that is full grows at once to the largest piece.
const FIRST_READ_BYTES: usize = 4 * 1024;

/// The reading end of a pipe, and the bytes that were read but not returned.
#[derive(Debug)]
pub(super) struct OutputPipe {
    /// The pipe, or `None` after the end of the file.
    pipe: Option<Receiver>,
    /// The bytes that were not returned. Allocated only while there are any.
    pending: Vec<u8>,
    /// The time at which the first pending byte was read.
    since: Option<Instant>,
    /// `true` if the last piece was a full one: the next is probably one as well.
    flooding: bool,
}

impl OutputPipe {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let pipe = Some(Receiver::from_owned_fd(fd)?);
        Ok(Self { pipe, pending: Vec::new(), since: None, flooding: false })
    }

    /// Returns whether all writers have closed the pipe and everything was read.
    pub(super) fn is_closed(&self) -> bool {
        self.pipe.is_none()
    }

    /// Returns the time at which the first pending byte was read.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Returns the time at which the pending bytes must be returned.
    pub(super) fn due(&self, delay: Duration) -> Option<Instant> {
        self.since?.checked_add(delay)
    }

    /// Returns whether the pending bytes cannot become a larger piece.
    pub(super) fn is_ripe(&self, bytes_max: usize) -> bool {
        self.since.is_some() && (self.is_closed() || self.pending.len() >= bytes_max)
    }

    /// Waits until there may be data to read. Never returns after the end of the file.
    pub(super) async fn readable(&self) {
        match &self.pipe {
            Some(pipe) => unless_shut_down(pipe.readable().await).await,
            None => pending().await,
        }
    }

    /// Reads once, until at most `bytes_max` bytes are pending. Returns the number of bytes read.
    pub(super) fn read(&mut self, bytes_max: usize) -> usize {
        let room = self.make_room(bytes_max);
        let Some(pipe) = self.pipe.as_ref().filter(|_| room) else { return 0 };
        let buffer = spare_capacity(&mut self.pending);
        let result = pipe.try_io(|| Ok(rustix::io::read(pipe, buffer)?));
        self.take_in(result)
    }

    /// Reads like [`OutputPipe::read`], even if the runtime has not been notified of the data.
    pub(super) fn read_now(&mut self, bytes_max: usize) -> usize {
        let room = self.make_room(bytes_max);
        let Some(pipe) = self.pipe.as_ref().filter(|_| room) else { return 0 };
        let result = rustix::io::read(pipe, spare_capacity(&mut self.pending));
        self.take_in(result.map_err(io::Error::from))
    }

    /// Returns the pending bytes. A few bytes are copied out of a large buffer, since the piece may
    /// be kept for long.
    pub(super) fn take(&mut self, bytes_max: usize) -> Bytes {
        self.since = None;
        let pending = mem::take(&mut self.pending);
        self.flooding = pending.len() >= bytes_max;
        if pending.len() * 2 < pending.capacity() {
            Bytes::copy_from_slice(&pending)
        } else {
            Bytes::from(pending)
        }
    }

    fn make_room(&mut self, bytes_max: usize) -> bool {
        let length = self.pending.len();
        let wanted =
            if length == 0 && !self.flooding { FIRST_READ_BYTES.min(bytes_max) } else { bytes_max };
        if self.pending.capacity() == length {
            self.pending.reserve_exact(wanted.saturating_sub(length));
        }
        self.pending.capacity() > length
    }

    fn take_in(&mut self, result: io::Result<usize>) -> usize {
        match result {
            Ok(count) if count > 0 => {
                self.since.get_or_insert_with(Instant::now);
                return count;
            }
            Err(error) if is_transient(&error) => {}
            // The end of the file, or a pipe that cannot be read.
            Ok(_) | Err(_) => self.pipe = None,
        }
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
        0
    }
}
