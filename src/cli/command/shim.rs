//! `callpark shim`: the owner of a server's processes.

use std::{path::PathBuf, time::Duration};

use crate::{
    app::{self, config::LogFilter},
    cli::{args::duration::parse_duration, error::Failure, exit::Exit},
    exec::{ShimFolder, adopt_orphans, forbid_inspection},
    telemetry::{LogFormat, init_tracing},
};

/// Own the processes of calls, so that they outlive the server
///
/// A server starts this command and connects to its socket, which is standard input. The command is not
/// meant to be run by hand. It ends when no server is connected and no process is left.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ShimArgs {
    /// Folder of the socket and the files of this process
    #[arg(long)]
    folder: PathBuf,

    /// Time for which output is read after a process has exited
    #[arg(long, value_parser = parse_duration)]
    output_drain: Duration,

    /// Steps of `nice` by which processes have a lower priority than this one
    #[arg(long)]
    tool_niceness: u32,
}

/// Runs the command on this thread alone, which must be the main one.
pub(crate) fn run(args: ShimArgs) -> Result<Exit, Failure> {
    let failed = |error: &dyn std::error::Error| {
        Failure::new(Exit::Internal, format!("the shim cannot run: {error}"))
    };
    forbid_inspection().map_err(|error| failed(&error))?;
    init_tracing(LogFormat::Text, LogFilter::default().as_ref()).map_err(|error| failed(&error))?;
    // All children of this program belong to calls.
    adopt_orphans();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(&error))?;
    let options =
        app::shim_options(ShimFolder::at(args.folder), args.output_drain, args.tool_niceness);
    runtime.block_on(crate::exec::host(options)).map_err(|error| failed(&error))?;
    Ok(Exit::Success)
}
