//! Reading logs that are there.

use std::hint::black_box;
use std::time::Instant;

use callpark_client::SessionItem;
use callpark_proto::v1;
use futures::StreamExt as _;
use futures::future::try_join_all;

use super::{Bench, until_caught_up};
use crate::Result;
use crate::client::{Client, log_request};
use crate::measure::{Samples, in_turns};
use crate::table::{Goal, Row};
use crate::tools::REPORT;

/// Events of the stored session.
const EVENTS: u64 = 100_000;

/// Readers of one session.
const READERS: usize = 100;

/// Events of the session that many read.
const SHARED_EVENTS: u64 = 10_000;

/// A stored session to one client.
pub(crate) async fn replay(bench: &Bench) -> Result<Vec<Row>> {
    let (bare, server) = (bench.bare().await?, bench.callpark().await?);
    let base = Client::new(bare.connect().await?);
    let client = Client::new(server.connect().await?);
    let session = stored_session(client.clone(), EVENTS).await?;
    let bare = || bare_rate(&base, EVENTS, 1);
    let case = || replay_rate(&client, &session, 1);
    let (base_samples, case_samples) = in_turns(bench.rounds, bare, case).await?;
    Ok(vec![Row {
        case: format!("replay of {EVENTS} stored events to one client"),
        unit: "events/s",
        case_samples,
        base: "bare stream".into(),
        base_samples,
        goal: Goal::AtLeast(0.6),
    }])
}

/// A stored session to many clients at once.
pub(crate) async fn fan_out(bench: &Bench) -> Result<Vec<Row>> {
    let (bare, server) = (bench.bare().await?, bench.callpark().await?);
    let base = Client::new(bare.connect().await?);
    let client = Client::new(server.connect().await?);
    let session = stored_session(client.clone(), SHARED_EVENTS).await?;
    let bare = || bare_rate(&base, SHARED_EVENTS, READERS);
    let case = || replay_rate(&client, &session, READERS);
    let (base_samples, case_samples) = in_turns(bench.rounds, bare, case).await?;
    let rate = Row {
        case: format!("replay of {SHARED_EVENTS} stored events to {READERS} clients at once"),
        unit: "events/s",
        case_samples,
        base: format!("{READERS} bare streams"),
        base_samples,
        goal: Goal::AtLeast(0.7),
    };
    let (mut of_one, mut of_many) = (Samples::default(), Samples::default());
    for _ in 0..bench.rounds {
        // Each in a session of its own: nothing of it is remembered.
        for (readers, reads) in [(1, &mut of_one), (READERS, &mut of_many)] {
            let session = stored_session(client.clone(), SHARED_EVENTS).await?;
            let before = server.log_reads().await?;
            replay_rate(&client, &session, readers).await?;
            reads.0.push(server.log_reads().await? - before);
        }
    }
    let reads = Row {
        case: format!("page reads of the store for a replay to {READERS} clients"),
        unit: "reads",
        case_samples: of_many,
        base: "for a replay to one client".into(),
        base_samples: of_one,
        goal: Goal::AtMost(1.2),
    };
    Ok(vec![rate, reads])
}

/// The same log through `callpark-client`, beside the generated stub that it is built on.
pub(crate) async fn through_client(bench: &Bench) -> Result<Vec<Row>> {
    let server = bench.callpark().await?;
    let stub = Client::new(server.connect().await?);
    let session = stored_session(stub.clone(), EVENTS).await?;
    let client = server.client()?;
    let base = || async {
        let mut tools = stub.tools.clone();
        let began = Instant::now();
        let mut stream = tools.stream_session(log_request(&session, false, false)).await?;
        let mut count = 0;
        while let Some(update) = stream.get_mut().message().await? {
            count += update.events.into_iter().map(black_box).count();
        }
        Ok(count as f64 / began.elapsed().as_secs_f64())
    };
    let case = || async {
        let began = Instant::now();
        let mut stream = client.sessions().events(log_request(&session, false, false));
        let mut count = 0;
        while let Some(item) = stream.next().await {
            count += usize::from(matches!(black_box(item)?, SessionItem::Event(_)));
        }
        Ok(count as f64 / began.elapsed().as_secs_f64())
    };
    let (base_samples, case_samples) = in_turns(bench.rounds, base, case).await?;
    Ok(vec![Row {
        case: format!("replay of {EVENTS} stored events through callpark-client, decoded"),
        unit: "events/s",
        case_samples,
        base: "through the generated stub, decoded".into(),
        base_samples,
        goal: Goal::AtLeast(0.95),
    }])
}

/// A session that holds at least so many events.
async fn stored_session(mut client: Client, events: u64) -> Result<String> {
    let session = client.session().await?;
    let task = client.start(&session, REPORT, &[("count", events as f64)]).await?;
    client.wait(&task).await?;
    Ok(session)
}

async fn bare_rate(client: &Client, events: u64, readers: usize) -> Result<f64> {
    let began = Instant::now();
    let read = |_| async {
        let request = v1::StreamSessionRequest {
            start_after_sequence: i64::try_from(events).ok(),
            ..Default::default()
        };
        until_caught_up(client.stream(request).await?).await
    };
    let counts = try_join_all((0..readers).map(read)).await?;
    Ok(counts.into_iter().sum::<u64>() as f64 / began.elapsed().as_secs_f64())
}

async fn replay_rate(client: &Client, session: &str, readers: usize) -> Result<f64> {
    let began = Instant::now();
    let read = |_| async {
        until_caught_up(client.stream(log_request(session, false, false)).await?).await
    };
    let counts = try_join_all((0..readers).map(read)).await?;
    Ok(counts.into_iter().sum::<u64>() as f64 / began.elapsed().as_secs_f64())
}
