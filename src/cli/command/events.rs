//! `callpark events`: the event log of a session.

use callpark_client::{
    SessionItem,
    v1::{PayloadKind, StreamSessionRequest},
};
use futures::StreamExt as _;

use super::Context;
use crate::cli::{
    args::{enums, ids},
    error::Failure,
    exit::Exit,
    print::{event, output::eprint_note},
};

/// Print the events of a session, one on each line
///
/// A line has the sequence, the time of day, the kind of the event, the call or turn, and details; on
/// a terminal ids are shortened, and other commands accept them so. With --json it is the whole event.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct EventsArgs {
    /// Id of the session, the beginning of one, or `last`
    #[arg(value_name = "ID", value_parser = ids::session)]
    id: ids::GivenId,

    /// Keep printing new events until the session is closed
    #[arg(short, long)]
    follow: bool,

    /// Start after this sequence [default: start with the oldest event]
    #[arg(long, value_name = "SEQUENCE", value_parser = clap::value_parser!(i64).range(0..))]
    after: Option<i64>,

    /// Print only events of this kind, such as tool_call_finished. Can be repeated
    #[arg(long = "payload", value_name = "KIND", value_parser = enums::parse::<PayloadKind>)]
    payloads: Vec<PayloadKind>,
}

pub(crate) async fn run(args: EventsArgs, context: &mut Context) -> Result<Exit, Failure> {
    let request = StreamSessionRequest {
        session_id: args.id.resolve(&context.client).await?,
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
            SessionItem::Event(event) => {
                let line = event::line(&event, |id| context.out.id(id));
                context.out.entry(&line).await?;
            }
            SessionItem::Gap { from, to } => event::eprint_gap(from, to),
            SessionItem::EpochChanged { .. } => {
                eprint_note("the server has a new log: its events follow from the first one");
            }
            _ => {}
        }
    }
    Ok(Exit::Success)
}
