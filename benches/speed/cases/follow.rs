//! Reading logs while they grow.

use std::time::Instant;

use super::Bench;
use super::store::{Bare, Log};
use crate::Result;
use crate::client::{Client, log_request};
use crate::measure::in_turns;
use crate::table::{Goal, Row};
use crate::tools::REPORT;

/// Events appended to the one session in a round.
const EVENTS: u64 = 100_000;

/// Events in one append of a busy session.
const BATCH: u64 = 64;

/// One session appended at full speed and followed live.
pub async fn one_session(bench: &Bench) -> Result<Vec<Row>> {
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
        case: "one session appended at full speed and followed live".into(),
        unit: "events/s",
        case_samples,
        base: format!("the store alone, {BATCH} events an append"),
        base_samples,
        goal: Goal::AtLeast(0.8),
    }])
}
