//! The identity of a store: its random name, its keys, and the number of its commits.

use rand::RngExt as _;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::columns::{SqlU64, count};
use super::continuity::DatabaseState;
use crate::store::PageTokenKey;
use crate::store::session_row::{CHANGES_SKIPPED, with_new_epoch};

/// The sessions that are read at a time when epochs change.
const SESSIONS_PER_READ: u32 = 500;

/// The identity of an open store.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) state: DatabaseState,
    /// The key of page tokens.
    pub(super) page_token_key: PageTokenKey,
}

impl Identity {
    /// Reads the identity, or returns `None` if the store has none yet.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        let Some(store_id) = value(connection, "store_id")? else { return Ok(None) };
        let Some(page_token_key) = value(connection, "page_token_key")? else { return Ok(None) };
        let commit = counter(connection, "commit")?;
        let is_clean = counter(connection, "clean")? != 0;
        let state = DatabaseState { store_id, commit, is_clean };
        Ok(Some(Self { state, page_token_key: PageTokenKey::new(&page_token_key) }))
    }

    /// Gives a store a new identity.
    pub(super) fn create(connection: &Connection) -> rusqlite::Result<Self> {
        let mut random = rand::rng();
        let (store_id, page_token_key): ([u8; 16], [u8; 32]) = (random.random(), random.random());
        connection.execute(
            "INSERT OR REPLACE INTO identity (name, value)
             VALUES ('store_id', ?1), ('page_token_key', ?2)",
            params![store_id, page_token_key],
        )?;
        let commit = counter(connection, "commit")?;
        let state = DatabaseState { store_id, commit, is_clean: true };
        Ok(Self { state, page_token_key: PageTokenKey::new(&page_token_key) })
    }

    /// Records whether the database holds all commits, in a commit of its own.
    pub(super) fn set_clean(
        &mut self,
        connection: &Connection,
        is_clean: bool,
    ) -> rusqlite::Result<()> {
        let commit = self.state.commit + 1;
        connection.execute(
            "UPDATE counters SET value = CASE name WHEN 'clean' THEN ?1 ELSE ?2 END
             WHERE name IN ('clean', 'commit')",
            params![is_clean, SqlU64(commit)],
        )?;
        self.state = DatabaseState { commit, is_clean, ..self.state };
        Ok(())
    }
}

/// Reads a part of the identity, or returns `None` if the store has none.
pub(super) fn value<const N: usize>(
    connection: &Connection,
    name: &str,
) -> rusqlite::Result<Option<[u8; N]>> {
    connection
        .query_row("SELECT value FROM identity WHERE name = ?1", [name], |row| row.get(0))
        .optional()
}

/// Reads a counter.
pub(super) fn counter(connection: &Connection, name: &str) -> rusqlite::Result<u64> {
    connection.query_row("SELECT value FROM counters WHERE name = ?1", [name], |row| count(row, 0))
}

/// Gives all sessions new epochs, and returns their number. Readers then start again, and watchers of
/// tasks get all of them once more.
///
/// The stored events keep the epoch of the time at which they were written. Readers of the store find
/// out from `former_epoch_events` which ones these are.
pub(super) fn change_epochs(connection: &mut Connection) -> rusqlite::Result<u64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute(
        "UPDATE counters SET value = (SELECT coalesce(max(key), 0) FROM events)
         WHERE name = 'former_epoch_events'",
        [],
    )?;
    transaction.execute(
        "UPDATE counters SET value = value + ?1 WHERE name = 'change'",
        [SqlU64(CHANGES_SKIPPED)],
    )?;
    transaction.execute(
        "UPDATE calls SET change_number = change_number + ?1",
        [SqlU64(CHANGES_SKIPPED)],
    )?;
    let sessions = change_epochs_of_sessions(&transaction)?;
    transaction.commit()?;
    Ok(sessions)
}

fn change_epochs_of_sessions(connection: &Connection) -> rusqlite::Result<u64> {
    let (mut last, mut changed) = (i64::MIN, 0);
    loop {
        let mut select = connection.prepare_cached(
            "SELECT session_key, body FROM session_bodies WHERE session_key > ?1
             ORDER BY session_key LIMIT ?2",
        )?;
        let rows = select.query_map(params![last, SESSIONS_PER_READ], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
        })?;
        let bodies: Vec<_> = rows.collect::<rusqlite::Result<_>>()?;
        let Some((key, _)) = bodies.last() else { return Ok(changed) };
        last = *key;
        for (key, body) in bodies {
            // A session that cannot be read has no readers.
            let Some(body) = with_new_epoch(&body) else { continue };
            connection
                .prepare_cached("UPDATE session_bodies SET body = ?2 WHERE session_key = ?1")?
                .execute(params![key, body])?;
            changed += 1;
        }
    }
}
