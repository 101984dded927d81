//! The application of changes: they become events and a new projection.

use std::collections::BTreeSet;

use super::{Change, Projection, Update};
use crate::model::{
    Call, CallAccepted, CallFinished, CallId, CancelCause, Cancellation, Event, FollowUpPut,
    Message, ParkReason, Payload, Progress, SessionState, State, StopCause, Stopping, Timestamp,
    ToolKind, TurnId,
};

/// The records that a series of changes has written, for the store.
#[derive(Debug, Default)]
pub struct Written {
    /// Events, in order.
    pub events: Vec<Event>,
    /// Live calls whose records have changed.
    pub changed: BTreeSet<CallId>,
    /// The records of calls that are no longer live.
    pub settled: Vec<Call>,
    /// Calls to remove.
    pub deleted: Vec<CallId>,
    /// Messages for the session's history with their numbers, from 1.
    pub messages: Vec<(u64, Message)>,
    /// Follow-ups that are new or have changed, in the order of their changes.
    pub follow_ups: Vec<FollowUpPut>,
    /// The kinds of the calls that were accepted.
    pub accepted: Vec<ToolKind>,
    /// The kinds of the calls that were parked.
    pub parked: Vec<ToolKind>,
    /// `true` if the settings of the session have changed.
    pub settings_changed: bool,
    /// `true` if anything was written, including the session's record.
    pub any: bool,
}

impl Projection {
    /// Applies a change. The cost depends only on the change.
    pub fn apply(&mut self, change: Change, now: Timestamp, written: &mut Written) {
        written.any = true;
        self.session.update_time = now;
        match change {
            Change::Accepted { call, arguments, arguments_bytes, stdin_bytes } => {
                let accepted = accepted(&call, arguments, arguments_bytes, stdin_bytes);
                self.emit(&call, Payload::ToolCallAccepted(Box::new(accepted)), now, written);
                self.insert(call, now, written);
            }
            Change::Began(id) => self.begin(id, now, written),
            Change::Restarted(id) => self.restart(id, now, written),
            Change::Output(id, output) => {
                self.emit_live(id, Payload::ToolOutput(output), now, written);
            }
            Change::OutputBlocked(id, cause) => {
                self.emit_live(id, Payload::ToolOutputBlocked { cause }, now, written);
            }
            Change::Progressed(id, progress) => self.progress(id, progress, now, written),
            Change::HandleKept(id, handle) => {
                self.edit(id, now, written, |call| call.work_handle = Some(handle));
            }
            Change::Turn(id, report) => self.report_turn(id, report, now, written),
            Change::Parked(id, reason) => self.park(id, reason, now, written),
            Change::Cancelling { call_id, cancellation, force } => {
                self.cancelling(call_id, cancellation, force, now, written);
            }
            Change::Stopping(id, cause) => self.edit(id, now, written, |call| {
                call.stopping.get_or_insert(Stopping { cause, time: now });
            }),
            Change::Interrupted(id, loss) => self.interrupt(id, loss, now, written),
            Change::Resumed(id) => self.resume(id, now, written),
            Change::Ended { call_id, state, reason, outcome, survivors, end_time } => {
                self.end(call_id, now, written, |call| {
                    call.end_time = Some(end_time);
                    call.state = state;
                    call.reason = reason;
                    call.outcome = Some(outcome);
                    if let Some(cancellation) = &mut call.cancellation {
                        cancellation.survivors = survivors;
                    }
                });
            }
            Change::Acknowledged(call) => written.settled.push(acknowledged(*call, now)),
            Change::FollowUp { record, event } => self.put_follow_up(*record, event, now, written),
            Change::FollowUpClaimed { call_id, record } => {
                self.claim_follow_up(call_id, *record, now, written)
            }
            Change::Updated(update) => self.update(update, now, written),
            Change::Deleted(id) => written.deleted.push(id),
            Change::Closing { reason, cancelled_tasks, detached_tasks } => {
                self.session.state = SessionState::Closing;
                self.session.close_time = Some(now);
                self.session.close_reason = reason;
                self.session.cancelled_tasks = cancelled_tasks;
                self.session.detached_tasks = detached_tasks;
            }
            Change::Closed => self.close(now, written),
        }
    }

    fn cancelling(
        &mut self,
        id: CallId,
        cancellation: Cancellation,
        force: bool,
        now: Timestamp,
        written: &mut Written,
    ) {
        let payload = Payload::ToolCallCancelling {
            requested_by: cancellation.requested_by.clone(),
            reason: cancellation.reason.clone(),
            force,
            evicted: cancellation.cause == CancelCause::Evicted,
        };
        self.edit(id, now, written, |call| {
            call.state = State::Cancelling;
            call.reason.clone_from(&cancellation.reason);
            call.cancellation = Some(cancellation);
            call.stopping.get_or_insert(Stopping { cause: StopCause::Cancel, time: now });
        });
        self.emit_live(id, payload, now, written);
    }

    fn insert(&mut self, mut call: Box<Call>, now: Timestamp, written: &mut Written) {
        call.accept_sequence = self.session.head_sequence;
        call.run_owner = self.settings.owner_of(&call);
        if call.state == State::Pending {
            self.pending += 1;
        }
        written.accepted.push(call.kind);
        let (id, is_running) = (call.id, call.state == State::Running);
        written.changed.insert(id);
        self.live.insert(id, call);
        self.count_live();
        if is_running {
            self.emit_started(id, now, written);
        }
    }

    fn progress(&mut self, id: CallId, progress: Progress, now: Timestamp, written: &mut Written) {
        self.edit(id, now, written, |call| call.progress = Some(progress.clone()));
        self.emit_live(id, Payload::ToolProgress(progress), now, written);
    }

    fn begin(&mut self, id: CallId, now: Timestamp, written: &mut Written) {
        let settings = self.settings;
        self.edit(id, now, written, |call| {
            call.state = State::Running;
            call.start_time = Some(now);
            call.run_owner = settings.owner_of(call);
        });
        self.emit_started(id, now, written);
    }

    /// Makes a call pending. If it has run, its next run is another attempt.
    fn restart(&mut self, id: CallId, now: Timestamp, written: &mut Written) {
        let Some(call) = self.live.get(&id) else { return };
        if call.state == State::Pending {
            return;
        }
        self.edit(id, now, written, |call| {
            call.state = State::Pending;
            call.start_time = None;
            call.attempt += 1;
            call.forget_run();
        });
    }

    fn emit_started(&mut self, id: CallId, now: Timestamp, written: &mut Written) {
        let Some(call) = self.live.get(&id) else { return };
        let payload = Payload::ToolCallStarted { tool: call.tool.clone(), kind: call.kind };
        self.emit_live(id, payload, now, written);
    }

    fn update(&mut self, update: Update, now: Timestamp, written: &mut Written) {
        let Update { requested_by, settings } = update;
        let fields = self.session.update(settings);
        written.settings_changed = true;
        let payload = Payload::SessionUpdated { fields, requested_by };
        self.push_event(EventHeader::default(), payload, now, written);
    }

    fn park(&mut self, id: CallId, reason: ParkReason, now: Timestamp, written: &mut Written) {
        self.edit(id, now, written, |call| {
            call.park_time = Some(now);
            call.park_reason = Some(reason);
        });
        let Some(call) = self.live.get(&id) else { return };
        written.parked.push(call.kind);
        let payload = Payload::ToolCallParked {
            tool: call.tool.clone(),
            reason,
            call_budget: call.policy.call_budget,
        };
        self.emit_live(id, payload, now, written);
    }

    fn end(
        &mut self,
        id: CallId,
        now: Timestamp,
        written: &mut Written,
        change: impl FnOnce(&mut Call),
    ) {
        let Some(mut call) = self.live.remove(&id) else { return };
        if call.state == State::Pending {
            self.pending -= 1;
        }
        change(&mut call);
        call.forget_run();
        call.expire_time = Some(now.saturating_add(self.settings.retention));
        if let (State::Cancelled, Some(cancellation)) = (call.state, &mut call.cancellation) {
            cancellation.acknowledged_time = Some(now);
        }
        touch(&mut call, now);
        if let Some(turn) = call.turn.take() {
            call.turn = Some(self.end_turn(&call, turn, now, written));
        }
        if let Some(finished) = finished(&call, now) {
            self.emit(&call, Payload::ToolCallFinished(Box::new(finished)), now, written);
        }
        self.schedule_follow_up(&call, now, written);
        written.changed.remove(&id);
        written.settled.push(*call);
        self.count_live();
    }

    fn close(&mut self, now: Timestamp, written: &mut Written) {
        self.session.state = SessionState::Closed;
        let payload = Payload::SessionShutdown {
            reason: self.session.close_reason.clone(),
            cancelled_tasks: self.session.cancelled_tasks,
        };
        self.push_event(EventHeader::default(), payload, now, written);
    }

    /// Edits the record of a live call.
    pub(super) fn edit(
        &mut self,
        id: CallId,
        now: Timestamp,
        written: &mut Written,
        change: impl FnOnce(&mut Call),
    ) {
        let Some(call) = self.live.get_mut(&id) else { return };
        let was_pending = call.state == State::Pending;
        change(call);
        touch(call, now);
        if was_pending && call.state != State::Pending {
            self.pending -= 1;
        }
        if !was_pending && call.state == State::Pending {
            self.pending += 1;
        }
        written.changed.insert(id);
    }

    pub(super) fn emit_live(
        &mut self,
        id: CallId,
        payload: Payload,
        now: Timestamp,
        written: &mut Written,
    ) {
        if let Some(header) = self.call(id).map(EventHeader::of) {
            self.push_event(header, payload, now, written);
        }
    }

    pub(super) fn emit(
        &mut self,
        call: &Call,
        payload: Payload,
        now: Timestamp,
        written: &mut Written,
    ) {
        self.push_event(EventHeader::of(call), payload, now, written);
    }

    pub(super) fn push_event(
        &mut self,
        header: EventHeader,
        payload: Payload,
        now: Timestamp,
        written: &mut Written,
    ) {
        self.session.head_sequence += 1;
        written.events.push(Event {
            session_id: self.session.id,
            sequence: self.session.head_sequence,
            create_time: now,
            turn_id: header.turn_id,
            call_id: header.call_id,
            attempt: header.attempt,
            payload,
        });
    }

    fn count_live(&mut self) {
        self.session.live_tasks = u32::try_from(self.live.len()).unwrap_or(u32::MAX);
    }
}

/// The part of an event that names its call.
#[derive(Default)]
pub(super) struct EventHeader {
    pub(super) turn_id: Option<TurnId>,
    pub(super) call_id: Option<CallId>,
    pub(super) attempt: u32,
}

impl EventHeader {
    fn of(call: &Call) -> Self {
        Self { turn_id: call.turn_id, call_id: Some(call.id), attempt: call.attempt }
    }
}

fn touch(call: &mut Call, now: Timestamp) {
    call.update_time = now;
    call.revision += 1;
}

fn acknowledged(mut call: Call, now: Timestamp) -> Call {
    call.acknowledge_time = Some(now);
    touch(&mut call, now);
    call
}

fn accepted(
    call: &Call,
    arguments: Option<serde_json::Map<String, serde_json::Value>>,
    arguments_bytes: u64,
    stdin_bytes: u64,
) -> CallAccepted {
    CallAccepted {
        tool: call.tool.clone(),
        kind: call.kind,
        description: call.description.clone(),
        arguments_omitted_bytes: if arguments.is_some() { 0 } else { arguments_bytes },
        arguments,
        stdin_bytes,
        background: call.is_task(),
        call_budget: call.policy.call_budget,
        execution_timeout: call.policy.execution_timeout,
        idle_timeout: call.policy.idle_timeout,
    }
}

fn finished(call: &Call, now: Timestamp) -> Option<CallFinished> {
    Some(CallFinished {
        state: call.state,
        reason: call.reason.clone(),
        outcome: call.outcome.clone()?,
        author: call.result_author(),
        end_reason: call.end_reason()?,
        background: call.is_task(),
        elapsed: call.start_time.map(|_| call.elapsed(now)),
    })
}
