//! The output of a run that is not known to be durable.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use super::delivered::DeliveredOutput;
use super::memory::OutputMemory;
use super::spool::Spool;
use crate::exec::OutputBefore;
use crate::model::{OutputSummary, ToolOutput};

/// The bytes of a run that are kept in memory. While no server reads, the file has what comes after them.
const WINDOW_BYTES: u64 = 256 * 1024;

/// The same while a server reads and [`OutputMemory`] has room. The process blocks beyond it. A server makes
/// some MiB durable at once: with less, a fast process would wait for each commit.
const SHARED_WINDOW_BYTES: u64 = 4 * 1024 * 1024;

/// The pieces of output that are not acknowledged, oldest first: some in memory, then those in a file.
#[derive(Debug)]
pub(super) struct Backlog {
    pieces: VecDeque<ToolOutput>,
    bytes: u64,
    /// The memory of all runs.
    memory: Arc<OutputMemory>,
    /// The pieces that were in memory until now.
    delivered: DeliveredOutput,
    /// The number of pieces that were sent to the present server.
    sent: usize,
    spool: Option<Spool>,
    spool_path: PathBuf,
    /// The piece that could not be written to the file.
    unwritten: Option<ToolOutput>,
    /// The reason why it could not.
    error: String,
    /// `true` if the file could not be read back.
    is_damaged: bool,
}

impl Backlog {
    /// Creates an empty backlog of output that comes after this, with the path of its file, which is
    /// created when it is needed.
    pub(super) fn new(
        spool_path: PathBuf,
        before: OutputBefore,
        memory: Arc<OutputMemory>,
    ) -> Self {
        Self {
            pieces: VecDeque::new(),
            bytes: 0,
            memory,
            delivered: DeliveredOutput::after(before),
            sent: 0,
            spool: None,
            spool_path,
            unwritten: None,
            error: String::new(),
            is_damaged: false,
        }
    }

    /// Returns whether one more piece can be added.
    pub(super) fn has_room(&self, is_read: bool) -> bool {
        let is_in_memory = self.spool.is_none() && self.unwritten.is_none();
        match is_read {
            true => is_in_memory && self.has_window(),
            false => self.unwritten.is_none(),
        }
    }

    fn has_window(&self) -> bool {
        let is_shared = self.bytes < SHARED_WINDOW_BYTES && self.memory.has_room();
        self.bytes < WINDOW_BYTES || is_shared
    }

    /// Adds a piece, for which there [was room](Self::has_room). If the file cannot grow, there is none for
    /// a further one.
    pub(super) fn push(&mut self, piece: ToolOutput, is_read: bool) {
        if self.spool.is_none() && (is_read || self.bytes < WINDOW_BYTES) {
            self.keep(piece);
            return;
        }
        if let Err(error) = self.write(&piece) {
            self.error = error.to_string();
            self.unwritten = Some(piece);
        }
    }

    fn write(&mut self, piece: &ToolOutput) -> std::io::Result<()> {
        match &mut self.spool {
            Some(spool) => spool.push(piece),
            None => {
                let mut spool = Spool::create(&self.spool_path)?;
                spool.push(piece)?;
                self.spool = Some(spool);
                Ok(())
            }
        }
    }

    /// Removes the pieces that end at this offset of both streams together, or before it.
    pub(super) fn acknowledge(&mut self, stored_bytes: u64) {
        loop {
            while let Some(piece) = self.pieces.front()
                && piece.position.combined_offset + piece.data.len() as u64 <= stored_bytes
            {
                self.bytes -= piece.data.len() as u64;
                self.memory.remove(piece.data.len() as u64);
                self.sent = self.sent.saturating_sub(1);
                self.pieces.pop_front();
            }
            if !self.pieces.is_empty() || !self.refill() {
                return;
            }
        }
    }

    /// Returns the next piece that the present server has not been sent.
    pub(super) fn next_unsent(&mut self) -> Option<&ToolOutput> {
        if self.sent == self.pieces.len() && !(self.bytes < WINDOW_BYTES && self.refill()) {
            return None;
        }
        self.sent += 1;
        self.pieces.get(self.sent - 1)
    }

    /// Prepares all pieces to be sent to another server.
    pub(super) fn rewind(&mut self) {
        self.sent = 0;
    }

    /// Returns whether all pieces were sent to the present server.
    pub(super) fn is_sent(&self) -> bool {
        self.sent == self.pieces.len() && self.spool.is_none() && self.unwritten.is_none()
    }

    /// Returns the size of the file, in bytes.
    pub(super) fn spooled_bytes(&self) -> u64 {
        self.spool.as_ref().map_or(0, Spool::bytes)
    }

    /// Returns the reason why the file could not grow, or an empty text.
    pub(super) fn error(&self) -> &str {
        &self.error
    }

    /// Corrects the counts of the whole output if a part of it was lost because the file could not be
    /// read back.
    pub(super) fn correct(&self, summary: &mut OutputSummary) {
        if self.is_damaged {
            self.delivered.correct(summary);
        }
    }

    /// Moves a piece from the file to memory. Returns `false` if there is none.
    fn refill(&mut self) -> bool {
        let popped = match &mut self.spool {
            Some(spool) => spool.pop(),
            None => Ok(None),
        };
        let piece = match popped {
            Ok(Some(piece)) => Some(piece),
            Ok(None) => {
                self.spool = None;
                self.error.clear();
                self.unwritten.take()
            }
            Err(error) => {
                tracing::error!(path = %self.spool_path.display(), %error, "output was lost");
                self.is_damaged = true;
                self.spool = None;
                self.unwritten.take()
            }
        };
        let Some(piece) = piece else { return false };
        self.keep(piece);
        true
    }

    fn keep(&mut self, mut piece: ToolOutput) {
        self.delivered.add(&mut piece);
        self.bytes += piece.data.len() as u64;
        self.memory.add(piece.data.len() as u64);
        self.pieces.push_back(piece);
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.memory.remove(self.bytes);
    }
}

#[cfg(test)]
mod tests;
