//! Public access to private conversions for the fuzz targets in `fuzz/`, which are a crate of their
//! own. Compiled only with `--cfg fuzzing`.

use callpark_proto::v1;
use prost::Message;
use prost_types::Struct;
use serde_json::{Map, Value};
use tonic::Status;

use super::convert::{self, FieldReader, Fingerprint};
use crate::model::Principal;
use crate::store::{CallCursor, PageTokenKey, SessionCursor};

/// Decodes a request and converts it. Returns `None` for bytes that cannot be decoded.
pub type Reader = fn(&[u8]) -> Option<Result<(), Status>>;

/// The readers of all requests that have a conversion, by the name of their message.
pub const READERS: &[(&str, Reader)] = &[
    ("RunToolRequest", |bytes| {
        read(bytes, |request| convert::call_request(request).map_err(Status::from))
    }),
    ("RunTurnRequest", |bytes| {
        read(bytes, |request| convert::turn_request(request).map_err(Status::from))
    }),
    ("StartRequest", |bytes| {
        read(bytes, |request| convert::start_request(request).map_err(Status::from))
    }),
    ("CreateSessionRequest", |bytes| read(bytes, create_session)),
    ("StreamSessionRequest", |bytes| {
        read(bytes, |request| convert::stream_query(request).map_err(Status::from))
    }),
    ("ListRequest", |bytes| read(bytes, |request| call_page(&principal(), request))),
    ("ListSessionsRequest", |bytes| read(bytes, |request| session_page(&principal(), request))),
    ("CancelRequest", |bytes| read(bytes, |request| convert::cancel_request(request, None))),
    ("ReadOutputRequest", |bytes| read(bytes, convert::output_request)),
    ("WaitManyRequest", |bytes| read(bytes, wait_many)),
    ("GetRequest", |bytes| {
        read(bytes, |request: v1::GetRequest| convert::background_id(&request.background_id))
    }),
    ("UpdateSessionRequest", |bytes| {
        read(bytes, |request| convert::update_session_request(request).map_err(Status::from))
    }),
    ("ListToolsRequest", |bytes| {
        read(bytes, |request| convert::list_tools_query(request, &key()).map_err(Status::from))
    }),
    ("ListMessagesRequest", |bytes| {
        read(bytes, |request| convert::list_messages_query(request, &key()).map_err(Status::from))
    }),
];

fn read<M: Message + Default, T>(
    bytes: &[u8],
    convert: impl FnOnce(M) -> Result<T, Status>,
) -> Option<Result<(), Status>> {
    let request = M::decode(bytes).ok()?;
    Some(convert(request).map(|_| ()))
}

fn principal() -> Principal {
    Principal {
        tenant: crate::model::Tenant::new("fuzz"),
        name: "fuzz".into(),
        scopes: crate::model::Scopes::ALL,
    }
}

fn create_session(mut request: v1::CreateSessionRequest) -> Result<(), Status> {
    let mut fields = FieldReader::default();
    let request_id = std::mem::take(&mut request.request_id);
    fields.request_id("request_id", request_id, Fingerprint::none());
    convert::new_session(&mut fields, request);
    fields.finish(()).map_err(Status::from)
}

fn wait_many(request: v1::WaitManyRequest) -> Result<(), Status> {
    let mut fields = FieldReader::default();
    convert::many_ids(&mut fields, &request.background_ids);
    convert::wait_span(request.wait);
    fields.finish(()).map_err(Status::from)
}

/// The key of the page tokens.
fn key() -> PageTokenKey {
    PageTokenKey::new(&[7; 32])
}

/// Returns the cursor of a List, and the function that makes tokens for its filters.
///
/// # Errors
///
/// The status of an invalid List.
pub fn call_page(
    principal: &Principal,
    request: v1::ListRequest,
) -> Result<(Option<CallCursor>, impl Fn(CallCursor) -> String + use<>), Status> {
    let (query, tokens) = convert::list_query(principal, request, &key())?;
    Ok((query.cursor, move |cursor| tokens.next(Some(cursor))))
}

/// Returns the cursor of a ListSessions, and the function that makes tokens for its filters.
///
/// # Errors
///
/// The status of an invalid ListSessions.
pub fn session_page(
    principal: &Principal,
    request: v1::ListSessionsRequest,
) -> Result<(Option<SessionCursor>, impl Fn(SessionCursor) -> String + use<>), Status> {
    let (query, tokens) = convert::list_sessions_query(principal, request, &key())?;
    Ok((query.cursor, move |cursor| tokens.next(Some(cursor))))
}

/// Converts a struct to a JSON object.
///
/// # Errors
///
/// A status that names every value that JSON cannot represent.
pub fn map_from_struct(value: Struct) -> Result<Map<String, Value>, Status> {
    let mut fields = FieldReader::default();
    let map = convert::map_from_struct(&mut fields, "arguments", value);
    fields.finish(map).map_err(Status::from)
}

/// Converts a JSON object to a struct.
pub fn struct_from_map(map: Map<String, Value>) -> Struct {
    convert::struct_from_map(map)
}
