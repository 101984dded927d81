//! The time from the end of a task to the answers of its waits.

use std::time::Duration;

use callpark_proto::v1;
use futures::future::try_join_all;
use tokio::task::JoinSet;

use super::Bench;
use super::store::{Bare, Log};
use crate::child::Server;
use crate::client::Client;
use crate::measure::{Samples, load, percentile};
use crate::table::{Goal, Row};
use crate::tools::REST;
use crate::{Result, wall_micros};

/// Ends in a round.
const ENDS: usize = 200;

/// Others who wait.
const OTHERS: usize = 1_000;

/// Connections that the others share.
const CONNECTIONS: usize = 8;

/// One who waits, alone and beside many who wait for other tasks.
pub(crate) async fn one(bench: &Bench) -> Result<Vec<Row>> {
    let (bare, server) = (bench.bare().await?, bench.callpark().await?);
    let base = Client::new(bare.connect().await?);
    let client = Client::new(server.connect().await?);
    let store = Bare::new()?;
    let mut rows = Vec::new();
    for others in [0, OTHERS] {
        let waiting = waiting(&server, others).await?;
        let (mut allowed, mut cases) = (Samples::default(), Samples::default());
        for round in 0..=bench.rounds {
            let echo = |_| {
                let mut base = base.clone();
                async move { base.wait("").await.map(drop) }
            };
            let (echo, _) = load(1, Duration::from_secs(1), echo).await?;
            let mut log = Log::new(&store);
            let commit = super::calls::times(Duration::from_secs(1), async || log.append(1).await);
            let commit = commit.await?;
            let case = ends(client.clone()).await?;
            if round > 0 {
                allowed.0.push(percentile(&echo, 0.99) + percentile(&commit, 0.99) + 300.0);
                cases.0.push(percentile(&case, 0.99));
            }
        }
        drop(waiting);
        rows.push(Row {
            case: format!("Wait: from the end of the task to the client, with {others} other waits pending, p99"),
            unit: "µs",
            case_samples: cases,
            base: "echo, p99 + commit, p99 + 300 µs".into(),
            base_samples: allowed,
            goal: Goal::Within,
        });
    }
    Ok(rows)
}

/// Many who wait for one task.
pub(crate) async fn together(bench: &Bench) -> Result<Vec<Row>> {
    let server = bench.callpark().await?;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(Client::new(server.connect().await?));
    }
    let mut client = Client::new(server.connect().await?);
    let session = client.session().await?;
    let mut cases = Samples::default();
    for round in 0..=bench.rounds {
        let task = client.start(&session, REST, &[("seconds", 1.0)]).await?;
        let wait = |index: usize| {
            let (mut client, task) = (clients[index % CONNECTIONS].clone(), &task);
            async move {
                let ended = client.wait(task).await?;
                Result::Ok(wall_micros() - end_micros(&ended)?)
            }
        };
        let times = try_join_all((0..OTHERS).map(wait)).await?;
        if round > 0 {
            cases.0.push(percentile(&times, 1.0) / 1e3);
        }
    }
    Ok(vec![Row {
        case: format!("{OTHERS} waits for one task: from its end to the last answer"),
        unit: "ms",
        case_samples: cases,
        base: String::new(),
        base_samples: Samples::default(),
        goal: Goal::Absolute(25.0),
    }])
}

/// From each end to the client, in microseconds.
async fn ends(mut client: Client) -> Result<Vec<f64>> {
    let session = client.session().await?;
    let mut times = Vec::new();
    for _ in 0..ENDS {
        let task = client.start(&session, REST, &[("seconds", 0.005)]).await?;
        let ended = client.wait(&task).await?;
        times.push(wall_micros() - end_micros(&ended)?);
    }
    Ok(times)
}

fn end_micros(task: &v1::Task) -> Result<f64> {
    let time = task.end_time.ok_or("the task hasn't ended")?;
    Ok(time.seconds as f64 * 1e6 + f64::from(time.nanos) / 1e3)
}

/// Starts waits for a task each, which last until they are dropped.
async fn waiting(server: &Server, count: usize) -> Result<JoinSet<()>> {
    let tasks = start(server, count).await?;
    wait_for(server, tasks).await
}

/// Starts so many tasks that don't end.
pub(crate) async fn start(server: &Server, count: usize) -> Result<Vec<String>> {
    let mut client = Client::new(server.connect().await?);
    let (mut tasks, mut session) = (Vec::new(), String::new());
    for index in 0..count {
        // A session takes a thousand live tasks.
        if index % 500 == 0 {
            session = client.session().await?;
        }
        tasks.push(client.start(&session, REST, &[]).await?);
    }
    Ok(tasks)
}

/// Waits for each of them until it is dropped.
pub(crate) async fn wait_for(server: &Server, tasks: Vec<String>) -> Result<JoinSet<()>> {
    let mut waiting = JoinSet::new();
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(Client::new(server.connect().await?));
    }
    for (index, task) in tasks.into_iter().enumerate() {
        let mut client = clients[index % CONNECTIONS].clone();
        waiting.spawn(async move {
            // It ends with the server.
            drop(client.wait(&task).await);
        });
    }
    // What they have sent is in the server before anything else that is sent now.
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(waiting)
}
