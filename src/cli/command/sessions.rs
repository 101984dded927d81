//! `callpark sessions`: the sessions.

use callpark_client::v1::{ListSessionsRequest, ListSessionsResponse, SessionState};

use super::{Context, list::page_size};
use crate::cli::{arguments, exit::Exit, failure::Failure, table, words};

/// List sessions, newest first
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SessionsArgs {
    /// Only those in this state: open, closing or closed
    #[arg(long, value_name = "STATE", value_parser = words::parse_session_state)]
    state: Option<SessionState>,

    /// Only those with this label. Can be repeated: all must be there
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = arguments::pair)]
    labels: Vec<(String, String)>,

    /// At most so many
    #[arg(long, value_name = "COUNT", default_value = "50")]
    limit: std::num::NonZeroUsize,
}

pub(crate) async fn run(args: SessionsArgs, context: &mut Context) -> Result<Exit, Failure> {
    let mut request = ListSessionsRequest {
        state: args.state.unwrap_or_default().into(),
        labels: args.labels.into_iter().collect(),
        ..Default::default()
    };
    let mut all = ListSessionsResponse::default();
    while all.sessions.len() < args.limit.get() {
        request.page_size = page_size(args.limit.get() - all.sessions.len());
        let page = context.client.sessions().list(request.clone()).await?;
        all.sessions.extend(page.sessions);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
        request.page_token.clone_from(&all.next_page_token);
    }
    let has_more = !all.next_page_token.is_empty();
    let table = table::sessions(&all.sessions);
    context.out.list(&all, &table, "sessions", has_more).await?;
    Ok(Exit::Success)
}
