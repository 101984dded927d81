//! `callpark list`: the list of background tasks.

use callpark_client::v1::{Kind, ListRequest, ListResponse, State};

use super::Context;
use crate::cli::{
    args::{enums, ids, tool_arguments},
    error::Failure,
    exit::Exit,
    print::lists,
};

/// The maximum number of entries to ask for in one request.
const PAGE_SIZE_MAX: usize = 1_000;

/// List background tasks, newest first
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// List only tasks of this session
    #[arg(long, value_name = "ID", value_parser = ids::session)]
    session: Option<String>,

    /// List only tasks in this state, such as running or failed. Can be repeated
    #[arg(long = "state", value_name = "STATE", value_parser = enums::parse::<State>)]
    states: Vec<State>,

    /// List only tasks of this kind, such as command or agent. Can be repeated
    #[arg(long = "kind", value_name = "KIND", value_parser = enums::parse::<Kind>)]
    kinds: Vec<Kind>,

    /// List only tasks with this label. Can be repeated: a task must have all of them
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = tool_arguments::pair)]
    labels: Vec<(String, String)>,

    /// Maximum number of tasks to list
    #[arg(long, value_name = "COUNT", default_value = "50")]
    limit: std::num::NonZeroUsize,
}

pub(crate) async fn run(args: ListArgs, context: &mut Context) -> Result<Exit, Failure> {
    let limit = args.limit.get();
    let mut request = ListRequest {
        session_id: args.session.unwrap_or_default(),
        states: args.states.into_iter().map(Into::into).collect(),
        kinds: args.kinds.into_iter().map(Into::into).collect(),
        labels: args.labels.into_iter().collect(),
        ..Default::default()
    };
    let mut all = ListResponse::default();
    while all.tasks.len() < limit {
        request.page_size = page_size(limit - all.tasks.len());
        let page = context.client.tasks().list(request.clone()).await?;
        // A watch that misses nothing begins before the first page.
        if request.page_token.is_empty() {
            all.watch_sequence = page.watch_sequence;
        }
        all.tasks.extend(page.tasks);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
        request.page_token.clone_from(&all.next_page_token);
    }
    let has_more = !all.next_page_token.is_empty();
    let table = lists::tasks(&all.tasks);
    context.out.list(&all, &table, "tasks", has_more).await?;
    Ok(Exit::Success)
}

/// Returns the number of entries to ask for if `missing` are still missing.
pub(super) fn page_size(missing: usize) -> i32 {
    i32::try_from(missing.min(PAGE_SIZE_MAX)).unwrap_or(i32::MAX)
}
