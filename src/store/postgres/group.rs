//! A group of appends on its way into one transaction: checked and applied in memory, in order, so
//! that each sees the ones before it, and one that is refused leaves nothing.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::columns::call_uuid;
use super::load::{CallRow, Loaded};
use crate::model::{Call, CallId, FollowUp, Session, SessionId, Timestamp};
use crate::store::prepared::Prepared;
use crate::store::rules::{self, OutputCounts};
use crate::store::session_row::SessionRow;
use crate::store::{RequestRecord, StoreError, StoredEvent, StoredMessage, record};

/// The rows that a group writes: each once, in its last state.
#[derive(Debug, Default)]
pub(super) struct Writes<'a> {
    /// The sessions, by their keys.
    pub(super) sessions: BTreeMap<i64, SessionWrite<'a>>,
    /// The events, each with the key of its session and its checksum.
    pub(super) events: Vec<(i64, &'a StoredEvent, u32)>,
    pub(super) outputs: BTreeMap<CallId, OutputCounts>,
    pub(super) calls: HashMap<CallId, CallWrite<'a>>,
    pub(super) deleted_calls: Vec<uuid::Uuid>,
    /// The messages, each with the key of its session.
    pub(super) messages: Vec<(i64, &'a StoredMessage)>,
    pub(super) follow_ups: BTreeMap<CallId, FollowUpWrite<'a>>,
    pub(super) requests: Vec<RequestWrite<'a>>,
}

impl Writes<'_> {
    /// Returns the sessions whose bodies are written, with their lengths.
    pub(super) fn bodies(&self) -> Vec<(Session, usize)> {
        let bodies = self.sessions.values().filter_map(|write| {
            let body = write.body.as_ref()?;
            Some((write.session.clone(), body.len()))
        });
        bodies.collect()
    }
}

#[derive(Debug)]
pub(super) struct SessionWrite<'a> {
    pub(super) is_new: bool,
    pub(super) session: &'a Session,
    pub(super) update_time: Timestamp,
    pub(super) row: SessionRow,
    /// The session as JSON, or `None` if it has not changed.
    pub(super) body: Option<String>,
}

#[derive(Debug)]
pub(super) struct CallWrite<'a> {
    pub(super) session_key: i64,
    pub(super) call: &'a Call,
    pub(super) change: u64,
    pub(super) body: &'a str,
}

#[derive(Debug)]
pub(super) struct FollowUpWrite<'a> {
    /// The place among the follow-ups of the group, by their first storing.
    pub(super) place: i64,
    pub(super) session_key: i64,
    pub(super) record: &'a FollowUp,
    pub(super) body: &'a str,
    /// The task of a new follow-up.
    pub(super) task: Option<&'a str>,
}

#[derive(Debug)]
pub(super) struct RequestWrite<'a> {
    pub(super) record: &'a RequestRecord,
    pub(super) effect: &'a str,
    /// The call with which the request is kept, if it exists.
    pub(super) call_id: Option<CallId>,
    /// The session with which the request is kept, if it exists.
    pub(super) session_id: Option<SessionId>,
}

/// A group that is applied append by append.
pub(super) struct Group<'a> {
    state: Loaded,
    /// The calls that appends of the group have deleted.
    deleted: HashSet<CallId>,
    writes: Writes<'a>,
    /// Returns whether the stored body of a session is known to be this one.
    is_written: &'a dyn Fn(&Session) -> bool,
}

impl<'a> Group<'a> {
    pub(super) fn new(state: Loaded, is_written: &'a dyn Fn(&Session) -> bool) -> Self {
        Self { state, deleted: HashSet::new(), writes: Writes::default(), is_written }
    }

    /// Returns the rows to write, and the newest change number.
    pub(super) fn finish(self) -> (Writes<'a>, u64) {
        (self.writes, self.state.change)
    }

    /// Checks and applies one append. One that is refused has no effect.
    pub(super) fn apply(&mut self, prepared: &'a Prepared) -> Result<(), StoreError> {
        self.check(prepared)?;
        let append = &prepared.append;
        let body = self.body(&append.session)?;
        let known = self.state.sessions.get(&append.session_id).copied();
        let mut row = match known {
            Some(row) => row,
            None => self.create_session()?,
        };
        for (event, checksum) in append.events.iter().zip(&prepared.checksums) {
            self.writes.events.push((row.key, event, *checksum));
            self.count_output(event);
        }
        row.head = row.head.saturating_add(append.events.len() as u64);
        for (call, body) in append.calls.iter().zip(&prepared.call_bodies) {
            self.put_call(&mut row, call, body);
        }
        for id in &append.deleted_calls {
            self.delete_call(&mut row, *id);
        }
        self.writes.messages.extend(append.messages.iter().map(|message| (row.key, message)));
        for (put, bodies) in append.follow_ups.iter().zip(&prepared.follow_ups) {
            self.put_follow_up(&mut row, &put.record, &bodies.record, bodies.task.as_deref());
        }
        self.state.sessions.insert(append.session_id, row);
        for (record, effect) in append.requests.iter().zip(&prepared.effects) {
            self.put_request(record, effect);
        }
        self.put_session(prepared, row, known.is_none(), body);
        Ok(())
    }

    fn check(&self, prepared: &Prepared) -> Result<(), StoreError> {
        let append = &prepared.append;
        if self.state.foreign.contains(&append.session_id) {
            return Err(StoreError::NotOwner);
        }
        if self.state.is_dead && append.expected_head.is_none() {
            return Err(StoreError::Unavailable("the server has lost its lease".to_owned()));
        }
        let row = self.state.sessions.get(&append.session_id);
        let head = row.map(|row| row.head);
        rules::check_append(append, head)?;
        let is_own = |call: &Call| {
            let known = self.state.calls.get(&call.id);
            known.is_none_or(|known| row.is_some_and(|row| row.key == known.session_key))
        };
        if !append.calls.iter().all(is_own) {
            return Err(StoreError::Conflict { head });
        }
        let owner = |id| Ok::<_, StoreError>(self.state.follow_ups.get(&id).copied());
        rules::check_follow_ups(append, head, owner)?;
        rules::check_requests(append)?;
        let is_taken = |request: &&RequestRecord| {
            let key = (request.tenant.as_str().to_owned(), request.request_id.clone());
            self.state.requests.contains(&key)
        };
        match append.requests.iter().find(is_taken) {
            Some(taken) => Err(StoreError::RequestTaken { request_id: taken.request_id.clone() }),
            None => Ok(()),
        }
    }

    /// Returns the session as JSON, or `None` if it is stored or written by this group.
    fn body(&self, session: &Session) -> Result<Option<String>, StoreError> {
        let row = self.state.sessions.get(&session.id);
        let written = row.and_then(|row| self.writes.sessions.get(&row.key));
        let is_written = match written {
            Some(write) => write.session == session,
            None => row.is_some() && (self.is_written)(session),
        };
        if is_written { Ok(None) } else { record::encode(session).map(Some) }
    }

    fn create_session(&mut self) -> Result<SessionRow, StoreError> {
        let missing = || StoreError::Unavailable("a new session has no key".to_owned());
        let key = self.state.new_keys.pop().ok_or_else(missing)?;
        Ok(SessionRow { key, head: 0, first: 1, live: 0, calls: 0 })
    }

    fn put_session(
        &mut self,
        prepared: &'a Prepared,
        row: SessionRow,
        is_new: bool,
        body: Option<String>,
    ) {
        let earlier = self.writes.sessions.remove(&row.key);
        let was_new = earlier.as_ref().is_some_and(|write| write.is_new);
        let write = SessionWrite {
            is_new: is_new || was_new,
            session: &prepared.append.session,
            update_time: prepared.update_time,
            row,
            body: body.or_else(|| earlier.and_then(|write| write.body)),
        };
        self.writes.sessions.insert(row.key, write);
    }

    fn count_output(&mut self, event: &StoredEvent) {
        let (Some(id), Some((position, length))) = (event.call_id, &event.output) else { return };
        let counts = self.state.outputs.entry(id).or_default();
        counts.add(position, *length);
        self.writes.outputs.insert(id, *counts);
    }

    fn put_call(&mut self, session: &mut SessionRow, call: &'a Call, body: &'a str) {
        self.state.change = self.state.change.saturating_add(1);
        let live = !call.state.is_terminal();
        let row = CallRow { session_key: session.key, live };
        let known = self.state.calls.insert(call.id, row);
        let was_live = known.is_some_and(|known| known.live);
        session.calls = session.calls.saturating_add(u64::from(known.is_none()));
        session.live = session.live.saturating_add(u64::from(live && !was_live));
        session.live = session.live.saturating_sub(u64::from(was_live && !live));
        let (session_key, change) = (session.key, self.state.change);
        self.writes.calls.insert(call.id, CallWrite { session_key, call, change, body });
    }

    /// Deletes a call. Requests about it stay until they are old, so that a retry gets the same
    /// answer.
    fn delete_call(&mut self, session: &mut SessionRow, id: CallId) {
        let Some(known) = self.state.calls.get(&id).copied() else { return };
        if known.session_key != session.key {
            return;
        }
        self.state.calls.remove(&id);
        self.state.outputs.remove(&id);
        session.calls = session.calls.saturating_sub(1);
        session.live = session.live.saturating_sub(u64::from(known.live));
        self.writes.calls.remove(&id);
        self.writes.outputs.remove(&id);
        if self.deleted.insert(id) {
            self.writes.deleted_calls.push(call_uuid(id));
        }
    }

    fn put_follow_up(
        &mut self,
        session: &mut SessionRow,
        record: &'a FollowUp,
        body: &'a str,
        task: Option<&'a str>,
    ) {
        let id = record.call_id;
        let known = self.state.follow_ups.insert(id, record.session_id);
        session.calls = session.calls.saturating_add(u64::from(known.is_none()));
        let place = i64::try_from(self.writes.follow_ups.len()).unwrap_or(i64::MAX);
        let task = task.filter(|_| known.is_none());
        let session_key = session.key;
        let new = FollowUpWrite { place, session_key, record, body, task };
        let write = self.writes.follow_ups.entry(id).or_insert(new);
        // A later change keeps the place and the task of the first one.
        (write.record, write.body) = (record, body);
    }

    fn put_request(&mut self, record: &'a RequestRecord, effect: &'a str) {
        let call_id = record.effect.call_id();
        let session_id = record.effect.created_session();
        self.state.requests.insert((record.tenant.as_str().to_owned(), record.request_id.clone()));
        self.writes.requests.push(RequestWrite {
            record,
            effect,
            call_id: call_id.filter(|id| self.state.calls.contains_key(id)),
            session_id: session_id.filter(|id| self.state.sessions.contains_key(id)),
        });
    }
}
