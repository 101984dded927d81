//! Expiry in memory.

use super::{MemoryState, SessionLog};
use crate::model::{CallId, SessionId, SessionState, Tenant};
use crate::store::{Expired, ExpiryPolicy, rules::OutputCounts};

impl MemoryState {
    pub(super) fn expire(&mut self, policy: &ExpiryPolicy) -> Expired {
        let mut budget = policy.rows_max.max(1) as usize;
        let mut gone = Expired::default();
        self.expire_calls(policy, &mut budget, &mut gone);
        self.expire_follow_ups(policy, &mut budget, &mut gone);
        self.expire_sessions(policy, &mut budget, &mut gone);
        self.expire_requests(policy, &mut budget, &mut gone);
        self.trim_logs(policy, &mut budget, &mut gone);
        gone.more = self.expired_call(policy).is_some()
            || self.expired_follow_up(policy).is_some()
            || self.expired_session(policy).is_some()
            || self.expired_request(policy).is_some()
            || self.long_log(policy).is_some();
        gone
    }

    /// A call's requests go first: when the budget ends among them the call is still found in
    /// the next round.
    fn expire_calls(&mut self, policy: &ExpiryPolicy, budget: &mut usize, gone: &mut Expired) {
        while *budget > 0
            && let Some(id) = self.expired_call(policy)
        {
            let about = self.requests.iter().filter(|(_, kept)| kept.call_id == Some(id));
            let keys: Vec<_> = about.map(|(key, _)| key.clone()).take(*budget).collect();
            keys.iter().for_each(|key| drop(self.requests.remove(key)));
            *budget -= keys.len();
            gone.requests += keys.len() as u64;
            if *budget > 0 {
                self.forget_call(id);
                *budget -= 1;
                gone.calls += 1;
            }
        }
    }

    fn expire_follow_ups(&mut self, policy: &ExpiryPolicy, budget: &mut usize, gone: &mut Expired) {
        while *budget > 0
            && let Some(id) = self.expired_follow_up(policy)
        {
            self.follow_ups.remove(&id);
            *budget -= 1;
            gone.follow_ups += 1;
        }
    }

    fn expire_sessions(&mut self, policy: &ExpiryPolicy, budget: &mut usize, gone: &mut Expired) {
        while *budget > 0
            && let Some(id) = self.expired_session(policy)
        {
            *budget -= self.trim(id, *budget);
            let mut empty = true;
            if let Some(log) = self.sessions.get_mut(&id) {
                let count = log.messages.len().min(*budget);
                log.messages.drain(..count);
                *budget -= count;
                empty = log.events.is_empty() && log.messages.is_empty();
            }
            if *budget > 0 && empty {
                self.sessions.remove(&id);
                for kept in self.requests.values_mut().filter(|kept| kept.session_id == Some(id)) {
                    kept.session_id = None;
                }
                *budget -= 1;
                gone.sessions += 1;
            }
        }
    }

    fn expire_requests(&mut self, policy: &ExpiryPolicy, budget: &mut usize, gone: &mut Expired) {
        while *budget > 0
            && let Some(key) = self.expired_request(policy)
        {
            self.requests.remove(&key);
            *budget -= 1;
            gone.requests += 1;
        }
    }

    fn trim_logs(&mut self, policy: &ExpiryPolicy, budget: &mut usize, gone: &mut Expired) {
        while *budget > 0
            && let Some((id, excess)) = self.long_log(policy)
        {
            let trimmed = self.trim(id, excess.min(*budget));
            *budget -= trimmed;
            gone.events += trimmed as u64;
        }
    }

    /// Removes so many of the oldest events, or all, with what output remembers of them.
    fn trim(&mut self, id: SessionId, count: usize) -> usize {
        let Some(SessionLog { session, events, .. }) = self.sessions.get_mut(&id) else { return 0 };
        let count = count.min(events.len());
        session.first_sequence += count as u64;
        for event in events.drain(..count) {
            let output = event.call_id.and_then(|id| self.outputs.get_mut(&id));
            if let (Some(output), Some((position, length))) = (output, event.output) {
                OutputCounts::trim(&mut output.counts, position.stream, length);
                output.sequences.pop_front();
            }
        }
        count
    }

    fn expired_call(&self, policy: &ExpiryPolicy) -> Option<CallId> {
        let calls = self.calls.values().map(|entry| &entry.call);
        let ended = calls.filter(|call| call.state.is_terminal());
        let due = |time| time <= policy.now;
        ended.filter(|call| call.expire_time.is_some_and(due)).map(|call| call.id).next()
    }

    fn expired_follow_up(&self, policy: &ExpiryPolicy) -> Option<CallId> {
        let records = self.follow_ups.values().map(|stored| &stored.follow_up.record);
        let due = |time| time <= policy.now;
        let mut expired = records.filter(|record| record.expire_time.is_some_and(due));
        expired.next().map(|record| record.call_id)
    }

    fn expired_session(&self, policy: &ExpiryPolicy) -> Option<SessionId> {
        let sessions = self.sessions.values().map(|log| &log.session);
        let old = sessions.filter(|session| {
            (session.state == SessionState::Closed || session.implicit)
                && session.update_time < policy.older_than
        });
        let holds_call = |id| self.calls.values().any(|entry| entry.call.session_id == id);
        let holds_follow_up =
            |id| self.follow_ups.values().any(|stored| stored.follow_up.record.session_id == id);
        let mut empty = old.filter(|session| !holds_call(session.id));
        empty.find(|session| !holds_follow_up(session.id)).map(|session| session.id)
    }

    fn expired_request(&self, policy: &ExpiryPolicy) -> Option<(Tenant, String)> {
        let mut requests = self.requests.iter();
        let old = requests.find(|(_, kept)| {
            kept.call_id.is_none()
                && kept.session_id.is_none()
                && kept.record.create_time < policy.older_than
        });
        old.map(|(key, _)| key.clone())
    }

    /// A log that holds too many events, and how many too many.
    fn long_log(&self, policy: &ExpiryPolicy) -> Option<(SessionId, usize)> {
        let max = usize::try_from(policy.session_events_max).unwrap_or(usize::MAX);
        let lengths = self.sessions.iter().map(|(id, log)| (*id, log.events.len()));
        lengths.filter(|(_, length)| *length > max).map(|(id, length)| (id, length - max)).next()
    }
}
