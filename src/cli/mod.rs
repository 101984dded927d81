//! The command line.
//!
//! Data goes to standard output, as tables and text for people or, with `--json`, as JSON for
//! programs; everything else goes to standard error. The commands talk to a server through
//! [`callpark_client`] alone; `serve` and `demo` run one themselves.

mod arguments;
mod call;
mod command;
mod connect;
mod event;
mod exit;
mod failure;
mod ids;
mod json;
mod output;
mod own_server;
mod result;
mod spinner;
mod table;
mod time;
mod words;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use command::{Command, Context};
use connect::{ConnectArgs, Connection};
use exit::Exit;
use failure::Failure;
use output::{Out, tell};

/// The version, and what the binary was built from.
const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("CALLPARK_COMMIT"),
    ", ",
    env!("CALLPARK_PROFILE"),
    ")"
);

/// Runs the tool calls of AI agents, and parks the slow ones: they go on in the background
#[derive(Clone, Debug, clap::Parser)]
#[command(
    name = "callpark",
    version,
    long_version = VERSION,
    arg_required_else_help = true,
    after_long_help = exit::HELP
)]
struct Cli {
    #[command(flatten)]
    connect: ConnectArgs,

    /// Write JSON, for programs
    ///
    /// One document, or a line of JSON for each part of what comes bit by bit and for each of
    /// several ids. Messages are those of callpark.v1 in canonical protobuf JSON.
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

/// Runs the command that the process was started with, and says how to exit.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tell(&format!("error: the runtime can't be started: {error}"));
            return Exit::Internal.into();
        }
    };
    let exit = runtime.block_on(run(cli));
    // A read of standard input or a write to a full pipe that is left mustn't hold up the exit.
    runtime.shutdown_background();
    exit.into()
}

/// The command line as it is declared, for completions.
fn declaration() -> clap::Command {
    Cli::command()
}

async fn run(cli: Cli) -> Exit {
    let mut connection = Connection::default();
    match cli.dispatch(&mut connection).await {
        Ok(exit) => exit,
        Err(failure) => {
            tell_failure(&failure, &connection);
            failure.exit()
        }
    }
}

impl Cli {
    /// `connection`: told as soon as it is known, for the message should the command fail.
    async fn dispatch(self, connection: &mut Connection) -> Result<Exit, Failure> {
        let Self { connect, json, command } = self;
        let mut out = Out::new(json);
        let command = match command {
            Command::Serve(args) => return command::serve::run(args, connect).await,
            Command::Demo(args) => return command::demo::run(args, &mut out).await,
            Command::Chat(args) => {
                return command::chat::run(args, connect, connection, &mut out).await;
            }
            Command::Config(args) => return command::config::run(args, connect, &mut out).await,
            Command::Completions(args) => return command::completions::run(args, &mut out).await,
            Command::Client(command) => command,
        };
        let (client, known) = connect.client()?;
        connection.clone_from(&known);
        command.run(&mut Context::new(client, out, known)).await
    }
}

fn tell_failure(failure: &Failure, connection: &Connection) {
    if let Some(text) = failure.text(connection) {
        tell(&text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_declaration_holds_together() {
        declaration().debug_assert();
    }

    #[test]
    fn what_follows_the_dashes_is_the_tools() {
        for line in [
            "callpark run bash -- ls -la --json",
            "callpark run --budget 5s bash 'make test' --label a=b",
            "callpark --json --endpoint http://127.0.0.1:1 run python 'print(1)'",
            "callpark wait bg-1 call-2 --any --timeout 5s",
            "callpark output bg-1 -f --stdout --tail 5 --endpoint http://127.0.0.1:1",
            "callpark chat --model-endpoint http://127.0.0.1:1/v1 --model m what is it?",
            "callpark chat --session ses-1",
            "callpark start --follow-up on-finish bash sleep",
            "callpark follow-ups --session ses-1 --state dead_lettered",
            "callpark follow-ups list --state pending --json",
            "callpark follow-ups wait --timeout 5s",
            "callpark follow-ups retry fu-1 bg-2",
            "callpark serve --listen 127.0.0.1:0 --data-dir /x --token-file /y",
        ] {
            let words = line.split(' ');
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
    }

    #[test]
    fn wrong_lines_are_refused() {
        for line in [
            "callpark",
            "callpark wait",
            "callpark wait ses-1",
            "callpark run bash --budget soon x",
            "callpark run bash --detach --budget 1s x",
            "callpark output bg-1 --stdout --stderr",
            "callpark list --state done",
            "callpark start --follow-up always bash sleep",
            "callpark follow-ups --state running",
            "callpark follow-ups --session ses-1 retry fu-1",
            "callpark follow-ups retry",
            "callpark chat --model-endpoint http://127.0.0.1:1/v1 hello",
            "callpark chat --session ses-1 --model-endpoint http://127.0.0.1:1/v1 --model m",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
