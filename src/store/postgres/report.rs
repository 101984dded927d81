//! A look at a database from outside, which changes nothing.

use super::PostgresOptions;
use super::error::PostgresError;
use super::open;
use super::open_error::OpenError;
use super::options::Target;
use super::{ownership, schema};
use crate::store::Replica;

/// The state of a database, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresReport {
    /// The host, the port and the database.
    pub name: String,
    /// The version of the server, such as `15.5`.
    pub version: String,
    /// The version of the schema, or 0 if there is none.
    pub schema: i32,
    /// The newest version of the schema that this build knows.
    pub known_schema: i32,
    /// The database takes no writes: it is a standby, or read-only.
    pub is_read_only: bool,
    /// The server that uses the database, as ` (at 10.0.0.1, process 123 of the database)`; or `None` if
    /// there is none.
    pub holder: Option<String>,
}

/// Returns the state of a database.
///
/// # Errors
///
/// The options cannot be used, or the database cannot be reached.
pub async fn inspect_postgres(options: &PostgresOptions) -> Result<PostgresReport, OpenError> {
    let target = Target::parse(options)?;
    inspect(&target).await.map_err(|error| target.failed(error))
}

/// Returns the replicas of a database that serve or restart, the oldest first.
///
/// # Errors
///
/// The options cannot be used, or the database cannot be reached.
pub async fn list_replicas(options: &PostgresOptions) -> Result<Vec<Replica>, OpenError> {
    let target = Target::parse(options)?;
    list(&target).await.map_err(|error| target.failed(error))
}

async fn list(target: &Target) -> Result<Vec<Replica>, PostgresError> {
    let connection = open::connect(target, uuid::Uuid::new_v4(), open::Sharing::Alone).await?;
    match schema::version(&connection.client).await? {
        // The first schema has no replicas.
        0 | 1 => Ok(Vec::new()),
        _ => ownership::list(&connection.client).await,
    }
}

async fn inspect(target: &Target) -> Result<PostgresReport, PostgresError> {
    let connection = open::connect(target, uuid::Uuid::new_v4(), open::Sharing::Alone).await?;
    let sql = "SELECT current_setting('server_version'),
            pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean";
    let row = connection.client.query_one(sql, &[]).await?;
    Ok(PostgresReport {
        name: target.name.clone(),
        version: row.try_get(0)?,
        schema: schema::version(&connection.client).await?,
        known_schema: schema::newest(),
        is_read_only: row.try_get(1)?,
        holder: connection.holder().await?.map(|holder| holder.to_string()),
    })
}
