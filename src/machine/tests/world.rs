//! A session without a server, which records what each command leads to.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::{
    Cancel, Change, Close, Command, Decision, Effect, Finish, Projection, Refusal, Reply, Settings,
    Start, Written, decide,
};
use super::checks;
use crate::model::{
    Call, CallId, Event, Exit, FollowUp, Payload, PayloadKind, Session, SessionId, State,
    TaskLimitPolicy, Tenant, Timestamp, ToolKind, ToolResult,
};

pub(super) const GRACE: Duration = Duration::from_secs(5);
pub(super) const RETENTION: Duration = Duration::from_secs(3600);
pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// The changes, effects and events of the last command.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) changes: Vec<Change>,
    pub(super) effects: Vec<Effect>,
    pub(super) events: Vec<Event>,
}

/// A session, its log, and the records of its calls.
#[derive(Debug)]
pub(super) struct World {
    pub(super) projection: Projection,
    pub(super) now: Timestamp,
    pub(super) log: Vec<Event>,
    pub(super) settled: BTreeMap<CallId, Call>,
    /// Follow-ups as they are stored.
    pub(super) follow_ups: BTreeMap<CallId, FollowUp>,
    /// Every call that was accepted, oldest first.
    pub(super) accepted: Vec<CallId>,
    pub(super) last: Step,
    ids: u128,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with_limit(32, TaskLimitPolicy::Reject)
    }

    pub(super) fn with_limit(max_live_tasks: u32, task_limit_policy: TaskLimitPolicy) -> Self {
        let now = Timestamp::from_micros(1_000_000);
        let session = Session { max_live_tasks, task_limit_policy, ..new_session(now) };
        let settings = Settings {
            grace: GRACE,
            retention: RETENTION,
            follow_up_delay: Duration::from_secs(1),
            run_owner: None,
        };
        Self {
            projection: Projection::new(session, Vec::new(), settings),
            now,
            log: Vec::new(),
            settled: BTreeMap::new(),
            follow_ups: BTreeMap::new(),
            accepted: Vec::new(),
            last: Step::default(),
            ids: 0,
        }
    }

    /// Decides a command, applies its changes, and checks every invariant.
    pub(super) fn send(&mut self, command: Command) -> Result<Reply, Refusal> {
        // Nothing happens at the very same moment, so an order by time is an order.
        self.now = self.now.saturating_add(Duration::from_millis(1));
        let decision = decide(&self.projection, command.clone(), self.now);
        checks::check_pure(&self.projection, &command, self.now, &decision);
        checks::check_refused_changes_nothing(&decision);
        checks::check_stops_are_allowed(&self.projection, &command, &decision);
        let Decision { changes, effects, reply } = decision;
        let mut written = Written::default();
        for change in &changes {
            let before = self.projection.clone();
            if let Change::Accepted { call, .. } = change {
                self.accepted.push(call.id);
            }
            self.projection.apply(change.clone(), self.now, &mut written);
            checks::check_moves(&before, &self.projection, &written);
        }
        let events = written.events;
        for event in &events {
            checks::check_event_follows(&self.log, event);
            self.log.push(event.clone());
        }
        for call in written.settled {
            checks::check_settled(&call, &self.log);
            self.settled.insert(call.id, call);
        }
        for put in written.follow_ups {
            let id = put.record.call_id;
            let before = self.follow_ups.insert(id, put.record);
            assert_eq!(before.is_none(), put.task.is_some(), "a new follow-up has its task");
        }
        for id in written.deleted {
            self.settled.remove(&id);
        }
        self.last = Step { changes, effects, events };
        checks::check_counts(self);
        reply
    }

    /// A call to start in the foreground, with a slot.
    pub(super) fn call(&mut self, tool: &str) -> Start {
        self.ids += 1;
        let call_id = CallId::from_bytes(self.ids.to_be_bytes());
        Start { arguments_bytes: 2, has_slot: true, ..Start::new(call_id, tool, ToolKind::Command) }
    }

    /// A task to start in the background, with a slot.
    pub(super) fn task(&mut self, tool: &str) -> Start {
        Start { background: true, ..self.call(tool) }
    }

    /// A task to start in the background, without a slot.
    pub(super) fn waiting_task(&mut self, tool: &str) -> Start {
        Start { has_slot: false, ..self.task(tool) }
    }

    pub(super) fn try_start(&mut self, start: Start) -> Result<CallId, Refusal> {
        let id = start.call_id;
        self.send(Command::Start(Box::new(start))).map(|_| id)
    }

    /// Starts a call that nothing refuses.
    pub(super) fn start(&mut self, start: Start) -> CallId {
        self.try_start(start).expect("the call is accepted")
    }

    pub(super) fn begin(&mut self, call_id: CallId) {
        assert_eq!(self.send(Command::Begin { call_id }), Ok(Reply::Done));
    }

    /// Ends the run by itself, without an error.
    pub(super) fn succeed(&mut self, call_id: CallId) {
        assert_eq!(self.finish(call_id, exited(0), false), Ok(Reply::Done));
    }

    /// Ends the run because it was asked to stop.
    pub(super) fn stop(&mut self, call_id: CallId) {
        let result = ToolResult { exit: Some(Exit::Signal(15)), ..exited(143) };
        assert_eq!(self.finish(call_id, result, true), Ok(Reply::Done));
    }

    pub(super) fn finish(
        &mut self,
        call_id: CallId,
        result: ToolResult,
        stopped: bool,
    ) -> Result<Reply, Refusal> {
        let finish = Finish { call_id, result, stopped, survivors: Vec::new() };
        self.send(Command::Finish(Box::new(finish)))
    }

    pub(super) fn cancel(&mut self, call_id: CallId) -> Result<Reply, Refusal> {
        self.send(Command::Cancel(cancel(call_id)))
    }

    pub(super) fn close(&mut self) -> Result<Reply, Refusal> {
        let close = Close { requested_by: "anna".into(), reason: "enough".into() };
        self.send(Command::Close(close))
    }

    /// Advances the time.
    pub(super) fn later(&mut self, span: Duration) {
        self.now = self.now.saturating_add(span);
    }

    /// Returns the record of a call, live or not.
    pub(super) fn record(&self, id: CallId) -> &Call {
        let live = self.projection.call(id);
        live.or_else(|| self.settled.get(&id)).expect("the call is known")
    }

    pub(super) fn state(&self, id: CallId) -> State {
        self.record(id).state
    }

    pub(super) fn session_id(&self) -> SessionId {
        self.projection.session.id
    }

    pub(super) fn is_live(&self, id: CallId) -> bool {
        self.projection.call(id).is_some()
    }

    /// Returns the kinds of the events that the last command emitted for a call.
    pub(super) fn emitted(&self, id: CallId) -> Vec<PayloadKind> {
        let events = self.last.events.iter().filter(|event| event.call_id == Some(id));
        events.map(|event| event.payload.kind()).collect()
    }

    /// Returns the calls that the last command asked to stop, and whether each was evicted, in order.
    pub(super) fn asked_to_stop(&self) -> Vec<(CallId, bool)> {
        let asked = |event: &Event| match (&event.payload, event.call_id) {
            (Payload::ToolCallCancelling { evicted, .. }, Some(id)) => Some((id, *evicted)),
            _ => None,
        };
        self.last.events.iter().filter_map(asked).collect()
    }

    pub(super) fn has_effect(&self, effect: &Effect) -> bool {
        self.last.effects.contains(effect)
    }
}

/// Returns the result of a process that ended with this exit code.
pub(super) fn exited(code: i32) -> ToolResult {
    ToolResult { is_error: code != 0, exit: Some(Exit::Code(code)), ..ToolResult::default() }
}

pub(super) fn cancel(call_id: CallId) -> Cancel {
    Cancel::new(call_id, "anna", "wrong branch", Duration::from_secs(2))
}

fn new_session(now: Timestamp) -> Session {
    Session::new(SessionId::from_bytes([7; 16]), Tenant::new("tenant"), "epoch", now)
}
