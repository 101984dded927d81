//! Memory of the server for what only waits.

use std::time::Duration;

use futures::future::try_join_all;

use super::Bench;
use super::waits::{start, wait_for};
use crate::Result;
use crate::child::Server;
use crate::client::{Client, log_request};
use crate::measure::Samples;
use crate::table::{Goal, Row};
use crate::tools::REPORT;

/// Processes of parked calls.
const PROCESSES: usize = 1_000;

/// Waits for tasks.
const WAITS: usize = 5_000;

/// Events that are more than the store's caches hold.
const CACHED_EVENTS: f64 = 150_000.0;

/// Streams of sessions where nothing happens.
const STREAMS: usize = 5_000;

/// The memory of a parked call, a wait and a stream.
pub(crate) async fn memory(bench: &Bench) -> Result<Vec<Row>> {
    let (mut parked, mut waits, mut streams) =
        (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..bench.rounds {
        let server = bench.callpark().await?;
        parked.0.push(parked_kib(&server).await?);
        // With its processes.
        server.stop().await?;
        waits.0.push(wait_kib(&bench.callpark().await?).await?);
        streams.0.push(stream_kib(&bench.callpark().await?).await?);
    }
    let row = |case: &str, case_samples, most| Row {
        case: format!("server memory for {case}"),
        unit: "KiB",
        case_samples,
        base: String::new(),
        base_samples: Samples::default(),
        goal: Goal::Absolute(most),
    };
    Ok(vec![
        row("one parked call, without its process", parked, 4.0),
        row("one pending Wait", waits, 5.0),
        row("one idle stream", streams, 8.0),
    ])
}

/// Fills the store's caches, which are bounded, so that what is measured is what comes on top.
async fn fill_caches(server: &Server) -> Result<()> {
    let mut client = Client::new(server.connect().await?);
    let session = client.session().await?;
    let task = client.start(&session, REPORT, &[("count", CACHED_EVENTS)]).await?;
    client.wait(&task).await.map(drop)
}

pub(super) async fn parked_kib(server: &Server) -> Result<f64> {
    fill_caches(server).await?;
    let mut client = Client::new(server.connect().await?);
    let mut start = async || {
        for _ in 0..PROCESSES / 500 {
            let session = client.session().await?;
            for _ in 0..500 {
                client.start_bash(&session, "exec sleep 1000").await?;
            }
        }
        Result::Ok(())
    };
    // The first ones also make tables grow.
    start().await?;
    let before = settled_bytes(server).await?;
    start().await?;
    Ok((settled_bytes(server).await? - before) / 1024.0 / PROCESSES as f64)
}

async fn wait_kib(server: &Server) -> Result<f64> {
    fill_caches(server).await?;
    let (some, more) = (start(server, 500).await?, start(server, WAITS).await?);
    let some = wait_for(server, some).await?;
    let before = settled_bytes(server).await?;
    let more = wait_for(server, more).await?;
    let after = settled_bytes(server).await?;
    drop((some, more));
    Ok((after - before) / 1024.0 / WAITS as f64)
}

async fn stream_kib(server: &Server) -> Result<f64> {
    fill_caches(server).await?;
    let mut client = Client::new(server.connect().await?);
    let session = client.session().await?;
    let open = async |count: usize| {
        let open = |_| async {
            let mut stream = client.stream(log_request(&session, true, true)).await?;
            // The snapshot, and that it has caught up.
            stream.message().await?;
            stream.message().await?;
            Result::Ok(stream)
        };
        let mut streams = Vec::new();
        // HTTP/2 takes many unread answers at once for an attack.
        for _ in 0..count / 100 {
            streams.extend(try_join_all((0..100).map(open)).await?);
        }
        Result::Ok(streams)
    };
    let some = open(500).await?;
    let before = settled_bytes(server).await?;
    let more = open(STREAMS).await?;
    let after = settled_bytes(server).await?;
    drop((some, more));
    Ok((after - before) / 1024.0 / STREAMS as f64)
}

/// Memory once idle actors have left.
async fn settled_bytes(server: &Server) -> Result<f64> {
    tokio::time::sleep(Duration::from_secs(2)).await;
    server.resident_bytes()
}
