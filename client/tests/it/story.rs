//! The vocabulary of scripts and of their results.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use callpark_client::{Code, Error, OnRetry, Reason, RetryBudget, SessionItem, v1};
use callpark_proto::v1::{session_event::Payload, session_update::Control};
use futures::{Stream, StreamExt as _};
use tokio::time::timeout;
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::fake::Step;

pub(crate) type Steps = Vec<Step<v1::SessionUpdate>>;

pub(crate) const EPOCH: &str = "epoch-1";

/// A limit for streams that should end by themselves.
const TIME_MAX: Duration = Duration::from_secs(24 * 3_600);

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// An event with an empty payload.
pub(crate) fn event(sequence: i64) -> v1::SessionEvent {
    event_with(sequence, Payload::AssistantDelta(v1::AssistantDelta::default()))
}

pub(crate) fn event_with(sequence: i64, payload: Payload) -> v1::SessionEvent {
    v1::SessionEvent {
        stream_epoch: EPOCH.to_owned(),
        sequence,
        payload: Some(payload),
        ..Default::default()
    }
}

pub(crate) fn shutdown(sequence: i64) -> v1::SessionEvent {
    event_with(sequence, Payload::SessionShutdown(v1::SessionShutdown::default()))
}

pub(crate) fn in_epoch(epoch: &str, event: v1::SessionEvent) -> v1::SessionEvent {
    v1::SessionEvent { stream_epoch: epoch.to_owned(), ..event }
}

pub(crate) fn send(events: impl IntoIterator<Item = v1::SessionEvent>) -> Step<v1::SessionUpdate> {
    Step::Send(v1::SessionUpdate { events: events.into_iter().collect(), control: None })
}

pub(crate) fn control(control: Control) -> Step<v1::SessionUpdate> {
    Step::Send(v1::SessionUpdate { events: vec![], control: Some(control) })
}

pub(crate) fn snapshot(head_sequence: i64) -> Step<v1::SessionUpdate> {
    snapshot_of(EPOCH, head_sequence, v1::SessionState::Open)
}

pub(crate) fn snapshot_of(
    epoch: &str,
    head_sequence: i64,
    state: v1::SessionState,
) -> Step<v1::SessionUpdate> {
    let session = v1::Session { state: state.into(), ..Default::default() };
    control(Control::Snapshot(v1::Snapshot {
        session: Some(session),
        head_sequence,
        first_sequence: 1,
        stream_epoch: epoch.to_owned(),
    }))
}

pub(crate) fn caught_up(head_sequence: i64) -> Step<v1::SessionUpdate> {
    control(Control::CaughtUp(v1::CaughtUp { head_sequence }))
}

pub(crate) fn heartbeat() -> Step<v1::SessionUpdate> {
    control(Control::Heartbeat(v1::Heartbeat::default()))
}

pub(crate) fn gap(from_sequence: i64, to_sequence: i64) -> Step<v1::SessionUpdate> {
    control(Control::Gap(v1::Gap { from_sequence, to_sequence }))
}

pub(crate) fn draining(last_sequence: i64, retry_after_seconds: i64) -> Step<v1::SessionUpdate> {
    let retry_after = Some(prost_types::Duration { seconds: retry_after_seconds, nanos: 0 });
    control(Control::Draining(v1::Draining { retry_after, last_sequence }))
}

pub(crate) fn unavailable() -> Status {
    refusal(Code::Unavailable, Reason::StoreUnavailable, None)
}

pub(crate) fn other(reason: &str) -> Reason {
    Reason::Other(reason.to_owned())
}

pub(crate) fn refusal(code: Code, reason: Reason, retry_delay: Option<Duration>) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason.as_str(), "callpark", HashMap::new());
    if retry_delay.is_some() {
        details.set_retry_info(retry_delay);
    }
    Status::with_error_details(code, "as scripted", details)
}

/// Descriptions of all items of a stream that ends.
pub(crate) async fn delivered<S>(stream: &mut S) -> Vec<String>
where
    S: Stream<Item = Result<SessionItem, Error>> + Unpin,
{
    let all = stream.map(|item| describe(&item)).collect();
    timeout(TIME_MAX, all).await.expect("the stream ends")
}

/// Descriptions of the next items of a stream.
pub(crate) async fn delivered_next<S>(stream: &mut S, items: usize) -> Vec<String>
where
    S: Stream<Item = Result<SessionItem, Error>> + Unpin,
{
    let next = stream.take(items).map(|item| describe(&item)).collect();
    timeout(TIME_MAX, next).await.expect("the stream delivers that many items")
}

fn describe(item: &Result<SessionItem, Error>) -> String {
    match item {
        Ok(SessionItem::Event(event)) => match event.payload {
            Some(Payload::SessionShutdown(_)) => format!("shutdown {}", event.sequence),
            Some(Payload::ToolCallFinished(_)) => format!("finished {}", event.sequence),
            Some(Payload::ToolCallParked(_)) => format!("parked {}", event.sequence),
            _ => format!("event {}", event.sequence),
        },
        Ok(SessionItem::Snapshot(snapshot)) => format!("snapshot {}", snapshot.head_sequence),
        Ok(SessionItem::CaughtUp { head_sequence }) => format!("caught up {head_sequence}"),
        Ok(SessionItem::Gap { from, to }) => format!("gap {from} to {to}"),
        Ok(SessionItem::EpochChanged { old, new }) => format!("{old} became {new}"),
        Ok(SessionItem::Resumed { after_sequence: Some(after) }) => {
            format!("resumed after {after}")
        }
        Ok(SessionItem::Resumed { after_sequence: None }) => "resumed".to_owned(),
        Ok(other) => panic!("{other:?}"),
        Err(error) => {
            let reason = error.reason().map_or("", Reason::as_str);
            format!("{:?} {:?} {reason}", error.origin(), error.code())
        }
    }
}

/// A notice that the callback received.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Noted {
    pub(crate) attempts: u32,
    pub(crate) budget: Option<RetryBudget>,
    pub(crate) delay: Duration,
    pub(crate) after_sequence: Option<i64>,
}

#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<Noted>>>);

impl Notes {
    pub(crate) fn taker(&self) -> OnRetry {
        let notes = Arc::clone(&self.0);
        Arc::new(move |notice| {
            notes.lock().unwrap().push(Noted {
                attempts: notice.attempts,
                budget: notice.budget,
                delay: notice.delay,
                after_sequence: notice.after_sequence,
            });
        })
    }

    pub(crate) fn taken(&self) -> Vec<Noted> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn delays(&self) -> Vec<Duration> {
        self.taken().into_iter().map(|noted| noted.delay).collect()
    }
}
