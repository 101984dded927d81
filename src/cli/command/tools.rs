//! `callpark tools`: the list of tools.

use callpark_client::v1::{ListToolsRequest, ListToolsResponse};

use super::Context;
use crate::cli::{
    args::{call::list_tools, ids},
    error::Failure,
    exit::Exit,
    print::{lists, output::eprint_note, text::count},
};

/// The tools whose warnings are printed.
const WARNINGS_MAX: usize = 3;

/// List the tools that can be run
///
/// BUDGET is the time that `callpark run` waits before it parks a call; TIMEOUT is the time after
/// which the tool is stopped. Arguments in brackets are optional. --json prints the full schemas.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ToolsArgs {
    /// List only the tools that this session allows
    #[arg(long, value_name = "ID", value_parser = ids::session)]
    session: Option<ids::GivenId>,
}

pub(crate) async fn run(args: ToolsArgs, context: &mut Context) -> Result<Exit, Failure> {
    let session_id = ids::resolve_or_empty(args.session.as_ref(), &context.client).await?;
    let request = ListToolsRequest { session_id, ..Default::default() };
    let (tools, unavailable) = list_tools(&context.client, request).await?;
    if context.out.json {
        let answer = ListToolsResponse { tools, unavailable, ..Default::default() };
        return context.out.list_document(&answer).await.map(|()| Exit::Success);
    }
    if tools.is_empty() {
        eprint_note("no tools are available to you");
    } else {
        context.out.table(&lists::tools(&tools)).await?;
    }
    let odd: Vec<_> = tools.iter().filter(|tool| !tool.warnings.is_empty()).collect();
    for tool in odd.iter().take(WARNINGS_MAX) {
        eprint_note(&format!("{}: {}", tool.name, tool.warnings.join("; ")));
    }
    if let Some(more @ 1..) = odd.len().checked_sub(WARNINGS_MAX) {
        eprint_note(&format!("--json shows the warnings of {}", count(more, "more tool")));
    }
    for source in unavailable {
        let name = source.source.unwrap_or_default().name;
        match source.message.strip_prefix("left out: ") {
            Some(left_out) => eprint_note(&format!("left out of the tools of {name}: {left_out}")),
            None => {
                eprint_note(&format!("tools of {name} are not available: {}", source.message));
            }
        }
    }
    Ok(Exit::Success)
}
