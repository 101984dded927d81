//! Turns of agents whose model speaks fast, or many at once.

use std::time::Instant;

use callpark_proto::v1::{self, session_event::Payload};
use futures::future::try_join_all;

use super::Bench;
use crate::client::Client;
use crate::measure::{Samples, in_turns, percentile};
use crate::table::{Goal, Row};
use crate::{Result, wall_micros};

/// Sessions whose models speak at the same time.
const SESSIONS: usize = 100;
/// Words a second of each of them.
const RATE: f64 = 50.0;
/// Words of each of them.
const WORDS: u64 = 200;
/// Connections that their readers share.
const CONNECTIONS: usize = 8;
/// The words of a model without pauses.
const FAST_WORDS: u64 = 50_000;

/// Many slow models: how long a word takes to its reader; and one fast one.
pub(crate) async fn turns(bench: &Bench) -> Result<Vec<Row>> {
    let model = bench.model().await?;
    let server = bench.callpark_with(model.endpoint()).await?;
    let proxy = bench.proxy(model.endpoint()).await?;
    let (mut clients, mut proxied) = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        clients.push(Client::new(server.connect().await?));
        proxied.push(Client::new(proxy.connect().await?));
    }
    let (mut bases, mut cases) = (Samples::default(), Samples::default());
    for round in 0..=bench.rounds {
        let base = percentile(&word_times(&proxied).await?, 0.99) / 1e3;
        let case = percentile(&word_times(&clients).await?, 0.99) / 1e3;
        if round > 0 {
            bases.0.push(base);
            cases.0.push(case);
        }
    }
    let slow = Row {
        case: format!("{SESSIONS} turns of {RATE} words/s each: from the model to the client, p99"),
        unit: "ms",
        case_samples: cases,
        base: "through a proxy without a store".into(),
        base_samples: bases,
        goal: Goal::Absolute(20.0),
    };
    let rate = |client: Client| async move {
        let began = Instant::now();
        let times = turn(client, FAST_WORDS, 0.0).await?;
        Ok(times.len() as f64 / began.elapsed().as_secs_f64())
    };
    let (base, case) = (|| rate(proxied[0].clone()), || rate(clients[0].clone()));
    let (base_samples, case_samples) = in_turns(bench.rounds, base, case).await?;
    let fast = Row {
        case: "one turn whose model streams at full speed".into(),
        unit: "words/s",
        case_samples,
        base: "through a proxy without a store".into(),
        base_samples,
        goal: Goal::AtLeast(0.5),
    };
    Ok(vec![slow, fast])
}

async fn word_times(clients: &[Client]) -> Result<Vec<f64>> {
    let turns = (0..SESSIONS).map(|index| turn(clients[index % CONNECTIONS].clone(), WORDS, RATE));
    Ok(try_join_all(turns).await?.concat())
}

/// Returns the delay of each word of a turn, in microseconds.
async fn turn(mut client: Client, words: u64, rate: f64) -> Result<Vec<f64>> {
    let prompt = format!("{words} {rate}");
    let request = v1::RunTurnRequest { prompt, ..Default::default() };
    let mut stream = client.tools.stream_turn(request).await?.into_inner();
    let mut times = Vec::with_capacity(usize::try_from(words)?);
    while let Some(update) = stream.message().await? {
        let now = wall_micros();
        for event in update.events {
            match event.payload {
                Some(Payload::AssistantDelta(delta)) => {
                    let said = delta.text.split_terminator(',');
                    times.extend(said.filter_map(|time| Some(now - time.parse::<f64>().ok()?)));
                }
                Some(Payload::SessionError(error)) => return Err(error.message.into()),
                Some(Payload::SessionIdle(_)) => return Ok(times),
                _ => {}
            }
        }
    }
    Err("the stream ended before the turn did".into())
}
