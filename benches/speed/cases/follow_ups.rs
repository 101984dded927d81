//! The time from the end of a task to its delivery to an agent.

use std::time::Instant;

use callpark_proto::v1::{self, session_event::Payload};
use tonic::Streaming;

use super::Bench;
use super::store::{Bare, Log};
use crate::client::{Client, log_request, request};
use crate::measure::{Samples, in_turns, percentile};
use crate::table::{Goal, Row};
use crate::{Result, tools};

/// Tasks that end one after the other, each in a session that does nothing else.
const TASKS: usize = 200;

/// The time from the end of a task to the first event of the turn that delivers its follow-up.
pub(crate) async fn follow_ups(bench: &Bench) -> Result<Vec<Row>> {
    let model = bench.model().await?;
    let server = bench.callpark_with(model.endpoint()).await?;
    let (client, store) = (Client::new(server.connect().await?), Bare::new()?);
    let (base, case) = (|| commits(store.clone()), || ends(client.clone()));
    let (base_samples, case_samples): (Samples, Samples) =
        in_turns(bench.rounds, base, case).await?;
    Ok(vec![Row {
        case: "follow-up: from the end of the task to the start of the turn that delivers it, p99"
            .into(),
        unit: "ms",
        case_samples,
        base: "one commit in the bare store, p99".into(),
        base_samples,
        goal: Goal::Absolute(50.0),
    }])
}

async fn commits(store: Bare) -> Result<f64> {
    let mut log = Log::new(&store);
    let mut times = Vec::with_capacity(TASKS);
    for _ in 0..TASKS {
        let began = Instant::now();
        log.append(1).await?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(percentile(&times, 0.99))
}

async fn ends(mut client: Client) -> Result<f64> {
    let session_id = client.session().await?;
    let log = client.tools.stream_session(log_request(&session_id, false, true)).await?;
    let mut log = log.into_inner();
    // The session has an agent from its first turn on.
    let prompt = "1 0".to_owned();
    let turn = v1::RunTurnRequest { session_id: session_id.clone(), prompt, ..Default::default() };
    client.tools.run_turn(turn).await?;
    turn_after_end(&mut log).await?;
    let mut times = Vec::with_capacity(TASKS);
    for _ in 0..TASKS {
        let follow_up = v1::FollowUpPolicy::OnFinish.into();
        let call = request(&session_id, tools::NOTHING, &[]);
        client.start_call(v1::RunToolRequest { follow_up, ..call }).await?;
        times.push(turn_after_end(&mut log).await?.ok_or("no task has ended")?);
    }
    Ok(percentile(&times, 0.99))
}

/// Reads up to the end of a turn. How long it began after the end of the task that came before it, in
/// milliseconds, if there was one.
async fn turn_after_end(log: &mut Streaming<v1::SessionUpdate>) -> Result<Option<f64>> {
    let (mut ended, mut waited) = (None, None);
    while let Some(update) = log.message().await? {
        for event in update.events {
            let time = event.create_time.unwrap_or_default();
            let millis = time.seconds as f64 * 1e3 + f64::from(time.nanos) / 1e6;
            match event.payload {
                Some(Payload::ToolCallFinished(_)) if event.turn_id.is_empty() => {
                    ended = Some(millis);
                }
                Some(Payload::TurnStarted(_)) => waited = ended.map(|ended| millis - ended),
                Some(Payload::SessionError(error)) => return Err(error.message.into()),
                Some(Payload::SessionIdle(_)) => return Ok(waited),
                _ => {}
            }
        }
    }
    Err("the log ended".into())
}
