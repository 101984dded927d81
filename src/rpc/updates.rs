//! The streams of events of a call or a turn, whose callers may leave, and the conversion of what a stream of
//! a session has, such as heartbeats, to messages.

use async_stream::try_stream;
use callpark_proto::stored::SessionUpdate;
use callpark_proto::v1;
use callpark_proto::v1::session_update::Control;
use futures::{Stream, StreamExt};
use tokio::time::Instant;
use tonic::Status;

use super::convert;
use crate::engine::{CallHandle, Engine, Error, StreamItem, look_at, sleep_until};

/// Streams the events of a call from its acceptance until it has settled.
pub(super) async fn call_updates(
    engine: Engine,
    handle: CallHandle,
    leave_at: impl Fn() -> Option<Instant> + Send,
) -> Result<impl Stream<Item = Result<SessionUpdate, Status>> + Send, Error> {
    let after = handle.accept_sequence().await?.saturating_sub(1);
    let items = engine.events().call(handle.session_id, handle.call_id, after);
    Ok(attached(items, handle, leave_at))
}

/// Streams the events of a turn from its acceptance until it has ended, or was parked for its budget
/// or its caller's deadline.
pub(super) async fn turn_updates(
    engine: Engine,
    handle: CallHandle,
    leave_at: impl Fn() -> Option<Instant> + Send,
) -> Result<impl Stream<Item = Result<SessionUpdate, Status>> + Send, Error> {
    let after = handle.accept_sequence().await?.saturating_sub(1);
    let items = engine.events().turn(handle.session_id, handle.turn_id(), after);
    Ok(attached(items, handle, leave_at))
}

/// Streams the items, with the handle of the call attached. A stream that is dropped before the call
/// has settled drops the handle, which applies `on_disconnect`. The deadline does, too, at the time that
/// `leave_at` returns, which is asked for again now and then.
fn attached(
    items: impl Stream<Item = Result<StreamItem, Error>> + Send,
    mut handle: CallHandle,
    leave_at: impl Fn() -> Option<Instant> + Send,
) -> impl Stream<Item = Result<SessionUpdate, Status>> + Send {
    try_stream! {
        let mut items = std::pin::pin!(items);
        let mut has_left = false;
        loop {
            let time = if has_left { None } else { leave_at() };
            let step = tokio::select! {
                item = items.next() => Some(item),
                () = sleep_until(look_at(time)) => None,
            };
            match step {
                Some(Some(Ok(item))) => yield session_update(item),
                Some(Some(Err(error))) => {
                    if error == Error::Draining {
                        handle.detach_silently();
                    }
                    Err(error)?;
                }
                Some(None) => break,
                None if time.is_none_or(|time| Instant::now() < time) => {}
                None => {
                    has_left = true;
                    handle.leave_for_deadline().await?;
                }
            }
        }
        handle.detach();
    }
}

/// Converts an item of a stream. Events are sent as the bytes that were stored.
pub(super) fn session_update(item: StreamItem) -> SessionUpdate {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let control = match item {
        StreamItem::Events(events) => {
            return SessionUpdate { events, control: None };
        }
        StreamItem::Snapshot(session) => Control::Snapshot(v1::Snapshot {
            head_sequence: signed(session.head_sequence),
            first_sequence: signed(session.first_sequence),
            stream_epoch: session.stream_epoch.clone(),
            session: Some(convert::session(*session)),
        }),
        StreamItem::CaughtUp { head } => {
            Control::CaughtUp(v1::CaughtUp { head_sequence: signed(head) })
        }
        StreamItem::Heartbeat { head } => {
            Control::Heartbeat(v1::Heartbeat { head_sequence: signed(head) })
        }
        StreamItem::Gap { from, to } => {
            Control::Gap(v1::Gap { from_sequence: signed(from), to_sequence: signed(to) })
        }
        StreamItem::Draining { retry_after, last_sequence } => Control::Draining(v1::Draining {
            retry_after: Some(convert::duration(retry_after)),
            last_sequence: signed(last_sequence),
        }),
    };
    SessionUpdate { events: Vec::new(), control: Some(control) }
}
