//! Standard input of a process: fed as fast as it reads, then closed.

use std::io;
use std::os::fd::OwnedFd;

use bytes::{Buf, Bytes};
use tokio::net::unix::pipe::Sender;

use super::{is_transient, unless_shut_down};

/// The writing end of a pipe, and what is still to be written. Dropping it closes the process's
/// standard input.
#[derive(Debug)]
pub(super) struct StdinPipe {
    pipe: Sender,
    rest: Bytes,
}

impl StdinPipe {
    pub(super) fn new(fd: OwnedFd, data: Bytes) -> io::Result<Self> {
        Ok(Self { pipe: Sender::from_owned_fd(fd)?, rest: data })
    }

    /// Waits until something can be written. For ever, once the runtime is shutting down.
    pub(super) async fn writable(&self) {
        unless_shut_down(self.pipe.writable().await).await;
    }

    /// Writes what fits. Gives itself back if there is more to do: not when all was written, and
    /// not when the process closed its end, which is its right.
    pub(super) fn write(mut self) -> Option<Self> {
        match self.pipe.try_write(&self.rest) {
            Ok(count) => self.rest.advance(count),
            Err(error) if is_transient(&error) => {}
            Err(_) => return None,
        }
        (!self.rest.is_empty()).then_some(self)
    }
}
