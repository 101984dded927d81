//! `callpark tools`: the list of tools.

use callpark_client::v1::ListToolsRequest;

use super::Context;
use crate::cli::{
    args::ids,
    error::Failure,
    exit::Exit,
    print::{lists, output::eprint_note},
};

/// List the tools that can be run
///
/// BUDGET is the time that `callpark run` waits before it parks a call; TIMEOUT is the time after
/// which the tool is stopped. Arguments in brackets are optional. --json prints the full schemas.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ToolsArgs {
    /// List only the tools that this session allows
    #[arg(long, value_name = "ID", value_parser = ids::session)]
    session: Option<String>,
}

pub(crate) async fn run(args: ToolsArgs, context: &mut Context) -> Result<Exit, Failure> {
    let request = ListToolsRequest { session_id: args.session.unwrap_or_default() };
    let answer = context.client.tools().list_with(request).await?;
    if context.out.json {
        context.out.document(&answer).await?;
    } else if answer.tools.is_empty() {
        eprint_note("no tools are available to you");
    } else {
        context.out.table(&lists::tools(&answer.tools)).await?;
    }
    if !context.out.json {
        for source in answer.unavailable {
            let name = source.source.unwrap_or_default().name;
            eprint_note(&format!("tools of {name} are not available: {}", source.message));
        }
    }
    Ok(Exit::Success)
}
