//! The promises of a shim: no call is lost while it lives, and readers have all that a process wrote.

use std::collections::BTreeMap;

use super::views::{has_exited, result_of};
use super::{History, KnownWork, Shims, Violation};
use crate::support::v1;
use v1::OutputStream::Stderr;
use v1::session_event::Payload;

/// A call whose shim lives is never LOST. A call whose process has never begun may be.
pub fn calls_of_a_living_shim_are_not_lost(history: &History) -> Vec<Violation> {
    if history.shims != Shims::Lived {
        return Vec::new();
    }
    let calls = history.calls();
    let lost = calls.values().filter(|call| {
        let is_lost = call.end().is_some_and(|(_, end)| end.state() == v1::State::Lost);
        let work = history.works.iter().find(|work| work.mark == call.mark());
        let has_effects = work.and_then(|work| work.effects).is_some_and(|count| count > 0);
        is_lost && (has_effects || !call.output().is_empty())
    });
    lost.map(|call| Violation::new(call.id, "LOST though its process had begun")).collect()
}

/// The output of one call that one reader was given.
struct ReadOutput<'a> {
    work: &'a KnownWork,
    /// The end of the last piece of each stream.
    ends: [i64; 2],
    /// The bytes of each stream.
    bytes: [i64; 2],
}

impl<'a> ReadOutput<'a> {
    fn new(work: &'a KnownWork) -> Self {
        Self { work, ends: [0; 2], bytes: [0; 2] }
    }

    fn written(&self, stream: usize) -> Option<&'a [u8]> {
        let written = if stream == 0 { &self.work.stdout } else { &self.work.stderr };
        written.as_deref()
    }

    /// Adds a piece: the one behind what the reader has, of the bytes that were written there.
    fn add(&mut self, piece: &v1::ToolOutput) -> Result<(), &'static str> {
        let stream = usize::from(piece.stream() == Stderr);
        if piece.offset != self.ends[stream] + piece.dropped_bytes_before {
            return Err("was given a piece that isn't the next one");
        }
        let length = i64::try_from(piece.data.len()).unwrap_or(i64::MAX);
        self.ends[stream] = piece.offset + length;
        self.bytes[stream] += length;
        let Some(written) = self.written(stream) else { return Ok(()) };
        let from = usize::try_from(piece.offset).unwrap_or(usize::MAX);
        let data = written.get(from..from.saturating_add(piece.data.len()));
        if data == Some(&piece.data[..]) { Ok(()) } else { Err("was given other bytes") }
    }

    /// Checks the output at the end of a process: it is all that was kept of what was written.
    fn check_end(&self, end: &v1::ToolCallFinished) -> Result<(), &'static str> {
        let Some(output) = result_of(end).and_then(|result| result.output.as_ref()) else {
            return Ok(());
        };
        for (stream, summary) in [&output.stdout, &output.stderr].into_iter().enumerate() {
            let (total, kept) = summary
                .as_ref()
                .map_or((0, 0), |summary| (summary.total_bytes, summary.kept_bytes));
            if self.bytes[stream] != kept {
                return Err("was not given all that was kept");
            }
            let is_all = |written: &[u8]| i64::try_from(written.len()) == Ok(total);
            if has_exited(end) && !self.written(stream).is_none_or(is_all) {
                return Err("was given the end before all that was written");
            }
        }
        Ok(())
    }
}

/// The output that a reader was given is the beginning of what the process wrote, and at its end all of
/// it that was kept. That of calls whose work is known, and that the reader has seen from their
/// acceptance.
pub fn readers_have_what_was_written(history: &History) -> Vec<Violation> {
    let mut readers: BTreeMap<u64, Vec<&v1::SessionEvent>> = BTreeMap::new();
    for delivery in &history.deliveries {
        let events = delivery.events.iter().map(|event| &event.message);
        readers.entry(delivery.reader).or_default().extend(events);
    }
    let works: BTreeMap<&str, &KnownWork> =
        history.works.iter().map(|work| (work.mark.as_str(), work)).collect();
    let mut wrong = Vec::new();
    for (reader, events) in readers {
        let mut calls: BTreeMap<&str, ReadOutput<'_>> = BTreeMap::new();
        for event in events {
            let id = event.call_id.as_str();
            let checked = match (&event.payload, calls.get_mut(id)) {
                (Some(Payload::ToolCallAccepted(accepted)), _) => {
                    let work = works.get(accepted.description.as_str());
                    calls.extend(work.map(|work| (id, ReadOutput::new(work))));
                    Ok(())
                }
                (Some(Payload::ToolOutput(piece)), Some(read)) => read.add(piece),
                (Some(Payload::ToolCallFinished(end)), Some(read)) => read.check_end(end),
                _ => Ok(()),
            };
            let subject = format!("reader {reader}, {id}");
            wrong.extend(checked.err().map(|detail| Violation::new(subject, detail)));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::sample::{change_event, check_fails, output};
    use super::*;

    /// The event with this sequence that a reader was given.
    fn given(history: &mut History, reader: u64, sequence: i64) -> &mut v1::SessionEvent {
        let own = history.deliveries.iter_mut().filter(|delivery| delivery.reader == reader);
        let mut events =
            own.flat_map(|delivery| &mut delivery.events).map(|event| &mut event.message);
        events.find(|event| event.sequence == sequence).expect("a reader that was given it")
    }

    #[test]
    fn a_loss_of_a_call_that_had_begun_is_found() {
        check_fails(calls_of_a_living_shim_are_not_lost, "call-3", |history| {
            change_event(history, 14, |event| event.payload = Some(output(0, 0, b"three\n")));
        });
        check_fails(calls_of_a_living_shim_are_not_lost, "had begun", |history| {
            let effects = Some(1);
            history.works.push(KnownWork { mark: "mark-3".into(), effects, ..Default::default() });
        });
    }

    #[test]
    fn output_that_a_reader_was_given_wrongly_is_found() {
        let piece =
            |event: &mut v1::SessionEvent, change: &dyn Fn(&mut v1::ToolOutput)| match &mut event
                .payload
            {
                Some(Payload::ToolOutput(piece)) => change(piece),
                other => panic!("no output but {other:?}"),
            };
        check_fails(readers_have_what_was_written, "other bytes", |history| {
            piece(given(history, 2, 22), &|piece| piece.data = Bytes::from_static(b"abd"));
        });
        check_fails(readers_have_what_was_written, "isn't the next one", |history| {
            piece(given(history, 2, 23), &|piece| piece.dropped_bytes_before = 6);
        });
        check_fails(readers_have_what_was_written, "all that was kept", |history| {
            given(history, 2, 23).payload = None;
        });
        check_fails(readers_have_what_was_written, "before all", |history| {
            history.works[1].stdout = Some(Bytes::from_static(b"abcdefghijxyz, and more"));
        });
        // A reader that goes on behind a cut has seen the call from its beginning.
        check_fails(readers_have_what_was_written, "reader 1, call-5", |history| {
            given(history, 1, 22).payload = None;
        });
    }
}
