//! The part of a call's output that is kept: a head, and a tail that is known once the call ends.

use std::collections::VecDeque;

use bytes::Bytes;

use super::OutputBefore;
use crate::model::limits::{OUTPUT_TAIL_BYTES_MAX, RECORD_OUTPUT_BYTES_MAX};
use crate::model::{
    Content, ContentKind, OutputPosition, OutputStream, OutputSummary, StreamSummary, ToolOutput,
};

/// A filter that decides for each piece of output whether it goes to the log, waits as a part of
/// the tail, or is dropped. Memory is bounded by the tail, and none is used until the head is full.
#[derive(Debug)]
pub struct OutputKeeper {
    head_bytes_max: u64,
    tail_bytes_max: u64,
    totals: [u64; 2],
    /// The offset after the last kept piece of each stream.
    kept_to: [u64; 2],
    kept: [u64; 2],
    cut_offsets: [Option<u64>; 2],
    combined_kept_to: u64,
    combined_cut_offset: Option<u64>,
    tail: VecDeque<Piece>,
    tail_bytes: u64,
    record: RecordedOutput,
}

#[derive(Debug, Clone)]
struct Piece {
    stream: OutputStream,
    offset: u64,
    combined_offset: u64,
    data: Bytes,
}

impl OutputKeeper {
    /// Creates a keeper of `bytes_max` bytes, of which the tail is up to a half.
    pub fn new(bytes_max: u64) -> Self {
        let tail_bytes_max = OUTPUT_TAIL_BYTES_MAX.min(bytes_max / 2);
        Self {
            head_bytes_max: bytes_max - tail_bytes_max,
            tail_bytes_max,
            totals: [0; 2],
            kept_to: [0; 2],
            kept: [0; 2],
            cut_offsets: [None; 2],
            combined_kept_to: 0,
            combined_cut_offset: None,
            tail: VecDeque::new(),
            tail_bytes: 0,
            record: RecordedOutput::default(),
        }
    }

    /// Creates a keeper of output that comes after some that is kept or dropped already. Together they
    /// have `bytes_max` bytes.
    pub fn after(before: OutputBefore, bytes_max: u64) -> Self {
        let OutputBefore { stdout, stderr, combined } = before;
        let totals = [stdout.total_bytes, stderr.total_bytes];
        Self {
            totals,
            kept_to: totals,
            kept: [stdout.kept_bytes, stderr.kept_bytes],
            cut_offsets: [stdout.cut_offset, stderr.cut_offset],
            combined_kept_to: combined.total_bytes,
            combined_cut_offset: combined.cut_offset,
            ..Self::new(bytes_max)
        }
    }

    /// Adds a piece, and returns the part of it that goes to the log now.
    pub fn push(&mut self, stream: OutputStream, mut data: Bytes) -> Option<ToolOutput> {
        let piece_at = |keeper: &Self, data: Bytes| Piece {
            stream,
            offset: keeper.totals[stream as usize],
            combined_offset: keeper.totals.iter().sum(),
            data,
        };
        let room = self.head_bytes_max.saturating_sub(self.totals.iter().sum());
        let head = data.split_to(data.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
        let kept = (!head.is_empty()).then(|| piece_at(self, head));
        if let Some(piece) = &kept {
            self.totals[stream as usize] += piece.data.len() as u64;
        }
        if !data.is_empty() {
            let piece = piece_at(self, data);
            self.totals[stream as usize] += piece.data.len() as u64;
            self.push_tail(piece);
        }
        kept.map(|piece| self.keep(piece))
    }

    /// Ends the head: the output from now on belongs to the tail. It is used while the log accepts
    /// nothing from a process that must end.
    pub fn end_head(&mut self) {
        self.head_bytes_max = self.head_bytes_max.min(self.totals.iter().sum());
    }

    /// Ends the output and returns the tail, in order.
    pub fn finish(&mut self) -> Vec<ToolOutput> {
        let tail = std::mem::take(&mut self.tail);
        tail.into_iter().map(|piece| self.keep(piece)).collect()
    }

    /// Returns the counts. It must be called after [`OutputKeeper::finish`].
    pub fn summary(&self) -> OutputSummary {
        let stream =
            |index: usize| summary(self.totals[index], self.kept[index], self.cut_offsets[index]);
        let combined =
            summary(self.totals.iter().sum(), self.kept.iter().sum(), self.combined_cut_offset);
        OutputSummary {
            stdout: stream(OutputStream::Stdout as usize),
            stderr: stream(OutputStream::Stderr as usize),
            combined,
            incomplete: false,
            inline_truncated: self.record.is_truncated || combined.dropped_bytes > 0,
        }
    }

    /// Returns the part of the output that a call's record holds.
    pub fn content(&self) -> Vec<Content> {
        [OutputStream::Stdout, OutputStream::Stderr]
            .into_iter()
            .filter(|stream| !self.record.streams[*stream as usize].is_empty())
            .map(|stream| {
                let data = &self.record.streams[stream as usize];
                let is_end = data.len() as u64 == self.totals[stream as usize];
                output_content(stream, 0, Bytes::copy_from_slice(data), is_end)
            })
            .collect()
    }

    fn push_tail(&mut self, piece: Piece) {
        self.tail_bytes += piece.data.len() as u64;
        self.tail.push_back(piece);
        while self.tail_bytes > self.tail_bytes_max {
            let over = self.tail_bytes - self.tail_bytes_max;
            let Some(oldest) = self.tail.front_mut() else { break };
            let dropped = over.min(oldest.data.len() as u64);
            let _ = oldest.data.split_to(usize::try_from(dropped).unwrap_or(usize::MAX));
            oldest.offset += dropped;
            oldest.combined_offset += dropped;
            self.tail_bytes -= dropped;
            if oldest.data.is_empty() {
                self.tail.pop_front();
            }
        }
    }

    fn keep(&mut self, piece: Piece) -> ToolOutput {
        let index = piece.stream as usize;
        let length = piece.data.len() as u64;
        let dropped = piece.offset - self.kept_to[index];
        if dropped > 0 {
            self.cut_offsets[index].get_or_insert(self.kept_to[index]);
        }
        if piece.combined_offset > self.combined_kept_to {
            self.combined_cut_offset.get_or_insert(self.combined_kept_to);
        }
        self.kept_to[index] = piece.offset + length;
        self.combined_kept_to = piece.combined_offset + length;
        self.kept[index] += length;
        self.record.push(piece.stream, piece.offset, &piece.data);
        ToolOutput {
            position: OutputPosition {
                stream: piece.stream,
                offset: piece.offset,
                combined_offset: piece.combined_offset,
                dropped_bytes_before: dropped,
            },
            data: piece.data,
        }
    }
}

fn summary(total: u64, kept: u64, cut_offset: Option<u64>) -> StreamSummary {
    let dropped_bytes = total - kept;
    // If the end of the stream was dropped, nothing kept follows the cut.
    let cut_offset = if dropped_bytes > 0 { cut_offset.or(Some(kept)) } else { None };
    StreamSummary { total_bytes: total, kept_bytes: kept, dropped_bytes, cut_offset }
}

/// The first bytes of each stream, for the call's record.
#[derive(Debug, Default)]
struct RecordedOutput {
    streams: [Vec<u8>; 2],
    is_truncated: bool,
}

impl RecordedOutput {
    fn push(&mut self, stream: OutputStream, offset: u64, data: &Bytes) {
        let held = &mut self.streams[stream as usize];
        // A piece after a gap would appear to stand in the gap.
        let follows = offset == held.len() as u64;
        let room = if follows { RECORD_OUTPUT_BYTES_MAX - held.len() } else { 0 };
        self.is_truncated |= data.len() > room;
        held.extend_from_slice(&data[..data.len().min(room)]);
    }
}

/// Returns a piece of a stream as content: text if it is UTF-8, and otherwise the bytes.
///
/// A piece of a longer text may begin or end inside a character. It is then shortened to whole
/// characters, so that the division does not turn text into binary. At the end of the stream,
/// `is_end`, an incomplete character is an error as any other.
pub fn output_content(stream: OutputStream, offset: u64, data: Bytes, is_end: bool) -> Content {
    let start = data.iter().take(3).take_while(|byte| is_continuation(**byte)).count();
    let start = if offset == 0 { 0 } else { start };
    let body = &data[start..];
    let text = match std::str::from_utf8(body) {
        Ok(text) => Some(text),
        // The only error is an incomplete character at the end.
        Err(error) if !is_end && error.error_len().is_none() && error.valid_up_to() > 0 => {
            std::str::from_utf8(&body[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    match text {
        Some(text) => Content {
            kind: ContentKind::Text(text.to_owned()),
            stream: Some(stream),
            offset: offset + start as u64,
        },
        None => {
            let media_type = "application/octet-stream".into();
            let kind = ContentKind::Binary { media_type, data };
            Content { kind, stream: Some(stream), offset }
        }
    }
}

fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

#[cfg(test)]
mod tests {
    use super::*;
    use OutputStream::{Stderr, Stdout};

    fn rebuilt(pieces: &[ToolOutput], stream: OutputStream) -> Vec<(u64, Vec<u8>)> {
        let of = |piece: &&ToolOutput| piece.position.stream == stream;
        pieces.iter().filter(of).map(|piece| (piece.position.offset, piece.data.to_vec())).collect()
    }

    #[test]
    fn all_is_kept_while_it_fits() {
        let mut keeper = OutputKeeper::new(100);
        let pieces = [(Stdout, "one"), (Stderr, "two"), (Stdout, "three")];
        let mut kept: Vec<ToolOutput> = pieces
            .iter()
            .filter_map(|(stream, text)| keeper.push(*stream, Bytes::from_static(text.as_bytes())))
            .collect();
        kept.extend(keeper.finish());
        assert_eq!(rebuilt(&kept, Stdout), [(0, b"one".to_vec()), (3, b"three".to_vec())]);
        assert_eq!(kept[2].position.combined_offset, 6);
        let summary = keeper.summary();
        assert_eq!(summary.combined, super::summary(11, 11, None));
        assert!(!summary.inline_truncated);
    }

    #[test]
    fn the_middle_is_dropped_and_counted_and_head_and_tail_are_exact() {
        for max in [0_u64, 1, 2, 7, 10, 31, 64] {
            let mut keeper = OutputKeeper::new(max);
            let written: Vec<u8> = (0..=255).collect();
            let mut kept = Vec::new();
            for piece in written.chunks(13) {
                kept.extend(keeper.push(Stdout, Bytes::copy_from_slice(piece)));
            }
            kept.extend(keeper.finish());
            for (offset, data) in rebuilt(&kept, Stdout) {
                let offset = usize::try_from(offset).unwrap();
                assert_eq!(written[offset..offset + data.len()], data, "max {max}");
            }
            let sizes: usize = kept.iter().map(|piece| piece.data.len()).sum();
            let summary = keeper.summary();
            assert_eq!(summary.stdout.kept_bytes, max);
            assert_eq!(sizes as u64, max);
            assert_eq!(summary.stdout.dropped_bytes, 256 - max);
            assert_eq!(summary.stdout.cut_offset, Some(max - max / 2));
            assert_eq!(summary.stdout, summary.combined);
        }
    }

    #[test]
    fn a_cut_inside_a_character_leaves_text() {
        let euro = "ab\u{20ac}cd".as_bytes();
        let head = output_content(Stdout, 0, Bytes::copy_from_slice(&euro[..4]), false);
        assert_eq!(head.kind, ContentKind::Text("ab".into()));
        let tail = output_content(Stdout, 3, Bytes::copy_from_slice(&euro[3..]), true);
        assert_eq!((tail.kind, tail.offset), (ContentKind::Text("cd".into()), 5));
        let wrong = output_content(Stdout, 0, Bytes::from_static(b"a\xffb"), false);
        assert!(matches!(wrong.kind, ContentKind::Binary { .. }));
    }

    #[test]
    fn an_incomplete_character_at_the_end_of_a_stream_is_not_lost() {
        let mut keeper = OutputKeeper::new(100);
        keeper.push(Stdout, Bytes::from_static(b"ab\xe2\x82"));
        keeper.finish();
        let content = keeper.content();
        let [Content { kind: ContentKind::Binary { data, .. }, .. }] = content.as_slice() else {
            panic!("{content:?}")
        };
        assert_eq!(data.as_ref(), b"ab\xe2\x82");
    }
}
