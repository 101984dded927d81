//! `callpark cancel`: cancel tasks.

use std::{io::IsTerminal as _, time::Duration};

use callpark_client::{
    Client,
    v1::{CancelRequest, CancelResponse, State},
};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::{Context, each, list::live_tasks, print_each};
use crate::cli::{
    args::{
        duration::{parse_duration, to_wire},
        ids,
    },
    error::Failure,
    exit::Exit,
    print::{
        output::{Out, eprint_bytes, eprint_note, eprint_unreadable},
        result::summary,
        text::count,
    },
};

/// Cancel tasks: send TERM to their processes, then KILL after a grace period
///
/// A task that has already finished keeps its result, and the command prints how it ended. The exit
/// code is 75 if a task has not finished within the time of --wait.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CancelArgs {
    /// Ids of the tasks, or the beginnings of them, or `last`
    #[arg(required_unless_present = "all", value_name = "ID", value_parser = ids::task)]
    ids: Vec<ids::GivenId>,

    /// Cancel every task that has not finished. Asks first
    #[arg(long, conflicts_with = "ids")]
    all: bool,

    /// With --all, cancel only the tasks of this session
    #[arg(long, value_name = "ID", value_parser = ids::session, requires = "all",
        conflicts_with = "ids")]
    session: Option<ids::GivenId>,

    /// With --all, do not ask
    #[arg(short, long, requires = "all", conflicts_with = "ids")]
    yes: bool,

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
    let ids = match args.all {
        true => ids_of_all(&args, client).await?,
        false => ids::resolve_all(&args.ids, client).await?,
    };
    let answers = each(&ids, |id| client.tasks().cancel(request(id)));
    print_each(answers, connection, out, print).await
}

/// Returns the ids of all tasks that have not finished, once the user has confirmed that they are to
/// be cancelled.
async fn ids_of_all(args: &CancelArgs, client: &Client) -> Result<Vec<String>, Failure> {
    let session = ids::resolve_or_empty(args.session.as_ref(), client).await?;
    let live = live_tasks(client, session).await?;
    eprint_unreadable(live.unreadable_tasks, "task");
    let tasks = live.tasks;
    if tasks.is_empty() {
        eprint_note("no task is running");
        return Ok(Vec::new());
    }
    let tasks_counted = count(tasks.len(), "running task");
    let is_sure = args.yes || args.dry_run;
    let can_ask = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !is_sure && !can_ask {
        return Err(Failure::usage(format!(
            "--all would cancel {tasks_counted}, and there is no terminal to ask on\n\
             confirm with --yes, or see them with --dry-run"
        )));
    }
    if !is_sure && !confirm(&format!("cancel {tasks_counted}?")).await? {
        eprint_note("nothing was cancelled");
        return Ok(Vec::new());
    }
    Ok(tasks.into_iter().map(|task| task.background_id).collect())
}

/// Asks a question on the terminal. Only a yes is a yes.
async fn confirm(question: &str) -> Result<bool, Failure> {
    eprint_bytes(format!("{question} [y/N] ").as_bytes()).await;
    let mut answer = String::new();
    let read = BufReader::new(tokio::io::stdin()).read_line(&mut answer).await;
    read.map_err(|error| Failure::io(format!("cannot read the answer: {error}")))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
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
