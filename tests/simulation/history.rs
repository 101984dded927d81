//! What came of a run, as plain data.

use std::collections::BTreeMap;

use callpark_client::{Error, SessionItem, v1};
use v1::session_event::Payload;

/// All that is known of a run at its end.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The events of the one session, as the store holds them.
    pub log: Vec<v1::SessionEvent>,
    /// The sequence of the newest one, as the session says.
    pub head: i64,
    /// How often the work of each mark has begun.
    pub effects: BTreeMap<String, usize>,
    /// What each follower of the session saw.
    pub followers: Vec<Vec<Seen>>,
    /// What the caller of each call was told, by mark.
    pub calls: BTreeMap<String, Story>,
    /// How often something went wrong.
    pub faults: usize,
}

/// What somebody who reads a stream sees.
#[derive(Debug, Clone)]
pub enum Seen {
    /// An item.
    Item(SessionItem),
    /// An error, in words.
    Error(String),
    /// The end.
    End,
}

impl Seen {
    /// Why it isn't the true end of a stream.
    pub fn untrue_end(seen: Option<&Self>) -> Option<String> {
        match seen {
            Some(Self::End) => None,
            Some(Self::Error(error)) => Some(error.clone()),
            Some(Self::Item(item)) => Some(format!("{item:?}")),
            None => Some("nothing".into()),
        }
    }
}

/// What the caller of a call saw of it.
#[derive(Debug, Clone, Default)]
pub struct Story {
    /// Answers, in the order in which they came.
    pub told: Vec<Told>,
    /// Its stream, if it asked for one.
    pub stream: Option<Vec<Seen>>,
    /// Errors, in words.
    pub errors: Vec<String>,
}

/// What an answer says of a call.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// The call.
    pub call_id: String,
    /// How it has ended. None: it hasn't.
    pub state: Option<v1::State>,
    /// Its result. None: it has none, or none yet.
    pub result: Option<v1::ToolResult>,
}

impl Story {
    /// The caller is told something, or that it failed.
    pub fn note(&mut self, told: Result<Told, Error>) {
        match told {
            Ok(told) => self.told.push(told),
            Err(error) => self.errors.push(error.to_string()),
        }
    }
}

impl Told {
    /// What a task says.
    pub fn of_task(task: Option<v1::Task>) -> Self {
        let task = task.unwrap_or_default();
        let is_over = task.end_time.is_some();
        let result = match task.outcome.clone() {
            Some(v1::task::Outcome::Result(result)) => Some(result),
            _ => None,
        };
        Self { state: is_over.then(|| task.state()), call_id: task.call_id, result }
    }
}

impl History {
    /// The events of a call.
    pub fn events_of(&self, call_id: &str) -> Vec<&v1::SessionEvent> {
        self.log.iter().filter(|event| event.call_id == call_id).collect()
    }

    /// The ids of the calls with each mark.
    pub fn calls_by_mark(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut calls: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for event in &self.log {
            let Some(Payload::ToolCallStarted(started)) = &event.payload else { continue };
            let of_mark = calls.entry(&started.description).or_default();
            // A call that had to wait for its turn is told of twice.
            if !of_mark.contains(&event.call_id.as_str()) {
                of_mark.push(&event.call_id);
            }
        }
        calls
    }

    /// How a call has ended.
    pub fn end_of(&self, call_id: &str) -> Option<&v1::ToolCallFinished> {
        self.events_of(call_id).into_iter().find_map(|event| match &event.payload {
            Some(Payload::ToolCallFinished(finished)) => Some(finished.as_ref()),
            _ => None,
        })
    }
}

/// The events among what somebody saw.
pub fn events(seen: &[Seen]) -> Vec<&v1::SessionEvent> {
    let events = seen.iter().filter_map(|seen| match seen {
        Seen::Item(SessionItem::Event(event)) => Some(event.as_ref()),
        _ => None,
    });
    events.collect()
}
