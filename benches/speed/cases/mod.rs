//! The cases.

mod calls;
mod follow;
mod follow_ups;
mod growth;
mod keys;
mod memory;
mod noise;
mod shim;
mod store;
mod streams;
mod turns;
mod waits;

use std::time::Duration;

use callpark_proto::stored::SessionUpdate;
use tonic::Streaming;

use crate::table::{HEAD, Row};
use crate::{Result, child};

/// The time for which a rate is measured in a round.
const SPAN: Duration = Duration::from_secs(2);

/// A base line, callpark, and how often.
pub(crate) struct Bench {
    /// Rounds of each case.
    rounds: usize,
}

impl Bench {
    async fn bare(&self) -> Result<child::Server> {
        child::Server::bare().await
    }

    async fn callpark(&self) -> Result<child::Server> {
        child::Server::callpark("").await
    }

    /// callpark with this model.
    async fn callpark_with(&self, model: &str) -> Result<child::Server> {
        child::Server::callpark(model).await
    }

    async fn model(&self) -> Result<child::Server> {
        child::Server::model().await
    }

    async fn proxy(&self, model: &str) -> Result<child::Server> {
        child::Server::proxy(model).await
    }
}

/// Runs the cases of these names, or all, and prints the table.
pub(crate) async fn run(rounds: usize, names: &[String]) -> Result<()> {
    let bench = Bench { rounds };
    println!("{HEAD}");
    macro_rules! case {
        ($name:literal, $case:expr) => {
            if names.is_empty() || names.iter().any(|name| name == $name) {
                let rows: Vec<Row> = $case.await?;
                for row in rows {
                    println!("{}", row.line());
                }
            }
        };
    }
    case!("run-many", calls::many(&bench));
    case!("run-one", calls::one(&bench));
    case!("process", calls::process(&bench));
    case!("shim", shim::shim(&bench));
    case!("replay", streams::replay(&bench));
    case!("client", streams::through_client(&bench));
    case!("client-live", follow::through_client(&bench));
    case!("follow", follow::one_session(&bench));
    case!("follow-many", follow::many_sessions(&bench));
    case!("fan-out", streams::fan_out(&bench));
    case!("wait", waits::one(&bench));
    case!("wait-together", waits::together(&bench));
    case!("memory", memory::memory(&bench));
    case!("list", growth::list(&bench));
    case!("parked", growth::parked(&bench));
    case!("long", growth::long(&bench));
    case!("noise", noise::noise(&bench));
    case!("keys", keys::keys(&bench));
    case!("turns", turns::turns(&bench));
    case!("follow-ups", follow_ups::follow_ups(&bench));
    Ok(())
}

/// Reads a stream to its end and counts its events.
async fn until_caught_up(mut stream: Streaming<SessionUpdate>) -> Result<u64> {
    let mut count = 0;
    while let Some(update) = stream.message().await? {
        count += update.events.len() as u64;
    }
    Ok(count)
}
