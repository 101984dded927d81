//! Requests that start a turn.

use callpark_proto::v1;

use super::call::follow_up_policy;
use super::field::fingerprint;
use super::{Fields, Invalid};
use crate::engine::TurnRequest;
use crate::machine::Concurrency;
use crate::model::limits::{
    ATTACHMENTS_BYTES_MAX, ATTACHMENTS_MAX, PROMPT_BYTES_MAX, SYSTEM_MESSAGE_BYTES_MAX,
    TEXT_BYTES_MAX,
};
use crate::model::{BusyPolicy, Content, ContentKind, ResourceBody};

/// A turn in the foreground, from the wire.
pub(crate) fn turn_request(mut request: v1::RunTurnRequest) -> Result<TurnRequest, Invalid> {
    let (request_id, digest) = fingerprint!("RunTurn", request);
    let v1::RunTurnRequest {
        session_id,
        prompt,
        attachments,
        model,
        system_message,
        max_rounds,
        request_id: _,
        busy_policy,
        max_attempts,
    } = request;
    let mut fields = Fields::default();
    let busy_policy = match fields.choice::<v1::BusyPolicy>("busy_policy", busy_policy) {
        v1::BusyPolicy::Unspecified | v1::BusyPolicy::Reject => BusyPolicy::Reject,
        v1::BusyPolicy::Enqueue => BusyPolicy::Enqueue,
        v1::BusyPolicy::Interrupt => BusyPolicy::Interrupt,
    };
    let turn = TurnRequest {
        session_id: fields.session_id("session_id", &session_id),
        prompt: prompt_of(&mut fields, "prompt", prompt),
        attachments: attached(&mut fields, "attachments", attachments),
        model: fields.text("model", model, TEXT_BYTES_MAX),
        system_message: fields.text("system_message", system_message, SYSTEM_MESSAGE_BYTES_MAX),
        max_rounds: count(&mut fields, "max_rounds", max_rounds),
        max_attempts: count(&mut fields, "max_attempts", max_attempts),
        busy_policy,
        request: fields.request_id(request_id, digest),
        ..TurnRequest::default()
    };
    fields.finish(turn)
}

/// The same of a stream. It has the same fields, and one id means one turn for both methods.
pub(crate) fn stream_turn_request(request: v1::StreamTurnRequest) -> Result<TurnRequest, Invalid> {
    let v1::StreamTurnRequest {
        session_id,
        prompt,
        attachments,
        model,
        system_message,
        max_rounds,
        request_id,
        busy_policy,
        max_attempts,
    } = request;
    turn_request(v1::RunTurnRequest {
        session_id,
        prompt,
        attachments,
        model,
        system_message,
        max_rounds,
        request_id,
        busy_policy,
        max_attempts,
    })
}

/// A turn in the background, from the wire. What it does about tasks that are there says also what
/// it does about a turn that is there.
pub(super) fn agent_turn(
    fields: &mut Fields,
    turn: v1::AgentTurn,
    concurrency: Concurrency,
) -> TurnRequest {
    let v1::AgentTurn {
        prompt,
        attachments,
        model,
        system_message,
        max_rounds,
        max_attempts,
        description,
        execution_timeout,
        follow_up,
        detached,
        labels,
    } = turn;
    let follow_up = follow_up_policy(fields, "agent_turn.follow_up", follow_up);
    let system_message =
        fields.text("agent_turn.system_message", system_message, SYSTEM_MESSAGE_BYTES_MAX);
    TurnRequest {
        prompt: prompt_of(fields, "agent_turn.prompt", prompt),
        attachments: attached(fields, "agent_turn.attachments", attachments),
        model: fields.text("agent_turn.model", model, TEXT_BYTES_MAX),
        system_message,
        max_rounds: count(fields, "agent_turn.max_rounds", max_rounds),
        max_attempts: count(fields, "agent_turn.max_attempts", max_attempts),
        busy_policy: match concurrency {
            Concurrency::Reject => BusyPolicy::Reject,
            Concurrency::Replace => BusyPolicy::Interrupt,
            Concurrency::Allow | Concurrency::Queue => BusyPolicy::Enqueue,
        },
        background: true,
        concurrency,
        description: fields.text("agent_turn.description", description, TEXT_BYTES_MAX),
        execution_timeout: fields.positive_span("agent_turn.execution_timeout", execution_timeout),
        follow_up,
        detached,
        labels: fields.labels("agent_turn.labels", labels),
        ..TurnRequest::default()
    }
}

fn prompt_of(fields: &mut Fields, path: &str, prompt: String) -> String {
    let prompt = fields.text(path, prompt, PROMPT_BYTES_MAX);
    fields.required(path, prompt)
}

fn count(fields: &mut Fields, path: &str, number: i32) -> u32 {
    u32::try_from(fields.unsigned(path, number.into())).unwrap_or(u32::MAX)
}

fn attached(fields: &mut Fields, path: &str, contents: Vec<v1::Content>) -> Vec<Content> {
    if contents.len() > ATTACHMENTS_MAX {
        let has = contents.len();
        fields.fault(path, format!("must have at most {ATTACHMENTS_MAX}, has {has}"));
        return Vec::new();
    }
    let mut attached = Vec::with_capacity(contents.len());
    for (index, content) in contents.into_iter().enumerate() {
        match content_kind(content) {
            Some(kind) => attached.push(Content { kind, stream: None, offset: 0 }),
            None => fields.fault(
                &format!("{path}[{index}]"),
                "must be a text, an image, or a resource with a text: the model takes no other",
            ),
        }
    }
    let size: usize = attached.iter().map(|content| content.kind.size_bytes()).sum();
    if size > ATTACHMENTS_BYTES_MAX {
        let fault = format!("must be at most {ATTACHMENTS_BYTES_MAX} bytes together, has {size}");
        fields.fault(path, fault);
    }
    attached
}

fn content_kind(content: v1::Content) -> Option<ContentKind> {
    use v1::content::Kind;
    match content.kind? {
        Kind::Text(text) => Some(ContentKind::Text(text)),
        Kind::Image(v1::Image { media_type, data }) => {
            media_type.starts_with("image/").then_some(ContentKind::Image { media_type, data })
        }
        Kind::Resource(v1::Resource {
            uri,
            media_type,
            body: Some(v1::resource::Body::Text(text)),
        }) => {
            let body = Some(ResourceBody::Text(text));
            Some(ContentKind::Resource { uri, media_type, body })
        }
        Kind::Json(_) | Kind::Binary(_) | Kind::Resource(_) => None,
    }
}
