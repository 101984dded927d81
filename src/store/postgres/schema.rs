//! The schema and its versions.

use refinery::{Migration, Runner};
use tokio_postgres::Client;

use super::error::PostgresError;
use super::open_error::OpenError;
use crate::store::StoreError;

/// The migrations, oldest first, by their names. A migration that has been released never changes, and
/// an earlier version of the server can work with its result.
const MIGRATIONS: &[(&str, &str)] = &[
    ("V1__initial", include_str!("migrations/V1__initial.sql")),
    ("V2__replicas", include_str!("migrations/V2__replicas.sql")),
];

/// Migrates the database to the newest version, in one transaction. The caller holds the lock of the
/// store, so that no other server does the same.
pub(super) async fn migrate(client: &mut Client, name: &str) -> Result<(), OpenError> {
    let failed = |error: PostgresError| OpenError::Unusable {
        name: name.to_owned(),
        cause: StoreError::from(error).to_string(),
    };
    client
        .batch_execute("CREATE SCHEMA IF NOT EXISTS callpark")
        .await
        .map_err(|error| failed(error.into()))?;
    let known = newest();
    let found = version(client).await.map_err(failed)?;
    if found > known {
        return Err(OpenError::Newer { name: name.to_owned(), found, known });
    }
    if found == known {
        return Ok(());
    }
    let unusable = |error: refinery::Error| OpenError::Unusable {
        name: name.to_owned(),
        cause: error.to_string(),
    };
    let migrations = MIGRATIONS.iter().map(|(name, sql)| Migration::unapplied(name, sql));
    let migrations = migrations.collect::<Result<Vec<_>, _>>().map_err(unusable)?;
    let mut runner = Runner::new(&migrations).set_grouped(true);
    runner.set_migration_table_name("schema_history");
    runner.run_async(client).await.map_err(unusable)?;
    Ok(())
}

/// Returns the newest version of the schema that this build knows.
pub(super) fn newest() -> i32 {
    i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)
}

/// Returns the version of the schema, or 0 if there is none.
pub(super) async fn version(client: &Client) -> Result<i32, PostgresError> {
    let exists = "SELECT to_regclass('callpark.schema_history') IS NOT NULL";
    if !client.query_one(exists, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(0);
    }
    let newest = "SELECT coalesce(max(version), 0)::integer FROM schema_history";
    Ok(client.query_one(newest, &[]).await?.try_get(0)?)
}
