//! `callpark wait`: wait until tasks finish.

use std::time::Duration;

use callpark_client::v1::{State, Task, WaitManyResponse};

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
    },
};

/// Wait until tasks finish, and print their results
///
/// For a single task, prints its output and exits with the exit code of the tool. For several
/// tasks, prints a table; the exit code is 0 if all finished tasks succeeded. Stopping the wait
/// has no effect on the tasks.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct WaitArgs {
    /// Ids of the tasks
    #[arg(required = true, value_name = "ID", value_parser = ids::task)]
    ids: Vec<String>,

    /// Wait until any one of the tasks finishes, instead of all
    #[arg(long)]
    any: bool,

    /// Maximum time to wait, such as 30s or 5m; after that, exit with code 75 [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

pub(crate) async fn run(args: WaitArgs, context: &mut Context) -> Result<Exit, Failure> {
    match args.ids.as_slice() {
        [id] => wait_for_one(id, args.timeout, context).await,
        ids => wait_for_many(ids, &args, context).await,
    }
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
        eprint_pending(&[task]);
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
    let WaitManyResponse { settled, pending, .. } = answer;
    if exit == Exit::StillRunning {
        eprint_pending(&pending);
    }
    let tasks: Vec<Task> = settled.into_iter().chain(pending).collect();
    if context.out.json {
        for task in &tasks {
            context.out.json_line(task).await?;
        }
        return Ok(exit);
    }
    context.out.table(&lists::tasks(&tasks)).await?;
    Ok(exit)
}

fn exit_of_many(answer: &WaitManyResponse, any: bool) -> Exit {
    let is_over = if any { !answer.settled.is_empty() } else { answer.pending.is_empty() };
    match is_over {
        false => Exit::StillRunning,
        true if answer.settled.iter().all(|task| task.state() == State::Succeeded) => Exit::Success,
        true => Exit::Failed,
    }
}

fn eprint_pending(tasks: &[Task]) {
    for task in tasks {
        eprint_note(&format!("{} is {}", task.background_id, summary(task)));
    }
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
