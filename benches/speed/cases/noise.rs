//! A process that writes without end.

use std::time::Duration;

use super::Bench;
use super::calls::times;
use crate::Result;
use crate::client::Client;
use crate::measure::{Samples, percentile};
use crate::table::{Goal, Row};

/// The time for which it writes.
const SPAN: Duration = Duration::from_secs(10);

/// Measures the cost to the server's memory and to another caller.
pub(crate) async fn noise(bench: &Bench) -> Result<Vec<Row>> {
    let (mut quiet, mut loud, mut memory) =
        (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..bench.rounds {
        let server = bench.callpark().await?;
        let mut client = Client::new(server.connect().await?);
        let (session, other) = (client.session().await?, client.session().await?);
        let alone = times(SPAN / 5, async || client.run_nothing(&other).await).await?;
        let before = server.resident_bytes()?;
        let task = client.start_bash(&session, "yes").await?;
        let beside = times(SPAN, async || client.run_nothing(&other).await).await?;
        memory.0.push((server.resident_bytes()? - before) / f64::from(1 << 20));
        client.cancel(&task).await?;
        server.stop().await?;
        quiet.0.push(percentile(&alone, 0.99));
        loud.0.push(percentile(&beside, 0.99));
    }
    Ok(vec![
        Row {
            case: "server memory while a tool runs `yes` for 10 s".into(),
            unit: "MiB",
            case_samples: memory,
            base: String::new(),
            base_samples: Samples::default(),
            goal: Goal::Absolute(32.0),
        },
        Row {
            case: "RunTool of another caller while a tool runs `yes` for 10 s, p99".into(),
            unit: "µs",
            case_samples: loud,
            base: "before `yes` is started".into(),
            base_samples: quiet,
            goal: Goal::AtMost(2.0),
        },
    ])
}
