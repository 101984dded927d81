//! `callpark tools`: what can be run.

use callpark_client::v1::ListToolsRequest;

use super::Context;
use crate::cli::{exit::Exit, failure::Failure, ids, output::tell, table};

/// List the tools that can be run
///
/// BUDGET is how long `callpark run` waits before a call is parked, TIMEOUT how long the tool may
/// run. Arguments in brackets can be left out. `--json` shows the whole schemas.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ToolsArgs {
    /// Only those that may be used in this session
    #[arg(long, value_name = "ID", value_parser = ids::session)]
    session: Option<String>,
}

pub(crate) async fn run(args: ToolsArgs, context: &mut Context) -> Result<Exit, Failure> {
    let request = ListToolsRequest { session_id: args.session.unwrap_or_default() };
    let answer = context.client.tools().list_with(request).await?;
    if context.out.json {
        context.out.document(&answer).await?;
    } else if answer.tools.is_empty() {
        tell("callpark: there are no tools that you may use");
    } else {
        context.out.table(&table::tools(&answer.tools)).await?;
    }
    if !context.out.json {
        for source in answer.unavailable {
            let name = source.source.unwrap_or_default().name;
            tell(&format!("callpark: {name}: {}", source.message));
        }
    }
    Ok(Exit::Success)
}
