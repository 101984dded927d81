//! Reading what a task has written.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::{Engine, Error};
use crate::model::{Call, CallId, Principal, StreamSummary, ToolOutput};
use crate::store::{OutputFrom, OutputPage, OutputQuery, OutputSelection};

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStart {
    /// At this offset, in bytes.
    Offset(u64),
    /// So many lines before the end.
    TailLines(u32),
}

/// What to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputRead {
    /// The task.
    pub id: CallId,
    /// Of which stream.
    pub selection: OutputSelection,
    /// From where.
    pub start: OutputStart,
    /// How much at most, in bytes.
    pub bytes_max: usize,
    /// How long to wait for something behind the offset, or for the end.
    pub wait: Duration,
}

/// A part of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputSlice {
    /// The bytes.
    pub data: Bytes,
    /// The offset of the first of them.
    pub offset: u64,
    /// Read on from here.
    pub next_offset: u64,
    /// What the call has written to the stream, in bytes.
    pub total_bytes: u64,
    /// What of it was thrown away.
    pub dropped_bytes: u64,
    /// The call has ended, and nothing is left behind `next_offset`.
    pub eof: bool,
}

impl Engine {
    /// Reads a part of a task's output, waiting for it if asked to.
    pub async fn read_output(
        &self,
        who: &Principal,
        read: OutputRead,
    ) -> Result<OutputSlice, Error> {
        let until = Instant::now() + read.wait;
        let call = self.call(who, read.id).await?;
        let mut heads = self.shared.heads.subscribe(&call.session_id);
        loop {
            heads.newest();
            // The call before its output: what it had written when it ended is all there is.
            let call = self.call(who, read.id).await?;
            let slice = self.output_slice(&call, &read).await?;
            if !slice.data.is_empty() || slice.eof || Instant::now() >= until {
                return Ok(slice);
            }
            tokio::select! {
                _ = heads.changed() => {}
                () = tokio::time::sleep_until(until) => {}
                () = self.shared.draining.cancelled() => return Err(Error::Draining),
            }
        }
    }

    async fn output_slice(&self, call: &Call, read: &OutputRead) -> Result<OutputSlice, Error> {
        let bytes_max = read.bytes_max as u64;
        let from = match read.start {
            OutputStart::Offset(offset) => OutputFrom::Offset(offset),
            OutputStart::TailLines(_) => OutputFrom::Tail(bytes_max),
        };
        let query = OutputQuery { call_id: call.id, selection: read.selection, from, bytes_max };
        let page = self.output_page(query).await?;
        let totals = totals(&page, call, read.selection);
        let mut slice = Slice::new(match read.start {
            OutputStart::Offset(offset) => offset,
            OutputStart::TailLines(_) => 0,
        });
        for piece in &page.pieces {
            let decoded = self.shared.codec.decode_output(piece.sequence, &piece.bytes);
            let decoded = decoded.map_err(|error| Error::Internal(error.to_string()))?;
            if let Some(output) = decoded {
                slice.push(offset_of(&output, read.selection), output.data);
            }
        }
        let (offset, mut data) = slice.into_parts();
        let mut offset = offset;
        match read.start {
            OutputStart::Offset(_) => data.truncate(read.bytes_max),
            OutputStart::TailLines(lines) => {
                let skip = tail_start(&data, lines, read.bytes_max);
                data = data.slice(skip..);
                offset += skip as u64;
            }
        }
        let mut next_offset = offset + data.len() as u64;
        if page.pieces.is_empty() && call.state.is_terminal() {
            // What the stream ended with was dropped: there is nothing more to come.
            next_offset = next_offset.max(totals.total_bytes);
        }
        let eof = call.state.is_terminal() && next_offset >= totals.total_bytes;
        let StreamSummary { total_bytes, dropped_bytes, .. } = totals;
        Ok(OutputSlice { data, offset, next_offset, total_bytes, dropped_bytes, eof })
    }
}

/// The counts of the selected stream: the final ones of a call that has ended, else those of what
/// is in the log.
fn totals(page: &OutputPage, call: &Call, selection: OutputSelection) -> StreamSummary {
    let ended = match &call.outcome {
        Some(crate::model::Outcome::Result(result)) => Some(&result.output),
        _ => None,
    };
    match (selection, ended) {
        (OutputSelection::Stdout, Some(output)) => output.stdout,
        (OutputSelection::Stderr, Some(output)) => output.stderr,
        (OutputSelection::Combined, Some(output)) => output.combined,
        (OutputSelection::Stdout, None) => page.stdout,
        (OutputSelection::Stderr, None) => page.stderr,
        (OutputSelection::Combined, None) => page.combined,
    }
}

pub(super) fn offset_of(output: &ToolOutput, selection: OutputSelection) -> u64 {
    match selection {
        OutputSelection::Combined => output.position.combined_offset,
        OutputSelection::Stdout | OutputSelection::Stderr => output.position.offset,
    }
}

/// Pieces without a hole between them. What lies behind a hole is for the next read.
struct Slice {
    wanted: u64,
    offset: u64,
    /// Behind the last part.
    end: u64,
    parts: Vec<Bytes>,
}

impl Slice {
    fn new(wanted: u64) -> Self {
        Self { wanted, offset: wanted, end: wanted, parts: Vec::new() }
    }

    fn push(&mut self, offset: u64, mut data: Bytes) {
        if self.parts.is_empty() {
            if offset < self.wanted {
                let skip = usize::try_from(self.wanted - offset).unwrap_or(usize::MAX);
                data = data.slice(skip.min(data.len())..);
            }
            if data.is_empty() {
                return;
            }
            self.offset = offset.max(self.wanted);
            self.end = self.offset;
        } else if offset != self.end {
            return;
        }
        self.end += data.len() as u64;
        self.parts.push(data);
    }

    fn into_parts(mut self) -> (u64, Bytes) {
        if self.parts.len() == 1 {
            return (self.offset, self.parts.remove(0));
        }
        let mut all = BytesMut::with_capacity(self.parts.iter().map(Bytes::len).sum());
        for part in &self.parts {
            all.extend_from_slice(part);
        }
        (self.offset, all.freeze())
    }
}

/// Where the last `lines` lines of `data` begin, but no more than `bytes_max` before its end.
pub(super) fn tail_start(data: &[u8], lines: u32, bytes_max: usize) -> usize {
    let least = data.len().saturating_sub(bytes_max);
    if lines == 0 {
        return data.len();
    }
    let body = data.strip_suffix(b"\n").unwrap_or(data);
    let breaks = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    let start = breaks.map(|(index, _)| index + 1).nth(lines as usize - 1).unwrap_or(0);
    start.max(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_counted_in_lines() {
        let data = b"one\ntwo\nthree\n";
        assert_eq!(&data[tail_start(data, 1, 100)..], b"three\n");
        assert_eq!(&data[tail_start(data, 2, 100)..], b"two\nthree\n");
        assert_eq!(&data[tail_start(data, 9, 100)..], data);
        assert_eq!(&data[tail_start(data, 9, 4)..], b"ree\n");
        assert_eq!(&data[tail_start(data, 0, 100)..], b"");
        assert_eq!(tail_start(b"", 3, 10), 0);
    }

    #[test]
    fn a_slice_begins_where_it_was_asked_to_and_ends_at_a_hole() {
        let mut slice = Slice::new(2);
        slice.push(0, Bytes::from_static(b"abcd"));
        slice.push(4, Bytes::from_static(b"ef"));
        slice.push(9, Bytes::from_static(b"zz"));
        assert_eq!(slice.into_parts(), (2, Bytes::from_static(b"cdef")));
        let mut behind = Slice::new(5);
        behind.push(9, Bytes::from_static(b"zz"));
        assert_eq!(behind.into_parts(), (9, Bytes::from_static(b"zz")));
    }
}
