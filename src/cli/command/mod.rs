//! The commands, one in each file.

pub(super) mod audit;
pub(super) mod backup;
mod cancel;
pub(super) mod chat;
mod close;
pub(super) mod completions;
pub(super) mod config;
mod delete;
pub(super) mod demo;
pub(super) mod doctor;
mod events;
mod follow_ups;
mod health;
pub(super) mod keys;
mod list;
#[cfg(feature = "acp")]
pub(super) mod mcp;
#[cfg(feature = "postgres")]
pub(super) mod migrate_store;
mod output;
#[cfg(feature = "postgres")]
pub(super) mod replicas;
mod run;
pub(super) mod serve;
mod sessions;
pub(super) mod shim;
mod show;
mod start;
mod tools;
mod wait;
mod whoami;

use callpark_client::{Client, Error};
use futures::{Stream, StreamExt as _, stream};

use super::{
    connection::Connection,
    error::Failure,
    exit::Exit,
    print::{failure::eprint_failure, output::Out},
};

/// The number of concurrent requests of a command with several ids.
const REQUESTS_MAX: usize = 8;

/// A command of `callpark`.
#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum CliCommand {
    Serve(serve::ServeArgs),
    Demo(demo::DemoArgs),
    Chat(chat::ChatArgs),
    #[command(flatten)]
    Client(Box<ClientCommand>),
    Config(config::ConfigArgs),
    Backup(backup::BackupArgs),
    Restore(backup::RestoreArgs),
    #[cfg(feature = "postgres")]
    MigrateStore(migrate_store::MigrateStoreArgs),
    Keys(keys::KeysArgs),
    Audit(audit::AuditArgs),
    Doctor(doctor::DoctorArgs),
    #[cfg(feature = "postgres")]
    Replicas(replicas::ReplicasArgs),
    #[cfg(feature = "acp")]
    #[command(hide = true)]
    Mcp(mcp::McpArgs),
    #[command(hide = true)]
    Shim(shim::ShimArgs),
    Completions(completions::CompletionsArgs),
}

impl CliCommand {
    /// Returns whether the command runs a server in this process, or may do so.
    pub(super) fn runs_server(&self) -> bool {
        matches!(self, Self::Serve(_) | Self::Demo(_) | Self::Chat(_))
    }
}

/// A command that talks to a server.
#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum ClientCommand {
    Tools(tools::ToolsArgs),
    Run(run::RunArgs),
    Start(start::StartArgs),
    Wait(wait::WaitArgs),
    Cancel(cancel::CancelArgs),
    List(list::ListArgs),
    Show(show::ShowArgs),
    Output(output::OutputArgs),
    Delete(delete::DeleteArgs),
    Sessions(sessions::SessionsArgs),
    Events(events::EventsArgs),
    Close(close::CloseArgs),
    FollowUps(follow_ups::FollowUpsArgs),
    Health(health::HealthArgs),
    Whoami(whoami::WhoamiArgs),
}

/// The client, the output and the connection of a command.
pub(super) struct Context {
    client: Client,
    out: Out,
    connection: Connection,
}

impl Context {
    pub(super) fn new(client: Client, out: Out, connection: Connection) -> Self {
        Self { client, out, connection }
    }
}

impl ClientCommand {
    /// Runs the command. Ctrl-C ends it without an effect on tasks; `run` and `wait` handle it
    /// themselves.
    pub(super) async fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        let ended = if matches!(self, Self::Run(_) | Self::Wait(_)) {
            self.run_uninterrupted(context).await
        } else {
            tokio::select! {
                ended = self.run_uninterrupted(context) => ended,
                _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
            }
        };
        let closed = context.out.end_tool_output().await;
        ended.and_then(|exit| closed.map(|()| exit))
    }

    async fn run_uninterrupted(self, context: &mut Context) -> Result<Exit, Failure> {
        match self {
            Self::Tools(args) => tools::run(args, context).await,
            Self::Run(args) => run::run(args, context).await,
            Self::Start(args) => start::run(args, context).await,
            Self::Wait(args) => wait::run(args, context).await,
            Self::Cancel(args) => cancel::run(args, context).await,
            Self::List(args) => list::run(args, context).await,
            Self::Show(args) => show::run(args, context).await,
            Self::Output(args) => output::run(args, context).await,
            Self::Delete(args) => delete::run(args, context).await,
            Self::Sessions(args) => sessions::run(args, context).await,
            Self::Events(args) => events::run(args, context).await,
            Self::Close(args) => close::run(args, context).await,
            Self::FollowUps(args) => follow_ups::run(args, context).await,
            Self::Health(args) => health::run(args, context).await,
            Self::Whoami(args) => whoami::run(args, context).await,
        }
    }
}

/// Sends a request for each id, a few at a time. Returns the answers in the order of the ids.
fn each<'a, T, F>(
    ids: &'a [String],
    send: impl Fn(&'a str) -> F,
) -> impl Stream<Item = (&'a str, Result<T, Error>)>
where
    F: Future<Output = Result<T, Error>>,
{
    let sending = move |id: &'a String| {
        let answer = send(id);
        async move { (id.as_str(), answer.await) }
    };
    stream::iter(ids).map(sending).buffered(REQUESTS_MAX)
}

/// Prints the answer for each id. A failed one is reported, and the others continue.
async fn print_each<'a, T>(
    answers: impl Stream<Item = (&'a str, Result<T, Error>)>,
    connection: &Connection,
    out: &mut Out,
    print: impl AsyncFn(&str, T, &mut Out) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    let mut answers = std::pin::pin!(answers);
    let mut exits = Vec::new();
    while let Some((id, answer)) = answers.next().await {
        let printed = match answer {
            Ok(answer) => print(id, answer, out).await,
            Err(error) => Err(error.into()),
        };
        exits.push(match printed {
            Ok(exit) => exit,
            Err(Failure::OutputClosed) => return Err(Failure::OutputClosed),
            Err(failure) => {
                eprint_failure(&failure, connection);
                failure.exit()
            }
        });
    }
    Ok(combine(&exits))
}

/// Returns the exit for several exits: the only kind that is not a success, or `Failed` if there are
/// several kinds.
fn combine(exits: &[Exit]) -> Exit {
    let mut others = exits.iter().copied().filter(|&exit| exit != Exit::Success);
    match others.next() {
        None => Exit::Success,
        Some(first) if others.all(|exit| exit == first) => first,
        Some(_) => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_that_differ_are_a_failure() {
        assert_eq!(combine(&[Exit::Success, Exit::Success]), Exit::Success);
        assert_eq!(combine(&[Exit::Success, Exit::NotFound]), Exit::NotFound);
        assert_eq!(combine(&[Exit::NotFound, Exit::NotFound]), Exit::NotFound);
        assert_eq!(combine(&[Exit::NotFound, Exit::StillRunning]), Exit::Failed);
    }
}
