//! Follow-ups.

use std::time::Duration;

use callpark_proto::google::rpc::Status as WireStatus;
use callpark_proto::v1::{self, session_event::Payload as WirePayload};
use tonic::{Code, Status};

use super::field::fingerprint;
use super::filter::{PageFault, digest, read};
use super::task::{brief_task, task};
use super::{Fields, timestamp};
use crate::engine::{LeaseFollowUps, RequestKey};
use crate::machine::DeliveryOutcome;
use crate::model::limits::{
    FOLLOW_UP_LEASE_SECONDS_DEFAULT, FOLLOW_UP_LEASE_SECONDS_MAX, FOLLOW_UPS_LEASED_MAX,
    TEXT_BYTES_MAX, WAIT_SECONDS_DEFAULT, WAIT_SECONDS_MAX,
};
use crate::model::{
    CallId, Delivery, DeliveryError, FollowUp, FollowUpState, Principal, Timestamp,
};
use crate::rpc::status::invalid;
use crate::store::{FollowUpQuery, FollowUpWithTask};

/// A task ended that the agent must hear of.
pub(super) fn scheduled(call_id: Option<CallId>) -> WirePayload {
    WirePayload::FollowUpScheduled(v1::FollowUpScheduled {
        follow_up_id: name(call_id),
        background_id: call_id.map(|id| id.background()).unwrap_or_default(),
    })
}

/// A follow-up was handed out.
pub(super) fn started(call_id: Option<CallId>, attempt: u32) -> WirePayload {
    let (follow_up_id, delivery_attempt) = (name(call_id), number(attempt));
    WirePayload::FollowUpStarted(v1::FollowUpStarted { follow_up_id, delivery_attempt })
}

/// An attempt ended.
pub(super) fn finished(
    call_id: Option<CallId>,
    attempt: u32,
    standing: FollowUpState,
    error: Option<&DeliveryError>,
) -> WirePayload {
    WirePayload::FollowUpFinished(v1::FollowUpFinished {
        follow_up_id: name(call_id),
        delivery_attempt: number(attempt),
        state: state(standing).into(),
        error: error.cloned().map(delivery_error),
    })
}

fn name(call_id: Option<CallId>) -> String {
    call_id.map(|id| id.follow_up()).unwrap_or_default()
}

fn number(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn state(state: FollowUpState) -> v1::FollowUpState {
    match state {
        FollowUpState::Pending => v1::FollowUpState::Pending,
        FollowUpState::Leased => v1::FollowUpState::Leased,
        FollowUpState::Delivered => v1::FollowUpState::Delivered,
        FollowUpState::Suppressed => v1::FollowUpState::Suppressed,
        FollowUpState::DeadLettered => v1::FollowUpState::DeadLettered,
    }
}

fn state_from_wire(state: v1::FollowUpState) -> Option<FollowUpState> {
    Some(match state {
        v1::FollowUpState::Unspecified => return None,
        v1::FollowUpState::Pending => FollowUpState::Pending,
        v1::FollowUpState::Leased => FollowUpState::Leased,
        v1::FollowUpState::Delivered => FollowUpState::Delivered,
        v1::FollowUpState::Suppressed => FollowUpState::Suppressed,
        v1::FollowUpState::DeadLettered => FollowUpState::DeadLettered,
    })
}

fn delivery_error(error: DeliveryError) -> WireStatus {
    WireStatus { code: error.code, message: error.message, details: Vec::new() }
}

fn follow_up(record: FollowUp, message: String, task: v1::Task) -> v1::FollowUp {
    let FollowUp { call_id, state: standing, .. } = record;
    let delivery = match record.delivery {
        Delivery::Engine => v1::FollowUpDelivery::Engine,
        Delivery::Lease => v1::FollowUpDelivery::Lease,
    };
    let due = |wanted| record.due_time.filter(|_| standing == wanted).map(timestamp);
    v1::FollowUp {
        follow_up_id: call_id.follow_up(),
        session_id: record.session_id.to_string(),
        background_id: call_id.background(),
        state: state(standing).into(),
        reason: record.reason,
        dedupe_key: call_id.follow_up(),
        message,
        task: Some(task),
        attempt: number(record.attempt),
        max_attempts: number(record.attempts_max),
        create_time: Some(timestamp(record.create_time)),
        update_time: Some(timestamp(record.update_time)),
        next_attempt_time: due(FollowUpState::Pending),
        lease_expire_time: due(FollowUpState::Leased),
        last_error: record.last_error.map(delivery_error),
        delivery: delivery.into(),
        turn_id: record.turn_id.map(|id| id.to_string()).unwrap_or_default(),
        consumer: record.lease.map(|lease| lease.consumer).unwrap_or_default(),
        expire_time: record.expire_time.map(timestamp),
    }
}

/// A follow-up with what to tell of it, for the wire.
pub(crate) fn told_follow_up(
    (told, message): (FollowUpWithTask, String),
    now: Timestamp,
) -> v1::FollowUp {
    follow_up(told.record, message, task(told.task, now))
}

/// The same for a list: without what to tell.
pub(crate) fn brief_follow_up(told: FollowUpWithTask, now: Timestamp) -> v1::FollowUp {
    follow_up(told.record, String::new(), brief_task(told.task, now))
}

/// A follow-up that the caller may deliver.
pub(crate) fn leased_follow_up(
    leased: (FollowUpWithTask, String),
    now: Timestamp,
) -> v1::LeasedFollowUp {
    let lease_token = leased.0.record.lease.as_ref().map(|lease| lease.token.clone());
    v1::LeasedFollowUp {
        follow_up: Some(told_follow_up(leased, now)),
        lease_token: lease_token.unwrap_or_default(),
    }
}

/// The question behind a ListFollowUps, and what its tokens must be for.
pub(crate) fn follow_ups_query(
    who: &Principal,
    request: v1::ListFollowUpsRequest,
) -> Result<(FollowUpQuery, String), PageFault> {
    let filter =
        v1::ListFollowUpsRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    let filters = digest(&filter);
    let mut fields = Fields::default();
    let v1::ListFollowUpsRequest { session_id, states, page_size, page_token } = request;
    let query = FollowUpQuery {
        tenant: who.tenant.clone(),
        session_id: fields.session_id("session_id", &session_id),
        states: states
            .iter()
            .filter_map(|state| fields.known("states", *state, state_from_wire))
            .collect(),
        cursor: None,
        limit: fields.page_size("page_size", page_size),
    };
    let mut query = fields.finish(query).map_err(PageFault::Fields)?;
    if !page_token.is_empty() {
        query.cursor = Some(read(&page_token, &filters)?);
    }
    Ok((query, filters))
}

/// What a LeaseFollowUps asks for.
pub(crate) fn lease_request(
    mut request: v1::LeaseFollowUpsRequest,
) -> Result<LeaseFollowUps, Status> {
    let (request_id, digest) = fingerprint!("LeaseFollowUps", request);
    let v1::LeaseFollowUpsRequest {
        session_id,
        request_id: _,
        max_follow_ups,
        lease_duration,
        wait,
        consumer,
    } = request;
    let mut fields = Fields::default();
    let limit = match fields.unsigned("max_follow_ups", max_follow_ups.into()) {
        0 => 1,
        count => u32::try_from(count).unwrap_or(u32::MAX),
    };
    if limit > FOLLOW_UPS_LEASED_MAX {
        fields.fault("max_follow_ups", format!("must be at most {FOLLOW_UPS_LEASED_MAX}"));
    }
    let lease = fields.span("lease_duration", lease_duration);
    let lease = lease.unwrap_or(Duration::from_secs(FOLLOW_UP_LEASE_SECONDS_DEFAULT));
    if lease.is_zero() || lease > Duration::from_secs(FOLLOW_UP_LEASE_SECONDS_MAX) {
        let fault = format!("must be more than 0 and at most {FOLLOW_UP_LEASE_SECONDS_MAX} s");
        fields.fault("lease_duration", fault);
    }
    let wanted = LeaseFollowUps {
        session_id: fields.session_id("session_id", &session_id),
        request: fields.request_id(request_id, digest),
        limit,
        lease,
        wait: Fields::wait(wait, WAIT_SECONDS_DEFAULT, WAIT_SECONDS_MAX),
        consumer: fields.text("consumer", consumer, TEXT_BYTES_MAX),
    };
    fields.finish(wanted).map_err(invalid)
}

/// What an AcknowledgeFollowUp says.
pub(crate) struct Acknowledgement {
    pub(crate) id: CallId,
    pub(crate) token: String,
    pub(crate) outcome: DeliveryOutcome,
    pub(crate) request: Option<RequestKey>,
}

/// What an AcknowledgeFollowUp says, from the wire.
pub(crate) fn acknowledge_request(
    mut request: v1::AcknowledgeFollowUpRequest,
) -> Result<Acknowledgement, Status> {
    let (request_id, digest) = fingerprint!("AcknowledgeFollowUp", request);
    let v1::AcknowledgeFollowUpRequest { follow_up_id, lease_token, request_id: _, error } =
        request;
    let mut fields = Fields::default();
    let outcome = match error {
        None => DeliveryOutcome::Delivered,
        Some(WireStatus { code, message, details: _ }) => {
            if !(0..=i32::from(Code::Unauthenticated)).contains(&code) {
                fields.fault("error.code", format!("{code} is not a number of google.rpc.Code"));
            }
            let message = fields.text("error.message", message, TEXT_BYTES_MAX);
            match Code::from_i32(code) {
                Code::Ok => DeliveryOutcome::Delivered,
                Code::Cancelled => DeliveryOutcome::GivenBack,
                _ => DeliveryOutcome::Failed(DeliveryError { code, message }),
            }
        }
    };
    if lease_token.is_empty() {
        fields.fault("lease_token", "must be the one that LeaseFollowUps gave");
    }
    let acknowledgement = Acknowledgement {
        id: fields.follow_up_id("follow_up_id", &follow_up_id),
        token: fields.text("lease_token", lease_token, TEXT_BYTES_MAX),
        outcome,
        request: fields.request_id(request_id, digest),
    };
    fields.finish(acknowledgement).map_err(invalid)
}

/// Which follow-up a RetryFollowUp brings back.
pub(crate) fn retry_request(
    mut request: v1::RetryFollowUpRequest,
) -> Result<(CallId, Option<RequestKey>), Status> {
    let (request_id, digest) = fingerprint!("RetryFollowUp", request);
    let v1::RetryFollowUpRequest { follow_up_id, request_id: _ } = request;
    let mut fields = Fields::default();
    let id = fields.follow_up_id("follow_up_id", &follow_up_id);
    let key = fields.request_id(request_id, digest);
    fields.finish((id, key)).map_err(invalid)
}
