//! The database that the engines share: a store in memory beside the membership of replicas, with the rules
//! of PostgreSQL's (`src/store/postgres/ownership.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use callpark::model::{CallId, FollowUp, FollowUpState, SessionId, Timestamp};
use callpark::store::{
    Append, Claimed, DueFollowUps, DueQuery, DueScope, FollowUpQuery, MemoryStore, REPLICA_LEASE,
    RemoteChange, Renewed, Store as _, StoreError,
};
use futures::FutureExt as _;
use tokio::time::Instant;

use super::link::Link;
use super::tenant;

/// The time of the database at the start of a run, in microseconds since 1970.
const EPOCH_MICROS: i64 = 1_800_000_000_000_000;

/// The id of a replica.
pub type Id = u64;

/// A mistake of the database, which the invariants must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// An append is made whoever owns the session.
    UncheckedOwners,
    /// Some appends are acknowledged and not made.
    ForgottenAppends,
    /// The ids of requests are not stored.
    ForgottenRequests,
}

/// The number of appends of which one is forgotten.
const APPENDS_PER_FORGOTTEN: usize = 20;

/// The shared state, which outlives all engines.
pub struct Database {
    pub store: MemoryStore,
    began: Instant,
    mistake: Option<Mistake>,
    state: Mutex<State>,
    links: Mutex<Vec<Weak<Link>>>,
}

#[derive(Default)]
struct State {
    newest: Id,
    members: BTreeMap<Id, Member>,
    sessions: BTreeMap<SessionId, Owned>,
    record: Record,
}

/// All that was written and refused.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// The replicas that have appended to a session under one claim.
    pub writers: BTreeMap<(SessionId, u64), BTreeSet<Id>>,
    /// All calls that were ever stored.
    pub calls: BTreeSet<CallId>,
    /// Appends that were allowed.
    pub appends: usize,
    /// Appends that were refused because the session belongs to another replica.
    pub refused: usize,
    /// Replicas that were declared dead.
    pub dead: usize,
    /// Sessions that were taken over.
    pub taken_over: usize,
}

struct Member {
    home: usize,
    state: MemberState,
    lease_until: Timestamp,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum MemberState {
    Serving,
    Restarting,
    Gone,
}

#[derive(Default)]
struct Owned {
    owner: Option<Id>,
    claim: u64,
}

/// Returns the address of the engine of a site.
pub fn address(home: usize) -> String {
    format!("http://replica-{home}")
}

/// Returns the output of a future that never waits.
pub fn at_once<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the store in memory never waits")
}

impl Database {
    pub fn new(mistake: Option<Mistake>) -> Arc<Self> {
        let (state, links) = (Mutex::default(), Mutex::default());
        Arc::new(Self { store: MemoryStore::new(), began: Instant::now(), mistake, state, links })
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_micros(EPOCH_MICROS).saturating_add(self.began.elapsed())
    }

    pub fn record(&self) -> Record {
        self.state().record.clone()
    }

    pub fn sessions(&self) -> Vec<SessionId> {
        self.state().sessions.keys().copied().collect()
    }

    /// Lets a connection hear the changes that others make.
    pub fn listen(&self, link: &Arc<Link>) {
        self.links().push(Arc::downgrade(link));
    }

    /// Adds a server that starts. Its earlier starts are gone, and it has their sessions with live calls.
    pub fn join(&self, home: usize) -> Id {
        let id = self.register(home);
        let mut state = self.state();
        let State { members, sessions, .. } = &mut *state;
        for (session_id, owned) in sessions {
            let is_free = |owner: Id| members.get(&owner).is_none_or(|member| member.home == home);
            if self.live(*session_id) > 0 && owned.owner.is_none_or(is_free) {
                owned.take(id);
            }
        }
        id
    }

    /// Adds a server under a new id, after the loss of its lease.
    pub fn register(&self, home: usize) -> Id {
        let mut state = self.state();
        for member in state.members.values_mut().filter(|member| member.home == home) {
            member.state = MemberState::Gone;
        }
        state.newest += 1;
        let id = state.newest;
        let lease_until = self.now().saturating_add(REPLICA_LEASE);
        state.members.insert(id, Member { home, state: MemberState::Serving, lease_until });
        id
    }

    pub fn renew(&self, id: Id) -> Renewed {
        let (mut state, time) = (self.state(), self.now());
        let Some(member) = state.serving(id) else { return Renewed::Dead };
        member.lease_until = time.saturating_add(REPLICA_LEASE);
        let is_other = |(other, member): &(&Id, &Member)| {
            **other != id && member.state == MemberState::Serving && member.lease_until > time
        };
        let others = state.members.iter().filter(is_other);
        Renewed::Renewed { time, others: others.map(|(_, member)| address(member.home)).collect() }
    }

    pub fn claim(&self, id: Id, session_id: SessionId) -> Result<Claimed, StoreError> {
        let mut state = self.state();
        let is_serving = state.serving(id).is_some();
        let State { members, sessions, .. } = &mut *state;
        let Some(owned) = sessions.get_mut(&session_id) else { return Ok(Claimed::Missing) };
        let other = owned.owner.filter(|owner| *owner != id);
        let other = other.and_then(|owner| members.get(&owner));
        match other {
            Some(other) if other.state != MemberState::Gone => {
                Ok(Claimed::Other { address: address(other.home) })
            }
            _ if is_serving => Ok(Claimed::Own { claim: owned.take(id) }),
            // The owner is gone, and is still named.
            Some(other) => Ok(Claimed::Other { address: address(other.home) }),
            None => Err(StoreError::Unavailable("the server has lost its lease".to_owned())),
        }
    }

    pub fn release(&self, id: Id, session_id: SessionId, claim: u64) {
        let is_live = self.live(session_id) > 0;
        if let Some(owned) = self.state().sessions.get_mut(&session_id)
            && owned.owner == Some(id)
            && owned.claim == claim
            && !is_live
        {
            owned.owner = None;
        }
    }

    pub fn take_over(&self, id: Id, limit: u32) -> Vec<SessionId> {
        let (mut state, now) = (self.state(), self.now());
        if state.serving(id).is_none_or(|own| own.lease_until <= now) {
            return Vec::new();
        }
        let State { members, sessions, record, .. } = &mut *state;
        for member in members.values_mut() {
            if member.state != MemberState::Gone && member.lease_until < now {
                member.state = MemberState::Gone;
                record.dead += 1;
            }
        }
        let mut taken = Vec::new();
        for (session_id, owned) in sessions {
            let is_gone = |owner: Id| members.get(&owner).is_some_and(Member::is_gone);
            match owned.owner.is_some_and(is_gone) {
                true if self.live(*session_id) == 0 => owned.owner = None,
                true if taken.len() < limit as usize => {
                    owned.take(id);
                    taken.push(*session_id);
                }
                _ => {}
            }
        }
        record.taken_over += taken.len();
        taken
    }

    pub fn leave(&self, id: Id, restart: Duration) {
        let (mut state, now) = (self.state(), self.now());
        let State { members, sessions, .. } = &mut *state;
        let own = sessions.iter_mut().filter(|(_, owned)| owned.owner == Some(id));
        let mut has_live = false;
        for (session_id, owned) in own {
            match self.live(*session_id) {
                0 => owned.owner = None,
                _ => has_live = true,
            }
        }
        let Some(member) = members.get_mut(&id) else { return };
        if member.state == MemberState::Serving {
            let is_back = has_live && !restart.is_zero();
            member.state = if is_back { MemberState::Restarting } else { MemberState::Gone };
            member.lease_until = now.saturating_add(restart);
        }
    }

    /// Makes an append that was made under this id, or refuses it.
    pub fn append(&self, id: Id, mut append: Append) -> Result<(), StoreError> {
        let mut state = self.state();
        let session_id = append.session_id;
        let is_own = match state.sessions.get(&session_id) {
            Some(owned) => owned.owner == Some(id),
            None => state.serving(id).is_some(),
        };
        if !is_own && self.mistake != Some(Mistake::UncheckedOwners) {
            state.record.refused += 1;
            return Err(StoreError::NotOwner);
        }
        let calls: Vec<_> = append.calls.iter().map(|call| (call.id, call.is_task())).collect();
        let tenant = append.session.tenant.clone();
        let is_watched = calls.iter().any(|(_, is_task)| *is_task)
            || !append.deleted_calls.is_empty()
            || !append.follow_ups.is_empty();
        state.record.appends += 1;
        match self.mistake {
            Some(Mistake::ForgottenAppends)
                if state.record.appends.is_multiple_of(APPENDS_PER_FORGOTTEN) =>
            {
                return Ok(());
            }
            Some(Mistake::ForgottenRequests) => append.requests.clear(),
            _ => {}
        }
        at_once(self.store.append(append))?;
        let State { sessions, record, .. } = &mut *state;
        let owned = sessions
            .entry(session_id)
            .or_insert_with(|| Owned { owner: Some(id), ..Owned::default() });
        record.writers.entry((session_id, owned.claim)).or_default().insert(id);
        record.calls.extend(calls.into_iter().map(|(call_id, _)| call_id));
        drop(state);
        if is_watched {
            self.notify(id, &RemoteChange::Session(tenant, session_id));
        }
        Ok(())
    }

    /// Returns whether a session belongs to the replica.
    pub fn owns(&self, id: Id, session_id: SessionId) -> bool {
        self.state().sessions.get(&session_id).is_some_and(|owned| owned.owner == Some(id))
    }

    /// Returns due follow-ups as far as the replica can change them.
    pub fn due(&self, id: Id, query: DueQuery) -> Result<DueFollowUps, StoreError> {
        let (scope, limit) = (query.scope.clone(), query.limit as usize);
        let mut due = at_once(self.store.due_follow_ups(DueQuery { limit: u32::MAX, ..query }))?;
        let (state, now) = (self.state(), self.now());
        let owner = |session_id| state.sessions.get(&session_id).and_then(|owned| owned.owner);
        let is_present = |owner: Id| {
            state.members.get(&owner).is_none_or(|member| match member.state {
                MemberState::Serving => member.lease_until >= now,
                MemberState::Restarting => false,
                MemberState::Gone => true,
            })
        };
        due.records.retain(|record| match &scope {
            DueScope::Leased => owner(record.session_id).is_none_or(|owner| owner == id),
            DueScope::Lease(_, None) => owner(record.session_id).is_none_or(is_present),
            DueScope::Session(_) | DueScope::Lease(..) => true,
        });
        due.records.truncate(limit);
        Ok(due)
    }

    /// Returns what is not at rest: calls that have not ended, and follow-ups that are not delivered.
    pub fn unrest(&self) -> Vec<String> {
        let mut unrest = Vec::new();
        for session_id in self.sessions() {
            let live = at_once(self.store.live_calls(session_id)).expect("calls");
            for call in live {
                let owner = self.state().sessions.get(&session_id).and_then(|owned| owned.owner);
                unrest.push(format!(
                    "{} of `{}` is {}, attempt {}, in {session_id} of {owner:?}",
                    call.id,
                    call.tool,
                    call.state.as_str(),
                    call.attempt
                ));
            }
        }
        let query = FollowUpQuery {
            tenant: tenant(),
            session_id: None,
            states: vec![FollowUpState::Pending, FollowUpState::Leased],
            cursor: None,
            limit: 1_000,
        };
        let open = at_once(self.store.follow_ups(query)).expect("follow-ups").follow_ups;
        let name = |record: &FollowUp| {
            format!("the follow-up of {} is {}", record.call_id, record.state.as_str())
        };
        unrest.extend(open.iter().map(|follow_up| name(&follow_up.record)));
        unrest
    }

    /// Tells all but one replica of a change.
    fn notify(&self, from: Id, change: &RemoteChange) {
        for link in self.links().iter().filter_map(Weak::upgrade) {
            link.receive(from, change);
        }
    }

    /// The number of calls of a session that have not ended.
    fn live(&self, session_id: SessionId) -> u32 {
        let session = at_once(self.store.session(session_id)).expect("a session");
        session.map_or(0, |session| session.live_tasks)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    fn links(&self) -> MutexGuard<'_, Vec<Weak<Link>>> {
        self.links.lock().expect("no panic")
    }
}

impl State {
    fn serving(&mut self, id: Id) -> Option<&mut Member> {
        self.members.get_mut(&id).filter(|member| member.state == MemberState::Serving)
    }
}

impl Member {
    fn is_gone(&self) -> bool {
        self.state == MemberState::Gone
    }
}

impl Owned {
    fn take(&mut self, id: Id) -> u64 {
        self.owner = Some(id);
        self.claim += 1;
        self.claim
    }
}
