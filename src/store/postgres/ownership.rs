//! The statements by which replicas own sessions. All of them compare times of the database only.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::columns::{count, get, session_id, session_uuid};
use super::error::PostgresError;
use super::options::ReplicaOptions;
use crate::model::{SessionId, Tenant, Timestamp};
use crate::store::prepared::Prepared;
use crate::store::{Claimed, REPLICA_LEASE, Renewed, Replica, ReplicaId, ReplicaState};

/// Listens to the changes of other replicas.
pub(super) const LISTEN: &str = "LISTEN callpark";
/// Notifies the other replicas.
pub(super) const NOTIFY: &str = "SELECT pg_notify('callpark', $1)";
/// The size of the largest notification, in bytes. PostgreSQL takes less than 8,000.
const NOTIFICATION_BYTES_MAX: usize = 7_900;
/// The time for which a replica that is gone stays in its table.
const GONE_KEPT: &str = "interval '1 day'";

/// The attempts at a claim of a session that other replicas free meanwhile.
const CLAIM_ATTEMPTS_MAX: u32 = 3;

const SERVING: i16 = 1;
const RESTARTING: i16 = 2;
const GONE: i16 = 3;

fn lease_millis(lease: Duration) -> f64 {
    lease.as_secs_f64() * 1_000.0
}

/// Adds this server to the replicas. Claims the sessions with live calls of its earlier starts, and of a
/// server that had the database alone. Returns the id of a replica that has the same address, and does
/// nothing, if there is one.
pub(super) async fn join(
    client: &mut Client,
    id: Uuid,
    options: &ReplicaOptions,
) -> Result<Option<ReplicaId>, PostgresError> {
    let transaction = client.transaction().await?;
    let same = "SELECT id FROM replicas WHERE address = $1 AND home <> $2 AND state = 1
         AND lease_until > clock_timestamp()";
    if let Some(row) = transaction.query_opt(same, &[&options.address, &options.home]).await? {
        return Ok(Some(ReplicaId(get(&row, 0)?)));
    }
    // The data folder is locked: no server of an earlier start is there.
    let gone = "UPDATE replicas SET state = 3, lease_until = least(lease_until, clock_timestamp())
         WHERE home = $1 AND address = $2 AND state <> 3";
    transaction.execute(gone, &[&options.home, &options.address]).await?;
    insert(&transaction, id, options).await?;
    let claim = "UPDATE sessions SET owner = $1, claim = claim + 1 WHERE key IN (
             SELECT s.key FROM sessions s LEFT JOIN replicas r ON r.id = s.owner
             WHERE s.live > 0 AND (s.owner IS NULL OR r.home = $2 AND r.address = $3)
             ORDER BY s.id FOR UPDATE OF s)";
    transaction.execute(claim, &[&id, &options.home, &options.address]).await?;
    transaction.commit().await?;
    Ok(None)
}

/// Forgets all replicas: one server has the database alone.
pub(super) async fn forget_all(client: &Client) -> Result<(), PostgresError> {
    client.execute("UPDATE sessions SET owner = NULL WHERE owner IS NOT NULL", &[]).await?;
    client.execute("DELETE FROM replicas", &[]).await?;
    Ok(())
}

/// Adds this server to the replicas under a new id.
pub(super) async fn register(
    client: &mut Client,
    id: Uuid,
    options: &ReplicaOptions,
) -> Result<(), PostgresError> {
    let transaction = client.transaction().await?;
    let gone = "UPDATE replicas SET state = 3 WHERE home = $1 AND address = $2 AND state <> 3";
    transaction.execute(gone, &[&options.home, &options.address]).await?;
    insert(&transaction, id, options).await?;
    Ok(transaction.commit().await?)
}

async fn insert(
    transaction: &tokio_postgres::Transaction<'_>,
    id: Uuid,
    options: &ReplicaOptions,
) -> Result<(), PostgresError> {
    let insert = "INSERT INTO replicas (id, home, address, version, state, lease_until)
         VALUES ($1, $2, $3, $4, 1, clock_timestamp() + $5 * interval '1 millisecond')";
    let version = env!("CARGO_PKG_VERSION");
    let lease = lease_millis(REPLICA_LEASE);
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
        [&id, &options.home, &options.address, &version, &lease];
    transaction.execute(insert, &params).await?;
    // One that still has sessions is needed: by it they are found.
    let forget = format!(
        "DELETE FROM replicas WHERE state = 3 AND lease_until < now() - {GONE_KEPT}
             AND NOT EXISTS (SELECT FROM sessions s WHERE s.owner = replicas.id)"
    );
    transaction.execute(&forget, &[]).await?;
    Ok(())
}

/// Renews the lease of a replica that has not been declared dead, also if the lease has run out: then
/// no replica has taken anything of it.
pub(super) async fn renew(client: &Client, id: Uuid) -> Result<Renewed, PostgresError> {
    let renew = "UPDATE replicas SET
             lease_until = clock_timestamp() + $2 * interval '1 millisecond' WHERE id = $1 AND state = 1
         RETURNING (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    let Some(row) = client.query_opt(renew, &[&id, &lease_millis(REPLICA_LEASE)]).await? else {
        return Ok(Renewed::Dead);
    };
    let time = Timestamp::from_micros(get(&row, 0)?);
    let others = "SELECT address FROM replicas
         WHERE id <> $1 AND state = 1 AND lease_until > clock_timestamp()";
    let others = client.query(others, &[&id]).await?;
    let others = others.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?;
    Ok(Renewed::Renewed { time, others })
}

/// Declares the replicas dead whose leases have run out, frees their sessions that have nothing to do, and
/// claims the others, at most `limit` of each.
pub(super) async fn take_over(
    client: &mut Client,
    id: Uuid,
    limit: u32,
) -> Result<Vec<SessionId>, PostgresError> {
    let transaction = client.transaction().await?;
    // A replica that could not renew its lease does not judge others.
    let valid =
        "SELECT FROM replicas WHERE id = $1 AND state = 1 AND lease_until > clock_timestamp()
         FOR UPDATE";
    if transaction.query_opt(valid, &[&id]).await?.is_none() {
        return Ok(Vec::new());
    }
    let dead = "UPDATE replicas SET state = 3 WHERE id IN (
             SELECT id FROM replicas WHERE state <> 3 AND lease_until < clock_timestamp()
             ORDER BY id FOR UPDATE SKIP LOCKED)
         RETURNING id, address";
    for row in transaction.query(dead, &[]).await? {
        let (id, address) = (ReplicaId(get(&row, 0)?), get::<String>(&row, 1)?);
        tracing::warn!(replica = %id, address, "a replica is gone: its sessions are taken over");
    }
    // The index finds the sessions of each owner.
    let orphans = "SELECT s.key FROM sessions s
         WHERE s.owner IN (SELECT r.id FROM replicas r WHERE r.state = 3)";
    let free = format!(
        "UPDATE sessions SET owner = NULL WHERE key IN (
             {orphans} AND s.live = 0 LIMIT $1 FOR UPDATE SKIP LOCKED)"
    );
    transaction.execute(&free, &[&i64::from(limit)]).await?;
    let claim = format!(
        "UPDATE sessions SET owner = $1, claim = claim + 1 WHERE key IN (
             {orphans} AND s.live > 0 LIMIT $2 FOR UPDATE SKIP LOCKED)
         RETURNING id"
    );
    let rows = transaction.query(&claim, &[&id, &i64::from(limit)]).await?;
    let taken = rows.iter().map(|row| session_id(row, 0)).collect::<Result<_, _>>()?;
    transaction.commit().await?;
    Ok(taken)
}

/// Frees the sessions of a replica that have no live calls, and keeps the others for so long.
pub(super) async fn leave(
    client: &mut Client,
    id: Uuid,
    restart: Duration,
) -> Result<(), PostgresError> {
    let transaction = client.transaction().await?;
    let state = if restart.is_zero() { GONE } else { RESTARTING };
    // Nothing waits for a replica without calls.
    let leave = "UPDATE replicas SET
             state = CASE WHEN EXISTS (SELECT FROM sessions s WHERE s.owner = $1 AND s.live > 0)
                 THEN $2::smallint ELSE 3 END,
             lease_until = clock_timestamp() + $3 * interval '1 millisecond'
         WHERE id = $1 AND state = 1";
    transaction.execute(leave, &[&id, &state, &lease_millis(restart)]).await?;
    // In the order of their ids, as the writers of others lock them.
    let free = "UPDATE sessions SET owner = NULL WHERE key IN (
             SELECT s.key FROM sessions s WHERE s.owner = $1 AND s.live = 0
             ORDER BY s.id FOR UPDATE)";
    transaction.execute(free, &[&id]).await?;
    Ok(transaction.commit().await?)
}

/// Returns the replicas that are not gone, the oldest first.
pub(super) async fn list(client: &Client) -> Result<Vec<Replica>, PostgresError> {
    let list = "SELECT r.id, r.address, r.version, r.state,
             greatest(0, extract(epoch FROM clock_timestamp() - r.start_time) * 1000)::bigint,
             greatest(0, extract(epoch FROM r.lease_until - clock_timestamp()) * 1000)::bigint,
             count(s.key), coalesce(sum(s.live), 0)::bigint
         FROM replicas r LEFT JOIN sessions s ON s.owner = r.id
         WHERE r.state <> 3 GROUP BY r.id ORDER BY r.start_time, r.id";
    client.query(list, &[]).await?.iter().map(replica).collect()
}

fn replica(row: &Row) -> Result<Replica, PostgresError> {
    let state = match get(row, 3)? {
        SERVING => ReplicaState::Serving,
        RESTARTING => ReplicaState::Restarting,
        _ => ReplicaState::Gone,
    };
    Ok(Replica {
        id: ReplicaId(get(row, 0)?),
        address: get(row, 1)?,
        version: get(row, 2)?,
        state,
        age: Duration::from_millis(count(row, 4)?),
        lease: Duration::from_millis(count(row, 5)?),
        sessions: count(row, 6)?,
        live_calls: count(row, 7)?,
    })
}

/// Claims sessions, unless they belong to another replica that is not gone. There is no answer about those
/// that no replica has, and that this replica cannot have because it is gone.
pub(super) async fn claim(
    client: &ClientWrapper,
    id: Uuid,
    sessions: &[SessionId],
) -> Result<HashMap<SessionId, Claimed>, PostgresError> {
    let mut claimed = HashMap::new();
    for _ in 0..CLAIM_ATTEMPTS_MAX {
        let rest = sessions.iter().filter(|id| !claimed.contains_key(*id));
        let rest: Vec<Uuid> = rest.copied().map(session_uuid).collect();
        if rest.is_empty() {
            return Ok(claimed);
        }
        take(client, id, &rest, &mut claimed).await?;
        find_owners(client, id, &rest, &mut claimed).await?;
    }
    Ok(claimed)
}

/// Adds the sessions that this replica can have.
async fn take(
    client: &ClientWrapper,
    id: Uuid,
    sessions: &[Uuid],
    claimed: &mut HashMap<SessionId, Claimed>,
) -> Result<(), PostgresError> {
    // In the order of their ids, so that two replicas never wait for each other.
    let claim = "UPDATE sessions SET owner = $1, claim = claim + 1 WHERE key IN (
             SELECT key FROM sessions s WHERE s.id = ANY($2)
                 AND (s.owner IS NULL OR s.owner = $1 OR EXISTS (
                     SELECT FROM replicas r WHERE r.id = s.owner AND r.state = 3))
                 AND EXISTS (SELECT FROM replicas r WHERE r.id = $1 AND r.state = 1)
             ORDER BY s.id FOR UPDATE)
         RETURNING id, claim";
    let claim = client.prepare_cached(claim).await?;
    for row in client.query(&claim, &[&id, &sessions]).await? {
        claimed.insert(session_id(&row, 0)?, Claimed::Own { claim: count(&row, 1)? });
    }
    Ok(())
}

/// Adds the sessions that belong to others, and those that do not exist. One that another replica has
/// just freed is left out.
async fn find_owners(
    client: &ClientWrapper,
    id: Uuid,
    sessions: &[Uuid],
    claimed: &mut HashMap<SessionId, Claimed>,
) -> Result<(), PostgresError> {
    if sessions.iter().all(|id| claimed.contains_key(&SessionId::from_bytes(id.into_bytes()))) {
        return Ok(());
    }
    let owners = "SELECT w.id, s.id IS NULL, r.address
         FROM unnest($1::uuid[]) AS w (id) LEFT JOIN sessions s ON s.id = w.id
         LEFT JOIN replicas r ON r.id = s.owner AND r.id <> $2";
    let owners = client.prepare_cached(owners).await?;
    for row in client.query(&owners, &[&sessions, &id]).await? {
        let address: Option<String> = get(&row, 2)?;
        let found = match address {
            _ if get(&row, 1)? => Claimed::Missing,
            Some(address) => Claimed::Other { address },
            None => continue,
        };
        claimed.entry(session_id(&row, 0)?).or_insert(found);
    }
    Ok(())
}

/// Frees sessions, each unless it was claimed again since the claim with this number, or has live calls,
/// which no replica would take over.
pub(super) async fn release(
    client: &ClientWrapper,
    id: Uuid,
    sessions: &[(SessionId, u64)],
) -> Result<(), PostgresError> {
    let ids: Vec<Uuid> = sessions.iter().map(|(id, _)| session_uuid(*id)).collect();
    let claims: Vec<i64> =
        sessions.iter().map(|(_, claim)| super::columns::number(*claim)).collect();
    let release = "UPDATE sessions SET owner = NULL WHERE key IN (
             SELECT s.key FROM sessions s
             JOIN unnest($2::uuid[], $3::bigint[]) AS r (id, claim) ON r.id = s.id
             WHERE s.owner = $1 AND s.claim = r.claim AND s.live = 0
             ORDER BY s.id FOR UPDATE OF s)";
    let release = client.prepare_cached(release).await?;
    client.execute(&release, &[&id, &ids, &claims]).await?;
    Ok(())
}

/// The content of a notification.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The notification is of this replica.
    Own,
    /// These sessions have changed.
    Sessions(Vec<(Tenant, SessionId)>),
    /// Anything may have changed.
    Everything,
}

impl Change {
    /// Parses a notification: a line with the id of the replica, and one for each session with its id and
    /// tenant; without such lines it is about everything.
    pub(super) fn parse(payload: &str, own: Uuid) -> Self {
        let mut lines = payload.lines();
        if lines.next().is_some_and(|id| id == own.simple().to_string()) {
            return Self::Own;
        }
        let session = |line: &str| {
            let (id, tenant) = line.split_once(' ')?;
            let id = Uuid::try_parse(id).ok()?;
            Some((Tenant::new(tenant), SessionId::from_bytes(id.into_bytes())))
        };
        match lines.map(session).collect::<Option<Vec<_>>>() {
            Some(sessions) if !sessions.is_empty() => Self::Sessions(sessions),
            _ => Self::Everything,
        }
    }

    /// Returns the notification of appends, or `None` if they change nothing that a tenant watches.
    pub(super) fn of_appends<'a>(
        appends: impl Iterator<Item = &'a Prepared>,
        replica: Uuid,
    ) -> Option<String> {
        let mut sessions = BTreeSet::new();
        for Prepared { append, .. } in appends {
            let has_tasks = append.calls.iter().any(|call| call.is_task());
            if has_tasks || !append.deleted_calls.is_empty() || !append.follow_ups.is_empty() {
                let id = session_uuid(append.session_id);
                sessions.insert((id, append.session.tenant.as_str()));
            }
        }
        if sessions.is_empty() {
            return None;
        }
        let mut payload = replica.simple().to_string();
        for (id, tenant) in sessions {
            let line = format!("\n{} {tenant}", id.simple());
            // A line break in a name would be read as another line.
            if payload.len() + line.len() > NOTIFICATION_BYTES_MAX || tenant.contains('\n') {
                return Some(replica.simple().to_string());
            }
            payload.push_str(&line);
        }
        Some(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_is_read_by_others_only() {
        let (own, other) = (Uuid::new_v4(), Uuid::new_v4());
        let id = SessionId::random();
        let line = format!("{}\n{} a b", other.simple(), session_uuid(id).simple());
        assert_eq!(Change::parse(&line, other), Change::Own);
        assert_eq!(Change::parse(&line, own), Change::Sessions(vec![(Tenant::new("a b"), id)]));
        for all in [other.simple().to_string(), format!("{line}\nnonsense"), String::new()] {
            assert_eq!(Change::parse(&all, own), Change::Everything, "{all:?}");
        }
    }
}
