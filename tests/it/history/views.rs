//! A history by call, by task and by id.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;

use super::{Answer, Asked, Event, Exchange, History, Log, Moment, Reply, v1};
use v1::session_event::Payload;

/// A call, as the log of its session has it.
#[derive(Debug)]
pub struct CallLog<'a> {
    /// The id of the call.
    pub id: &'a str,
    /// The log that it is in.
    pub log: &'a Log,
    /// The events of the call.
    pub events: Vec<&'a v1::SessionEvent>,
}

impl<'a> CallLog<'a> {
    /// Returns the payloads, each with its event.
    pub fn payloads(&self) -> impl Iterator<Item = (&'a v1::SessionEvent, &'a Payload)> {
        self.events.iter().filter_map(|event| Some((*event, event.payload.as_ref()?)))
    }

    /// Returns the event of the call's acceptance.
    pub fn accepted(&self) -> Option<(&'a v1::SessionEvent, &'a v1::ToolCallAccepted)> {
        self.payloads().find_map(|(event, payload)| match payload {
            Payload::ToolCallAccepted(accepted) => Some((event, accepted.as_ref())),
            _ => None,
        })
    }

    /// Returns the event of the start of its last run.
    pub fn began(&self) -> Option<(&'a v1::SessionEvent, &'a v1::ToolCallStarted)> {
        let starts = self.payloads().filter_map(|(event, payload)| match payload {
            Payload::ToolCallStarted(started) => Some((event, started)),
            _ => None,
        });
        starts.last()
    }

    /// Returns the event of its parking.
    pub fn parked(&self) -> Option<(&'a v1::SessionEvent, &'a v1::ToolCallParked)> {
        self.payloads().find_map(|(event, payload)| match payload {
            Payload::ToolCallParked(parked) => Some((event, parked)),
            _ => None,
        })
    }

    /// Returns the event of the request to stop.
    pub fn cancelling(&self) -> Option<(&'a v1::SessionEvent, &'a v1::ToolCallCancelling)> {
        self.payloads().find_map(|(event, payload)| match payload {
            Payload::ToolCallCancelling(cancelling) => Some((event, cancelling)),
            _ => None,
        })
    }

    /// Returns all terminal events; there should be one.
    pub fn ends(&self) -> Vec<(&'a v1::SessionEvent, &'a v1::ToolCallFinished)> {
        let ends = self.payloads().filter_map(|(event, payload)| match payload {
            Payload::ToolCallFinished(finished) => Some((event, finished.as_ref())),
            _ => None,
        });
        ends.collect()
    }

    /// Returns the terminal event.
    pub fn end(&self) -> Option<(&'a v1::SessionEvent, &'a v1::ToolCallFinished)> {
        self.ends().into_iter().next()
    }

    /// The output that its events hold.
    pub fn output(&self) -> Vec<&'a v1::ToolOutput> {
        let pieces = self.payloads().filter_map(|(_, payload)| match payload {
            Payload::ToolOutput(output) => Some(output),
            _ => None,
        });
        pieces.collect()
    }

    /// The text by which its request is known.
    pub fn mark(&self) -> &'a str {
        self.accepted().map_or("", |(_, started)| started.description.as_str())
    }
}

/// The result of a finished call.
pub fn result_of(finished: &v1::ToolCallFinished) -> Option<&v1::ToolResult> {
    match &finished.outcome {
        Some(v1::tool_call_finished::Outcome::Result(result)) => Some(result),
        _ => None,
    }
}

/// Returns whether the process has ended by itself, and all of its output was read.
pub fn has_exited(finished: &v1::ToolCallFinished) -> bool {
    let result = result_of(finished);
    let is_whole = |result: &v1::ToolResult| {
        let output = result.output.as_ref();
        result.exit.is_some() && output.is_none_or(|output| !output.incomplete)
    };
    matches!(finished.state(), v1::State::Succeeded | v1::State::Failed)
        && result.is_some_and(is_whole)
}

/// The result in a task.
pub fn task_result(task: &v1::Task) -> Option<&v1::ToolResult> {
    match &task.outcome {
        Some(v1::task::Outcome::Result(result)) => Some(result),
        _ => None,
    }
}

/// Returns whether no state follows this one.
pub fn is_terminal(state: v1::State) -> bool {
    use v1::State::{Cancelled, Failed, Lost, Succeeded, TimedOut};
    matches!(state, Succeeded | Failed | TimedOut | Cancelled | Lost)
}

/// A time on the wire.
pub fn moment(time: Option<&prost_types::Timestamp>) -> Option<Moment> {
    let time = time?;
    let seconds = u64::try_from(time.seconds).ok()?;
    Some(Moment::new(seconds, u32::try_from(time.nanos).ok()?))
}

/// A span on the wire.
pub fn span(span: Option<&prost_types::Duration>) -> Option<Moment> {
    Moment::try_from(*span?).ok()
}

impl Event {
    /// An event, and its bytes as they would be sent.
    pub fn new(message: v1::SessionEvent) -> Self {
        Self { bytes: Bytes::from(message.encode_to_vec()), message }
    }
}

impl Exchange {
    /// Returns the reply to the client and its time, or `None` if there was an error or no answer.
    pub fn reply(&self) -> Option<(Moment, &Reply)> {
        match &self.answer {
            Some(Answer { time, reply: Ok(reply) }) => Some((*time, reply)),
            _ => None,
        }
    }
}

impl History {
    /// All calls, by id.
    pub fn calls(&self) -> BTreeMap<&str, CallLog<'_>> {
        let mut calls = BTreeMap::new();
        for log in &self.logs {
            for Event { message, .. } in &log.events {
                let id = message.call_id.as_str();
                if !id.is_empty() {
                    let new = || CallLog { id, log, events: Vec::new() };
                    calls.entry(id).or_insert_with(new).events.push(message);
                }
            }
        }
        calls
    }

    /// The logs, by session.
    pub fn logs_by_session(&self) -> BTreeMap<&str, &Log> {
        self.logs.iter().map(|log| (log.session.session_id.as_str(), log)).collect()
    }

    /// Returns all requests that have a reply, with the time of the reply.
    pub fn replies(&self) -> impl Iterator<Item = (&Exchange, Moment, &Reply)> {
        self.exchanges.iter().filter_map(|exchange| {
            let (time, reply) = exchange.reply()?;
            Some((exchange, time, reply))
        })
    }

    /// Every task that a client was shown: when it asked, when it was shown, and the task.
    pub fn sightings(&self) -> impl Iterator<Item = Sighting<'_>> {
        self.replies().flat_map(|(exchange, time, reply)| {
            let sighting =
                move |task| Sighting { sent: exchange.sent, time, task, is_brief: reply.is_brief };
            reply.tasks.iter().map(sighting)
        })
    }

    /// Returns whether a client sent such a request.
    pub fn was_asked(&self, wanted: impl Fn(&Asked) -> bool) -> bool {
        self.exchanges.iter().any(|exchange| wanted(&exchange.asked))
    }

    /// Returns whether a client asked to delete this task.
    pub fn was_deleted(&self, background_id: &str) -> bool {
        self.was_asked(|asked| matches!(asked, Asked::Delete(id) if id == background_id))
    }
}

/// A task as a client was shown it.
#[derive(Debug, Clone, Copy)]
pub struct Sighting<'a> {
    /// The time at which the client asked.
    pub sent: Moment,
    /// The time at which the task was shown.
    pub time: Moment,
    /// The task.
    pub task: &'a v1::Task,
    /// The result is truncated.
    pub is_brief: bool,
}
