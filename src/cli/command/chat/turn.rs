//! One turn of a chat.

use std::time::Duration;

use callpark_client::{Client, SessionItem, v1};
use futures::StreamExt as _;
use tokio::signal::unix::Signal;
use tokio::time::timeout;

use super::show::Show;
use crate::cli::{
    exit::Exit,
    failure::Failure,
    output::{Out, tell},
};

/// How long a second Ctrl-C may take to come after the first.
const SECOND_THOUGHTS: Duration = Duration::from_secs(3);

/// What to ask, where.
pub(super) struct Turn {
    pub(super) client: Client,
    pub(super) session_id: String,
    pub(super) model: String,
    pub(super) prompt: String,
}

/// How a turn ended, as far as the chat is concerned.
pub(super) struct Ended {
    pub(super) exit: Exit,
    /// The turn, or calls of it, go on.
    pub(super) leaves_work: bool,
}

impl Turn {
    pub(super) async fn play(
        self,
        out: &mut Out,
        interrupts: &mut Signal,
    ) -> Result<Ended, Failure> {
        let request = v1::StreamTurnRequest {
            session_id: self.session_id.clone(),
            prompt: self.prompt.clone(),
            model: self.model.clone(),
            // One that was left may still run.
            busy_policy: v1::BusyPolicy::Enqueue.into(),
            ..Default::default()
        };
        let mut show = Show::new(out);
        let followed = {
            let mut items = std::pin::pin!(self.client.turns().stream(request));
            tokio::select! {
                followed = follow(&mut items, &mut show) => Some(followed),
                _ = interrupts.recv() => None,
            }
        };
        // The stream is dropped by now: the server parks a turn that hasn't ended.
        match followed {
            Some(ended) => ended,
            None => self.leave(&show.turn_id, interrupts).await,
        }
    }

    async fn leave(&self, turn_id: &str, interrupts: &mut Signal) -> Result<Ended, Failure> {
        // Below the `^C` that the terminal shows.
        let session = &self.session_id;
        tell(&format!(
            "\ncallpark: left; the turn goes on in {session}, and Ctrl-C again cancels it"
        ));
        if timeout(SECOND_THOUGHTS, interrupts.recv()).await.is_err() {
            tell(&format!("callpark: to see what it does: callpark events {session} --follow"));
            return Ok(Ended { exit: Exit::Interrupted, leaves_work: true });
        }
        let request = v1::CancelTurnRequest {
            session_id: session.clone(),
            turn_id: turn_id.to_owned(),
            reason: "Ctrl-C".into(),
            ..Default::default()
        };
        let cancelled = self.client.turns().cancel(request).await?;
        tell("\ncallpark: the turn is cancelled");
        let running = cancelled.running_background_ids;
        for id in &running {
            tell(&format!("callpark: {id} goes on in the background"));
        }
        Ok(Ended { exit: Exit::Cancelled, leaves_work: !running.is_empty() })
    }
}

async fn follow(
    items: &mut (impl futures::Stream<Item = Result<SessionItem, callpark_client::Error>> + Unpin),
    show: &mut Show<'_>,
) -> Result<Ended, Failure> {
    while let Some(item) = items.next().await {
        match item? {
            SessionItem::Event(event) => {
                if let Some(ended) = show.event(*event).await? {
                    return Ok(ended);
                }
            }
            SessionItem::Gap { from, to } => {
                tell(&format!("callpark: the events {from} to {to} are no longer in the log"));
            }
            _ => {}
        }
    }
    Err(Failure::answer("the stream ended before the turn did"))
}
