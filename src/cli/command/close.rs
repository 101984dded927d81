//! `callpark close`: close sessions.

use callpark_client::v1::{CloseSessionRequest, CloseSessionResponse};

use super::{Context, each, print_each};
use crate::cli::{
    args::ids,
    error::Failure,
    exit::Exit,
    print::{labels::label, output::Out, text::count},
};

/// Close sessions: they accept no new work, and their tasks are cancelled
///
/// Tasks that were started with --keep continue.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CloseArgs {
    /// Ids of the sessions, or the beginnings of them, or `last`
    #[arg(required = true, value_name = "ID", value_parser = ids::session)]
    ids: Vec<ids::GivenId>,

    /// Reason to record in the log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

pub(crate) async fn run(args: CloseArgs, context: &mut Context) -> Result<Exit, Failure> {
    let request = |id: &str| CloseSessionRequest {
        session_id: id.to_owned(),
        reason: args.reason.clone(),
        ..Default::default()
    };
    let Context { client, out, connection } = context;
    let ids = ids::resolve_all(&args.ids, client).await?;
    let answers = each(&ids, |id| client.sessions().close(request(id)));
    print_each(answers, connection, out, print).await
}

async fn print(id: &str, answer: CloseSessionResponse, out: &mut Out) -> Result<Exit, Failure> {
    if out.json {
        out.json_line(&answer).await?;
        return Ok(Exit::Success);
    }
    let CloseSessionResponse { session, cancelled_tasks, detached_tasks, .. } = answer;
    let state = label(session.unwrap_or_default().state());
    let cancelled = count(cancelled_tasks, "task");
    let detached = count(detached_tasks, "task");
    out.line(&format!("{id} {state}: {cancelled} cancelled, {detached} kept")).await?;
    Ok(Exit::Success)
}
