//! Output: every byte is kept or counted as dropped, and what is kept is exact.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::views::{CallLog, has_exited, result_of, task_result};
use super::{History, KnownWork, Violation};
use crate::support::v1;
use v1::OutputStream::{self, Combined, Stderr, Stdout};

const STREAMS: [OutputStream; 3] = [Stdout, Stderr, Combined];

/// For every stream of a call: total = kept + dropped, in the result, in the log and in what
/// ReadOutput says, and both streams together are the combined one.
pub fn counts_add_up(history: &History) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let calls = history.calls();
    for call in calls.values() {
        let result = call.end().and_then(|(_, end)| result_of(end));
        let Some(output) = result.and_then(|result| result.output.as_ref()) else { continue };
        let faults = STREAMS.into_iter().filter_map(|stream| {
            let summary = summary(output, stream)?;
            stream_fault(call, stream, summary).map(|fault| format!("{stream:?}: {fault}"))
        });
        wrong.extend(faults.map(|fault| Violation::new(call.id, fault)));
        if !is_sum(output) {
            wrong.push(Violation::new(call.id, "the streams aren't the combined one"));
        }
    }
    for kept in &history.outputs {
        let bytes: usize = kept.pieces.iter().map(|(_, data)| data.len()).sum();
        if kept.total_bytes != length(bytes) + kept.dropped_bytes {
            let detail = format!("{bytes} bytes read, {} dropped", kept.dropped_bytes);
            let detail = format!("{:?}: {} in all, {detail}", kept.stream, kept.total_bytes);
            wrong.push(Violation::new(&kept.call_id, detail));
        }
        let end = calls.get(kept.call_id.as_str()).and_then(|call| call.end());
        let output = end.and_then(|(_, end)| result_of(end)?.output.as_ref());
        let counted = output.and_then(|output| summary(output, kept.stream));
        let counts = (kept.total_bytes, kept.dropped_bytes);
        if counted.is_some_and(|summary| (summary.total_bytes, summary.dropped_bytes) != counts) {
            wrong.push(Violation::new(&kept.call_id, "ReadOutput counts otherwise"));
        }
    }
    wrong
}

fn length(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn summary(output: &v1::OutputSummary, stream: OutputStream) -> Option<&v1::StreamSummary> {
    match stream {
        Stdout => output.stdout.as_ref(),
        Stderr => output.stderr.as_ref(),
        Combined | OutputStream::Unspecified => output.combined.as_ref(),
    }
}

fn is_sum(output: &v1::OutputSummary) -> bool {
    let counts = |summary: Option<&v1::StreamSummary>| {
        summary.map_or([0; 3], |s| [s.total_bytes, s.kept_bytes, s.dropped_bytes])
    };
    let [out, err, both] =
        [&output.stdout, &output.stderr, &output.combined].map(|s| counts(s.as_ref()));
    std::array::from_fn::<i64, 3, _>(|index| out[index] + err[index]) == both
}

fn stream_fault(
    call: &CallLog<'_>,
    stream: OutputStream,
    summary: &v1::StreamSummary,
) -> Option<&'static str> {
    if summary.total_bytes != summary.kept_bytes + summary.dropped_bytes {
        return Some("total isn't kept and dropped");
    }
    let (mut kept, mut dropped, mut end, mut cut) = (0, 0, 0, None);
    for (offset, piece) in pieces(call, stream) {
        let hole = offset - end;
        if hole < 0 || (stream != Combined && hole != piece.dropped_bytes_before) {
            return Some("a piece isn't where it should be");
        }
        if hole > 0 {
            cut = cut.or(Some(end));
        }
        dropped += hole;
        kept += length(piece.data.len());
        end = offset + length(piece.data.len());
    }
    let rest = summary.total_bytes - end;
    if rest > 0 {
        cut = cut.or(Some(end));
    }
    if (kept, dropped + rest) != (summary.kept_bytes, summary.dropped_bytes) {
        return Some("the log has other bytes than were counted");
    }
    (summary.cut_offset != cut).then_some("it wasn't cut where it says")
}

/// The pieces of a stream in the log, each with its offset.
fn pieces<'a>(call: &CallLog<'a>, stream: OutputStream) -> Vec<(i64, &'a v1::ToolOutput)> {
    let pieces = call.output().into_iter();
    let pieces = pieces.filter(|piece| stream == Combined || piece.stream() == stream);
    let offset = |piece: &v1::ToolOutput| match stream {
        Combined => piece.combined_offset,
        _ => piece.offset,
    };
    pieces.map(|piece| (offset(piece), piece)).collect()
}

/// Bytes without holes between them, with the offset of the first.
type Run = (i64, Vec<u8>);

/// Joins pieces that follow each other.
fn runs<'a>(pieces: impl IntoIterator<Item = (i64, &'a [u8])>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (offset, data) in pieces {
        match runs.last_mut() {
            _ if data.is_empty() => {}
            Some((start, run)) if *start + length(run.len()) == offset => run.extend(data),
            _ => runs.push((offset, data.to_vec())),
        }
    }
    runs
}

fn log_runs(call: &CallLog<'_>, stream: OutputStream) -> Vec<Run> {
    runs(pieces(call, stream).into_iter().map(|(offset, piece)| (offset, &piece.data[..])))
}

/// Returns whether these bytes stand at this offset.
fn holds(runs: &[Run], offset: i64, data: &[u8]) -> bool {
    let mut at = runs.iter().filter_map(|(start, run)| {
        let skip = usize::try_from(offset - start).ok()?;
        run.get(skip..skip + data.len())
    });
    data.is_empty() || at.any(|found| found == data)
}

/// Kept output is byte-exact: ReadOutput gives the bytes of the log, results hold parts of them,
/// and the log holds what the work writes, where that is known.
pub fn kept_output_is_exact(history: &History) -> Vec<Violation> {
    let calls = history.calls();
    let mut wrong = Vec::new();
    for kept in &history.outputs {
        let Some(call) = calls.get(kept.call_id.as_str()) else { continue };
        let read = runs(kept.pieces.iter().map(|(offset, data)| (*offset, &data[..])));
        if read != log_runs(call, kept.stream) {
            let detail = format!("{:?}: ReadOutput gives other bytes than the log", kept.stream);
            wrong.push(Violation::new(call.id, detail));
        }
    }
    for (what, id, result) in results(history, &calls) {
        if calls.get(id).is_some_and(|call| !content_is_kept(call, result)) {
            wrong.push(Violation::new(id, format!("{what} holds other bytes than the log")));
        }
    }
    for work in &history.works {
        for call in calls.values().filter(|call| call.mark() == work.mark) {
            let faults = known_errors(call, work);
            wrong.extend(faults.into_iter().map(|fault| Violation::new(call.id, fault)));
        }
    }
    wrong
}

/// All results in which there is output: where they are, and of which call they are.
fn results<'a>(
    history: &'a History,
    calls: &BTreeMap<&'a str, CallLog<'a>>,
) -> Vec<(&'static str, &'a str, &'a v1::ToolResult)> {
    let mut results = Vec::new();
    for call in calls.values() {
        let result = call.end().and_then(|(_, end)| result_of(end));
        results.extend(result.map(|result| ("an event", call.id, result)));
    }
    for record in &history.records {
        let result = task_result(record);
        results.extend(result.map(|result| ("a record", record.call_id.as_str(), result)));
    }
    for (_, _, reply) in history.replies() {
        let result = reply.result.as_ref();
        results.extend(result.map(|result| ("an answer", reply.call_id.as_str(), result)));
        for task in &reply.tasks {
            let result = task_result(task);
            results.extend(result.map(|result| ("an answer", task.call_id.as_str(), result)));
        }
    }
    results
}

fn content_is_kept(call: &CallLog<'_>, result: &v1::ToolResult) -> bool {
    use v1::content::Kind;
    let [stdout, stderr] = [Stdout, Stderr].map(|stream| log_runs(call, stream));
    result.content.iter().all(|content| {
        let data = match &content.kind {
            Some(Kind::Text(text)) => text.as_bytes(),
            Some(Kind::Binary(binary)) => &binary.data,
            _ => return true,
        };
        match content.stream() {
            Stdout => holds(&stdout, content.offset, data),
            Stderr => holds(&stderr, content.offset, data),
            Combined | OutputStream::Unspecified => true,
        }
    })
}

fn known_errors(call: &CallLog<'_>, work: &KnownWork) -> Vec<String> {
    let end = call.end().map(|(_, end)| end);
    let is_whole = end.is_some_and(has_exited);
    let output = end.and_then(|end| result_of(end)?.output.as_ref());
    let fault = |(stream, written): (OutputStream, &Option<Bytes>)| {
        let written = written.as_ref()?;
        let whole = [(0, written.to_vec())];
        let is_part = log_runs(call, stream).iter().all(|(at, data)| holds(&whole, *at, data));
        let total = output.and_then(|output| summary(output, stream)).map(|s| s.total_bytes);
        let is_all = !is_whole || total == Some(length(written.len()));
        (!is_part || !is_all).then(|| format!("{stream:?}: not what the work has written"))
    };
    [(Stdout, &work.stdout), (Stderr, &work.stderr)].into_iter().filter_map(fault).collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample::{check_fails, finish, output_mut, result_mut};
    use super::*;

    fn stdout_of(end: &mut v1::ToolCallFinished) -> &mut v1::StreamSummary {
        let Some(v1::tool_call_finished::Outcome::Result(result)) = &mut end.outcome else {
            panic!("no result")
        };
        result.output.as_mut().and_then(|output| output.stdout.as_mut()).expect("a summary")
    }

    #[test]
    fn counts_that_do_not_add_up_are_found() {
        check_fails(counts_add_up, "kept and dropped", |history| {
            finish(history, 5, |end| stdout_of(end).kept_bytes += 1);
        });
        check_fails(counts_add_up, "other bytes than were counted", |history| {
            finish(history, 5, |end| {
                stdout_of(end).dropped_bytes += 1;
                stdout_of(end).kept_bytes -= 1;
            });
        });
        check_fails(counts_add_up, "combined", |history| {
            finish(history, 5, |end| stdout_of(end).total_bytes += 1);
        });
        check_fails(counts_add_up, "cut where", |history| {
            finish(history, 5, |end| stdout_of(end).cut_offset = None);
        });
        check_fails(counts_add_up, "where it should be", |history| {
            output_mut(history, 23).offset += 1;
        });
        check_fails(counts_add_up, "bytes read", |history| {
            history.outputs[0].pieces.clear();
        });
        check_fails(counts_add_up, "otherwise", |history| {
            history.outputs[0].total_bytes += 1;
            history.outputs[0].dropped_bytes += 1;
        });
    }

    #[test]
    fn bytes_that_changed_are_found() {
        check_fails(kept_output_is_exact, "ReadOutput", |history| {
            history.outputs[0].pieces[0].1 = Bytes::from_static(b"eno\n");
        });
        check_fails(kept_output_is_exact, "ReadOutput", |history| {
            history.outputs[1].pieces[1].0 += 1;
        });
        check_fails(kept_output_is_exact, "a record holds", |history| {
            result_mut(&mut history.records[0]).content[0].offset = 1;
        });
        check_fails(kept_output_is_exact, "an answer holds", |history| {
            let kind = Some(v1::content::Kind::Text("other".into()));
            let reply = history.exchanges[7].reply_mut();
            reply.result.as_mut().expect("a result").content[0].kind = kind;
        });
        check_fails(kept_output_is_exact, "has written", |history| {
            history.works[0].stdout = Some(Bytes::from_static(b"one\nand more\n"));
        });
        check_fails(kept_output_is_exact, "has written", |history| {
            history.works[1].stdout = Some(Bytes::from_static(b"abcdefghijxy?"));
        });
    }
}
