//! `callpark list`: the list of background tasks.

use callpark_client::{
    Client,
    v1::{Kind, ListRequest, ListResponse, State},
};

use super::Context;
use crate::cli::{
    args::{enums, ids, tool_arguments},
    error::Failure,
    exit::Exit,
    print::{
        lists,
        output::{eprint_note, eprint_unreadable},
    },
};

/// The maximum number of entries to ask for in one request.
const PAGE_SIZE_MAX: usize = 1_000;

/// List background tasks, newest first
///
/// On a terminal ids are shortened; every command accepts the beginning of an id, as long as only one
/// task has it, and `last` for the newest task.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// List only tasks of this session
    #[arg(long, value_name = "ID", value_parser = ids::session)]
    session: Option<ids::GivenId>,

    /// List only tasks in this state, such as running or failed. Can be repeated
    #[arg(long = "state", value_name = "STATE", value_parser = enums::parse::<State>)]
    states: Vec<State>,

    /// List only tasks that have not finished: pending, running or cancelling
    #[arg(long, conflicts_with = "states")]
    running: bool,

    /// List only tasks of this kind, such as command or agent. Can be repeated
    #[arg(long = "kind", value_name = "KIND", value_parser = enums::parse::<Kind>)]
    kinds: Vec<Kind>,

    /// List only tasks with this label. Can be repeated: a task must have all of them
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = tool_arguments::pair)]
    labels: Vec<(String, String)>,

    /// Maximum number of tasks to list
    #[arg(long, value_name = "COUNT", default_value = "50")]
    limit: std::num::NonZeroUsize,

    /// Print only the ids, in full
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,

    /// Print the process id of the shim that owns each task's process, and the shims below the table
    #[arg(short, long, conflicts_with_all = ["json", "quiet"])]
    verbose: bool,
}

pub(crate) async fn run(args: ListArgs, context: &mut Context) -> Result<Exit, Failure> {
    let states = if args.running { lists::LIVE.to_vec() } else { args.states };
    let request = ListRequest {
        session_id: ids::resolve_or_empty(args.session.as_ref(), &context.client).await?,
        states: states.into_iter().map(Into::into).collect(),
        kinds: args.kinds.into_iter().map(Into::into).collect(),
        labels: args.labels.into_iter().collect(),
        ..Default::default()
    };
    let all = fetch(&context.client, request, args.limit.get()).await?;
    let has_more = !all.next_page_token.is_empty();
    if args.quiet {
        for task in &all.tasks {
            context.out.line(&task.background_id).await?;
        }
        if has_more {
            eprint_note("there are more tasks; raise --limit to see them");
        }
        eprint_unreadable(all.unreadable_tasks, "task");
        return Ok(Exit::Success);
    }
    let table = match args.verbose {
        true => lists::tasks_with_shims(&all.tasks),
        false => lists::tasks(&all.tasks),
    };
    context.out.list(&all, &table, "tasks", has_more).await?;
    if args.verbose {
        print_shims(context).await?;
    }
    eprint_unreadable(all.unreadable_tasks, "task");
    Ok(Exit::Success)
}

async fn print_shims(context: &mut Context) -> Result<(), Failure> {
    let shims = context.client.server_info().await?.shims;
    if shims.is_empty() {
        eprint_note("no shim is running");
        return Ok(());
    }
    context.out.line("").await?;
    context.out.table(&lists::shims(&shims)).await
}

/// Lists the tasks that have not finished, of this session or, if the id is empty, of all.
pub(super) async fn live_tasks(
    client: &Client,
    session_id: String,
) -> Result<ListResponse, Failure> {
    let states = lists::LIVE.map(Into::into).into();
    let request = ListRequest { session_id, states, ..Default::default() };
    fetch(client, request, usize::MAX).await
}

/// Reads pages until there are `limit` tasks or no more.
async fn fetch(
    client: &Client,
    mut request: ListRequest,
    limit: usize,
) -> Result<ListResponse, Failure> {
    let mut all = ListResponse::default();
    while all.tasks.len() < limit {
        request.page_size = page_size(limit - all.tasks.len());
        let page = client.tasks().list(request.clone()).await?;
        // A watch that misses nothing begins before the first page.
        if request.page_token.is_empty() {
            all.watch_sequence = page.watch_sequence;
        }
        all.tasks.extend(page.tasks);
        all.unreadable_tasks = all.unreadable_tasks.saturating_add(page.unreadable_tasks);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
        request.page_token.clone_from(&all.next_page_token);
    }
    Ok(all)
}

/// Returns the number of entries to ask for if `missing` are still missing.
pub(super) fn page_size(missing: usize) -> i32 {
    i32::try_from(missing.min(PAGE_SIZE_MAX)).unwrap_or(i32::MAX)
}
