//! One turn of a chat.

use std::time::Duration;

use callpark_client::{Client, SessionItem, v1};
use futures::StreamExt as _;
use tokio::signal::unix::Signal;
use tokio::time::timeout;

use super::printer::{TurnEnd, TurnPrinter};
use crate::cli::{
    error::Failure,
    exit::Exit,
    print::{
        event::eprint_gap,
        output::{Out, eprint_line, eprint_note},
    },
};

/// The time after a first Ctrl-C in which a second one cancels the turn.
const CANCEL_TIME_MAX: Duration = Duration::from_secs(3);

/// A prompt, and the session and the model to send it to.
pub(super) struct ChatTurn {
    pub(super) client: Client,
    pub(super) session_id: String,
    pub(super) model: String,
    pub(super) prompt: String,
    /// The fate of the turn if the user leaves it.
    pub(super) on_leave: OnLeave,
}

/// The fate of a turn that its user leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnLeave {
    /// Continues on the server.
    Continues,
    /// Continues until the chat ends, and the temporary server with it.
    ContinuesInChat,
    /// Is cancelled, because nothing of the chat would be left.
    Cancelled,
}

impl ChatTurn {
    pub(super) async fn run(
        self,
        out: &mut Out,
        interrupts: &mut Signal,
    ) -> Result<TurnEnd, Failure> {
        let request = v1::RunTurnRequest {
            session_id: self.session_id.clone(),
            prompt: self.prompt.clone(),
            model: self.model.clone(),
            // The turn before, if the user left it, may still be running.
            busy_policy: v1::BusyPolicy::Enqueue.into(),
            ..Default::default()
        };
        let mut printer = TurnPrinter::new(out);
        let followed = {
            let mut items = std::pin::pin!(self.client.turns().stream(request));
            tokio::select! {
                followed = follow(&mut items, &mut printer) => Some(followed),
                _ = interrupts.recv() => None,
            }
        };
        // The stream is dropped by now, so the server parks a turn that has not finished.
        match followed {
            Some(end) => end,
            None => self.leave(&printer.into_turn_id(), interrupts).await,
        }
    }

    async fn leave(&self, turn_id: &str, interrupts: &mut Signal) -> Result<TurnEnd, Failure> {
        // Continue below the `^C` that the terminal shows.
        eprint_line("");
        let session = &self.session_id;
        let continues = match self.on_leave {
            OnLeave::Continues => Some(format!("in {session}")),
            OnLeave::ContinuesInChat => Some("until this chat ends".to_owned()),
            OnLeave::Cancelled => None,
        };
        if let Some(where_to) = continues {
            eprint_note(&format!(
                "the turn continues {where_to}; pressing Ctrl-C again cancels it"
            ));
            if timeout(CANCEL_TIME_MAX, interrupts.recv()).await.is_err() {
                if self.on_leave == OnLeave::Continues {
                    eprint_note(&format!("to follow it: callpark events {session} --follow"));
                }
                return Ok(TurnEnd { exit: Exit::Interrupted, leaves_work: true });
            }
            eprint_line("");
        }
        let request = v1::CancelTurnRequest {
            session_id: session.clone(),
            turn_id: turn_id.to_owned(),
            reason: "Ctrl-C".into(),
            ..Default::default()
        };
        let cancelled = self.client.turns().cancel(request).await?;
        eprint_note("the turn is cancelled");
        let running = cancelled.running_background_ids;
        for id in &running {
            eprint_note(&format!("{id} continues in the background"));
        }
        Ok(TurnEnd { exit: Exit::Cancelled, leaves_work: !running.is_empty() })
    }
}

async fn follow(
    items: &mut (impl futures::Stream<Item = Result<SessionItem, callpark_client::Error>> + Unpin),
    printer: &mut TurnPrinter<'_>,
) -> Result<TurnEnd, Failure> {
    loop {
        let item = tokio::select! {
            biased;
            item = items.next() => item,
            () = printer.activity().due() => {
                printer.activity().tick();
                continue;
            }
        };
        let Some(item) = item else { break };
        match item? {
            SessionItem::Event(event) => {
                if let Some(end) = printer.event(*event).await? {
                    return Ok(end);
                }
            }
            SessionItem::Gap { from, to } => eprint_gap(from, to),
            _ => {}
        }
    }
    Err(Failure::unexpected_answer("the stream ended before the turn finished"))
}
