//! `callpark follow-ups`: messages for agents about finished tasks.

use std::time::Duration;

use callpark_client::v1::{
    AcknowledgeFollowUpRequest, FollowUp, FollowUpState, LeaseFollowUpsRequest, LeasedFollowUp,
    ListFollowUpsRequest, ListFollowUpsResponse, RetryFollowUpRequest, RetryFollowUpResponse,
};
use callpark_client::{Client, Code, google::rpc::Status};
use tokio::time::Instant;

use super::{Context, each, list::page_size, print_each};
use crate::cli::{
    args::{
        duration::{parse_duration, to_wire},
        enums, ids,
    },
    error::Failure,
    exit::Exit,
    print::{
        labels::label,
        lists,
        output::{Out, eprint_note, eprint_unreadable},
        spinner::Spinner,
    },
};

/// The maximum time that one request waits for a follow-up. The next request continues to wait.
const WAIT_PER_REQUEST: Duration = Duration::from_secs(45);

/// List follow-ups, wait for one, or re-queue dead-lettered ones
///
/// A follow-up is a message to an agent that a background task has finished. The server creates it
/// for a call that was started with --follow-up or by an agent that runs in callpark. If an agent
/// runs in the session, the server delivers the message to it; otherwise a consumer fetches the
/// message, such as `callpark follow-ups wait`.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct FollowUpsArgs {
    #[command(subcommand)]
    command: Option<FollowUpsCommand>,

    #[command(flatten)]
    list: ListFollowUpsArgs,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum FollowUpsCommand {
    List(ListFollowUpsArgs),
    Wait(WaitFollowUpArgs),
    Retry(RetryFollowUpArgs),
}

/// List follow-ups, newest first (the default)
#[derive(Clone, Debug, clap::Args)]
struct ListFollowUpsArgs {
    /// List only follow-ups of this session
    #[arg(long, value_name = "ID", value_parser = ids::session)]
    session: Option<ids::GivenId>,

    /// List only follow-ups in this state, such as pending or dead_lettered. Can be repeated
    #[arg(long = "state", value_name = "STATE", value_parser = enums::parse::<FollowUpState>)]
    states: Vec<FollowUpState>,

    /// Maximum number of follow-ups to list
    #[arg(long, value_name = "COUNT", default_value = "50")]
    limit: std::num::NonZeroUsize,
}

/// Wait for a follow-up, and print its message for the agent
///
/// Takes only follow-ups that the server does not deliver itself. A printed message counts as
/// delivered; if printing fails, the follow-up is delivered again.
#[derive(Clone, Debug, clap::Args)]
struct WaitFollowUpArgs {
    /// Take only follow-ups of this session
    #[arg(long, value_name = "ID", value_parser = ids::session)]
    session: Option<ids::GivenId>,

    /// Maximum time to wait, such as 30s or 5m; after that, exit with code 75 [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

/// Re-queue dead-lettered follow-ups, and count their attempts from zero
#[derive(Clone, Debug, clap::Args)]
struct RetryFollowUpArgs {
    /// Ids of the follow-ups or of their tasks, or the beginnings of them, or `last`
    #[arg(required = true, value_name = "ID", value_parser = ids::follow_up)]
    ids: Vec<ids::GivenId>,
}

pub(crate) async fn run(args: FollowUpsArgs, context: &mut Context) -> Result<Exit, Failure> {
    match args.command {
        None => list(args.list, context).await,
        Some(FollowUpsCommand::List(args)) => list(args, context).await,
        Some(FollowUpsCommand::Wait(args)) => wait(args, context).await,
        Some(FollowUpsCommand::Retry(args)) => retry(args, context).await,
    }
}

async fn list(args: ListFollowUpsArgs, context: &mut Context) -> Result<Exit, Failure> {
    let limit = args.limit.get();
    let mut request = ListFollowUpsRequest {
        session_id: ids::resolve_or_empty(args.session.as_ref(), &context.client).await?,
        states: args.states.into_iter().map(Into::into).collect(),
        ..Default::default()
    };
    let mut all = ListFollowUpsResponse::default();
    while all.follow_ups.len() < limit {
        request.page_size = page_size(limit - all.follow_ups.len());
        let page = context.client.follow_ups().list(request.clone()).await?;
        all.follow_ups.extend(page.follow_ups);
        all.unreadable_follow_ups =
            all.unreadable_follow_ups.saturating_add(page.unreadable_follow_ups);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
        request.page_token.clone_from(&all.next_page_token);
    }
    let has_more = !all.next_page_token.is_empty();
    let table = lists::follow_ups(&all.follow_ups);
    context.out.list(&all, &table, "follow-ups", has_more).await?;
    eprint_unreadable(all.unreadable_follow_ups, "follow-up");
    Ok(Exit::Success)
}

async fn wait(args: WaitFollowUpArgs, context: &mut Context) -> Result<Exit, Failure> {
    let spinner = Spinner::start("waiting for a follow-up".to_owned());
    let lease = lease(args, &context.client).await?;
    drop(spinner);
    let Some(LeasedFollowUp { follow_up, lease_token }) = lease else {
        eprint_note("no follow-up arrived within the timeout");
        return Ok(Exit::StillRunning);
    };
    let follow_up =
        follow_up.ok_or_else(|| Failure::unexpected_answer("the lease has no follow-up"))?;
    let printed = print_message(&follow_up, &mut context.out).await;
    let error = printed.is_err().then(|| Status {
        code: Code::Cancelled.into(),
        message: "the message could not be printed".to_owned(),
        ..Default::default()
    });
    let follow_up_id = follow_up.follow_up_id;
    let acknowledgement =
        AcknowledgeFollowUpRequest { follow_up_id, lease_token, error, ..Default::default() };
    let acknowledged = context.client.follow_ups().acknowledge(acknowledgement).await;
    printed?;
    acknowledged?;
    Ok(Exit::Success)
}

/// Leases a follow-up, or returns `None` if none arrives within the timeout.
async fn lease(args: WaitFollowUpArgs, client: &Client) -> Result<Option<LeasedFollowUp>, Failure> {
    // A timeout beyond the range of the clock is no limit.
    let until = args.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut request = LeaseFollowUpsRequest {
        session_id: ids::resolve_or_empty(args.session.as_ref(), client).await?,
        max_follow_ups: 1,
        consumer: "callpark follow-ups wait".to_owned(),
        ..Default::default()
    };
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let wait = left.map_or(WAIT_PER_REQUEST, |left| left.min(WAIT_PER_REQUEST));
        request.wait = Some(to_wire(wait));
        let answer = client.follow_ups().lease(request.clone()).await?;
        if let Some(lease) = answer.follow_ups.into_iter().next() {
            return Ok(Some(lease));
        }
        if left.is_some_and(|left| left <= wait) {
            return Ok(None);
        }
    }
}

async fn print_message(follow_up: &FollowUp, out: &mut Out) -> Result<(), Failure> {
    match (out.json, out.terminal) {
        (true, _) => out.document(follow_up).await,
        (false, true) => out.line(&follow_up.message).await,
        // An agent gets the message unchanged.
        (false, false) => out.bytes(format!("{}\n", follow_up.message).as_bytes()).await,
    }
}

async fn retry(args: RetryFollowUpArgs, context: &mut Context) -> Result<Exit, Failure> {
    let Context { client, out, connection } = context;
    let request =
        |id: &str| RetryFollowUpRequest { follow_up_id: id.to_owned(), ..Default::default() };
    let ids = ids::resolve_all(&args.ids, client).await?;
    let answers = each(&ids, |id| client.follow_ups().retry(request(id)));
    print_each(answers, connection, out, print_state).await
}

async fn print_state(
    id: &str,
    answer: RetryFollowUpResponse,
    out: &mut Out,
) -> Result<Exit, Failure> {
    if out.json {
        out.json_line(&answer).await?;
        return Ok(Exit::Success);
    }
    let follow_up = answer
        .follow_up
        .ok_or_else(|| Failure::unexpected_answer("the answer has no follow-up"))?;
    out.line(&format!("{id} {}", label(follow_up.state()))).await?;
    Ok(Exit::Success)
}
