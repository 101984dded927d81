//! Calls from start to end.

use std::time::{Duration, Instant};

use tokio::process::Command;

use super::store::{Bare, Log};
use super::{Bench, SPAN};
use crate::Result;
use crate::client::Client;
use crate::measure::{Samples, in_turns, load, percentile};
use crate::table::{Goal, Row};

/// Calls under way at the same time.
const IN_FLIGHT: usize = 64;

/// Processes under way at the same time.
const PROCESSES: usize = 8;

/// Calls that do nothing, many at a time, each in a session of its own.
pub(crate) async fn many(bench: &Bench) -> Result<Vec<Row>> {
    let (bare, server) = (bench.bare().await?, bench.callpark().await?);
    let base = Client::new(bare.connect().await?);
    let mut client = Client::new(server.connect().await?);
    let mut sessions = Vec::new();
    for _ in 0..IN_FLIGHT {
        sessions.push(client.session().await?);
    }
    let echo = || rate(&base, &sessions);
    let apart = || rate(&client, &sessions);
    let together = || rate(&client, &sessions[..1]);
    let row = |case: String, (base_samples, case_samples)| Row {
        case,
        unit: "calls/s",
        case_samples,
        base: "echo".into(),
        base_samples,
        goal: Goal::AtLeast(0.25),
    };
    let apart = in_turns(bench.rounds, echo, apart).await?;
    let together = in_turns(bench.rounds, echo, together).await?;
    Ok(vec![
        row(
            format!("RunTool of a tool that does nothing: {IN_FLIGHT} in flight, one session each"),
            apart,
        ),
        row(
            format!(
                "RunTool of a tool that does nothing: {IN_FLIGHT} in flight, all in one session"
            ),
            together,
        ),
    ])
}

/// Calls a second, in these sessions by turns.
async fn rate(client: &Client, sessions: &[String]) -> Result<f64> {
    let work = |index: usize| {
        let mut client = client.clone();
        async move { client.run_nothing(&sessions[index % sessions.len()]).await }
    };
    Ok(load(IN_FLIGHT, SPAN, work).await?.1)
}

/// Calls that do nothing, one after the other.
pub(crate) async fn one(bench: &Bench) -> Result<Vec<Row>> {
    let (bare, server) = (bench.bare().await?, bench.callpark().await?);
    let mut base = Client::new(bare.connect().await?);
    let mut client = Client::new(server.connect().await?);
    let session = client.session().await?;
    let mut log = Log::new(&Bare::new()?);
    let half = SPAN / 2;
    let (mut allowed, mut cases) = (Samples::default(), Samples::default());
    for round in 0..=bench.rounds {
        let echo = times(half, async || base.run_nothing(&session).await).await?;
        let commits = times(half, async || log.append_call().await).await?;
        let case = times(half, async || client.run_nothing(&session).await).await?;
        if round > 0 {
            allowed.0.push(percentile(&echo, 0.5) + percentile(&commits, 0.5) + 50.0);
            cases.0.push(percentile(&case, 0.5));
        }
    }
    Ok(vec![Row {
        case: "RunTool of a tool that does nothing: 1 in flight, p50".into(),
        unit: "µs",
        case_samples: cases,
        base: "echo + the call's two commits in the bare store + 50 µs".into(),
        base_samples: allowed,
        goal: Goal::Within,
    }])
}

/// Returns the duration of each call, in microseconds.
pub(crate) async fn times(
    span: Duration,
    mut work: impl AsyncFnMut() -> Result<()>,
) -> Result<Vec<f64>> {
    let began = Instant::now();
    let mut times = Vec::new();
    while began.elapsed() < span {
        let start = Instant::now();
        work().await?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(times)
}

/// Calls of a program that does nothing.
pub(crate) async fn process(bench: &Bench) -> Result<Vec<Row>> {
    let server = bench.callpark().await?;
    let client = Client::new(server.connect().await?);
    Ok(vec![process_of(bench, &client, "", Goal::AtLeast(0.7)).await?])
}

/// Calls of a program that does nothing, on a server of this kind.
pub(crate) async fn process_of(
    bench: &Bench,
    client: &Client,
    kind: &str,
    goal: Goal,
) -> Result<Row> {
    let bare = || async {
        let work = |_| async {
            let status = Command::new("bash").args(["-c", "true"]).status().await?;
            status.success().then_some(()).ok_or_else(|| "bash failed".into())
        };
        Ok(load(PROCESSES, SPAN, work).await?.1)
    };
    let case = || async {
        let work = |_| {
            let mut client = client.clone();
            async move { client.run_bash("true").await }
        };
        Ok(load(PROCESSES, SPAN, work).await?.1)
    };
    let (base_samples, case_samples) = in_turns(bench.rounds, bare, case).await?;
    Ok(Row {
        case: format!("RunTool of `bash -c true`{kind}: {PROCESSES} in flight"),
        unit: "calls/s",
        case_samples,
        base: "the same processes without a server".into(),
        base_samples,
        goal,
    })
}
