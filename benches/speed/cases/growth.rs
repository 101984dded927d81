//! Costs that must not grow with the amount of data.

use std::time::{Duration, Instant};

use futures::future::try_join_all;

use super::Bench;
use super::calls::times;
use crate::Result;
use crate::child::Server;
use crate::client::Client;
use crate::measure::{Samples, in_turns, percentile};
use crate::table::{Goal, Row};
use crate::tools::{NOTHING, REPORT, REST};

/// Tasks in a store with many.
const TASKS: usize = 100_000;

/// Tasks in a store with few.
const FEW_TASKS: usize = 1_000;

/// Parked calls.
const PARKED: usize = 50_000;

/// Events in a long session.
const LONG: u64 = 1_000_000;

/// Events appended to it in a round.
const EVENTS: u64 = 20_000;

const SPAN: Duration = Duration::from_secs(1);

/// A page of tasks in a store with few and in one with many.
pub(crate) async fn list(bench: &Bench) -> Result<Vec<Row>> {
    let (few, many) = (bench.callpark().await?, bench.callpark().await?);
    start(&few, NOTHING, FEW_TASKS).await?;
    start(&many, NOTHING, TASKS).await?;
    let few = Client::new(few.connect().await?);
    let client = Client::new(many.connect().await?);
    let p99 = async |client: &Client| {
        let mut client = client.clone();
        let times = times(SPAN, async || client.list().await.map(drop)).await?;
        Ok(percentile(&times, 0.99) / 1e3)
    };
    let (base_samples, case_samples) =
        in_turns(bench.rounds, || p99(&few), || p99(&client)).await?;
    let row = |case: String, base: String, base_samples, goal| Row {
        case,
        unit: "ms",
        case_samples: case_samples.clone(),
        base,
        base_samples,
        goal,
    };
    let case = format!("List: a page of 50 of {TASKS} tasks, p99");
    Ok(vec![
        row(case.clone(), String::new(), Samples::default(), Goal::Absolute(5.0)),
        row(case, format!("a page of 50 of {FEW_TASKS} tasks"), base_samples, Goal::AtMost(1.1)),
    ])
}

/// A call beside many parked ones.
pub(crate) async fn parked(bench: &Bench) -> Result<Vec<Row>> {
    let (alone, crowded) = (bench.callpark().await?, bench.callpark().await?);
    start(&crowded, REST, PARKED).await?;
    let alone = Client::new(alone.connect().await?);
    let client = Client::new(crowded.connect().await?);
    let p50 = async |client: &Client| {
        let mut client = client.clone();
        let session = client.session().await?;
        let times = times(SPAN, async || client.run_nothing(&session).await).await?;
        Ok(percentile(&times, 0.5))
    };
    let (base_samples, case_samples) =
        in_turns(bench.rounds, || p50(&alone), || p50(&client)).await?;
    Ok(vec![Row {
        case: format!("RunTool of a tool that does nothing: with {PARKED} parked calls, p50"),
        unit: "µs",
        case_samples,
        base: "without parked calls".into(),
        base_samples,
        goal: Goal::AtMost(1.1),
    }])
}

/// An event in a long session.
pub(crate) async fn long(bench: &Bench) -> Result<Vec<Row>> {
    let server = bench.callpark().await?;
    let mut client = Client::new(server.connect().await?);
    let long = client.session().await?;
    append(&client, &long, LONG).await?;
    let fresh = || async {
        let session = client.clone().session().await?;
        append(&client, &session, EVENTS).await
    };
    let case = || append(&client, &long, EVENTS);
    let (base_samples, case_samples) = in_turns(bench.rounds, fresh, case).await?;
    Ok(vec![Row {
        case: format!("one more event in a session of {LONG} events"),
        unit: "µs",
        case_samples,
        base: "in a new session".into(),
        base_samples,
        goal: Goal::AtMost(1.1),
    }])
}

/// Returns the duration of an event, in microseconds.
async fn append(client: &Client, session: &str, events: u64) -> Result<f64> {
    let mut client = client.clone();
    let began = Instant::now();
    let task = client.start(session, REPORT, &[("count", events as f64)]).await?;
    client.wait(&task).await?;
    Ok(began.elapsed().as_secs_f64() * 1e6 / events as f64)
}

/// Starts so many tasks, in sessions of at most 1,000.
async fn start(server: &Server, tool: &str, count: usize) -> Result<()> {
    let client = Client::new(server.connect().await?);
    let start = |_| {
        let mut client = client.clone();
        async move {
            let session = client.session().await?;
            for _ in 0..1_000 {
                client.start(&session, tool, &[]).await?;
            }
            Result::Ok(())
        }
    };
    try_join_all((0..count.div_ceil(1_000)).map(start)).await?;
    Ok(())
}
