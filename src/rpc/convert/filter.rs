//! Filters, pages and the tokens between them.

use callpark_proto::v1;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::session::session_states;
use super::task::{kind_from_wire, state_from_wire};
use super::{Fields, Invalid};
use crate::model::Principal;
use crate::model::limits::PAGE_BYTES_MAX;
use crate::store::{CallCursor, CallQuery, SessionCursor, SessionQuery};

/// A page token: where the page before ended, and for which filters.
#[derive(Serialize, Deserialize)]
struct Token<C> {
    cursor: C,
    filters: String,
}

/// What is wrong with a request for a page.
pub(crate) enum PageFault {
    /// Fields.
    Fields(Invalid),
    /// The token.
    Token,
}

pub(super) fn digest(message: &impl prost::Message) -> String {
    let digest = sha2::Sha256::digest(message.encode_to_vec());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn write<C: Serialize>(cursor: C, filters: String) -> String {
    let json = serde_json::to_vec(&Token { cursor, filters }).unwrap_or_default();
    json.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn read<C>(text: &str, filters: &str) -> Result<C, PageFault>
where
    C: Clone + Serialize + for<'a> Deserialize<'a>,
{
    // Longer than any of ours: not worth a look.
    if text.len() > 1_024 || !text.is_ascii() || !text.len().is_multiple_of(2) {
        return Err(PageFault::Token);
    }
    let digit = |index: usize| u8::from_str_radix(&text[index..index + 2], 16);
    let bytes: Result<Vec<u8>, _> = (0..text.len()).step_by(2).map(digit).collect();
    let bytes = bytes.map_err(|_| PageFault::Token)?;
    let Token { cursor, .. }: Token<C> =
        serde_json::from_slice(&bytes).map_err(|_| PageFault::Token)?;
    // Other filters, and every other spelling of the same cursor, give another text.
    let ours = write(cursor.clone(), filters.to_owned());
    if ours == text { Ok(cursor) } else { Err(PageFault::Token) }
}

/// The question behind a List, and what its tokens must be for.
pub(crate) fn list_query(
    who: &Principal,
    request: v1::ListRequest,
) -> Result<(CallQuery, String), PageFault> {
    let filter = v1::ListRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    let filters = digest(&filter);
    let mut fields = Fields::default();
    let v1::ListRequest { session_id, states, kinds, labels, created_after, page_size, page_token } =
        request;
    let query = CallQuery {
        tenant: who.tenant.clone(),
        session_id: fields.session_id("session_id", &session_id),
        states: states
            .iter()
            .filter_map(|state| fields.known("states", *state, state_from_wire))
            .collect(),
        kinds: kinds
            .iter()
            .filter_map(|kind| fields.known("kinds", *kind, kind_from_wire))
            .collect(),
        labels: fields.labels("labels", labels),
        created_after: fields.time("created_after", created_after),
        cursor: None,
        limit: fields.page_size("page_size", page_size),
    };
    let mut query = fields.finish(query).map_err(PageFault::Fields)?;
    if !page_token.is_empty() {
        query.cursor = Some(read::<CallCursor>(&page_token, &filters)?);
    }
    Ok((query, filters))
}

/// The token of the page behind this one.
pub(crate) fn next_call_token(next: Option<CallCursor>, filters: String) -> String {
    next.map(|cursor| write(cursor, filters)).unwrap_or_default()
}

/// The question behind a ListSessions, and what its tokens must be for.
pub(crate) fn list_sessions_query(
    who: &Principal,
    request: v1::ListSessionsRequest,
) -> Result<(SessionQuery, String), PageFault> {
    let filter =
        v1::ListSessionsRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    let filters = digest(&filter);
    let mut fields = Fields::default();
    let v1::ListSessionsRequest { page_size, page_token, state, labels, created_after } = request;
    let query = SessionQuery {
        tenant: who.tenant.clone(),
        states: session_states(fields.choice("state", state)),
        labels: fields.labels("labels", labels),
        created_after: fields.time("created_after", created_after),
        cursor: None,
        limit: fields.page_size("page_size", page_size),
    };
    let mut query = fields.finish(query).map_err(PageFault::Fields)?;
    if !page_token.is_empty() {
        query.cursor = Some(read::<SessionCursor>(&page_token, &filters)?);
    }
    Ok((query, filters))
}

/// The token of the page behind this one.
pub(crate) fn next_session_token(next: Option<SessionCursor>, filters: String) -> String {
    next.map(|cursor| write(cursor, filters)).unwrap_or_default()
}

/// As much of a page as fits into an answer, at least one entry, and where the next one begins.
pub(crate) fn fit<R, M: prost::Message, C>(
    records: Vec<R>,
    next: Option<C>,
    convert: impl Fn(R) -> M,
    cursor: impl Fn(&R) -> C,
) -> (Vec<M>, Option<C>) {
    let mut page = Vec::with_capacity(records.len());
    let (mut bytes, mut last) = (0, None);
    for record in records {
        let behind = cursor(&record);
        let message = convert(record);
        bytes += message.encoded_len();
        if bytes > PAGE_BYTES_MAX && !page.is_empty() {
            return (page, last);
        }
        page.push(message);
        last = Some(behind);
    }
    (page, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_where_it_would_be_too_large() {
        let entry = |number: u32| v1::Task {
            description: "x".repeat(PAGE_BYTES_MAX / 3),
            attempt: i32::try_from(number).unwrap(),
            ..Default::default()
        };
        let (page, next) = fit(vec![1, 2, 3, 4], None, entry, |number| *number);
        assert_eq!((page.len(), next), (2, Some(2)));
        let (page, next) = fit(vec![3, 4], Some(9), entry, |number| *number);
        assert_eq!((page.len(), next), (2, Some(9)));
    }
}
