//! Conversions of follow-ups, their events, and the requests about them.

use std::time::Duration;

use callpark_proto::google::rpc::Status as WireStatus;
use callpark_proto::v1::{self, session_event::Payload as WirePayload};
use tonic::{Code, Status};

use super::field::fingerprint;
use super::page::PageTokens;
use super::task::{summary_task, task};
use super::{FieldReader, PageError, ViolationReason, timestamp};
use crate::engine::{LeaseFollowUps, RequestKey};
use crate::machine::DeliveryOutcome;
use crate::model::limits::{
    FOLLOW_UP_LEASE_SECONDS_DEFAULT, FOLLOW_UP_LEASE_SECONDS_MAX, FOLLOW_UPS_LEASED_MAX,
    PAGE_SIZE_DEFAULT, TEXT_BYTES_MAX, WAIT_SECONDS_DEFAULT, WAIT_SECONDS_MAX,
};
use crate::model::{
    CallId, Delivery, DeliveryError, FollowUp, FollowUpState, Principal, Timestamp,
};
use crate::store::{FollowUpQuery, FollowUpWithTask, PageTokenKey};

pub(super) fn scheduled(call_id: Option<CallId>) -> WirePayload {
    WirePayload::FollowUpScheduled(v1::FollowUpScheduled {
        follow_up_id: follow_up_id(call_id),
        background_id: call_id.map(|id| id.background()).unwrap_or_default(),
    })
}

pub(super) fn started(call_id: Option<CallId>, attempt: u32) -> WirePayload {
    WirePayload::FollowUpStarted(v1::FollowUpStarted {
        follow_up_id: follow_up_id(call_id),
        delivery_attempt: number(attempt),
    })
}

pub(super) fn finished(
    call_id: Option<CallId>,
    attempt: u32,
    current: FollowUpState,
    error: Option<&DeliveryError>,
) -> WirePayload {
    WirePayload::FollowUpFinished(v1::FollowUpFinished {
        follow_up_id: follow_up_id(call_id),
        delivery_attempt: number(attempt),
        state: state(current).into(),
        error: error.cloned().map(delivery_error),
    })
}

fn follow_up_id(call_id: Option<CallId>) -> String {
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

/// Returns the name of a state as it is in the contract, without the prefix of its enum.
pub(crate) fn follow_up_state_name(current: FollowUpState) -> &'static str {
    let name = state(current).as_str_name();
    name.strip_prefix("FOLLOW_UP_STATE_").unwrap_or(name)
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
    let FollowUp { call_id, state: current, .. } = record;
    let delivery = match record.delivery {
        Delivery::Engine => v1::FollowUpDelivery::Engine,
        Delivery::Lease => v1::FollowUpDelivery::Lease,
    };
    let due_in = |state| record.due_time.filter(|_| current == state).map(timestamp);
    v1::FollowUp {
        follow_up_id: call_id.follow_up(),
        session_id: record.session_id.to_string(),
        background_id: call_id.background(),
        state: state(current).into(),
        reason: record.reason,
        dedupe_key: call_id.follow_up(),
        message,
        task: Some(task),
        attempt: number(record.attempt),
        max_attempts: number(record.attempts_max),
        create_time: Some(timestamp(record.create_time)),
        update_time: Some(timestamp(record.update_time)),
        next_attempt_time: due_in(FollowUpState::Pending),
        lease_expire_time: due_in(FollowUpState::Leased),
        last_error: record.last_error.map(delivery_error),
        delivery: delivery.into(),
        turn_id: record.turn_id.map(|id| id.to_string()).unwrap_or_default(),
        consumer: record.lease.map(|lease| lease.consumer).unwrap_or_default(),
        expire_time: record.expire_time.map(timestamp),
    }
}

/// Converts a follow-up with its message.
pub(crate) fn follow_up_with_message(
    (entry, message): (FollowUpWithTask, String),
    now: Timestamp,
) -> v1::FollowUp {
    follow_up(entry.record, message, task(entry.task, now))
}

/// Converts a follow-up for a list, without its message.
pub(crate) fn summary_follow_up(entry: FollowUpWithTask, now: Timestamp) -> v1::FollowUp {
    follow_up(entry.record, String::new(), summary_task(entry.task, now))
}

/// Converts a leased follow-up.
pub(crate) fn leased_follow_up(
    leased: (FollowUpWithTask, String),
    now: Timestamp,
) -> v1::LeasedFollowUp {
    let lease_token = leased.0.record.lease.as_ref().map(|lease| lease.token.clone());
    v1::LeasedFollowUp {
        follow_up: Some(follow_up_with_message(leased, now)),
        lease_token: lease_token.unwrap_or_default(),
    }
}

/// Returns the query of a ListFollowUps, with the digest that its page tokens are bound to.
pub(crate) fn follow_ups_query(
    principal: &Principal,
    request: v1::ListFollowUpsRequest,
    key: &PageTokenKey,
) -> Result<(FollowUpQuery, PageTokens), PageError> {
    let filter =
        v1::ListFollowUpsRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    let tokens = PageTokens::new(key, "ListFollowUps", &filter);
    let mut fields = FieldReader::default();
    let v1::ListFollowUpsRequest { session_id, states, page_size, page_token } = request;
    let query = FollowUpQuery {
        tenant: principal.tenant.clone(),
        session_id: fields.session_id("session_id", &session_id),
        states: fields.all_known("states", states, state_from_wire),
        cursor: None,
        limit: fields.page_size("page_size", page_size, PAGE_SIZE_DEFAULT),
    };
    let query = fields.finish(query)?;
    let cursor = tokens.read(&page_token)?;
    Ok((FollowUpQuery { cursor, ..query }, tokens))
}

/// Reads a LeaseFollowUps.
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
    let mut fields = FieldReader::default();
    let limit = match fields.unsigned("max_follow_ups", max_follow_ups.into()) {
        0 => 1,
        count => u32::try_from(count).unwrap_or(u32::MAX),
    };
    if limit > FOLLOW_UPS_LEASED_MAX {
        let description = format!("must be at most {FOLLOW_UPS_LEASED_MAX}");
        fields.violation("max_follow_ups", ViolationReason::OutOfRange, description);
    }
    let lease = fields.span("lease_duration", lease_duration);
    let lease = lease.unwrap_or(Duration::from_secs(FOLLOW_UP_LEASE_SECONDS_DEFAULT));
    if lease.is_zero() || lease > Duration::from_secs(FOLLOW_UP_LEASE_SECONDS_MAX) {
        let description =
            format!("must be more than 0 and at most {FOLLOW_UP_LEASE_SECONDS_MAX} s");
        fields.violation("lease_duration", ViolationReason::OutOfRange, description);
    }
    let lease_request = LeaseFollowUps {
        session_id: fields.session_id("session_id", &session_id),
        request: fields.request_id("request_id", request_id, digest),
        limit,
        lease,
        wait: FieldReader::wait(wait, WAIT_SECONDS_DEFAULT, WAIT_SECONDS_MAX),
        consumer: fields.text("consumer", consumer, TEXT_BYTES_MAX),
    };
    fields.finish(lease_request).map_err(Status::from)
}

/// The content of an AcknowledgeFollowUp.
pub(crate) struct Acknowledgement {
    pub(crate) id: CallId,
    pub(crate) token: String,
    pub(crate) outcome: DeliveryOutcome,
    pub(crate) request: Option<RequestKey>,
}

/// Reads an AcknowledgeFollowUp.
pub(crate) fn acknowledge_request(
    mut request: v1::AcknowledgeFollowUpRequest,
) -> Result<Acknowledgement, Status> {
    let (request_id, digest) = fingerprint!("AcknowledgeFollowUp", request);
    let v1::AcknowledgeFollowUpRequest { follow_up_id, lease_token, request_id: _, error } =
        request;
    let mut fields = FieldReader::default();
    let outcome = match error {
        None => DeliveryOutcome::Delivered,
        Some(WireStatus { code, message, details: _ }) => {
            if !(0..=i32::from(Code::Unauthenticated)).contains(&code) {
                let description = format!("{code} is not a number of google.rpc.Code");
                fields.violation("error.code", ViolationReason::UnknownValue, description);
            }
            let message = fields.text("error.message", message, TEXT_BYTES_MAX);
            match Code::from_i32(code) {
                Code::Ok => DeliveryOutcome::Delivered,
                Code::Cancelled => DeliveryOutcome::Released,
                _ => DeliveryOutcome::Failed(DeliveryError { code, message }),
            }
        }
    };
    let lease_token = fields.required("lease_token", lease_token);
    let acknowledgement = Acknowledgement {
        id: fields.follow_up_id("follow_up_id", &follow_up_id),
        token: fields.text("lease_token", lease_token, TEXT_BYTES_MAX),
        outcome,
        request: fields.request_id("request_id", request_id, digest),
    };
    fields.finish(acknowledgement).map_err(Status::from)
}

/// Reads a RetryFollowUp.
pub(crate) fn retry_request(
    mut request: v1::RetryFollowUpRequest,
) -> Result<(CallId, Option<RequestKey>), Status> {
    let (request_id, digest) = fingerprint!("RetryFollowUp", request);
    let v1::RetryFollowUpRequest { follow_up_id, request_id: _ } = request;
    let mut fields = FieldReader::default();
    let id = fields.follow_up_id("follow_up_id", &follow_up_id);
    let key = fields.request_id("request_id", request_id, digest);
    fields.finish((id, key)).map_err(Status::from)
}
