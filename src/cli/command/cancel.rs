//! `callpark cancel`: stop tasks.

use std::time::Duration;

use callpark_client::v1::{CancelRequest, CancelResponse, State, Task};

use super::{Context, each, print_each};
use crate::cli::{
    exit::Exit,
    failure::Failure,
    ids,
    output::{Out, tell},
    result::summary,
    time::{parse_span, to_wire},
};

/// Cancel tasks: TERM to their processes, KILL after the grace
///
/// A task that has ended keeps its result, and the command says what it was. The exit code is 75
/// when a task hasn't ended within the wait.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CancelArgs {
    /// The tasks
    #[arg(required = true, value_name = "ID", value_parser = ids::task)]
    ids: Vec<String>,

    /// Send KILL at once
    #[arg(long)]
    force: bool,

    /// Why, for the task and the log
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,

    /// Say what would be cancelled, and cancel nothing
    #[arg(long)]
    dry_run: bool,

    /// From TERM to KILL [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = parse_span, conflicts_with = "force")]
    grace: Option<Duration>,

    /// How long to wait for the end of each task [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    wait: Option<Duration>,
}

pub(crate) async fn run(args: CancelArgs, context: &mut Context) -> Result<Exit, Failure> {
    let request = |id: &str| CancelRequest {
        background_id: id.to_owned(),
        force: args.force,
        reason: args.reason.clone(),
        dry_run: args.dry_run,
        wait: args.wait.map(to_wire),
        grace: args.grace.map(to_wire),
        ..Default::default()
    };
    let Context { client, out, connection } = context;
    let answers = each(&args.ids, |id| client.cancel(request(id)));
    print_each(answers, connection, out, print).await
}

async fn print(id: &str, answer: CancelResponse, out: &mut Out) -> Result<Exit, Failure> {
    let exit =
        if answer.still_running && !answer.dry_run { Exit::StillRunning } else { Exit::Success };
    for process in &answer.survivors {
        tell(&format!("callpark: {id}: process {} ({}) is left", process.pid, process.command));
    }
    if out.json {
        out.json_line(&answer).await?;
        return Ok(exit);
    }
    let task = answer.task.unwrap_or_default();
    out.line(&format!("{id} {}", verdict(&task, answer.dry_run, answer.still_running))).await?;
    Ok(exit)
}

/// What the cancel came to, in words.
fn verdict(task: &Task, dry_run: bool, still_running: bool) -> String {
    match (dry_run, still_running, task.state()) {
        (true, true, _) => format!("would be cancelled; it is {}", summary(task)),
        (false, true, _) => format!("is being cancelled; it is {}", summary(task)),
        (_, false, State::Cancelled) => "cancelled".to_owned(),
        (_, false, _) => format!("had ended before: {}", summary(task)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_had_ended_keeps_its_result() {
        let task = |state: State| Task { state: state.into(), ..Default::default() };
        assert_eq!(verdict(&task(State::Cancelled), false, false), "cancelled");
        assert_eq!(verdict(&task(State::Succeeded), false, false), "had ended before: succeeded");
        assert_eq!(verdict(&task(State::Running), true, true), "would be cancelled; it is running");
    }
}
