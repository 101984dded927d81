//! Reading the output of a call.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::Calls;
use crate::engine::Error;
use crate::model::{Call, CallId, Principal, StreamSummary, ToolOutput};
use crate::store::{OutputFrom, OutputPage, OutputQuery, OutputSelection};

/// The start of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStart {
    /// The offset in the stream, in bytes.
    Offset(u64),
    /// The number of lines before the end of the stream.
    TailLines(u32),
}

/// A request to read output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputRead {
    /// The call.
    pub id: CallId,
    /// The stream.
    pub selection: OutputSelection,
    /// The start of the read.
    pub start: OutputStart,
    /// The maximum number of bytes to return.
    pub bytes_max: usize,
    /// The maximum time to wait for output after the start, or for the end of the call.
    pub wait: Duration,
}

/// A slice of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputSlice {
    /// The bytes.
    pub data: Bytes,
    /// The offset of the first byte.
    pub offset: u64,
    /// The offset at which the next read starts.
    pub next_offset: u64,
    /// The number of bytes that the call has written to the stream.
    pub total_bytes: u64,
    /// The number of these bytes that were dropped.
    pub dropped_bytes: u64,
    /// `true` if the call has ended and nothing follows `next_offset`.
    pub eof: bool,
}

impl Calls {
    /// Reads a slice of a call's output, and waits for output if the request says so.
    ///
    /// # Errors
    ///
    /// [`Error::TaskNotFound`] if the caller has no such call, [`Error::NotOwner`] if the read waits and
    /// another replica has the session, and [`Error::Draining`] if the server stops during the wait.
    pub async fn read_output(
        &self,
        principal: &Principal,
        read: OutputRead,
    ) -> Result<OutputSlice, Error> {
        let deadline = Instant::now() + read.wait;
        let call = self.get(principal, read.id).await?;
        let waits = !read.wait.is_zero() && !call.state.is_terminal();
        let _held = if waits { self.shared.hold(principal, call.session_id).await? } else { None };
        let term = self.shared.ownership.term();
        let mut heads = self.shared.heads.subscribe(&call.session_id);
        loop {
            heads.newest();
            // The call is read before its output: once it has ended, its output is complete.
            let call = self.get(principal, read.id).await?;
            let slice = self.output_slice(&call, &read).await?;
            if !slice.data.is_empty() || slice.eof || Instant::now() >= deadline {
                return Ok(slice);
            }
            tokio::select! {
                _ = heads.changed() => {}
                () = tokio::time::sleep_until(deadline) => {}
                () = self.shared.draining.cancelled() => return Err(Error::Draining),
                () = term.ended() => return Err(Error::Draining),
            }
        }
    }

    /// Reads a page of output. A call that has been deleted since its record was read is not found,
    /// rather than returned without its output.
    pub(super) async fn output_page(&self, query: OutputQuery) -> Result<OutputPage, Error> {
        let page = self.shared.store.output(query).await?;
        page.ok_or_else(|| Error::TaskNotFound(query.call_id.background()))
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
        let mut slice = SliceBuilder::new(match read.start {
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
            // The end of the stream was dropped, so nothing follows.
            next_offset = next_offset.max(totals.total_bytes);
        }
        let eof = call.state.is_terminal() && next_offset >= totals.total_bytes;
        let StreamSummary { total_bytes, dropped_bytes, .. } = totals;
        Ok(OutputSlice { data, offset, next_offset, total_bytes, dropped_bytes, eof })
    }
}

/// Returns the counts of the selected stream: the final ones if the call has ended, or else those
/// of the log.
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

fn offset_of(output: &ToolOutput, selection: OutputSelection) -> u64 {
    match selection {
        OutputSelection::Combined => output.position.combined_offset,
        OutputSelection::Stdout | OutputSelection::Stderr => output.position.offset,
    }
}

/// A builder of a slice from adjacent pieces. Pieces after a gap are left to the next read.
struct SliceBuilder {
    start: u64,
    offset: u64,
    /// The offset after the last part.
    end: u64,
    parts: Vec<Bytes>,
}

impl SliceBuilder {
    fn new(start: u64) -> Self {
        Self { start, offset: start, end: start, parts: Vec::new() }
    }

    fn push(&mut self, offset: u64, mut data: Bytes) {
        if self.parts.is_empty() {
            if offset < self.start {
                let skip = usize::try_from(self.start - offset).unwrap_or(usize::MAX);
                data = data.slice(skip.min(data.len())..);
            }
            if data.is_empty() {
                return;
            }
            self.offset = offset.max(self.start);
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

/// Returns the start of the last `lines` lines of `data`, but at most `bytes_max` before its end.
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
    fn a_slice_begins_at_the_requested_offset_and_ends_at_a_gap() {
        let mut slice = SliceBuilder::new(2);
        slice.push(0, Bytes::from_static(b"abcd"));
        slice.push(4, Bytes::from_static(b"ef"));
        slice.push(9, Bytes::from_static(b"zz"));
        assert_eq!(slice.into_parts(), (2, Bytes::from_static(b"cdef")));
        let mut after_gap = SliceBuilder::new(5);
        after_gap.push(9, Bytes::from_static(b"zz"));
        assert_eq!(after_gap.into_parts(), (9, Bytes::from_static(b"zz")));
    }
}
