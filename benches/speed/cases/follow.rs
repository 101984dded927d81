//! Reading logs while they grow.

use std::hint::black_box;
use std::time::{Duration, Instant};

use callpark_client::SessionItem;
use callpark_proto::v1::SessionEvent;
use futures::StreamExt as _;
use futures::future::try_join_all;
use prost::Message as _;
use tokio::task::JoinSet;

use super::Bench;
use super::store::{Bare, Log};
use crate::client::{Client, log_request};
use crate::measure::{Samples, in_turns, percentile};
use crate::table::{Goal, Row};
use crate::tools::REPORT;
use crate::{Result, wall_micros};

/// Events appended to the one session in a round.
const EVENTS: u64 = 100_000;

/// Events in one append of a busy session.
const BATCH: u64 = 64;

/// Sessions with a reader each.
const SESSIONS: usize = 1_000;

/// Events a second in each of them.
const RATE: f64 = 50.0;

/// Events of each of them.
const COUNT: usize = 200;

/// Connections that their readers share.
const CONNECTIONS: usize = 8;

/// One session appended at full speed and followed live.
pub(crate) async fn one_session(bench: &Bench) -> Result<Vec<Row>> {
    let server = bench.callpark().await?;
    let client = Client::new(server.connect().await?);
    let store = Bare::new()?;
    let base = || async {
        let mut log = Log::new(&store);
        let began = Instant::now();
        for _ in 0..EVENTS / BATCH {
            log.append(BATCH).await?;
        }
        Ok(EVENTS as f64 / began.elapsed().as_secs_f64())
    };
    let case = || async {
        let mut client = client.clone();
        let session = client.session().await?;
        let mut stream = client.stream(log_request(&session, true, true)).await?;
        // The snapshot says that the reader is there.
        stream.message().await?;
        let began = Instant::now();
        client.start(&session, REPORT, &[("count", EVENTS as f64)]).await?;
        let mut seen = 0;
        while seen < EVENTS {
            let update = stream.message().await?.ok_or("the stream has ended")?;
            seen += update.events.len() as u64;
        }
        Ok(seen as f64 / began.elapsed().as_secs_f64())
    };
    let (base_samples, case_samples) = in_turns(bench.rounds, base, case).await?;
    Ok(vec![Row {
        case: "live stream of one session that grows at full speed".into(),
        unit: "events/s",
        case_samples,
        base: format!("appends to the bare store, {BATCH} events each"),
        base_samples,
        goal: Goal::AtLeast(0.8),
    }])
}

/// The same with `callpark-client`, beside the generated stub that it is built on, both decoded.
pub(crate) async fn through_client(bench: &Bench) -> Result<Vec<Row>> {
    let server = bench.callpark().await?;
    let stub = Client::new(server.connect().await?);
    let client = server.client()?;
    let base = || async {
        let mut stub = stub.clone();
        let session = stub.session().await?;
        let mut stream = stub.tools.stream_session(log_request(&session, true, true)).await?;
        stream.get_mut().message().await?;
        let began = Instant::now();
        stub.start(&session, REPORT, &[("count", EVENTS as f64)]).await?;
        let mut seen = 0;
        while seen < EVENTS {
            let update = stream.get_mut().message().await?.ok_or("the stream has ended")?;
            seen += update.events.into_iter().map(black_box).count() as u64;
        }
        Ok(seen as f64 / began.elapsed().as_secs_f64())
    };
    let case = || async {
        let mut stub = stub.clone();
        let session = stub.session().await?;
        let mut stream = client.sessions().events(log_request(&session, true, true));
        stream.next().await.ok_or("the stream has ended")??;
        let began = Instant::now();
        stub.start(&session, REPORT, &[("count", EVENTS as f64)]).await?;
        let mut seen = 0;
        while seen < EVENTS {
            let item = stream.next().await.ok_or("the stream has ended")??;
            seen += u64::from(matches!(black_box(item), SessionItem::Event(_)));
        }
        Ok(seen as f64 / began.elapsed().as_secs_f64())
    };
    let (base_samples, case_samples) = in_turns(bench.rounds, base, case).await?;
    Ok(vec![Row {
        case: "live stream of one session through callpark-client, decoded".into(),
        unit: "events/s",
        case_samples,
        base: "through the generated stub, decoded".into(),
        base_samples,
        goal: Goal::AtLeast(0.95),
    }])
}

/// Many sessions, each appended at a steady rate and followed by a reader of its own.
pub(crate) async fn many_sessions(bench: &Bench) -> Result<Vec<Row>> {
    let server = bench.callpark().await?;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(Client::new(server.connect().await?));
    }
    let store = Bare::new()?;
    let (mut allowed, mut cases) = (Samples::default(), Samples::default());
    for round in 0..=bench.rounds {
        let commit = commit_times(&store).await?;
        let case = delivery_times(&clients).await?;
        if round > 0 {
            allowed.0.push(percentile(&commit, 0.99) / 1e3 + 1.0);
            cases.0.push(percentile(&case, 0.99) / 1e3);
        }
    }
    Ok(vec![Row {
        case: format!(
            "{SESSIONS} live streams of {RATE} events/s each: from the event to the client, p99"
        ),
        unit: "ms",
        case_samples: cases,
        base: "an append to the bare store at the same rate, p99 + 1 ms".into(),
        base_samples: allowed,
        goal: Goal::Within,
    }])
}

/// Returns the duration of each append when as many logs grow at the same rate, in microseconds.
async fn commit_times(store: &Bare) -> Result<Vec<f64>> {
    let write = |_| async {
        let mut log = Log::new(store);
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / RATE));
        let mut times = Vec::new();
        for _ in 0..COUNT {
            ticks.tick().await;
            let began = Instant::now();
            log.append(1).await?;
            times.push(began.elapsed().as_secs_f64() * 1e6);
        }
        Result::Ok(times)
    };
    Ok(try_join_all((0..SESSIONS).map(write)).await?.concat())
}

/// From the time that an event bears to its arrival, in microseconds.
async fn delivery_times(clients: &[Client]) -> Result<Vec<f64>> {
    let mut readers = JoinSet::new();
    for index in 0..SESSIONS {
        let mut client = clients[index % clients.len()].clone();
        readers.spawn(async move {
            let session = client.session().await?;
            let mut stream = client.stream(log_request(&session, true, true)).await?;
            stream.message().await?;
            client.start(&session, REPORT, &[("count", COUNT as f64), ("rate", RATE)]).await?;
            let mut times = Vec::new();
            while times.len() < COUNT {
                let update = stream.message().await?.ok_or("the stream has ended")?;
                let now = wall_micros();
                for event in update.events {
                    times.push(now - time_micros(&SessionEvent::decode(event)?));
                }
            }
            Result::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(more) = readers.join_next().await {
        times.extend(more??);
    }
    Ok(times)
}

fn time_micros(event: &SessionEvent) -> f64 {
    let time = event.create_time.unwrap_or_default();
    time.seconds as f64 * 1e6 + f64::from(time.nanos) / 1e3
}
