//! Conversions of list requests to queries. Each query comes with the digest that its page tokens are
//! bound to.

use callpark_proto::v1;

use super::page::{decode_token, digest};
use super::session::session_states;
use super::task::{kind_from_wire, state_from_wire};
use super::{FieldReader, PageError};
use crate::model::limits::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX};
use crate::model::{CallId, Principal, SessionId};
use crate::store::{CallQuery, SessionQuery};

/// Returns the query of a List.
pub(crate) fn list_query(
    principal: &Principal,
    request: v1::ListRequest,
) -> Result<(CallQuery, String), PageError> {
    let filter = v1::ListRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    let filters = digest(&filter);
    let mut fields = FieldReader::default();
    let v1::ListRequest {
        session_id,
        states,
        kinds,
        labels,
        created_after,
        page_size,
        page_token,
        background_id_prefix,
    } = request;
    let query = CallQuery {
        tenant: principal.tenant.clone(),
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
        ids: fields.ids(
            "background_id_prefix",
            &background_id_prefix,
            CallId::parse_background_beginning,
        ),
        cursor: None,
        limit: fields.page_size("page_size", page_size, PAGE_SIZE_DEFAULT),
    };
    let query = fields.finish(query)?;
    let cursor = decode_token(&page_token, &filters)?;
    Ok((CallQuery { cursor, ..query }, filters))
}

/// Returns the query of a ListSessions.
pub(crate) fn list_sessions_query(
    principal: &Principal,
    request: v1::ListSessionsRequest,
) -> Result<(SessionQuery, String), PageError> {
    let filter =
        v1::ListSessionsRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    let filters = digest(&filter);
    let mut fields = FieldReader::default();
    let v1::ListSessionsRequest {
        page_size,
        page_token,
        state,
        labels,
        created_after,
        session_id_prefix,
    } = request;
    let query = SessionQuery {
        tenant: principal.tenant.clone(),
        states: session_states(fields.choice("state", state)),
        labels: fields.labels("labels", labels),
        created_after: fields.time("created_after", created_after),
        ids: fields.ids("session_id_prefix", &session_id_prefix, SessionId::parse_beginning),
        cursor: None,
        limit: fields.page_size("page_size", page_size, PAGE_SIZE_DEFAULT),
    };
    let query = fields.finish(query)?;
    let cursor = decode_token(&page_token, &filters)?;
    Ok((SessionQuery { cursor, ..query }, filters))
}

/// A page of tools or messages of one session.
pub(crate) struct PageQuery<C> {
    pub(crate) session_id: Option<SessionId>,
    /// The last entry of the page before; `None` for the first page.
    pub(crate) cursor: Option<C>,
    pub(crate) limit: u32,
    /// The digest that the token of the next page is bound to.
    pub(crate) filters: String,
}

/// Returns the query of a ListTools, and the requested view. The cursor is the name of the last tool.
pub(crate) fn list_tools_query(
    request: v1::ListToolsRequest,
) -> Result<(PageQuery<String>, ToolView), PageError> {
    // The view does not change which tools there are, so a token is good for every view.
    let filter = v1::ListToolsRequest {
        page_size: 0,
        page_token: String::new(),
        view: v1::ToolView::Unspecified.into(),
        ..request.clone()
    };
    let filters = digest(&filter);
    let mut fields = FieldReader::default();
    let v1::ListToolsRequest { session_id, page_size, page_token, view } = request;
    let view = match fields.choice::<v1::ToolView>("view", view) {
        v1::ToolView::Unspecified | v1::ToolView::Full => ToolView::Full,
        v1::ToolView::Basic => ToolView::Basic,
    };
    let session_id = fields.session_id("session_id", &session_id);
    let limit = fields.page_size("page_size", page_size, PAGE_SIZE_MAX);
    let (session_id, limit, view) = fields.finish((session_id, limit, view))?;
    let cursor = decode_token(&page_token, &filters)?;
    Ok((PageQuery { session_id, cursor, limit, filters }, view))
}

/// The amount of detail in a list of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ToolView {
    Basic,
    Full,
}

/// Returns the query of a ListMessages. The cursor is the number of the last message.
pub(crate) fn list_messages_query(
    request: v1::ListMessagesRequest,
) -> Result<(SessionId, PageQuery<u64>), PageError> {
    let filter =
        v1::ListMessagesRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    let filters = digest(&filter);
    let mut fields = FieldReader::default();
    let v1::ListMessagesRequest { session_id, page_size, page_token } = request;
    let session_id = fields.required_session_id("session_id", &session_id);
    let limit = fields.page_size("page_size", page_size, PAGE_SIZE_DEFAULT);
    let (session_id, limit) = fields.finish((session_id, limit))?;
    let cursor = decode_token(&page_token, &filters)?;
    Ok((session_id, PageQuery { session_id: Some(session_id), cursor, limit, filters }))
}
