//! `callpark start`: start a call in the background.

use std::time::Duration;

use callpark_client::{Client, v1::StartResponse};

use super::Context;
use crate::cli::{
    args::{
        call::{CallArgs, PreparedCall, with_similar_tool},
        stdin::StdinArgs,
    },
    error::Failure,
    exit::Exit,
    print::output::eprint_note,
};

/// Start a tool in the background, and print the id of its task
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StartArgs {
    #[command(flatten)]
    call: CallArgs,

    #[command(flatten)]
    stdin: StdinArgs,
}

pub(crate) async fn run(args: StartArgs, context: &mut Context) -> Result<Exit, Failure> {
    let call = prepare(args.call, args.stdin, &context.client, None).await?;
    launch(call, context).await
}

/// Returns the call with its arguments and its standard input.
pub(crate) async fn prepare(
    call: CallArgs,
    stdin: StdinArgs,
    client: &Client,
    budget: Option<Duration>,
) -> Result<PreparedCall, Failure> {
    let is_read = call.reads_stdin();
    let call = call.resolve(client, budget).await?;
    if is_read { Ok(call) } else { stdin.pass(call, client).await }
}

/// Starts a call in the background, and prints the id of its task alone on standard output.
pub(crate) async fn launch(call: PreparedCall, context: &mut Context) -> Result<Exit, Failure> {
    let tool = call.tool().to_owned();
    let answer: StartResponse = match context.client.tasks().start(call.into_start()).await {
        Ok(answer) => answer,
        Err(error) => return Err(with_similar_tool(error, &tool, &context.client).await),
    };
    let task = answer.task.ok_or_else(|| Failure::unexpected_answer("the answer has no task"))?;
    if context.out.json {
        context.out.document(&task).await?;
        return Ok(Exit::Success);
    }
    context.out.line(&task.background_id).await?;
    // A script with `id=$(callpark start …)` needs no hint.
    if context.out.terminal {
        eprint_note(&format!("to get its result: callpark wait {}", task.background_id));
    }
    Ok(Exit::Success)
}
