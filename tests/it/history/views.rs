//! A history by call, by task and by id.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;

use super::{Answer, Asked, Event, Exchange, History, Log, Moment, Told, v1};
use v1::session_event::Payload;

/// A call, as the log of its session tells it.
#[derive(Debug)]
pub struct CallLog<'a> {
    /// Its id.
    pub id: &'a str,
    /// The log that it is in.
    pub log: &'a Log,
    /// Its events.
    pub events: Vec<&'a v1::SessionEvent>,
}

impl<'a> CallLog<'a> {
    /// Its payloads, each with its event.
    pub fn payloads(&self) -> impl Iterator<Item = (&'a v1::SessionEvent, &'a Payload)> {
        self.events.iter().filter_map(|event| Some((*event, event.payload.as_ref()?)))
    }

    /// How it was accepted.
    pub fn accepted(&self) -> Option<(&'a v1::SessionEvent, &'a v1::ToolCallStarted)> {
        self.starts().next()
    }

    /// When its run began.
    pub fn began(&self) -> Option<(&'a v1::SessionEvent, &'a v1::ToolCallStarted)> {
        self.starts().find(|(_, started)| started.state() == v1::State::Running)
    }

    fn starts(&self) -> impl Iterator<Item = (&'a v1::SessionEvent, &'a v1::ToolCallStarted)> {
        self.payloads().filter_map(|(event, payload)| match payload {
            Payload::ToolCallStarted(started) => Some((event, started.as_ref())),
            _ => None,
        })
    }

    /// When it was parked.
    pub fn parked(&self) -> Option<(&'a v1::SessionEvent, &'a v1::ToolCallParked)> {
        self.payloads().find_map(|(event, payload)| match payload {
            Payload::ToolCallParked(parked) => Some((event, parked)),
            _ => None,
        })
    }

    /// When it was asked to stop.
    pub fn cancelling(&self) -> Option<(&'a v1::SessionEvent, &'a v1::ToolCallCancelling)> {
        self.payloads().find_map(|(event, payload)| match payload {
            Payload::ToolCallCancelling(cancelling) => Some((event, cancelling)),
            _ => None,
        })
    }

    /// Its ends, of which there should be one.
    pub fn ends(&self) -> Vec<(&'a v1::SessionEvent, &'a v1::ToolCallFinished)> {
        let ends = self.payloads().filter_map(|(event, payload)| match payload {
            Payload::ToolCallFinished(finished) => Some((event, finished.as_ref())),
            _ => None,
        });
        ends.collect()
    }

    /// Its end.
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

/// The result in a task.
pub fn task_result(task: &v1::Task) -> Option<&v1::ToolResult> {
    match &task.outcome {
        Some(v1::task::Outcome::Result(result)) => Some(result),
        _ => None,
    }
}

/// Whether nothing follows this state.
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
    /// What the client was told, and when.
    pub fn told(&self) -> Option<(Moment, &Told)> {
        match &self.answer {
            Some(Answer { time, told: Ok(told) }) => Some((*time, told)),
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

    /// What clients were told: when they asked, when they were told, and what.
    pub fn told(&self) -> impl Iterator<Item = (&Exchange, Moment, &Told)> {
        self.exchanges.iter().filter_map(|exchange| {
            let (time, told) = exchange.told()?;
            Some((exchange, time, told))
        })
    }

    /// Every task that a client was shown: when it asked, when it was shown, and the task.
    pub fn sightings(&self) -> impl Iterator<Item = Sighting<'_>> {
        self.told().flat_map(|(exchange, time, told)| {
            let sighting =
                move |task| Sighting { sent: exchange.sent, time, task, is_brief: told.is_brief };
            told.tasks.iter().map(sighting)
        })
    }

    /// Whether somebody asked for this.
    pub fn was_asked(&self, wanted: impl Fn(&Asked) -> bool) -> bool {
        self.exchanges.iter().any(|exchange| wanted(&exchange.asked))
    }

    /// Whether somebody asked that this task be forgotten.
    pub fn was_deleted(&self, background_id: &str) -> bool {
        self.was_asked(|asked| matches!(asked, Asked::Delete(id) if id == background_id))
    }
}

/// A task as a client was shown it.
#[derive(Debug, Clone, Copy)]
pub struct Sighting<'a> {
    /// When the client asked.
    pub sent: Moment,
    /// When it was shown.
    pub time: Moment,
    /// The task.
    pub task: &'a v1::Task,
    /// Its result is cut.
    pub is_brief: bool,
}
