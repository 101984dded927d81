//! `callpark run`: one call, with its output as it arrives.

use std::time::Duration;

use callpark_client::{
    Client, SessionItem,
    v1::{
        OnDisconnect, PayloadKind, SessionEvent, State, StreamSessionRequest, ToolCallFinished,
        ToolCallParked, session_event::Payload, tool_call_finished::Outcome,
    },
};
use futures::{Stream, StreamExt as _};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};

use super::{Context, start};
use crate::cli::{
    args::{
        call::{CallArgs, with_similar_tool},
        duration::parse_duration,
        ids,
        stdin::StdinArgs,
    },
    error::Failure,
    exit::{self, Exit},
    print::{
        event::{eprint_gap, progress},
        output::{Out, eprint_line, eprint_note},
        result::{ResultParts, eprint_dropped, eprint_end, print_output, print_result},
    },
};

/// The time for the lookup of a tool beyond which the lookup counts towards the budget.
const LOOKUP_TIME_MAX: Duration = Duration::from_millis(500);

/// The maximum time to wait until the server confirms that a call was parked.
const PARKING_TIME_MAX: Duration = Duration::from_secs(3);

/// Run a tool and stream its output
///
/// The tool's standard output and standard error are printed on those of this command, byte for
/// byte (on a terminal without sequences that do more than set colours, unless --raw is given), and the
/// command exits with the tool's exit code. Options of callpark stand before the input
/// of the tool: `callpark run --budget 5s bash ls -la`. If the call takes longer than its budget,
/// it is parked: it continues in the background, and the command prints its id and exits with code
/// 75. Ctrl-C parks the call immediately, and the command exits with code 130; a second Ctrl-C does
/// not wait until the server confirms it. If the reader of standard output goes away, as in
/// `callpark run … | head`, the call is cancelled at its next output, unless --keep is given.
///
/// Standard input that is not a terminal is passed to the tool, as in
/// `cat file | callpark run bash wc`: at most 2 MiB, which are read to the end before the call
/// starts.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = exit::HELP)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) call: CallArgs,

    /// Time to wait for the result, such as 30s or 5m, before the call is parked [default: the
    /// tool's own]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "detach")]
    budget: Option<Duration>,

    /// Start the call in the background and print its id, as `callpark start` does
    #[arg(long, visible_alias = "background")]
    detach: bool,

    /// Pass the tool's output to a terminal unchanged, with sequences that move the cursor, set the
    /// title or the clipboard, or do more than set colours
    #[arg(long)]
    raw: bool,

    #[command(flatten)]
    stdin: StdinArgs,
}

pub(crate) async fn run(args: RunArgs, context: &mut Context) -> Result<Exit, Failure> {
    if args.raw {
        context.out.set_raw();
    }
    let keeps = args.call.keeps();
    let call = start::prepare(args.call, args.stdin, &context.client, args.budget).await?;
    if args.detach {
        return start::launch(call, context).await;
    }
    let mut interrupts =
        signal(SignalKind::interrupt()).map_err(|error| Failure::io(error.to_string()))?;
    let tool = call.tool().to_owned();
    let lookup_time = call.lookup_time();
    let budget = match lookup_time > LOOKUP_TIME_MAX {
        true => args.budget.map(|budget| budget.saturating_sub(lookup_time)),
        false => args.budget,
    };
    let mut request = call.into_stream(budget);
    request.set_on_disconnect(OnDisconnect::Park);
    let mut position = CallPosition::default();
    let items = context.client.tools().stream(request);
    let ended = tokio::select! {
        ended = follow(items, &mut position, &mut context.out) => Some(ended),
        _ = interrupts.recv() => None,
    };
    // The stream is dropped by now, so the server parks a call that has not finished.
    match ended {
        Some(Err(Failure::OutputClosed)) => {
            let client = &context.client;
            match keeps {
                true => {
                    eprint_note("standard output was closed");
                    leave(client, &position, interrupts).await;
                }
                false => cancel(client, &position, interrupts).await?,
            }
            Err(Failure::OutputClosed)
        }
        Some(Err(Failure::Client(error))) => {
            if let (Exit::Unreachable, Some(id)) =
                (Exit::of_error(&error), ids::task_of_call(&position.call_id))
            {
                eprint_note(&format!("to look for the call later: callpark show {id}"));
            }
            Err(with_similar_tool(*error, &tool, &context.client).await)
        }
        Some(ended) => ended,
        None => {
            // Continue below the `^C` that the terminal shows.
            eprint_line("");
            leave(&context.client, &position, interrupts).await;
            Ok(Exit::Interrupted)
        }
    }
}

/// The call, and its last event that has arrived.
#[derive(Debug, Default)]
struct CallPosition {
    session_id: String,
    call_id: String,
    sequence: i64,
}

async fn follow(
    items: impl Stream<Item = Result<SessionItem, callpark_client::Error>>,
    position: &mut CallPosition,
    out: &mut Out,
) -> Result<Exit, Failure> {
    let mut items = std::pin::pin!(items);
    while let Some(item) = items.next().await {
        match item? {
            SessionItem::Event(event) => {
                position.session_id.clone_from(&event.session_id);
                position.call_id.clone_from(&event.call_id);
                position.sequence = event.sequence;
                if let Some(exit) = print_event(*event, out).await? {
                    return Ok(exit);
                }
            }
            SessionItem::Gap { from, to } => eprint_gap(from, to),
            _ => {}
        }
    }
    Err(Failure::unexpected_answer("the stream ended before the call finished"))
}

/// Prints an event. Returns the exit for the last event of the call.
async fn print_event(event: SessionEvent, out: &mut Out) -> Result<Option<Exit>, Failure> {
    if out.json {
        out.json_line(&event).await?;
    }
    match event.payload {
        Some(Payload::ToolOutput(output)) if !out.json => {
            eprint_dropped(output.dropped_bytes_before);
            print_output(out, output.stream(), &output.data).await?;
        }
        Some(Payload::ToolProgress(report)) if !out.json => {
            if let Some(report) = report.progress {
                eprint_note(&progress(&report));
            }
        }
        Some(Payload::ToolOutputBlocked(blocked)) if !out.json => {
            eprint_note(&format!("the process waited for room for its output: {}", blocked.cause));
        }
        Some(Payload::ToolCallParked(parked)) => {
            eprint_parked(&parked);
            return Ok(Some(Exit::StillRunning));
        }
        Some(Payload::ToolCallFinished(finished)) => {
            return print_end(*finished, out).await.map(Some);
        }
        Some(
            // Printed as JSON above.
            Payload::ToolOutput(_)
            | Payload::ToolProgress(_)
            | Payload::ToolOutputBlocked(_)
            // Of no interest to the caller.
            | Payload::ToolCallAccepted(_)
            | Payload::ToolCallStarted(_)
            | Payload::ToolCallCancelling(_)
            | Payload::FollowUpScheduled(_)
            | Payload::FollowUpStarted(_)
            | Payload::FollowUpFinished(_)
            // Not events of a tool's call.
            | Payload::SessionUpdated(_)
            | Payload::TurnStarted(_)
            | Payload::AssistantDelta(_)
            | Payload::ReasoningDelta(_)
            | Payload::AssistantMessage(_)
            | Payload::TurnRetrying(_)
            | Payload::TurnResumed(_)
            | Payload::HistoryCompacted(_)
            | Payload::UsageReported(_)
            | Payload::SessionIdle(_)
            | Payload::SessionError(_)
            | Payload::SessionShutdown(_),
        )
        | None => {}
    }
    Ok(None)
}

async fn print_end(finished: ToolCallFinished, out: &mut Out) -> Result<Exit, Failure> {
    let state = finished.state();
    let result = match finished.outcome {
        Some(Outcome::Result(result)) => Some(result),
        Some(Outcome::Error(error)) => {
            eprint_note(&error.message);
            None
        }
        None => None,
    };
    if let (Some(result), false) = (&result, out.json) {
        print_result(out, result, ResultParts::NoOutput).await?;
    }
    eprint_end(state, &finished.reason, result.as_ref());
    Ok(Exit::of_end(state, result.as_ref()))
}

fn eprint_parked(parked: &ToolCallParked) {
    let id = &parked.background_id;
    eprint_note(&format!("still running; the call continues in the background as {id}"));
    eprint_result_hint(id);
}

fn eprint_result_hint(id: &str) {
    eprint_note(&format!("to get its result: callpark wait {id}"));
}

/// Prints what happens to a call after this command has stopped waiting for it.
async fn leave(client: &Client, position: &CallPosition, mut interrupts: Signal) {
    let Some(id) = ids::task_of_call(&position.call_id) else {
        eprint_note(
            "stopped waiting before the server answered; \
             if it accepted the call, `callpark list` shows it",
        );
        return;
    };
    let end = tokio::select! {
        end = timeout(PARKING_TIME_MAX, parked_or_finished(client, position)) => end.ok().flatten(),
        _ = interrupts.recv() => None,
    };
    match end {
        Some(Left::Parked(parked)) => eprint_parked(&parked),
        Some(Left::Finished) => eprint_note("the call has finished"),
        None => {
            eprint_note(&format!(
                "stopped waiting; the server has not confirmed yet that the call continues in the \
                 background as {id}"
            ));
            eprint_result_hint(&id);
        }
    }
}

/// Cancels a call whose output is not read any more, unless it has ended, and says so.
async fn cancel(
    client: &Client,
    position: &CallPosition,
    mut interrupts: Signal,
) -> Result<(), Failure> {
    // Output has arrived, so the call has an id.
    let Some(id) = ids::task_of_call(&position.call_id) else { return Ok(()) };
    let cancelling = async {
        // A call can be cancelled once it is a task.
        let left = timeout(PARKING_TIME_MAX, parked_or_finished(client, position)).await;
        if let Ok(Some(Left::Finished)) = left {
            return Ok(false);
        }
        let handle = client.tasks().handle(&id);
        let answer = handle.cancel("the reader of its output went away").await?;
        let state = answer.task.map(|task| task.state());
        Ok::<_, Failure>(answer.still_running || state == Some(State::Cancelled))
    };
    let was_cancelled = tokio::select! {
        cancelled = cancelling => cancelled?,
        // Whether the server has received the request is not known.
        _ = interrupts.recv() => true,
    };
    if was_cancelled {
        eprint_note(&format!("standard output was closed: the call is cancelled ({id})"));
    }
    Ok(())
}

/// The state of a call without its caller.
enum Left {
    Parked(ToolCallParked),
    Finished,
}

/// Waits for the event that parks or finishes the call, or returns `None` if the server does not
/// answer.
async fn parked_or_finished(client: &Client, position: &CallPosition) -> Option<Left> {
    let kinds = [PayloadKind::ToolCallParked, PayloadKind::ToolCallFinished];
    let mut items = std::pin::pin!(client.sessions().events(StreamSessionRequest {
        session_id: position.session_id.clone(),
        start_after_sequence: Some(position.sequence),
        payloads: kinds.map(Into::into).into(),
        ..Default::default()
    }));
    while let Some(item) = items.next().await {
        let SessionItem::Event(event) = item.ok()? else { continue };
        if event.call_id == position.call_id {
            // The request asks for these two kinds only.
            return event.payload.map(|payload| {
                let Payload::ToolCallParked(parked) = payload else { return Left::Finished };
                Left::Parked(parked)
            });
        }
    }
    None
}
