//! `callpark list`: the background tasks.

use callpark_client::v1::{Kind, ListRequest, ListResponse, State};

use super::Context;
use crate::cli::{arguments, exit::Exit, failure::Failure, ids, table, words};

/// Tasks asked for at once, at most.
const PAGE_SIZE_MAX: usize = 1_000;

/// List background tasks, newest first
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only those of this session
    #[arg(long, value_name = "ID", value_parser = ids::session)]
    session: Option<String>,

    /// Only those in this state, such as running or failed. Can be repeated
    #[arg(long = "state", value_name = "STATE", value_parser = words::parse_state)]
    states: Vec<State>,

    /// Only those of this kind, such as command or worker. Can be repeated
    #[arg(long = "kind", value_name = "KIND", value_parser = words::parse_kind)]
    kinds: Vec<Kind>,

    /// Only those with this label. Can be repeated: all must be there
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = arguments::pair)]
    labels: Vec<(String, String)>,

    /// At most so many
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
        // Where a watch begins that misses nothing: before the first page.
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
    let table = table::tasks(&all.tasks);
    context.out.list(&all, &table, "tasks", has_more).await?;
    Ok(Exit::Success)
}

/// How many entries to ask for when so many are still wanted.
pub(crate) fn page_size(wanted: usize) -> i32 {
    i32::try_from(wanted.min(PAGE_SIZE_MAX)).unwrap_or(i32::MAX)
}
