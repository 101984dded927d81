//! The result of a call with as much of its output as an answer may hold. The record holds the
//! first bytes of it, and the log has the rest.

use bytes::{Bytes, BytesMut};

use super::Calls;
use super::output::tail_start;
use crate::engine::Error;
use crate::exec::output_content;
use crate::model::limits::{
    INLINE_HEAD_BYTES_MAX, INLINE_TAIL_BYTES_MAX, WAIT_TAIL_BYTES_MAX, WAIT_TAIL_LINES_MAX,
};
use crate::model::terminal::text_as_shown;
use crate::model::{
    Call, Content, ContentKind, Outcome, OutputStream, OutputSummary, ToolOutput, ToolResult,
};
use crate::store::{OutputFrom, OutputPage, OutputQuery, OutputSelection};

impl Calls {
    /// Returns the call with the output that its record is too small for. For a call without a
    /// result, whether it runs or is lost, also returns the counts of its output.
    ///
    /// # Errors
    ///
    /// [`Error::TaskNotFound`] if the call has been deleted or has expired.
    pub async fn with_full_output(
        &self,
        call: Call,
    ) -> Result<(Call, Option<OutputSummary>), Error> {
        match &call.outcome {
            None | Some(Outcome::Failure(_)) => {
                let page = self.output_of(&call, OutputFrom::Tail(1), 1).await?;
                let summary = OutputSummary {
                    stdout: page.stdout,
                    stderr: page.stderr,
                    combined: page.combined,
                    ..OutputSummary::default()
                };
                Ok((call, Some(summary)))
            }
            Some(Outcome::Result(result)) if result.output.inline_truncated => {
                let content = self.full_content(&call, result).await?;
                Ok((with_content(call, content), None))
            }
            Some(Outcome::Result(_)) => Ok((call, None)),
        }
    }

    /// Returns the last lines of each stream, as a terminal shows them, and the number of bytes before
    /// them.
    ///
    /// # Errors
    ///
    /// [`Error::TaskNotFound`] if the call has been deleted or has expired.
    pub async fn output_tail(&self, call: &Call) -> Result<(Vec<Content>, u64), Error> {
        let bytes_max = WAIT_TAIL_BYTES_MAX as u64;
        let page = self.output_of(call, OutputFrom::Tail(bytes_max), bytes_max).await?;
        let total = page.combined.total_bytes;
        let mut segments = Segments::default();
        for output in self.decode(&page)? {
            segments.push(output, total.saturating_sub(bytes_max), total);
        }
        let mut tail: Vec<Content> = Vec::new();
        for (stream, offset, data) in segments.into_parts() {
            let skip = tail_start(&data, WAIT_TAIL_LINES_MAX as u32, WAIT_TAIL_BYTES_MAX);
            tail.push(output_content(stream, offset + skip as u64, data.slice(skip..), false));
        }
        let shown: u64 = tail.iter().map(|content| length(&content.kind)).sum();
        for content in &mut tail {
            if let ContentKind::Text(text) = &mut content.kind {
                *text = text_as_shown(text).into_owned();
            }
        }
        Ok((tail, total.saturating_sub(shown)))
    }

    async fn full_content(&self, call: &Call, result: &ToolResult) -> Result<Vec<Content>, Error> {
        let total = result.output.combined.total_bytes;
        let mut segments = Segments::default();
        let (head, tail) = (INLINE_HEAD_BYTES_MAX, INLINE_TAIL_BYTES_MAX);
        let page = self.output_of(call, OutputFrom::Offset(0), head).await?;
        for output in self.decode(&page)? {
            segments.push(output, 0, head);
        }
        if total > head {
            let page = self.output_of(call, OutputFrom::Tail(tail), tail).await?;
            for output in self.decode(&page)? {
                segments.push(output, head.max(total.saturating_sub(tail)), total);
            }
        }
        let parts = segments.into_parts().into_iter();
        let content = parts.map(|(stream, offset, data)| {
            let summary = match stream {
                OutputStream::Stdout => &result.output.stdout,
                OutputStream::Stderr => &result.output.stderr,
            };
            let is_end = offset + data.len() as u64 == summary.total_bytes;
            output_content(stream, offset, data, is_end)
        });
        Ok(content.collect())
    }

    async fn output_of(
        &self,
        call: &Call,
        from: OutputFrom,
        bytes_max: u64,
    ) -> Result<OutputPage, Error> {
        let selection = OutputSelection::Combined;
        self.output_page(OutputQuery { call_id: call.id, selection, from, bytes_max }).await
    }

    fn decode(&self, page: &OutputPage) -> Result<Vec<ToolOutput>, Error> {
        let codec = &self.shared.codec;
        let decoded = page.pieces.iter().map(|piece| {
            let output = codec.decode_output(piece.sequence, &piece.bytes);
            output.map_err(|error| Error::Internal(error.to_string()))
        });
        decoded.filter_map(Result::transpose).collect()
    }
}

fn with_content(mut call: Call, content: Vec<Content>) -> Call {
    if let Some(Outcome::Result(result)) = &mut call.outcome {
        let shown: u64 = content.iter().map(|content| length(&content.kind)).sum();
        result.output.inline_truncated = shown < result.output.combined.total_bytes;
        // What code inside the server returned is behind its output.
        let returned = std::mem::replace(&mut result.content, content);
        result.content.extend(returned.into_iter().filter(|part| part.stream.is_none()));
    }
    call
}

fn length(kind: &ContentKind) -> u64 {
    match kind {
        ContentKind::Text(text) => text.len() as u64,
        ContentKind::Image { data, .. } | ContentKind::Binary { data, .. } => data.len() as u64,
        // The output of processes has no such pieces.
        ContentKind::Json(_) | ContentKind::Resource { .. } => 0,
    }
}

/// Output by stream, in segments without gaps.
#[derive(Default)]
struct Segments {
    streams: [Vec<(u64, BytesMut)>; 2],
}

impl Segments {
    /// Adds the part of the piece that lies between `from` and `to` in the combined stream.
    fn push(&mut self, output: ToolOutput, from: u64, to: u64) {
        let start = output.position.combined_offset;
        let end = start + output.data.len() as u64;
        let index = |at: u64| usize::try_from(at.clamp(start, end) - start).unwrap_or(usize::MAX);
        let (skip, stop) = (index(from), index(to));
        if skip >= stop {
            return;
        }
        let data = &output.data[skip..stop];
        let offset = output.position.offset + skip as u64;
        let segments = &mut self.streams[output.position.stream as usize];
        match segments.last_mut() {
            Some((start, segment)) if *start + segment.len() as u64 == offset => {
                segment.extend_from_slice(data);
            }
            _ => segments.push((offset, BytesMut::from(data))),
        }
    }

    fn into_parts(self) -> Vec<(OutputStream, u64, Bytes)> {
        let [stdout, stderr] = self.streams;
        let stdout = stdout.into_iter().map(|segment| (OutputStream::Stdout, segment));
        let stderr = stderr.into_iter().map(|segment| (OutputStream::Stderr, segment));
        let segments = stdout.chain(stderr);
        segments.map(|(stream, (offset, data))| (stream, offset, data.freeze())).collect()
    }
}
