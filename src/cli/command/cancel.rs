//! `callpark cancel`: cancel tasks.

use std::time::Duration;

use callpark_client::v1::{CancelRequest, CancelResponse, State};

use super::{Context, each, print_each};
use crate::cli::{
    args::{
        duration::{parse_duration, to_wire},
        ids,
    },
    error::Failure,
    exit::Exit,
    print::{
        output::{Out, eprint_note},
        result::summary,
    },
};

/// Cancel tasks: send TERM to their processes, then KILL after a grace period
///
/// A task that has already finished keeps its result, and the command prints how it ended. The exit
/// code is 75 if a task has not finished within the time of --wait.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CancelArgs {
    /// Ids of the tasks
    #[arg(required = true, value_name = "ID", value_parser = ids::task)]
    ids: Vec<String>,

    /// Send KILL immediately
    #[arg(long)]
    force: bool,

    /// Reason to record in the task and the log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,

    /// Print what would be cancelled, without cancelling it
    #[arg(long)]
    dry_run: bool,

    /// Time between TERM and KILL [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "force")]
    grace: Option<Duration>,

    /// Maximum time to wait until each task has finished [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
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
        let text = format!("{id}: process {} ({}) is still running", process.pid, process.command);
        eprint_note(&text);
    }
    if out.json {
        out.json_line(&answer).await?;
        return Ok(exit);
    }
    out.line(&format!("{id} {}", outcome_phrase(&answer))).await?;
    Ok(exit)
}

/// Returns the effect of the request as a phrase.
fn outcome_phrase(answer: &CancelResponse) -> String {
    let CancelResponse { task, dry_run, still_running, replayed, .. } = answer;
    let task = task.as_ref();
    let summary = task.map(summary).unwrap_or_default();
    let is_cancelled = task.is_some_and(|task| task.state() == State::Cancelled);
    match (dry_run, still_running) {
        (true, true) => format!("would be cancelled: {summary}"),
        // The answer to a dry run has the task in the state that a cancel would bring about.
        (true, false) if is_cancelled && !replayed => "would be cancelled".to_owned(),
        (false, true) => format!("is being cancelled: {summary}"),
        (false, false) if is_cancelled && !replayed => "cancelled".to_owned(),
        (_, false) => format!("had already finished: {summary}"),
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
    fn a_task_that_had_finished_keeps_its_result() {
        assert_eq!(outcome_phrase(&answer(State::Succeeded)), "had already finished: succeeded");
        let again = CancelResponse { replayed: true, ..answer(State::Cancelled) };
        assert_eq!(outcome_phrase(&again), "had already finished: cancelled");
    }

    #[test]
    fn an_unfinished_cancel_is_not_called_cancelled() {
        assert_eq!(outcome_phrase(&answer(State::Cancelled)), "cancelled");
        let slow = CancelResponse { still_running: true, ..answer(State::Cancelling) };
        assert_eq!(outcome_phrase(&slow), "is being cancelled: cancelling");
        let dry = CancelResponse { dry_run: true, ..answer(State::Cancelled) };
        assert_eq!(outcome_phrase(&dry), "would be cancelled");
        let dry = CancelResponse { dry_run: true, ..answer(State::Succeeded) };
        assert_eq!(outcome_phrase(&dry), "had already finished: succeeded");
    }
}
