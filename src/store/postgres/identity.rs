//! The identity of a store: the key of its page tokens, and the place of its database.

use rand::RngExt as _;
use tokio_postgres::{Client, Transaction};

use super::columns::{get, number};
use super::error::PostgresError;
use crate::store::PageTokenKey;
use crate::store::session_row::{CHANGES_SKIPPED, with_new_epoch};

/// The sessions that are read at a time when epochs change.
const SESSIONS_PER_READ: i64 = 500;

/// The keys of a store.
pub(super) struct Keys {
    pub(super) page_tokens: PageTokenKey,
    /// The key by which its replicas know each other.
    pub(super) replicas: [u8; 32],
}

/// Reads the identity of a store, or creates it. Gives all sessions new epochs if the database is not
/// the one that was written last.
///
/// Readers keep the sequences of events. A database that was restored from a dump or to an earlier time
/// may lack events that they have seen: it has another place, which is the cluster, the database in it,
/// and the timeline of its log, so that its readers start again. A copy of the files of a cluster that is
/// put back as it was has the same place, and is not noticed.
pub(super) async fn load(client: &mut Client) -> Result<Keys, PostgresError> {
    let transaction = client.transaction().await?;
    let place = place(&transaction).await?;
    let known = value(&transaction, "place").await?;
    if let Some(known) = &known
        && *known != place
    {
        let sessions = change_epochs(&transaction).await?;
        let (known, place) = (String::from_utf8_lossy(known), String::from_utf8_lossy(&place));
        tracing::warn!(
            %known,
            %place,
            sessions,
            "the database was restored or has failed over: its streams have new epochs"
        );
    }
    let page_tokens = key(&transaction, "page_token_key").await?;
    let replicas = key(&transaction, "replica_key").await?;
    save(&transaction, &place, &page_tokens).await?;
    let sql = "INSERT INTO identity (name, value) VALUES ('replica_key', $1)
         ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value";
    transaction.execute(sql, &[&replicas.as_slice()]).await?;
    transaction.commit().await?;
    Ok(Keys { page_tokens: PageTokenKey::new(&page_tokens), replicas })
}

/// Returns a key of the store, or a new one if it has none.
async fn key(transaction: &Transaction<'_>, name: &str) -> Result<[u8; 32], PostgresError> {
    let stored = value(transaction, name).await?;
    let stored = stored.and_then(|key| <[u8; 32]>::try_from(key).ok());
    Ok(stored.unwrap_or_else(|| rand::rng().random()))
}

/// Gives the store the page token key of another one, of which it is a copy.
pub(super) async fn adopt(
    transaction: &Transaction<'_>,
    page_token_key: &[u8; 32],
) -> Result<(), PostgresError> {
    let place = place(transaction).await?;
    save(transaction, &place, page_token_key).await
}

async fn save(
    transaction: &Transaction<'_>,
    place: &[u8],
    page_token_key: &[u8; 32],
) -> Result<(), PostgresError> {
    let save = "INSERT INTO identity (name, value) VALUES ('place', $1), ('page_token_key', $2)
         ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value";
    transaction.execute(save, &[&place, &page_token_key.as_slice()]).await?;
    Ok(())
}

async fn place(transaction: &Transaction<'_>) -> Result<Vec<u8>, PostgresError> {
    // A log file is named by its timeline, in 8 digits.
    let sql = "SELECT system_identifier::text || ' ' || oid::text || ' '
             || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)
         FROM pg_control_system(), pg_database WHERE datname = current_database()";
    let place: String = get(&transaction.query_one(sql, &[]).await?, 0)?;
    Ok(place.into_bytes())
}

async fn value(
    transaction: &Transaction<'_>,
    name: &str,
) -> Result<Option<Vec<u8>>, PostgresError> {
    let sql = "SELECT value FROM identity WHERE name = $1";
    let row = transaction.query_opt(sql, &[&name]).await?;
    row.map(|row| get(&row, 0)).transpose()
}

/// Gives all sessions new epochs, and returns their number.
async fn change_epochs(transaction: &Transaction<'_>) -> Result<u64, PostgresError> {
    transaction.execute("UPDATE sessions SET former_head = head", &[]).await?;
    let skip = "UPDATE counters SET value = value + $1 WHERE name = 'change'";
    transaction.execute(skip, &[&number(CHANGES_SKIPPED)]).await?;
    let skip = "UPDATE calls SET change_number = change_number + $1";
    transaction.execute(skip, &[&number(CHANGES_SKIPPED)]).await?;
    let (mut last, mut changed) = (i64::MIN, 0);
    loop {
        let sql = "SELECT session_key, body FROM session_bodies WHERE session_key > $1
             ORDER BY session_key LIMIT $2";
        let rows = transaction.query(sql, &[&last, &SESSIONS_PER_READ]).await?;
        let (mut keys, mut bodies) = (Vec::new(), Vec::new());
        for row in &rows {
            last = get(row, 0)?;
            // A session that cannot be read has no readers.
            let Some(body) = with_new_epoch(get(row, 1)?) else { continue };
            keys.push(last);
            bodies.push(body);
        }
        if rows.is_empty() {
            return Ok(changed);
        }
        changed += keys.len() as u64;
        let save = "UPDATE session_bodies AS b SET body = n.body
             FROM unnest($1::bigint[], $2::text[]) AS n (key, body) WHERE b.session_key = n.key";
        transaction.execute(save, &[&keys, &bodies]).await?;
    }
}
