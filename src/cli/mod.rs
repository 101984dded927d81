//! The command line.
//!
//! Data goes to standard output, as tables and text for people or, with `--json`, as JSON for
//! programs; everything else goes to standard error. The commands talk to a server through
//! [`callpark_client`] alone; `serve`, `demo` and `chat` can run one themselves.
//!
//! `exit`, `error` and `connection` are the ground on which `print` builds; `args` builds on `print`.
//! `command` has a file or a folder for each command.

mod args;
mod candidates;
mod command;
mod connection;
mod ephemeral_server;
mod error;
mod exit;
mod print;
mod suggest;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::connect::ConnectArgs;
use command::{CliCommand, Context};
use connection::Connection;
use error::Failure;
use exit::Exit;
use print::{
    failure::eprint_failure,
    output::{Out, eprint_line},
};

use crate::exec::forbid_inspection;

/// The version, and the commit and the profile of the build.
const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("CALLPARK_COMMIT"),
    ", ",
    env!("CALLPARK_PROFILE"),
    ")"
);

/// Run the tool calls of AI agents; slow calls are parked and keep running in the background
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

    /// Print JSON, for programs
    ///
    /// Prints one document, or one line of JSON for each event, each piece of output or each id.
    /// Messages are those of callpark.v1 in canonical protobuf JSON.
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,

    #[command(subcommand)]
    command: CliCommand,
}

/// Runs the command that the process was started with, and returns its exit code.
pub fn main() -> ExitCode {
    match command::completions::complete() {
        Ok(false) => {}
        Ok(true) => return Exit::Success.into(),
        // A shell shows nothing in place of its proposals.
        Err(error) => {
            eprint_line(&format!("error: {error}"));
            return Exit::Usage.into();
        }
    }
    let cli = Cli::try_parse().unwrap_or_else(|error| suggest::improve(error).exit());
    if cli.command.runs_server()
        && let Err(error) = forbid_inspection()
    {
        eprint_line(&format!("error: the server's environment cannot be hidden: {error}"));
        return Exit::Internal.into();
    }
    if let CliCommand::Shim(args) = cli.command {
        return match command::shim::run(args) {
            Ok(exit) => exit.into(),
            Err(failure) => {
                eprint_failure(&failure, &Connection::default());
                failure.exit().into()
            }
        };
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprint_line(&format!("error: the runtime cannot be started: {error}"));
            return Exit::Internal.into();
        }
    };
    let exit = runtime.block_on(run(cli));
    // A pending read of standard input or write to a full pipe must not delay the exit.
    runtime.shutdown_background();
    exit.into()
}

/// Returns the declaration of the command line, for completions.
fn declaration() -> clap::Command {
    Cli::command()
}

async fn run(cli: Cli) -> Exit {
    let mut connection = Connection::default();
    match cli.dispatch(&mut connection).await {
        Ok(exit) => exit,
        Err(failure) => {
            eprint_failure(&failure, &connection);
            failure.exit()
        }
    }
}

impl Cli {
    /// Runs the command. Sets `connection` as soon as it is known, for the message of a failure.
    async fn dispatch(self, connection: &mut Connection) -> Result<Exit, Failure> {
        let Self { connect, json, command } = self;
        let mut out = Out::new(json);
        let command = match command {
            CliCommand::Serve(args) => return command::serve::run(args, connect).await,
            CliCommand::Demo(args) => return command::demo::run(args, &mut out).await,
            CliCommand::Chat(args) => {
                return command::chat::run(args, connect, connection, &mut out).await;
            }
            CliCommand::Config(args) => return command::config::run(args, connect, &mut out).await,
            CliCommand::Backup(args) => {
                return command::backup::backup(args, connect, &mut out).await;
            }
            CliCommand::Restore(args) => {
                return command::backup::restore(args, connect, &mut out).await;
            }
            #[cfg(feature = "postgres")]
            CliCommand::MigrateStore(args) => {
                return command::migrate_store::run(args, connect, &mut out).await;
            }
            #[cfg(feature = "postgres")]
            CliCommand::Replicas(args) => {
                return command::replicas::run(args, connect, &mut out).await;
            }
            CliCommand::Keys(args) => return command::keys::run(args, connect, &mut out).await,
            CliCommand::Audit(args) => return command::audit::run(args, connect, &mut out).await,
            CliCommand::Doctor(args) => return command::doctor::run(args, connect, &mut out).await,
            #[cfg(feature = "acp")]
            CliCommand::Mcp(args) => return command::mcp::run(args).await,
            CliCommand::Shim(args) => return command::shim::run(args),
            CliCommand::Completions(args) => {
                return command::completions::run(args, &mut out).await;
            }
            CliCommand::Client(command) => command,
        };
        let (client, known) = connect.client()?;
        connection.clone_from(&known);
        command.run(&mut Context::new(client, out, known)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use command::ClientCommand;

    #[test]
    fn the_declaration_is_valid() {
        declaration().debug_assert();
    }

    /// Returns the words of a `callpark run`.
    fn words_of(line: &str) -> String {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{error}"));
        let CliCommand::Client(command) = &cli.command else { panic!("{line}") };
        let ClientCommand::Run(args) = command.as_ref() else { panic!("{line}") };
        args.call.words.join(" ")
    }

    #[test]
    fn words_after_the_tool_belong_to_it() {
        for (line, words) in [
            ("callpark run bash ls -la", "ls -la"),
            ("callpark run bash echo hi --budget 3s", "echo hi --budget 3s"),
            ("callpark run bash echo --json -- --help", "echo --json -- --help"),
            ("callpark run bash -- ls -la --json", "ls -la --json"),
            ("callpark run bash -- --help", "--help"),
            ("callpark run --budget 5s bash make test --label a=b", "make test --label a=b"),
            ("callpark run bash --budget 5s make --detach", "make --detach"),
            ("callpark run --args {} tool", ""),
        ] {
            assert_eq!(words_of(line), words, "{line}");
        }
    }

    #[test]
    fn right_lines_are_accepted() {
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
            "callpark mcp --stdio",
            "callpark health --timeout 5s",
            "callpark serve --listen 127.0.0.1:0 --data-dir /x --token-file /y",
            "callpark run --cwd . bash ls",
            "callpark wait last 3f bg-3f2",
            "callpark list -q --running --session last",
            "callpark cancel --all --yes --session ses-1",
        ] {
            let words = line.split(' ');
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
    }

    #[test]
    fn wrong_lines_are_refused() {
        for line in [
            "callpark",
            "callpark mcp",
            "callpark wait",
            "callpark wait ses-1",
            "callpark run bash --buget 3s ls",
            "callpark list --running --state failed",
            "callpark list -q --json",
            "callpark cancel",
            "callpark cancel --all bg-1",
            "callpark health --timeout soon",
            "callpark cancel --yes bg-1",
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
