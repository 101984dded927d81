//! The result of a run, as plain data.

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
    /// The number of times that the work of each mark has begun.
    pub effects: BTreeMap<String, usize>,
    /// The items that each follower of the session saw.
    pub followers: Vec<Vec<Seen>>,
    /// The replies to the caller of each call, by mark.
    pub calls: BTreeMap<String, Story>,
    /// The number of faults.
    pub faults: usize,
}

/// An item of a stream, as its reader sees it.
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
    /// Returns the reason why this isn't the true end of a stream.
    pub fn untrue_end(seen: Option<&Self>) -> Option<String> {
        match seen {
            Some(Self::End) => None,
            Some(Self::Error(error)) => Some(error.clone()),
            Some(Self::Item(item)) => Some(format!("{item:?}")),
            None => Some("nothing".into()),
        }
    }
}

/// The view that a caller has of one call.
#[derive(Debug, Clone, Default)]
pub struct Story {
    /// Answers, in the order in which they came.
    pub replies: Vec<Reply>,
    /// The items of its stream, if one was opened.
    pub stream: Option<Vec<Seen>>,
    /// Errors, in words.
    pub errors: Vec<String>,
}

/// A reply about a call.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// The call.
    pub call_id: String,
    /// The terminal state, or `None` if the call has not ended.
    pub state: Option<v1::State>,
    /// The result, or `None` if there is none so far.
    pub result: Option<v1::ToolResult>,
}

impl Story {
    /// Records a reply to the caller, or its failure.
    pub fn note(&mut self, reply: Result<Reply, Error>) {
        match reply {
            Ok(reply) => self.replies.push(reply),
            Err(error) => self.errors.push(error.to_string()),
        }
    }
}

impl Reply {
    /// Returns the reply for a task.
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
            let Some(Payload::ToolCallAccepted(accepted)) = &event.payload else { continue };
            calls.entry(&accepted.description).or_default().push(&event.call_id);
        }
        calls
    }

    /// Returns the terminal event of a call.
    pub fn end_of(&self, call_id: &str) -> Option<&v1::ToolCallFinished> {
        self.events_of(call_id).into_iter().find_map(|event| match &event.payload {
            Some(Payload::ToolCallFinished(finished)) => Some(finished.as_ref()),
            _ => None,
        })
    }
}

/// The events among the items of a reader.
pub fn events(seen: &[Seen]) -> Vec<&v1::SessionEvent> {
    let events = seen.iter().filter_map(|seen| match seen {
        Seen::Item(SessionItem::Event(event)) => Some(event.as_ref()),
        _ => None,
    });
    events.collect()
}
