//! `callpark wait`: wait until tasks finish.

use std::{collections::BTreeMap, time::Duration};

use callpark_client::v1::{State, Task, WaitManyResponse, task::Outcome};
use tokio::signal::unix::{SignalKind, signal};

use super::Context;
use crate::cli::{
    args::{duration::parse_duration, ids},
    error::Failure,
    exit::Exit,
    print::{
        lists,
        output::eprint_note,
        result::{print_task, result_of, summary},
        spinner::Spinner,
        text::count,
    },
};

/// Wait until tasks finish, and print their results
///
/// For a single task, prints its output and exits with the exit code of the tool. For several
/// tasks, prints the output of each below a line that says how it ended; the exit code is 0 if all
/// finished tasks succeeded. Stopping the wait has no effect on the tasks.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct WaitArgs {
    /// Ids of the tasks, or the beginnings of them, or `last`
    #[arg(required = true, value_name = "ID", value_parser = ids::task)]
    ids: Vec<ids::GivenId>,

    /// Wait until any one of the tasks finishes, instead of all
    #[arg(long)]
    any: bool,

    /// Maximum time to wait, such as 30s or 5m; after that, exit with code 75 [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,

    /// Pass the tool's output to a terminal unchanged, with sequences that move the cursor, set the
    /// title or the clipboard, or do more than set colours
    #[arg(long)]
    raw: bool,
}

/// Waits, and handles Ctrl-C, which ends only the wait.
pub(crate) async fn run(args: WaitArgs, context: &mut Context) -> Result<Exit, Failure> {
    if args.raw {
        context.out.set_raw();
    }
    let mut ids = Vec::new();
    // Before the spinner is shown.
    let mut interrupts =
        signal(SignalKind::interrupt()).map_err(|error| Failure::io(error.to_string()))?;
    tokio::select! {
        ended = wait(&args, &mut ids, context) => ended,
        _ = interrupts.recv() => {
            // The wait is dropped by now, and the line of its spinner is clear.
            eprint_left(&ids);
            Ok(Exit::Interrupted)
        }
    }
}

/// Waits for the tasks. Sets `ids` as soon as they are known.
async fn wait(
    args: &WaitArgs,
    ids: &mut Vec<String>,
    context: &mut Context,
) -> Result<Exit, Failure> {
    *ids = ids::resolve_all(&args.ids, &context.client).await?;
    match ids.as_slice() {
        [id] => wait_for_one(id, args.timeout, context).await,
        ids => wait_for_many(ids, args, context).await,
    }
}

fn eprint_left(ids: &[String]) {
    let what = match ids {
        [] => return,
        [id] => format!("{id} continues"),
        ids => format!("{} continue", count(ids.len(), "task")),
    };
    eprint_note(&format!("stopped waiting; {what} on the server"));
    eprint_note(&format!("to wait again: callpark wait {}", ids.join(" ")));
}

async fn wait_for_one(
    id: &str,
    timeout: Option<Duration>,
    context: &mut Context,
) -> Result<Exit, Failure> {
    let call = context.client.tasks().handle(id);
    let spinner = Spinner::start(format!("waiting for {id}"));
    let answer = call.wait(timeout).await?;
    drop(spinner);
    let task = answer.task.ok_or_else(|| Failure::unexpected_answer("the answer has no task"))?;
    if context.out.json {
        context.out.document(&task).await?;
    } else if !answer.still_running {
        print_task(&mut context.out, &task, &call).await?;
    }
    if answer.still_running {
        eprint_pending(&task);
        return Ok(Exit::StillRunning);
    }
    Ok(Exit::of_end(task.state(), result_of(&task)))
}

async fn wait_for_many(
    ids: &[String],
    args: &WaitArgs,
    context: &mut Context,
) -> Result<Exit, Failure> {
    let spinner = Spinner::start(format!("waiting for {} tasks", ids.len()));
    let answer = match args.any {
        true => context.client.tasks().wait_any(ids, args.timeout).await?,
        false => context.client.tasks().wait_all(ids, args.timeout).await?,
    };
    drop(spinner);
    let exit = exit_of_many(&answer, args.any);
    let tasks = answer.settled.into_iter().chain(answer.pending);
    let mut tasks: BTreeMap<String, Task> =
        tasks.map(|task| (task.background_id.clone(), task)).collect();
    let mut is_first = true;
    for id in ids {
        // An id that was given twice is printed once.
        let Some(task) = tasks.remove(id) else { continue };
        let task = if is_summary(&task) { context.client.tasks().get(id).await? } else { task };
        if context.out.json {
            context.out.json_line(&task).await?;
        } else if lists::is_live(&task) {
            eprint_pending(&task);
        } else {
            print_below_heading(&task, is_first, context).await?;
            is_first = false;
        }
    }
    Ok(exit)
}

/// Prints how a task ended, and below that its output.
async fn print_below_heading(
    task: &Task,
    is_first: bool,
    context: &mut Context,
) -> Result<(), Failure> {
    let space = if is_first { "" } else { "\n" };
    let tool = lists::tool(task);
    let id = context.out.id(&task.background_id);
    context.out.line(&format!("{space}==> {id} {tool}: {} <==", summary(task))).await?;
    let call = context.client.tasks().handle(&task.background_id);
    print_task(&mut context.out, task, &call).await
}

/// Returns whether the content of the result was left out, because there are many tasks.
fn is_summary(task: &Task) -> bool {
    match &task.outcome {
        Some(Outcome::Result(result)) => {
            let is_truncated = result.output.as_ref().is_some_and(|output| output.inline_truncated);
            is_truncated && result.content.is_empty()
        }
        Some(Outcome::Error(_)) | None => false,
    }
}

fn exit_of_many(answer: &WaitManyResponse, any: bool) -> Exit {
    let is_over = if any { !answer.settled.is_empty() } else { answer.pending.is_empty() };
    match is_over {
        false => Exit::StillRunning,
        true if answer.settled.iter().all(|task| task.state() == State::Succeeded) => Exit::Success,
        true => Exit::Failed,
    }
}

fn eprint_pending(task: &Task) {
    eprint_note(&format!("{} is {}", task.background_id, summary(task)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(states: &[State]) -> Vec<Task> {
        let task = |&state: &State| Task { state: state.into(), ..Default::default() };
        states.iter().map(task).collect()
    }

    fn exit(settled: &[State], pending: &[State], any: bool) -> Exit {
        let answer = WaitManyResponse {
            settled: tasks(settled),
            pending: tasks(pending),
            ..Default::default()
        };
        exit_of_many(&answer, any)
    }

    #[test]
    fn one_that_failed_makes_the_wait_fail() {
        assert_eq!(exit(&[State::Succeeded, State::Succeeded], &[], false), Exit::Success);
        assert_eq!(exit(&[State::Succeeded, State::Cancelled], &[], false), Exit::Failed);
    }

    #[test]
    fn a_wait_is_over_when_all_or_one_has_ended() {
        assert_eq!(exit(&[State::Succeeded], &[State::Running], false), Exit::StillRunning);
        assert_eq!(exit(&[State::Succeeded], &[State::Running], true), Exit::Success);
        assert_eq!(exit(&[], &[State::Running], true), Exit::StillRunning);
    }
}
