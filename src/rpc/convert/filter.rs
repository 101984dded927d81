//! Conversions of list requests to queries. Each query comes with the binding of its page tokens.

use callpark_proto::v1;

use super::page::PageTokens;
use super::session::session_states;
use super::task::{kind_from_wire, state_from_wire};
use super::{FieldReader, PageError};
use crate::model::limits::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX};
use crate::model::{CallId, Principal, SessionId};
use crate::store::{CallQuery, PageTokenKey, SessionQuery};

/// Returns the query of a List.
pub(crate) fn list_query(
    principal: &Principal,
    request: v1::ListRequest,
    key: &PageTokenKey,
) -> Result<(CallQuery, PageTokens), PageError> {
    let filter = v1::ListRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    let tokens = PageTokens::new(key, "List", &filter);
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
        states: fields.all_known("states", states, state_from_wire),
        kinds: fields.all_known("kinds", kinds, kind_from_wire),
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
    let cursor = tokens.read(&page_token)?;
    Ok((CallQuery { cursor, ..query }, tokens))
}

/// Returns the query of a ListSessions.
pub(crate) fn list_sessions_query(
    principal: &Principal,
    request: v1::ListSessionsRequest,
    key: &PageTokenKey,
) -> Result<(SessionQuery, PageTokens), PageError> {
    let filter =
        v1::ListSessionsRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    let tokens = PageTokens::new(key, "ListSessions", &filter);
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
    let cursor = tokens.read(&page_token)?;
    Ok((SessionQuery { cursor, ..query }, tokens))
}

/// A page of tools or messages of one session.
pub(crate) struct PageQuery<C> {
    pub(crate) session_id: Option<SessionId>,
    /// The last entry of the page before; `None` for the first page.
    pub(crate) cursor: Option<C>,
    pub(crate) limit: u32,
    pub(crate) tokens: PageTokens,
}

/// Returns the query of a ListTools, and the requested view. The cursor is the name of the last tool.
pub(crate) fn list_tools_query(
    request: v1::ListToolsRequest,
    key: &PageTokenKey,
) -> Result<(PageQuery<String>, ToolView), PageError> {
    // The view does not change which tools there are, so a token is good for every view.
    let filter = v1::ListToolsRequest {
        page_size: 0,
        page_token: String::new(),
        view: v1::ToolView::Unspecified.into(),
        ..request.clone()
    };
    let tokens = PageTokens::new(key, "ListTools", &filter);
    let mut fields = FieldReader::default();
    let v1::ListToolsRequest { session_id, page_size, page_token, view } = request;
    let view = match fields.choice::<v1::ToolView>("view", view) {
        v1::ToolView::Unspecified | v1::ToolView::Full => ToolView::Full,
        v1::ToolView::Basic => ToolView::Basic,
    };
    let session_id = fields.session_id("session_id", &session_id);
    let limit = fields.page_size("page_size", page_size, PAGE_SIZE_MAX);
    let (session_id, limit, view) = fields.finish((session_id, limit, view))?;
    let cursor = tokens.read(&page_token)?;
    Ok((PageQuery { session_id, cursor, limit, tokens }, view))
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
    key: &PageTokenKey,
) -> Result<(SessionId, PageQuery<u64>), PageError> {
    let filter =
        v1::ListMessagesRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    let tokens = PageTokens::new(key, "ListMessages", &filter);
    let mut fields = FieldReader::default();
    let v1::ListMessagesRequest { session_id, page_size, page_token } = request;
    let session_id = fields.required_session_id("session_id", &session_id);
    let limit = fields.page_size("page_size", page_size, PAGE_SIZE_DEFAULT);
    let (session_id, limit) = fields.finish((session_id, limit))?;
    let cursor = tokens.read(&page_token)?;
    Ok((session_id, PageQuery { session_id: Some(session_id), cursor, limit, tokens }))
}
