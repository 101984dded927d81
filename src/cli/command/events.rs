//! `callpark events`: the log of a session.

use callpark_client::{
    SessionItem,
    v1::{PayloadKind, StreamSessionRequest},
};
use futures::StreamExt as _;

use super::Context;
use crate::cli::{event, exit::Exit, failure::Failure, ids, output::tell, words};

/// Print the events of a session, a line an event
///
/// A line has the sequence, the time of day, what happened and to which call. With --json it is the
/// whole event. With -f the command goes on until the session is closed.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct EventsArgs {
    /// The session
    #[arg(value_name = "ID", value_parser = ids::session)]
    id: String,

    /// Go on with events as they happen
    #[arg(short, long)]
    follow: bool,

    /// Begin after this sequence [default: at the oldest event there is]
    #[arg(long, value_name = "SEQUENCE", value_parser = clap::value_parser!(i64).range(0..))]
    after: Option<i64>,

    /// Only this sort of event, such as tool_call_finished. Can be repeated
    #[arg(long = "payload", value_name = "KIND", value_parser = words::parse_payload)]
    payloads: Vec<PayloadKind>,
}

pub(crate) async fn run(args: EventsArgs, context: &mut Context) -> Result<Exit, Failure> {
    let request = StreamSessionRequest {
        session_id: args.id,
        start_after_sequence: args.after,
        payloads: args.payloads.into_iter().map(Into::into).collect(),
        follow: Some(args.follow),
        ..Default::default()
    };
    let mut items = std::pin::pin!(context.client.sessions().events(request));
    while let Some(item) = items.next().await {
        match item? {
            SessionItem::Event(event) if context.out.json => {
                context.out.json_line(event.as_ref()).await?;
            }
            SessionItem::Event(event) => context.out.line(&event::line(&event)).await?,
            SessionItem::Gap { from, to } => {
                tell(&format!("callpark: the events {from} to {to} are no longer in the log"));
            }
            SessionItem::EpochChanged { .. } => {
                tell("callpark: the log is another one; its events begin anew");
            }
            _ => {}
        }
    }
    Ok(Exit::Success)
}
