//! Processes in a shim, which outlive the server.

use std::time::Instant;

use futures::future::try_join_all;

use super::memory::parked_kib;
use super::{Bench, calls};
use crate::Result;
use crate::child::Server;
use crate::client::Client;
use crate::measure::{Samples, in_turns};
use crate::table::{Goal, Row};

/// Runs that the next server adopts.
const RUNS: usize = 1_000;

/// A command with much output, of which the server keeps the first and the last part.
const OUTPUT: &str = "yes | head -c 200M";

/// The size of that output.
const OUTPUT_MIB: f64 = 200.0;

/// Calls of processes in a shim, output through it, and the start of a server that adopts.
pub(crate) async fn shim(bench: &Bench) -> Result<Vec<Row>> {
    let (local, shim) = (bench.callpark().await?, Server::with_shim().await?);
    let (local, client) = (connect(&local).await?, connect(&shim).await?);
    let goal = Goal::AtLeast(0.7);
    let process = calls::process_of(bench, &client, " in a shim", goal).await?;
    let through = in_turns(bench.rounds, || output(&local), || output(&client)).await?;
    let (mut idle, mut parked) = (Samples::default(), Samples::default());
    let mut adoptions = Samples::default();
    for _ in 0..bench.rounds {
        let server = Server::with_shim().await?;
        connect(&server).await?.run_bash("true").await?;
        idle.0.push(server.shim_resident_bytes()? / 1024.0 / 1024.0);
        let fresh = Server::with_shim().await?;
        parked.0.push(parked_kib(&fresh).await?);
        fresh.stop_with_runs().await?;
        adoptions.0.push(adoption(server).await?);
    }
    let alone = |case: String, unit, case_samples, most| Row {
        case,
        unit,
        case_samples,
        base: String::new(),
        base_samples: Samples::default(),
        goal: Goal::Absolute(most),
    };
    Ok(vec![
        process,
        Row {
            case: format!("output of `{OUTPUT}` through a shim"),
            unit: "MiB/s",
            case_samples: through.1,
            base: "the same without a shim".into(),
            base_samples: through.0,
            goal: Goal::AtLeast(0.9),
        },
        alone(format!("start of a server that adopts {RUNS} runs"), "s", adoptions, 1.0),
        alone("server memory for one parked call in a shim".into(), "KiB", parked, 4.0),
        alone("memory of a shim without runs".into(), "MiB", idle, 8.0),
    ])
}

async fn connect(server: &Server) -> Result<Client> {
    Ok(Client::new(server.connect().await?))
}

async fn output(client: &Client) -> Result<f64> {
    let began = Instant::now();
    client.clone().run_bash(OUTPUT).await?;
    Ok(OUTPUT_MIB / began.elapsed().as_secs_f64())
}

/// Returns the seconds from the start of the next server until it serves.
async fn adoption(server: Server) -> Result<f64> {
    let mut client = connect(&server).await?;
    let mut sessions = Vec::new();
    for _ in 0..RUNS.div_ceil(100) {
        sessions.push(client.session().await?);
    }
    let starts = (0..RUNS).map(|index| {
        let (mut client, session) = (client.clone(), sessions[index / 100].clone());
        async move { client.start_bash(&session, "exec sleep 1000").await }
    });
    try_join_all(starts).await?;
    let (server, took) = server.killed_and_restarted().await?;
    server.stop_with_runs().await?;
    Ok(took.as_secs_f64())
}
