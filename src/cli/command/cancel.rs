//! `callpark cancel`: stop tasks.

use std::time::Duration;

use callpark_client::v1::{CancelRequest, CancelResponse, State};

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
    let answers = each(&args.ids, |id| client.tasks().cancel(request(id)));
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
    out.line(&format!("{id} {}", verdict(&answer))).await?;
    Ok(exit)
}

/// What the cancel came to, in words.
fn verdict(answer: &CancelResponse) -> String {
    let CancelResponse { task, dry_run, still_running, replayed, .. } = answer;
    let task = task.as_ref();
    let summary = task.map(summary).unwrap_or_default();
    let is_cancelled = task.is_some_and(|task| task.state() == State::Cancelled);
    match (dry_run, still_running) {
        (true, true) => format!("would be cancelled: {summary}"),
        // The answer to a dry run has the task as a cancel would leave it.
        (true, false) if is_cancelled && !replayed => "would be cancelled".to_owned(),
        (false, true) => format!("is being cancelled: {summary}"),
        (false, false) if is_cancelled && !replayed => "cancelled".to_owned(),
        (_, false) => format!("had ended before: {summary}"),
    }
}

#[cfg(test)]
mod tests {
    use callpark_client::v1::Task;

    use super::*;

    fn answer(state: State) -> CancelResponse {
        let task = Task { state: state.into(), ..Default::default() };
        CancelResponse { task: Some(task), ..Default::default() }
    }

    #[test]
    fn a_task_that_had_ended_keeps_its_result() {
        assert_eq!(verdict(&answer(State::Succeeded)), "had ended before: succeeded");
        let again = CancelResponse { replayed: true, ..answer(State::Cancelled) };
        assert_eq!(verdict(&again), "had ended before: cancelled");
    }

    #[test]
    fn a_cancel_that_isnt_done_says_so() {
        assert_eq!(verdict(&answer(State::Cancelled)), "cancelled");
        let slow = CancelResponse { still_running: true, ..answer(State::Cancelling) };
        assert_eq!(verdict(&slow), "is being cancelled: cancelling");
        let dry = CancelResponse { dry_run: true, ..answer(State::Cancelled) };
        assert_eq!(verdict(&dry), "would be cancelled");
        let dry = CancelResponse { dry_run: true, ..answer(State::Succeeded) };
        assert_eq!(verdict(&dry), "had ended before: succeeded");
    }
}
