//! The standard input of a process, written as fast as it is read, then closed.

use std::io;
use std::os::fd::OwnedFd;

use bytes::{Buf, Bytes};
use tokio::net::unix::pipe::Sender;

use super::{is_transient, unless_shut_down};

/// The writing end of a pipe, and the data that is still to be written. Dropping it closes the
/// standard input of the process.
#[derive(Debug)]
pub(super) struct StdinPipe {
    pipe: Sender,
    rest: Bytes,
}

impl StdinPipe {
    pub(super) fn new(fd: OwnedFd, data: Bytes) -> io::Result<Self> {
        Ok(Self { pipe: Sender::from_owned_fd(fd)?, rest: data })
    }

    /// Waits until data can be written. Never returns once the runtime is shutting down.
    pub(super) async fn writable(&self) {
        unless_shut_down(self.pipe.writable().await).await;
    }

    /// Writes as much as fits. Returns `None` if all was written, or if the process has closed its
    /// end.
    pub(super) fn write(mut self) -> Option<Self> {
        match self.pipe.try_write(&self.rest) {
            Ok(count) => self.rest.advance(count),
            Err(error) if is_transient(&error) => {}
            Err(_) => return None,
        }
        (!self.rest.is_empty()).then_some(self)
    }
}
