//! The result of a call with as much of its output as an answer may hold: the record keeps the
//! first bytes, the log has the rest.

use bytes::{Bytes, BytesMut};

use super::output::content;
use super::read_output::tail_start;
use super::{Engine, Error};
use crate::model::limits::{
    INLINE_HEAD_BYTES_MAX, INLINE_TAIL_BYTES_MAX, WAIT_TAIL_BYTES_MAX, WAIT_TAIL_LINES_MAX,
};
use crate::model::{
    Call, Content, ContentKind, Outcome, OutputStream, OutputSummary, ToolOutput, ToolResult,
};
use crate::store::{OutputFrom, OutputPage, OutputQuery, OutputSelection};

impl Engine {
    /// Gives the call's result the output that its record is too small for, and a call without a
    /// result, running or lost, the counts of what it has written.
    pub async fn complete(&self, call: Call) -> Result<(Call, Option<OutputSummary>), Error> {
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
                let content = self.output_content(&call, result).await?;
                Ok((with_content(call, content), None))
            }
            Some(Outcome::Result(_)) => Ok((call, None)),
        }
    }

    /// The last lines of both streams, each stream by itself.
    pub async fn output_tail(&self, call: &Call) -> Result<(Vec<Content>, u64), Error> {
        let bytes_max = WAIT_TAIL_BYTES_MAX as u64;
        let page = self.output_of(call, OutputFrom::Tail(bytes_max), bytes_max).await?;
        let total = page.combined.total_bytes;
        let mut runs = Runs::default();
        for output in self.decode(&page)? {
            runs.push(output, total.saturating_sub(bytes_max), total);
        }
        let mut tail: Vec<Content> = Vec::new();
        for (stream, offset, data) in runs.into_runs() {
            let skip = tail_start(&data, WAIT_TAIL_LINES_MAX as u32, WAIT_TAIL_BYTES_MAX);
            tail.push(content(stream, offset + skip as u64, data.slice(skip..)));
        }
        let shown: u64 = tail.iter().map(|content| length(&content.kind)).sum();
        Ok((tail, total.saturating_sub(shown)))
    }

    async fn output_content(
        &self,
        call: &Call,
        result: &ToolResult,
    ) -> Result<Vec<Content>, Error> {
        let total = result.output.combined.total_bytes;
        let mut runs = Runs::default();
        let (head, tail) = (INLINE_HEAD_BYTES_MAX, INLINE_TAIL_BYTES_MAX);
        let page = self.output_of(call, OutputFrom::Offset(0), head).await?;
        for output in self.decode(&page)? {
            runs.push(output, 0, head);
        }
        if total > head {
            let page = self.output_of(call, OutputFrom::Tail(tail), tail).await?;
            for output in self.decode(&page)? {
                runs.push(output, head.max(total.saturating_sub(tail)), total);
            }
        }
        let runs = runs.into_runs().into_iter();
        Ok(runs.map(|(stream, offset, data)| content(stream, offset, data)).collect())
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

    /// A call whose record was there a moment ago may be forgotten by now. Its output went with
    /// it: then it isn't found, rather than shown without its output.
    pub(super) async fn output_page(&self, query: OutputQuery) -> Result<OutputPage, Error> {
        let page = self.shared.store.output(query).await?;
        page.ok_or_else(|| Error::TaskNotFound(query.call_id.background()))
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
        result.content = content;
    }
    call
}

fn length(kind: &ContentKind) -> u64 {
    match kind {
        ContentKind::Text(text) => text.len() as u64,
        ContentKind::Image { data, .. } | ContentKind::Binary { data, .. } => data.len() as u64,
        // Of processes' output there is none.
        ContentKind::Json(_) | ContentKind::Resource { .. } => 0,
    }
}

/// Output sorted by stream, in runs without a hole.
#[derive(Default)]
struct Runs {
    streams: [Vec<(u64, BytesMut)>; 2],
}

impl Runs {
    /// Takes what of the piece lies from `from` to `to` of both streams together.
    fn push(&mut self, output: ToolOutput, from: u64, to: u64) {
        let start = output.position.combined_offset;
        let end = start + output.data.len() as u64;
        let cut = |at: u64| usize::try_from(at.clamp(start, end) - start).unwrap_or(usize::MAX);
        let (skip, stop) = (cut(from), cut(to));
        if skip >= stop {
            return;
        }
        let data = &output.data[skip..stop];
        let offset = output.position.offset + skip as u64;
        let runs = &mut self.streams[output.position.stream as usize];
        match runs.last_mut() {
            Some((at, run)) if *at + run.len() as u64 == offset => run.extend_from_slice(data),
            _ => runs.push((offset, BytesMut::from(data))),
        }
    }

    fn into_runs(self) -> Vec<(OutputStream, u64, Bytes)> {
        let [stdout, stderr] = self.streams;
        let stdout = stdout.into_iter().map(|run| (OutputStream::Stdout, run));
        let stderr = stderr.into_iter().map(|run| (OutputStream::Stderr, run));
        let runs = stdout.chain(stderr);
        runs.map(|(stream, (offset, data))| (stream, offset, data.freeze())).collect()
    }
}
