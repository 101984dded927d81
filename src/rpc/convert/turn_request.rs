//! Requests that start a turn.

use callpark_proto::v1;

use super::field::fingerprint;
use super::policy::{follow_up_policy, on_disconnect_policy};
use super::{FieldReader, InvalidRequest, ViolationReason};
use crate::engine::TurnRequest;
use crate::machine::Concurrency;
use crate::model::limits::{
    ATTACHMENTS_BYTES_MAX, ATTACHMENTS_MAX, PROMPT_BYTES_MAX, SYSTEM_MESSAGE_BYTES_MAX,
    TEXT_BYTES_MAX,
};
use crate::model::{BusyPolicy, Content, ContentKind, ResourceBody};

/// Reads a turn in the foreground, of RunTurn or StreamTurn. One request id means one turn for both.
pub(crate) fn turn_request(mut request: v1::RunTurnRequest) -> Result<TurnRequest, InvalidRequest> {
    let (request_id, digest) = fingerprint!("RunTurn", request);
    let mut fields = FieldReader::default();
    let turn = turn(&mut fields, "", request, None);
    let request = fields.request_id("request_id", request_id, digest);
    fields.finish(TurnRequest { request, ..turn })
}

/// Reads a turn without its request id. `path` is the prefix of its fields in violations. `background`
/// is the concurrency of a turn in the background, from which an unset busy policy follows.
pub(super) fn turn(
    fields: &mut FieldReader,
    path: &str,
    request: v1::RunTurnRequest,
    background: Option<Concurrency>,
) -> TurnRequest {
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
        call_budget,
        execution_timeout,
        on_disconnect,
        follow_up,
        detached,
        labels,
        description,
        dry_run,
    } = request;
    let at = |name: &str| format!("{path}{name}");
    let busy_policy = match fields.choice::<v1::BusyPolicy>(&at("busy_policy"), busy_policy) {
        v1::BusyPolicy::Unspecified => busy_policy_of(background),
        v1::BusyPolicy::Reject => BusyPolicy::Reject,
        v1::BusyPolicy::Enqueue => BusyPolicy::Enqueue,
        v1::BusyPolicy::Interrupt => BusyPolicy::Interrupt,
    };
    let prompt = fields.text(&at("prompt"), prompt, PROMPT_BYTES_MAX);
    TurnRequest {
        session_id: fields.session_id(&at("session_id"), &session_id),
        prompt: fields.required(&at("prompt"), prompt),
        attachments: attached(fields, &at("attachments"), attachments),
        model: fields.text(&at("model"), model, TEXT_BYTES_MAX),
        system_message: fields.text(
            &at("system_message"),
            system_message,
            SYSTEM_MESSAGE_BYTES_MAX,
        ),
        max_rounds: count(fields, &at("max_rounds"), max_rounds),
        max_attempts: count(fields, &at("max_attempts"), max_attempts),
        busy_policy,
        call_budget: fields.span(&at("call_budget"), call_budget),
        execution_timeout: fields.positive_span(&at("execution_timeout"), execution_timeout),
        on_disconnect: on_disconnect_policy(fields, &at("on_disconnect"), on_disconnect),
        follow_up: follow_up_policy(fields, &at("follow_up"), follow_up),
        detached,
        labels: fields.labels(&at("labels"), labels),
        description: fields.text(&at("description"), description, TEXT_BYTES_MAX),
        dry_run,
        background: background.is_some(),
        concurrency: background.unwrap_or_default(),
        ..TurnRequest::default()
    }
}

fn busy_policy_of(background: Option<Concurrency>) -> BusyPolicy {
    match background {
        None | Some(Concurrency::Reject) => BusyPolicy::Reject,
        Some(Concurrency::Replace) => BusyPolicy::Interrupt,
        Some(Concurrency::Allow | Concurrency::Queue) => BusyPolicy::Enqueue,
    }
}

fn count(fields: &mut FieldReader, path: &str, number: i32) -> u32 {
    u32::try_from(fields.unsigned(path, number.into())).unwrap_or(u32::MAX)
}

fn attached(fields: &mut FieldReader, path: &str, contents: Vec<v1::Content>) -> Vec<Content> {
    if contents.len() > ATTACHMENTS_MAX {
        let count = contents.len();
        let description = format!("must have at most {ATTACHMENTS_MAX}, but has {count}");
        fields.violation(path, ViolationReason::TooLarge, description);
        return Vec::new();
    }
    let mut attached = Vec::with_capacity(contents.len());
    for (index, content) in contents.into_iter().enumerate() {
        match content_kind(content) {
            Some(kind) => attached.push(Content { kind, stream: None, offset: 0 }),
            None => fields.violation(
                format!("{path}[{index}]"),
                ViolationReason::InvalidFormat,
                "must be a text, an image or a resource with a text: models accept nothing else",
            ),
        }
    }
    let size: usize = attached.iter().map(|content| content.kind.size_bytes()).sum();
    if size > ATTACHMENTS_BYTES_MAX {
        let description =
            format!("must be at most {ATTACHMENTS_BYTES_MAX} bytes together, but has {size}");
        fields.violation(path, ViolationReason::TooLarge, description);
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
            ..
        }) => {
            let body = Some(ResourceBody::Text(text));
            Some(ContentKind::Resource { uri, media_type, body, link: None })
        }
        Kind::Json(_) | Kind::Binary(_) | Kind::Resource(_) => None,
    }
}
