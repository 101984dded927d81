//! `callpark start`: one call, straight into the background.

use callpark_client::v1::StartResponse;

use super::Context;
use crate::cli::{
    call::{Call, CallArgs},
    exit::Exit,
    failure::Failure,
    output::tell,
};

/// Start a tool in the background, and print the id of its task
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StartArgs {
    #[command(flatten)]
    call: CallArgs,
}

pub(crate) async fn run(args: StartArgs, context: &mut Context) -> Result<Exit, Failure> {
    let call = args.call.resolve(&context.client).await?;
    launch(call, context).await
}

/// Starts a call in the background. Its id alone goes to standard output.
pub(crate) async fn launch(call: Call, context: &mut Context) -> Result<Exit, Failure> {
    let answer: StartResponse = context.client.tasks().start(call.into_start()).await?;
    if context.out.json {
        context.out.document(&answer).await?;
        return Ok(Exit::Success);
    }
    let task = answer.task.ok_or_else(|| Failure::answer("the answer names no task"))?;
    context.out.line(&task.background_id).await?;
    // In `id=$(callpark start …)` it would be in the way.
    if context.out.terminal {
        tell(&format!("callpark: to get its result: callpark wait {}", task.background_id));
    }
    Ok(Exit::Success)
}
