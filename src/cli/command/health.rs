//! `callpark health`: the health of servers, for probes.

use std::time::Duration;

use callpark_client::{Client, Error, Origin};
use futures::future::join_all;
use serde::Serialize;

use super::{Context, combine};
use crate::cli::{
    args::duration::parse_duration, error::Failure, exit::Exit, print::time::format_span,
};

/// Ask a server whether it is serving, for probes
///
/// Ends with 0 if it is, with 1 if it is not, as while it stops, and with 69 if it does not answer. Needs
/// no token.
///
/// Of several addresses, also those of one host name, each is asked and has a line. Ends with 0 only if
/// all of them serve, with 69 if all others do not answer, and with 1 otherwise.
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

/// The answer of one of several endpoints.
#[derive(Serialize)]
struct EndpointHealth {
    endpoint: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct AllHealth {
    endpoints: Vec<EndpointHealth>,
}

pub(crate) async fn run(args: HealthArgs, context: &mut Context) -> Result<Exit, Failure> {
    let endpoints = context.client.endpoints().await;
    if let [(endpoint, client)] = endpoints.as_slice() {
        return one(endpoint, client, args.timeout, context).await;
    }
    let asking = endpoints.into_iter().map(async |(endpoint, client)| {
        (endpoint, client.with_deadline(args.timeout).is_serving().await)
    });
    let mut exits = Vec::new();
    let mut all = AllHealth { endpoints: Vec::new() };
    for (endpoint, answer) in join_all(asking).await {
        exits.push(match &answer {
            Ok(true) => Exit::Success,
            Ok(false) => Exit::Failed,
            Err(error) if error.origin() == Origin::Deadline => Exit::Unreachable,
            Err(error) => Exit::of_error(error),
        });
        let status = match answer {
            Ok(is_serving) => status(is_serving),
            Err(_) => "UNKNOWN",
        };
        let error = answer.err().map(|error| describe(&error, args.timeout));
        all.endpoints.push(EndpointHealth { endpoint, status, error });
    }
    let out = &mut context.out;
    if out.json {
        out.json(&all).await?;
    } else {
        for EndpointHealth { endpoint, status, error } in &all.endpoints {
            let state = error.clone().unwrap_or_else(|| words(*status == "SERVING").to_owned());
            out.line(&format!("{endpoint}: {state}")).await?;
        }
    }
    Ok(combine(&exits))
}

async fn one(
    endpoint: &str,
    client: &Client,
    time_max: Duration,
    context: &mut Context,
) -> Result<Exit, Failure> {
    let is_serving = match client.with_deadline(time_max).is_serving().await {
        Err(error) if error.origin() == Origin::Deadline => {
            let text = format!("{endpoint} {}", describe(&error, time_max));
            return Err(Failure::new(Exit::Unreachable, text));
        }
        answer => answer?,
    };
    if context.out.json {
        context.out.json(&Health { status: status(is_serving) }).await?;
    } else {
        context.out.line(words(is_serving)).await?;
    }
    Ok(if is_serving { Exit::Success } else { Exit::Failed })
}

fn status(is_serving: bool) -> &'static str {
    if is_serving { "SERVING" } else { "NOT_SERVING" }
}

fn words(is_serving: bool) -> &'static str {
    if is_serving { "serving" } else { "not serving" }
}

/// Returns the failure of a server that has not said whether it is serving.
fn describe(error: &Error, time_max: Duration) -> String {
    match error.origin() {
        Origin::Deadline => format!("has not answered within {}", format_span(time_max)),
        _ => error.message().to_owned(),
    }
}
