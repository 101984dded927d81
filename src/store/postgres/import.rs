//! The writing of a whole store in one transaction, for a copy from elsewhere.

use std::error::Error;
use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use deadpool_postgres::Transaction;
use futures::TryStreamExt as _;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use super::columns::get;
use super::error::{PostgresError, timed_out};
use super::open::{self, RETRY_PAUSE, Sharing, WRITE_TIMEOUT, WriterConnection};
use super::options::{PostgresOptions, Target};
use super::write::MARKER;
use super::{identity, schema};
use crate::store::StoreError;
use crate::store::migrate::{
    Batch, ColumnType, Metadata, MigrateError, TABLES, Table, TableContents, Value,
};

type BoxError = Box<dyn Error + Sync + Send>;

/// An empty store that is written. It is locked.
pub(in crate::store) struct Import {
    target: Target,
    server: Uuid,
    wait: Duration,
    connection: WriterConnection,
}

/// The transaction in which a store is written. Dropped without a commit, it leaves nothing.
pub(in crate::store) struct ImportTransaction<'a> {
    target: &'a Target,
    server: Uuid,
    wait: Duration,
    transaction: Transaction<'a>,
}

impl Import {
    /// Locks the store in a database, and creates its tables if there are none. Refuses one with rows.
    pub(in crate::store) async fn open(options: &PostgresOptions) -> Result<Self, MigrateError> {
        let (target, server) = (Target::parse(options)?, Uuid::new_v4());
        let mut connection = open::acquire(&target, server, Sharing::Alone, options.wait).await?;
        let filled = filled_tables(&connection).await.map_err(|error| target.failed(error))?;
        if !filled.is_empty() {
            let (name, tables) = (target.name.clone(), filled.join(", "));
            return Err(MigrateError::NotEmpty { name, tables });
        }
        schema::migrate(&mut connection.client, &target.name).await?;
        Ok(Self { target, server, wait: options.wait, connection })
    }

    /// Begins the transaction.
    pub(in crate::store) async fn begin(&mut self) -> Result<ImportTransaction<'_>, MigrateError> {
        let failed = |error: PostgresError| failed(&self.target, error);
        let transaction = self.connection.client.transaction().await;
        let transaction = transaction.map_err(|error| failed(error.into()))?;
        // The tables are read back by statements that take as long as they are large.
        let unbounded = "SET LOCAL statement_timeout = 0;
             SET LOCAL idle_in_transaction_session_timeout = 0";
        transaction.batch_execute(unbounded).await.map_err(|error| failed(error.into()))?;
        let (target, server, wait) = (&self.target, self.server, self.wait);
        Ok(ImportTransaction { target, server, wait, transaction })
    }
}

/// Returns the tables with rows.
async fn filled_tables(connection: &WriterConnection) -> Result<Vec<&'static str>, PostgresError> {
    let mut filled = Vec::new();
    for Table { name, .. } in TABLES {
        let exists = "SELECT to_regclass('callpark.' || $1::text) IS NOT NULL";
        if !get(&connection.client.query_one(exists, &[name]).await?, 0)? {
            continue;
        }
        let has_rows = format!("SELECT EXISTS (SELECT FROM {name})");
        if get(&connection.client.query_one(&has_rows, &[]).await?, 0)? {
            filled.push(*name);
        }
    }
    Ok(filled)
}

impl ImportTransaction<'_> {
    /// Writes the rows of a batch.
    pub(in crate::store) async fn put(&self, batch: &Batch) -> Result<(), MigrateError> {
        self.copy_in(batch).await.map_err(|error| {
            let cause = format!("table {}: {}", batch.table.name, cause_of(error));
            MigrateError::Write { name: self.target.name.clone(), cause }
        })
    }

    async fn copy_in(&self, batch: &Batch) -> Result<(), PostgresError> {
        let Table { name, columns } = batch.table;
        let copy = format!("COPY {name} ({}) FROM STDIN (FORMAT binary)", names(batch.table));
        let statement = self.transaction.prepare_cached(&copy).await?;
        let sink = self.transaction.copy_in(&statement).await?;
        let types: Vec<_> = columns.iter().map(|(_, kind)| type_of(*kind)).collect();
        let mut writer = pin!(BinaryCopyInWriter::new(sink, &types));
        for row in &batch.rows {
            writer.as_mut().write_raw(row).await?;
        }
        writer.finish().await?;
        Ok(())
    }

    /// Writes what is not in the rows, and returns the contents of the tables as the database has them.
    pub(in crate::store) async fn finish(
        &self,
        metadata: &Metadata,
    ) -> Result<Vec<TableContents>, MigrateError> {
        let finish = async {
            self.put_metadata(metadata).await?;
            let mut all = Vec::new();
            for table in TABLES {
                all.push(self.contents(table).await?);
                // Otherwise the first lists would be planned as those of an empty table.
                self.transaction.batch_execute(&format!("ANALYZE {}", table.name)).await?;
            }
            Ok(all)
        };
        finish.await.map_err(|error| failed(self.target, error))
    }

    async fn put_metadata(&self, metadata: &Metadata) -> Result<(), PostgresError> {
        identity::adopt(&self.transaction, &metadata.page_token_key).await?;
        let change = "UPDATE counters SET value = $1 WHERE name = 'change'";
        self.transaction.execute(change, &[&metadata.change]).await?;
        // The next session and the next follow-up get keys that are free.
        self.transaction
            .batch_execute(
                "SELECT setval('session_keys', max(key)) FROM sessions;
                 SELECT setval(pg_get_serial_sequence('follow_ups', 'key'), max(key))
                 FROM follow_ups",
            )
            .await?;
        Ok(())
    }

    /// Reads a table.
    async fn contents(&self, table: &Table) -> Result<TableContents, PostgresError> {
        let sql = format!("SELECT {} FROM {}", names(table), table.name);
        let none: [&(dyn ToSql + Sync); 0] = [];
        let mut rows = pin!(self.transaction.query_raw(&sql, none).await?);
        let mut contents = TableContents::default();
        let mut values = Vec::with_capacity(table.columns.len());
        while let Some(row) = rows.try_next().await? {
            values.clear();
            for column in 0..table.columns.len() {
                values.push(get(&row, column)?);
            }
            contents.add(&values);
        }
        Ok(contents)
    }

    /// Commits. If the connection is lost before the answer, a new one finds out whether it was made.
    pub(in crate::store) async fn commit(self) -> Result<(), MigrateError> {
        let Self { target, server, wait, transaction } = self;
        let number: i64 = 1;
        let marked = transaction.execute(MARKER, &[&server, &number]).await;
        marked.map_err(|error| failed(target, error.into()))?;
        let lost = match transaction.commit().await.map_err(PostgresError::from) {
            Ok(()) => return Ok(()),
            Err(PostgresError::Lost(cause)) => cause,
            Err(refused) => return Err(failed(target, refused)),
        };
        let start = Instant::now();
        loop {
            match was_committed(target, server).await {
                Ok(true) => return Ok(()),
                Ok(false) => return Err(failed(target, PostgresError::Lost(lost))),
                Err(error) if start.elapsed() + RETRY_PAUSE >= wait => {
                    let (name, cause) = (target.name.clone(), error.cause());
                    return Err(MigrateError::Unknown { name, cause });
                }
                Err(error) => tracing::debug!(?error, "the outcome of a commit is not known"),
            }
            sleep(RETRY_PAUSE).await;
        }
    }
}

/// Returns whether the copy was committed, on a connection with the lock: the lost one has ended then.
async fn was_committed(target: &Target, server: Uuid) -> Result<bool, PostgresError> {
    let connection = open::acquire(target, server, Sharing::Alone, Duration::ZERO).await;
    let connection = connection.map_err(|error| PostgresError::Lost(error.to_string()))?;
    let sql = "SELECT 1 FROM writers WHERE id = $1";
    let params: [&(dyn ToSql + Sync); 1] = [&server];
    let query = timeout(WRITE_TIMEOUT, connection.client.query_opt(sql, &params));
    Ok(query.await.map_err(|_| timed_out(WRITE_TIMEOUT))??.is_some())
}

fn failed(target: &Target, error: PostgresError) -> MigrateError {
    MigrateError::Write { name: target.name.clone(), cause: cause_of(error) }
}

/// Returns the cause of an error without the words that are about a server's store.
fn cause_of(error: PostgresError) -> String {
    match StoreError::from(error) {
        StoreError::Full(cause)
        | StoreError::Broken(cause)
        | StoreError::Unavailable(cause)
        | StoreError::Corrupt(cause) => cause,
        other @ (StoreError::Conflict { .. }
        | StoreError::NotOwner
        | StoreError::RequestTaken { .. }) => other.to_string(),
    }
}

fn names(table: &Table) -> String {
    table.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

fn type_of(kind: ColumnType) -> Type {
    match kind {
        ColumnType::Integer => Type::INT8,
        ColumnType::Small => Type::INT2,
        ColumnType::Checksum => Type::INT4,
        ColumnType::Boolean => Type::BOOL,
        ColumnType::Text | ColumnType::Record(_) => Type::TEXT,
        ColumnType::Id => Type::UUID,
        ColumnType::Bytes => Type::BYTEA,
        ColumnType::Labels => Type::BYTEA_ARRAY,
    }
}

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, BoxError> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Integer(number) if *ty == Type::INT2 => i16::try_from(*number)?.to_sql(ty, out),
            Self::Integer(number) if *ty == Type::INT4 => i32::try_from(*number)?.to_sql(ty, out),
            Self::Integer(number) => number.to_sql(ty, out),
            Self::Boolean(value) => value.to_sql(ty, out),
            Self::Text(text) => text.to_sql(ty, out),
            Self::Id(id) => Uuid::from_bytes(*id).to_sql(ty, out),
            Self::Bytes(bytes) => bytes.to_sql(ty, out),
            Self::List(values) => values.to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, BoxError> {
        Ok(match *ty {
            Type::INT2 => Self::Integer(i16::from_sql(ty, raw)?.into()),
            Type::INT4 => Self::Integer(i32::from_sql(ty, raw)?.into()),
            Type::INT8 => Self::Integer(i64::from_sql(ty, raw)?),
            Type::BOOL => Self::Boolean(bool::from_sql(ty, raw)?),
            Type::TEXT => Self::Text(String::from_sql(ty, raw)?),
            Type::UUID => Self::Id(Uuid::from_sql(ty, raw)?.into_bytes()),
            Type::BYTEA => Self::Bytes(Vec::from_sql(ty, raw)?),
            Type::BYTEA_ARRAY => Self::List(Vec::from_sql(ty, raw)?),
            _ => return Err(format!("a column of the type {ty}").into()),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, BoxError> {
        Ok(Self::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
