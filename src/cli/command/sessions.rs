//! `callpark sessions`: the list of sessions.

use callpark_client::v1::{ListSessionsRequest, ListSessionsResponse, SessionState};

use super::{Context, list::page_size};
use crate::cli::{
    args::{enums, tool_arguments},
    error::Failure,
    exit::Exit,
    print::{lists, output::eprint_unreadable},
};

/// List sessions, newest first
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SessionsArgs {
    /// List only sessions in this state: open, closing or closed
    #[arg(long, value_name = "STATE", value_parser = enums::parse::<SessionState>)]
    state: Option<SessionState>,

    /// List only sessions with this label. Can be repeated: a session must have all of them
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = tool_arguments::pair)]
    labels: Vec<(String, String)>,

    /// Maximum number of sessions to list
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
        all.unreadable_sessions = all.unreadable_sessions.saturating_add(page.unreadable_sessions);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
        request.page_token.clone_from(&all.next_page_token);
    }
    let has_more = !all.next_page_token.is_empty();
    let table = lists::sessions(&all.sessions);
    context.out.list(&all, &table, "sessions", has_more).await?;
    eprint_unreadable(all.unreadable_sessions, "session");
    Ok(Exit::Success)
}
