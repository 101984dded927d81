//! `callpark replicas`: the servers that share a database.

use std::time::Duration;

use serde::Serialize;

use crate::app::postgres_options;
use crate::cli::args::{connect::ConnectArgs, settings::SettingFlags};
use crate::cli::error::Failure;
use crate::cli::exit::Exit;
use crate::cli::print::output::Out;
use crate::cli::print::table::{Column, Table};
use crate::cli::print::time::format_span;
use crate::store::{Replica, list_replicas};

/// List the servers that share a PostgreSQL database
///
/// Reads the database that `store` names, and works while no server runs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ReplicasArgs {
    #[command(flatten)]
    settings: SettingFlags,
}

/// A replica in JSON.
#[derive(Serialize)]
struct Entry {
    id: String,
    address: String,
    version: String,
    state: &'static str,
    age_seconds: f64,
    lease_seconds: f64,
    sessions: u64,
    live_calls: u64,
}

impl From<&Replica> for Entry {
    fn from(replica: &Replica) -> Self {
        Self {
            id: replica.id.to_string(),
            address: replica.address.clone(),
            version: replica.version.clone(),
            state: replica.state.as_str(),
            age_seconds: replica.age.as_secs_f64(),
            lease_seconds: replica.lease.as_secs_f64(),
            sessions: replica.sessions,
            live_calls: replica.live_calls,
        }
    }
}

pub(crate) async fn run(
    args: ReplicasArgs,
    connect: ConnectArgs,
    out: &mut Out,
) -> Result<Exit, Failure> {
    let config = args.settings.load(connect)?.config;
    let options = postgres_options(&config).map_err(|error| failed(&error))?;
    let options = options.ok_or_else(|| {
        let text = "one server has an SQLite store: replicas share a PostgreSQL database, which --store \
                    names as postgres://USER@HOST/DATABASE";
        Failure::new(Exit::Usage, text)
    })?;
    let replicas = list_replicas(&options).await;
    let replicas = replicas.map_err(|error| failed(&error.into()))?;
    if out.json {
        let entries: Vec<Entry> = replicas.iter().map(Entry::from).collect();
        out.json(&entries).await?;
    } else if replicas.is_empty() {
        out.line("no replicas").await?;
    } else {
        out.table(&table(&replicas)).await?;
    }
    Ok(Exit::Success)
}

fn failed(error: &crate::Error) -> Failure {
    let exit = if error.is_in_use() { Exit::InUse } else { Exit::Config };
    Failure::new(exit, error.to_string())
}

fn table(replicas: &[Replica]) -> Table {
    let mut table = Table::new([
        ("REPLICA", Column::Id),
        ("ADDRESS", Column::Text),
        ("VERSION", Column::Value),
        ("STATE", Column::State),
        ("LEASE", Column::Value),
        ("SESSIONS", Column::Value),
        ("LIVE CALLS", Column::Value),
        ("AGE", Column::Value),
    ]);
    for replica in replicas {
        let lease = match replica.lease {
            Duration::ZERO => "run out".to_owned(),
            lease => format_span(lease),
        };
        table.row([
            replica.id.to_string(),
            replica.address.clone(),
            replica.version.clone(),
            replica.state.as_str().to_owned(),
            lease,
            replica.sessions.to_string(),
            replica.live_calls.to_string(),
            format_span(replica.age),
        ]);
    }
    table
}
