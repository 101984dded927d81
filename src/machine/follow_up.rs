//! The life of follow-ups: scheduling at the end of a task, claims, attempts and ends.

use std::time::Duration;

use super::apply::{EventHeader, Written};
use super::projection::{Projection, Settings};
use super::turn::{final_text, forget, stop_of};
use crate::model::{
    Call, CallId, CancelCause, Delivery, DeliveryError, FollowUp, FollowUpPolicy, FollowUpPut,
    FollowUpState, InjectedTask, Lease, Message, Origin, Payload, Session, SessionState, State,
    StopReason, Timestamp, Turn, TurnError, TurnId,
};

/// The requester of what the server does by itself.
pub(super) const CALLPARK: &str = "callpark";

/// The longest pause before the next attempt to deliver a follow-up, in milliseconds.
const FOLLOW_UP_DELAY_MS_MAX: u64 = 300_000;
/// Dead letters are kept for this many times the retention of other follow-ups.
const DEAD_LETTER_RETENTIONS: u32 = 7;

// Numbers of `google.rpc.Code`.
const CODE_UNKNOWN: i32 = 2;
const CODE_DEADLINE_EXCEEDED: i32 = 4;
const CODE_RESOURCE_EXHAUSTED: i32 = 8;
const CODE_UNAVAILABLE: i32 = 14;

/// The reason why the follow-ups of a closed session are suppressed.
pub const SESSION_CLOSED: &str = "its session is closed";

impl Projection {
    /// Schedules the follow-up of a call that has just ended, if its policy asks for one.
    pub(super) fn schedule_follow_up(
        &mut self,
        call: &Call,
        now: Timestamp,
        written: &mut Written,
    ) {
        let Some(record) = scheduled(call, &self.session, self.settings, now) else { return };
        self.emit(call, Payload::FollowUpScheduled, now, written);
        if record.state == FollowUpState::Suppressed {
            let error = Some(DeliveryError { code: 0, message: record.reason.clone() });
            let finished = Payload::FollowUpFinished { attempt: 0, state: record.state, error };
            self.emit(call, finished, now, written);
        }
        written.follow_ups.push(FollowUpPut { record, task: Some(Box::new(call.clone())) });
    }

    pub(super) fn put_follow_up(
        &mut self,
        record: FollowUp,
        event: Option<Payload>,
        now: Timestamp,
        written: &mut Written,
    ) {
        // No event follows the end of a log: then only the record shows the change.
        let event = event.filter(|_| self.session.state != SessionState::Closed);
        if let Some(event) = event {
            let header = EventHeader {
                turn_id: record.turn_id,
                call_id: Some(record.call_id),
                attempt: record.call_attempt,
            };
            self.push_event(header, event, now, written);
        }
        written.follow_ups.push(FollowUpPut { record, task: None });
    }

    /// Claims a follow-up for a turn.
    pub(super) fn claim_follow_up(
        &mut self,
        turn: CallId,
        record: FollowUp,
        now: Timestamp,
        written: &mut Written,
    ) {
        let turn_id = self.call(turn).and_then(|call| call.turn_id);
        let record = record.claimed_by(turn_id, now);
        let started = Payload::FollowUpStarted { attempt: record.attempt };
        self.edit(turn, now, written, |call| {
            if let Some(turn) = &mut call.turn {
                turn.follow_ups.push(record.clone());
                // Before the prompt it is one of those that the prompt is about.
                if turn.messages > 0 && turn.setup.is_some() {
                    let after = turn.messages;
                    turn.injected.push(InjectedTask { call_id: record.call_id, after });
                }
            }
        });
        self.put_follow_up(record, Some(started), now, written);
    }

    /// Emits the end of a turn and ends the delivery of the follow-ups that it claimed. The call is no
    /// longer live.
    pub(super) fn end_turn(
        &mut self,
        call: &Call,
        mut turn: Box<Turn>,
        now: Timestamp,
        written: &mut Written,
    ) -> Box<Turn> {
        let stop = stop_of(call, Some(&turn));
        forget(&mut turn, None);
        let claimed = std::mem::take(&mut turn.follow_ups);
        let tasks = claimed.iter().map(|record| record.call_id).collect();
        for record in claimed {
            let step = after_turn(record, call, &turn, &stop, &self.session);
            let (record, event) = step.take(self.settings, now);
            self.put_follow_up(record, Some(event), now, written);
        }
        let is_delivered = stop.as_ref().is_ok_and(|reason| delivers(*reason, &turn));
        if turn.delivers && is_delivered {
            let text = final_text(call);
            let origin = if text.is_empty() { Origin::Callpark } else { Origin::Model };
            let mut note = turn.end.as_mut().and_then(|end| end.note.take());
            if let Some(note) = &mut note {
                note.tasks = tasks;
            }
            let (text, calls) = (text.into(), Vec::new());
            let message = Message::Assistant { text, calls, provider_data: None, note, origin };
            self.push_message(message, written);
        }
        let ended = self.turn_ended(call, &turn, stop);
        self.emit(call, ended, now, written);
        turn
    }
}

/// Returns the follow-up of a call that has just ended, or `None` if its policy asks for none.
pub(super) fn scheduled(
    call: &Call,
    session: &Session,
    settings: Settings,
    now: Timestamp,
) -> Option<FollowUp> {
    let is_requested = match (call.policy.follow_up, call.state) {
        (FollowUpPolicy::OnFinish, _) => true,
        (FollowUpPolicy::OnFailure, State::Failed | State::TimedOut | State::Lost) => true,
        (FollowUpPolicy::OnFailure | FollowUpPolicy::None, _) => false,
    };
    if !is_requested || !call.is_task() {
        return None;
    }
    // The agent of a session is notified of tasks other than its own turns. The follow-up of a turn is
    // for the caller that started the turn.
    let has_agent = session.messages > 0 && call.turn.is_none();
    let delivery = if has_agent { Delivery::Engine } else { Delivery::Lease };
    let record = FollowUp::new(call, delivery, now);
    let on_purpose = call
        .cancellation
        .as_ref()
        .filter(|cancellation| cancellation.cause != CancelCause::Evicted);
    let suppression = match (call.state, on_purpose) {
        _ if session.state != SessionState::Open => Some(SESSION_CLOSED.to_owned()),
        (State::Cancelled, Some(cancellation)) => {
            Some(format!("it was cancelled by {}", cancellation.requested_by))
        }
        _ => None,
    };
    Some(match suppression {
        Some(reason) => record.suppressed(reason, settings, now),
        None => record,
    })
}

/// Returns the step of a follow-up when the turn that claimed it ends.
pub(super) fn after_turn(
    record: FollowUp,
    call: &Call,
    turn: &Turn,
    stop: &Result<StopReason, TurnError>,
    session: &Session,
) -> DeliveryStep {
    if session.state != SessionState::Open && !matches!(stop, Ok(reason) if delivers(*reason, turn))
    {
        return DeliveryStep::Suppress(record, SESSION_CLOSED.to_owned());
    }
    let by_callpark = |call: &Call| {
        call.cancellation.as_ref().is_none_or(|cancelled| cancelled.requested_by == CALLPARK)
    };
    match stop {
        Ok(reason) if delivers(*reason, turn) => DeliveryStep::Deliver(record),
        // It may get a larger budget.
        Ok(StopReason::BudgetUsedUp) => {
            let message = "the session has used up its budget: raise it with UpdateSession";
            let (code, message) = (CODE_RESOURCE_EXHAUSTED, message.to_owned());
            DeliveryStep::Fail(record, DeliveryError { code, message })
        }
        // A caller doesn't want it: another turn at once would be cancelled again.
        Ok(_) if turn.delivers && !by_callpark(call) => {
            DeliveryStep::Suppress(record, "the turn that delivered it was cancelled".to_owned())
        }
        Ok(_) => DeliveryStep::Release(record),
        // A stop of the server is no failed attempt: restarts alone must not make a dead letter.
        Err(_) if call.state == State::Lost => DeliveryStep::Release(record),
        Err(error) => {
            let code = if error.retryable { CODE_UNAVAILABLE } else { CODE_UNKNOWN };
            let message = format!("{}: {}", error.code, error.message);
            DeliveryStep::Fail(record, DeliveryError { code, message })
        }
    }
}

/// Returns `true` if a turn that ended for this reason has delivered its follow-ups.
fn delivers(reason: StopReason, turn: &Turn) -> bool {
    match reason {
        StopReason::EndTurn
        | StopReason::MaxRounds
        | StopReason::MaxTokens
        | StopReason::Refusal => true,
        // Without a round, no model has seen them.
        StopReason::BudgetUsedUp => turn.rounds > 0,
        StopReason::Cancelled => false,
    }
}

/// A step in the life of a follow-up.
pub(super) enum DeliveryStep {
    /// The agent was notified.
    Deliver(FollowUp),
    /// The follow-up isn't needed.
    Suppress(FollowUp, String),
    /// The claim ended without an attempt. The follow-up is due at once.
    Release(FollowUp),
    /// The attempt failed.
    Fail(FollowUp, DeliveryError),
    /// The lease expired.
    LeaseExpired(FollowUp),
}

impl DeliveryStep {
    /// Returns the record after the step and the event of the step.
    pub(super) fn take(self, settings: Settings, now: Timestamp) -> (FollowUp, Payload) {
        let (record, error) = match self {
            Self::Deliver(record) => {
                (record.settled(FollowUpState::Delivered, settings, now), None)
            }
            Self::Suppress(record, reason) => {
                let error = DeliveryError { code: 0, message: reason.clone() };
                (record.suppressed(reason, settings, now), Some(error))
            }
            Self::Release(record) => {
                let attempt = record.attempt.saturating_sub(1);
                (FollowUp { attempt, ..record.pending(now, now) }, None)
            }
            Self::Fail(record, error) => {
                let due = now.saturating_add(pause(&record, settings.follow_up_delay));
                (record.failed(error.clone(), due, settings, now), Some(error))
            }
            Self::LeaseExpired(record) => {
                let message = "the lease expired before the follow-up was acknowledged".to_owned();
                let error = DeliveryError { code: CODE_DEADLINE_EXCEEDED, message };
                (record.failed(error.clone(), now, settings, now), Some(error))
            }
        };
        let event =
            Payload::FollowUpFinished { attempt: record.attempt, state: record.state, error };
        (record, event)
    }
}

impl FollowUp {
    /// Returns the record after a consumer has leased it.
    pub(super) fn leased(self, lease: Lease, until: Timestamp, now: Timestamp) -> Self {
        Self {
            state: FollowUpState::Leased,
            attempt: self.attempt.saturating_add(1),
            due_time: Some(until),
            lease: Some(lease),
            turn_id: None,
            update_time: now,
            ..self
        }
    }

    /// Returns the record after a turn has claimed it.
    pub(super) fn claimed_by(self, turn_id: Option<TurnId>, now: Timestamp) -> Self {
        Self {
            state: FollowUpState::Leased,
            attempt: self.attempt.saturating_add(1),
            due_time: None,
            lease: None,
            turn_id,
            update_time: now,
            ..self
        }
    }

    /// Returns the record of a dead letter that is pending again.
    pub(super) fn revived(self, now: Timestamp) -> Self {
        Self { attempt: 0, reason: String::new(), expire_time: None, ..self.pending(now, now) }
    }

    fn pending(self, due: Timestamp, now: Timestamp) -> Self {
        Self { state: FollowUpState::Pending, due_time: Some(due), update_time: now, ..self }
    }

    fn failed(
        self,
        error: DeliveryError,
        due: Timestamp,
        settings: Settings,
        now: Timestamp,
    ) -> Self {
        let reason = error.message.clone();
        let failed = Self { last_error: Some(error), ..self };
        if failed.attempt < failed.attempts_max {
            return failed.pending(due, now);
        }
        let tried = failed.attempt;
        let plural = if tried == 1 { "" } else { "s" };
        let reason = format!("given up after {tried} attempt{plural}; the last error: {reason}");
        let settings =
            Settings { retention: settings.retention * DEAD_LETTER_RETENTIONS, ..settings };
        Self { reason, ..failed.settled(FollowUpState::DeadLettered, settings, now) }
    }

    fn suppressed(self, reason: String, settings: Settings, now: Timestamp) -> Self {
        Self { reason, ..self.settled(FollowUpState::Suppressed, settings, now) }
    }

    fn settled(self, state: FollowUpState, settings: Settings, now: Timestamp) -> Self {
        Self {
            state,
            due_time: None,
            update_time: now,
            expire_time: Some(now.saturating_add(settings.retention)),
            ..self
        }
    }
}

/// Returns the pause before the next attempt: after attempt n a random part of the delay × 2ⁿ, and 5 min
/// at most.
///
/// The machine has no source of randomness. The digits of the id are random, and mixed with the attempt
/// they give a new number each time (the finalizer of SplitMix64, Steele, Lea and Flood 2014).
fn pause(record: &FollowUp, delay: Duration) -> Duration {
    let doublings = record.attempt.min(16);
    let max = Duration::from_millis(FOLLOW_UP_DELAY_MS_MAX);
    let whole = delay.saturating_mul(1 << doublings).min(max).as_micros();
    let whole = u64::try_from(whole).unwrap_or(u64::MAX - 1);
    let (_, digits) = record.call_id.as_bytes().split_at(8);
    let seed = digits.iter().fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    let mut mixed =
        seed.wrapping_add(u64::from(record.attempt).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    Duration::from_micros(mixed % (whole + 1))
}
