//! `callpark health`: the health of a server, for probes.

use std::time::Duration;

use callpark_client::Origin;
use serde::Serialize;

use super::Context;
use crate::cli::{
    args::duration::parse_duration, error::Failure, exit::Exit, print::time::format_span,
};

/// Ask a server whether it is serving, for probes
///
/// Ends with 0 if it is, with 1 if it is not, as while it stops, and with 69 if it does not answer. Needs
/// no token.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct HealthArgs {
    /// Time that the server has to answer
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    timeout: Duration,
}

/// The answer in JSON, in the words of grpc.health.v1.
#[derive(Serialize)]
struct Health {
    status: &'static str,
}

pub(crate) async fn run(args: HealthArgs, context: &mut Context) -> Result<Exit, Failure> {
    let Context { client, out, connection } = context;
    let is_serving = match client.with_deadline(args.timeout).is_serving().await {
        Err(error) if error.origin() == Origin::Deadline => {
            let (endpoint, time) = (&connection.endpoint, format_span(args.timeout));
            let text = format!("{endpoint} has not answered within {time}");
            return Err(Failure::new(Exit::Unreachable, text));
        }
        answer => answer?,
    };
    if out.json {
        out.json(&Health { status: if is_serving { "SERVING" } else { "NOT_SERVING" } }).await?;
    } else {
        out.line(if is_serving { "serving" } else { "not serving" }).await?;
    }
    Ok(if is_serving { Exit::Success } else { Exit::Failed })
}
