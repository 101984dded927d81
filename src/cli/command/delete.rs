//! `callpark delete`: delete finished tasks.

use callpark_client::v1::{DeleteRequest, DeleteResponse};

use super::{Context, each, print_each};
use crate::cli::{args::ids, error::Failure, exit::Exit, print::output::Out};

/// Delete finished tasks and their results
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DeleteArgs {
    /// Ids of the tasks, or the beginnings of them, or `last`
    #[arg(required = true, value_name = "ID", value_parser = ids::task)]
    ids: Vec<ids::GivenId>,
}

pub(crate) async fn run(args: DeleteArgs, context: &mut Context) -> Result<Exit, Failure> {
    let request = |id: &str| DeleteRequest { background_id: id.to_owned(), ..Default::default() };
    let Context { client, out, connection } = context;
    let ids = ids::resolve_all(&args.ids, client).await?;
    let answers = each(&ids, |id| client.tasks().delete(request(id)));
    print_each(answers, connection, out, print).await
}

async fn print(id: &str, answer: DeleteResponse, out: &mut Out) -> Result<Exit, Failure> {
    if out.json {
        out.json_line(&answer).await?;
    } else {
        out.line(&format!("{id} deleted")).await?;
    }
    Ok(Exit::Success)
}
