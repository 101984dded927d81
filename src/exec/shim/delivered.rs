//! The output that was passed on, for the counts of a run of which a part was lost.

use crate::exec::OutputBefore;
use crate::model::{OutputSummary, StreamSummary, ToolOutput};

/// The counts of the pieces that were passed on.
#[derive(Debug, Default)]
pub(super) struct DeliveredOutput {
    streams: [DeliveredStream; 2],
    combined: DeliveredStream,
}

#[derive(Debug, Default)]
struct DeliveredStream {
    /// The offset after the last piece.
    end: u64,
    bytes: u64,
    cut_offset: Option<u64>,
}

impl DeliveredOutput {
    /// Creates the counts of a run whose output comes after this.
    pub(super) fn after(before: OutputBefore) -> Self {
        let OutputBefore { stdout, stderr, combined } = before;
        Self {
            streams: [stdout, stderr].map(DeliveredStream::after),
            combined: DeliveredStream::after(combined),
        }
    }

    /// Counts the next piece, and notes in it the bytes that are missing before it.
    pub(super) fn add(&mut self, piece: &mut ToolOutput) {
        let (position, length) = (&mut piece.position, piece.data.len() as u64);
        let stream = &mut self.streams[position.stream as usize];
        position.dropped_bytes_before = stream.add(position.offset, length);
        self.combined.add(position.combined_offset, length);
    }

    /// Corrects the counts of an output of which only these pieces are there.
    pub(super) fn correct(&self, summary: &mut OutputSummary) {
        let [stdout, stderr] = &self.streams;
        stdout.correct(&mut summary.stdout);
        stderr.correct(&mut summary.stderr);
        self.combined.correct(&mut summary.combined);
        summary.incomplete = true;
        summary.inline_truncated |= summary.combined.dropped_bytes > 0;
    }
}

impl DeliveredStream {
    fn after(before: StreamSummary) -> Self {
        let StreamSummary { total_bytes, kept_bytes, cut_offset, .. } = before;
        Self { end: total_bytes, bytes: kept_bytes, cut_offset }
    }

    fn add(&mut self, offset: u64, length: u64) -> u64 {
        let missing = offset.saturating_sub(self.end);
        if missing > 0 {
            self.cut_offset.get_or_insert(self.end);
        }
        self.end = offset + length;
        self.bytes += length;
        missing
    }

    fn correct(&self, summary: &mut StreamSummary) {
        summary.kept_bytes = self.bytes;
        summary.dropped_bytes = summary.total_bytes.saturating_sub(self.bytes);
        let cut_offset = self.cut_offset.unwrap_or(self.end);
        summary.cut_offset = (summary.dropped_bytes > 0).then_some(cut_offset);
    }
}
