//! `callpark demo`: the main features on real processes, without any setup.

mod script;
mod server;
mod steps;

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::{
    cli::{
        ephemeral_server::setup_failed,
        error::Failure,
        exit::Exit,
        print::{
            output::{Out, eprint_note},
            time::format_span,
        },
    },
    telemetry::{LogFormat, init_tracing},
};
use script::Script;
use server::DemoServer;

/// The maximum time of the whole demo.
const DEMO_TIME_MAX: Duration = Duration::from_secs(25);

/// The maximum time of a request.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(15);

/// Show what callpark does, on a temporary server
///
/// Runs commands that finish immediately, that are parked and waited for, and that are cancelled,
/// then kills the server with `kill -9` under a running command and starts it again; checks the result of
/// each step. Takes about ten seconds and leaves
/// nothing behind.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Print the server's log too: a level, or directives such as info,callpark::engine=debug
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

pub(crate) async fn run(args: DemoArgs, out: &mut Out) -> Result<Exit, Failure> {
    if let Some(filter) = &args.log {
        init_tracing(LogFormat::Text, filter).map_err(|error| Failure::usage(error.to_string()))?;
    }
    let folder = tempfile::Builder::new()
        .prefix("callpark-demo-")
        .tempdir()
        .map_err(|error| setup_failed("create a folder for the temporary server", &error))?;
    let mut terminated = signal(SignalKind::terminate())
        .map_err(|error| setup_failed("listen for signals", &error))?;
    let mut server = DemoServer::start(folder.path()).await?;
    let mut script = Script::new(out);
    let ended = tokio::select! {
        ended = timeout(DEMO_TIME_MAX, run_steps(&mut server, &mut script)) => {
            ended.unwrap_or_else(|_| Err(timed_out()))
        }
        _ = tokio::signal::ctrl_c() => {
            eprint_note("stopping");
            Ok(Exit::Interrupted)
        }
        _ = terminated.recv() => {
            eprint_note("stopping");
            Ok(Exit::Terminated)
        }
    };
    // After a failure too, so that no process of the demo remains.
    let stopped = server.stop().await;
    ended.and_then(|exit| stopped.map(|()| exit))
}

fn timed_out() -> Failure {
    let text = format!("the demo did not finish within {}", format_span(DEMO_TIME_MAX));
    Failure::new(Exit::Failed, text)
}

async fn run_steps(server: &mut DemoServer, script: &mut Script<'_>) -> Result<Exit, Failure> {
    script
        .print(&format!("temporary server: {}, process {}", server.endpoint(), server.pid()))
        .await?;
    let client = server.client(Some(REQUEST_TIME_MAX))?;
    let session = steps::session(&client).await?;
    steps::stream(script, &client, &session).await?;
    let parked = steps::park(script, &client, &session).await?;
    steps::list(script, &client, &session, &parked).await?;
    steps::wait(script, &parked).await?;
    let cancelled = steps::cancel(script, &client, &session).await?;
    steps::kill(script, server, &session, &[parked, cancelled]).await?;
    script.finish().await?;
    Ok(Exit::Success)
}
