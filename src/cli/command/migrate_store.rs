//! `callpark migrate-store`: the copy of a store from SQLite to PostgreSQL.

use std::path::PathBuf;

use serde_json::json;

use crate::app::config::Loaded;
use crate::app::postgres_options;
use crate::cli::args::{connect::ConnectArgs, settings::SettingFlags};
use crate::cli::error::Failure;
use crate::cli::exit::Exit;
use crate::cli::print::output::{Out, eprint_note};
use crate::cli::print::table::{Column, Table};
use crate::cli::print::text::count;
use crate::store::{MigrateError, MigrationReport, migrate_store};

/// Copy the store from SQLite to an empty PostgreSQL database; the server must be stopped
///
/// Everything is copied in one transaction, read back and compared. What clients hold stays valid. The
/// SQLite store is not changed. The password of the database comes from where `callpark serve` takes it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct MigrateStoreArgs {
    /// SQLite store: `sqlite:` and its folder, or its file callpark.db
    #[arg(long, value_name = "sqlite:PATH", value_parser = path)]
    from: PathBuf,

    /// PostgreSQL database, such as postgres://user@host/database
    #[arg(long, value_name = "URL")]
    to: String,
}

/// Parses the address of an SQLite store.
fn path(text: &str) -> Result<PathBuf, String> {
    match text.strip_prefix("sqlite:") {
        Some(path) if !path.is_empty() => Ok(path.into()),
        _ => {
            Err("write sqlite: and the path of the store, such as sqlite:/var/lib/callpark"
                .to_owned())
        }
    }
}

pub(crate) async fn run(
    args: MigrateStoreArgs,
    connect: ConnectArgs,
    out: &mut Out,
) -> Result<Exit, Failure> {
    let Loaded { config, .. } = SettingFlags::store(args.to).load(connect)?;
    let options = postgres_options(&config);
    let options = options.map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
    let Some(options) = options else {
        let text =
            "the copy needs a PostgreSQL database: name it with --to postgres://user@host/database";
        return Err(Failure::new(Exit::Usage, text));
    };
    let report = migrate_store(&args.from, &options).await;
    let report = report.map_err(|error| Failure::new(exit_of(&error), error.to_string()))?;
    print(&report, out).await?;
    eprint_note(&format!(
        "start the server with the setting store = {}, and none on {} any more",
        config.store,
        args.from.display()
    ));
    Ok(Exit::Success)
}

async fn print(report: &MigrationReport, out: &mut Out) -> Result<(), Failure> {
    let checksum = |checksum: u128| format!("{checksum:032x}");
    if out.json {
        let tables = report.tables.iter().map(|table| {
            let contents = table.target;
            json!({"table": table.table, "rows": contents.rows, "checksum": checksum(contents.checksum)})
        });
        let document = json!({"rows": report.rows(), "tables": tables.collect::<Vec<_>>()});
        return out.json(&document).await;
    }
    let mut table = Table::new([
        ("TABLE", Column::Value),
        ("ROWS", Column::Value),
        ("CHECKSUM", Column::Value),
    ]);
    for copied in &report.tables {
        let contents = copied.target;
        table.row([
            copied.table.to_owned(),
            contents.rows.to_string(),
            checksum(contents.checksum),
        ]);
    }
    out.table(&table).await?;
    let rows = usize::try_from(report.rows()).unwrap_or(usize::MAX);
    out.line(&format!("{}, the same in both stores", count(rows, "row"))).await
}

fn exit_of(error: &MigrateError) -> Exit {
    match error {
        MigrateError::Missing { .. } => Exit::NotFound,
        MigrateError::NotEmpty { .. } => Exit::Usage,
        MigrateError::InUse { .. } => Exit::InUse,
        MigrateError::Target(error) if error.is_in_use() => Exit::InUse,
        MigrateError::Write { .. }
        | MigrateError::Unknown { .. }
        | MigrateError::Unreadable { .. } => Exit::Io,
        _ => Exit::Failed,
    }
}
