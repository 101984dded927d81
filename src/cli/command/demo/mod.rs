//! `callpark demo`: the main job on real work, with nothing to set up.

mod stage;
mod steps;

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::{
    cli::{
        exit::Exit,
        failure::Failure,
        output::{Out, tell},
        own_server::{OwnServer, Server, failed},
        time::span,
    },
    telemetry::{LogFormat, init_tracing},
};
use stage::Stage;

/// The whole demo takes at most so long.
const DEMO_TIME_MAX: Duration = Duration::from_secs(25);

/// Every request takes at most so long.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(15);

/// Show what callpark does, on a server of its own that is gone afterwards
///
/// Runs commands that end at once, are parked, are waited for and are cancelled, starts the server
/// again, and checks after each step that all is as it should be. Takes about ten seconds.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Show the server's log too: a level, or directives such as info,callpark::engine=debug
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
        .map_err(|error| failed("make a folder for its store", &error))?;
    let mut terminated =
        signal(SignalKind::terminate()).map_err(|error| failed("listen for signals", &error))?;
    let own = OwnServer { folder: folder.path().to_owned(), ..OwnServer::default() };
    let mut server = Server::start(own).await?;
    let mut stage = Stage::new(out);
    let played = tokio::select! {
        played = timeout(DEMO_TIME_MAX, play(&mut server, &mut stage)) => {
            played.unwrap_or_else(|_| Err(too_long()))
        }
        _ = tokio::signal::ctrl_c() => {
            tell("callpark: stopping");
            Ok(Exit::Interrupted)
        }
        _ = terminated.recv() => {
            tell("callpark: stopping");
            Ok(Exit::Terminated)
        }
    };
    // Also after a failure, so that no process of the demo is left.
    let stopped = server.stop().await;
    played.and_then(|exit| stopped.map(|()| exit))
}

fn too_long() -> Failure {
    Failure::Told {
        exit: Exit::Failed,
        text: format!("the demo isn't done after {}", span(DEMO_TIME_MAX)),
    }
}

async fn play(server: &mut Server, stage: &mut Stage<'_>) -> Result<Exit, Failure> {
    stage.say(&format!("a server of its own on {}", server.endpoint)).await?;
    stage.say(&format!("its store in {}", server.own.folder.display())).await?;
    let client = server.client(Some(REQUEST_TIME_MAX))?;
    let session = steps::session(&client).await?;
    steps::stream(stage, &client, &session).await?;
    let parked = steps::park(stage, &client, &session).await?;
    steps::list(stage, &client, &session, &parked).await?;
    steps::wait(stage, &parked).await?;
    let cancelled = steps::cancel(stage, &client, &session).await?;
    steps::restart(stage, server, &[parked, cancelled]).await?;
    stage.end().await?;
    Ok(Exit::Success)
}
