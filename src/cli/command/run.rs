//! `callpark run`: one call, with its output as it comes.

use std::time::Duration;

use callpark_client::{
    Client, SessionItem,
    v1::{
        OnDisconnect, OutputStream, PayloadKind, SessionEvent, StreamSessionRequest,
        ToolCallFinished, ToolCallParked, ToolOutput, session_event::Payload,
        tool_call_finished::Outcome,
    },
};
use futures::{Stream, StreamExt as _};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};

use super::{Context, start};
use crate::cli::{
    call::CallArgs,
    exit::{self, Exit},
    failure::Failure,
    ids,
    output::{Out, stderr_bytes, tell},
    result::{Parts, print_result, tell_end, tell_skipped},
    time::parse_span,
};

/// How long to wait for the news that a call which was left has been parked.
const PARKING_TIME_MAX: Duration = Duration::from_secs(3);

/// Run a tool, with its output as it comes
///
/// What the tool writes to its standard output and error comes out of the command's own, byte for
/// byte, and the command ends with the tool's exit code. A call that outlasts its budget is parked:
/// it goes on in the background, and the command says how to wait for it and ends with 75. Ctrl-C
/// does the same at once, and ends with 130; a second one doesn't wait for the server to say so.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = exit::HELP)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    call: CallArgs,

    /// How long to wait for the result before the call is parked [default: the tool's own]
    #[arg(long, value_name = "TIME", value_parser = parse_span, conflicts_with = "detach")]
    budget: Option<Duration>,

    /// Start in the background and print the id, as `callpark start` does
    #[arg(long, visible_alias = "background")]
    detach: bool,
}

pub(crate) async fn run(args: RunArgs, context: &mut Context) -> Result<Exit, Failure> {
    let call = args.call.resolve(&context.client).await?;
    if args.detach {
        return start::launch(call, context).await;
    }
    let mut interrupts = signal(SignalKind::interrupt())
        .map_err(|error| Failure::Told { exit: Exit::Io, text: error.to_string() })?;
    let mut request = call.into_stream(args.budget);
    request.set_on_disconnect(OnDisconnect::Park);
    let mut seen = Seen::default();
    let items = context.client.tools().stream(request);
    let ended = tokio::select! {
        ended = follow(items, &mut seen, &mut context.out) => Some(ended),
        _ = interrupts.recv() => None,
    };
    // The stream is dropped by now: the server parks a call that hasn't ended.
    match ended {
        Some(Err(Failure::Closed)) => {
            tell("callpark: nobody reads the output any more");
            leave(&context.client, &seen, interrupts).await;
            Err(Failure::Closed)
        }
        Some(Err(Failure::Client(error))) => {
            if let (Exit::Unreachable, Some(id)) =
                (Exit::of_error(&error), ids::task_of_call(&seen.call_id))
            {
                tell(&format!("callpark: if the server comes back: callpark show {id}"));
            }
            Err(Failure::Client(error))
        }
        Some(ended) => ended,
        None => {
            // Below the `^C` that the terminal shows.
            tell("");
            leave(&context.client, &seen, interrupts).await;
            Ok(Exit::Interrupted)
        }
    }
}

/// How far a call is known.
#[derive(Debug, Default)]
struct Seen {
    session_id: String,
    call_id: String,
    sequence: i64,
}

async fn follow(
    items: impl Stream<Item = Result<SessionItem, callpark_client::Error>>,
    seen: &mut Seen,
    out: &mut Out,
) -> Result<Exit, Failure> {
    let mut items = std::pin::pin!(items);
    while let Some(item) = items.next().await {
        match item? {
            SessionItem::Event(event) => {
                seen.session_id.clone_from(&event.session_id);
                seen.call_id.clone_from(&event.call_id);
                seen.sequence = event.sequence;
                if let Some(exit) = show(*event, out).await? {
                    return Ok(exit);
                }
            }
            SessionItem::Gap { from, to } => {
                tell(&format!("callpark: the events {from} to {to} are no longer in the log"));
            }
            _ => {}
        }
    }
    Err(Failure::answer("the stream ended before the call did"))
}

/// Shows an event. The last one of the call says how to exit.
async fn show(event: SessionEvent, out: &mut Out) -> Result<Option<Exit>, Failure> {
    if out.json {
        out.json_line(&event).await?;
    }
    match event.payload {
        Some(Payload::ToolOutput(output)) if !out.json => show_output(&output, out).await?,
        Some(Payload::ToolProgress(progress)) if !out.json => {
            if let Some(progress) = progress.progress {
                tell(&format!("callpark: {}", crate::cli::event::progress(&progress)));
            }
        }
        Some(Payload::ApprovalRequested(request)) => {
            let approval = request.approval.unwrap_or_default();
            tell(&format!("callpark: waiting for an approval: {}", approval.message));
        }
        Some(Payload::ToolCallParked(parked)) => {
            tell_parked(&parked);
            return Ok(Some(Exit::StillRunning));
        }
        Some(Payload::ToolCallFinished(finished)) => {
            return show_end(*finished, out).await.map(Some);
        }
        _ => {}
    }
    Ok(None)
}

async fn show_output(output: &ToolOutput, out: &mut Out) -> Result<(), Failure> {
    tell_skipped(output.dropped_bytes_before);
    match output.stream() {
        OutputStream::Stderr => stderr_bytes(&output.data).await,
        _ => out.bytes(&output.data).await?,
    }
    Ok(())
}

async fn show_end(finished: ToolCallFinished, out: &mut Out) -> Result<Exit, Failure> {
    let state = finished.state();
    let result = match finished.outcome {
        Some(Outcome::Result(result)) => Some(result),
        Some(Outcome::Error(error)) => {
            tell(&format!("callpark: {}", error.message));
            None
        }
        None => None,
    };
    if let (Some(result), false) = (&result, out.json) {
        print_result(out, result, Parts::NoOutput).await?;
    }
    tell_end(state, &finished.reason, result.as_ref());
    Ok(Exit::of_end(state, result.as_ref()))
}

fn tell_parked(parked: &ToolCallParked) {
    let id = &parked.background_id;
    tell(&format!(
        "callpark: still running; the call goes on in the background as {id}\n\
         callpark: to get its result: callpark wait {id}"
    ));
}

/// Says what becomes of a call that its caller has left.
async fn leave(client: &Client, seen: &Seen, mut interrupts: Signal) {
    let Some(id) = ids::task_of_call(&seen.call_id) else {
        tell(
            "callpark: left before the server answered; `callpark list` shows a call it has taken",
        );
        return;
    };
    let end = tokio::select! {
        end = timeout(PARKING_TIME_MAX, parked_or_finished(client, seen)) => end.ok().flatten(),
        _ = interrupts.recv() => None,
    };
    match end {
        Some(Payload::ToolCallParked(parked)) => tell_parked(&parked),
        Some(_) => tell("callpark: the call has ended"),
        None => tell(&format!(
            "callpark: left; the server hasn't said yet that the call goes on as {id}\n\
             callpark: to get its result: callpark wait {id}"
        )),
    }
}

/// The event that says where the call stands without its caller. `None`: the server can't be asked.
async fn parked_or_finished(client: &Client, seen: &Seen) -> Option<Payload> {
    let kinds = [PayloadKind::ToolCallParked, PayloadKind::ToolCallFinished];
    let mut items = std::pin::pin!(client.sessions().events(StreamSessionRequest {
        session_id: seen.session_id.clone(),
        start_after_sequence: Some(seen.sequence),
        payloads: kinds.map(Into::into).into(),
        ..Default::default()
    }));
    while let Some(item) = items.next().await {
        match item.ok()? {
            SessionItem::Event(event) if event.call_id == seen.call_id => return event.payload,
            _ => {}
        }
    }
    None
}
