//! The readers of logs, which follow a session from one engine to the next.

use std::time::Duration;

use callpark::internals::engine::{Error, GapPolicy, StreamItem, StreamQuery};
use callpark::model::SessionId;
use futures::StreamExt as _;
use rand::RngExt as _;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::clients::Client;
use super::who;

/// The silence after which a reader looks for another engine: longer than that between heartbeats.
const SILENCE: Duration = Duration::from_secs(6);

/// Reads the log of a session, from the first event to the last one after all is done.
pub async fn read(
    mut client: Client,
    mut session: watch::Receiver<Option<SessionId>>,
    done: CancellationToken,
) {
    let Ok(session_id) = session.wait_for(Option::is_some).await.map(|session_id| *session_id)
    else {
        return;
    };
    let Some(session_id) = session_id else { return };
    let (mut after, mut events) = (0, Vec::new());
    loop {
        let is_last = done.is_cancelled();
        let query = StreamQuery {
            session_id,
            after: Some(after),
            from_now: false,
            stream_epoch: String::new(),
            kinds: None,
            follow: !is_last,
            on_gap: GapPolicy::Fail,
        };
        let opened = client.ask(|engine| {
            let query = query.clone();
            async move { engine.events().session(who(), query).await }
        });
        let Some(opened) = (if is_last { Some(opened.await) } else { within(&done, opened).await })
        else {
            continue;
        };
        let ended = match opened {
            Ok(stream) => {
                let mut stream = std::pin::pin!(stream);
                loop {
                    match timeout(SILENCE, stream.next()).await {
                        Ok(Some(Ok(StreamItem::Events(page)))) => {
                            after += page.len() as u64;
                            events.extend(page);
                        }
                        Ok(Some(Ok(_))) if done.is_cancelled() && !is_last => break Ok(false),
                        Ok(Some(Ok(_))) => {}
                        Ok(None) => break Ok(true),
                        Ok(Some(Err(error))) => break Err(error),
                        Err(_) => break Ok(false),
                    }
                }
            }
            Err(error) => Err(error),
        };
        match ended {
            // A log that is followed ends with its session.
            Ok(true) => break,
            Ok(false) | Err(Error::Draining | Error::Store(_) | Error::NotOwner { .. }) => {}
            Err(error) => {
                client.chronicle.wrong(format!("{session_id} cannot be read: {error}"));
                return;
            }
        }
        sleep(Duration::from_millis(client.random.random_range(50..500))).await;
    }
    client.chronicle.read(session_id, events);
}

/// Returns the output of a future, or `None` if all is done before.
async fn within<T>(done: &CancellationToken, future: impl Future<Output = T>) -> Option<T> {
    done.run_until_cancelled(future).await
}
