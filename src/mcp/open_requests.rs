//! The requests that a server has not answered, as far as its answers need them to be read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ClientRequest, JsonRpcMessage, RequestId,
};
use serde_json::Value;

/// The most open requests that are remembered. Beyond it the kind of the oldest is forgotten: its
/// answer must then be valid as it is.
const OPEN_MAX: usize = 10_000;

/// The kind of a request, which decides how its result is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Discover,
    Initialize,
    ListTools,
    CallTool,
    GetTask,
    Other,
}

/// The open requests of one connection.
#[derive(Debug, Clone, Default)]
pub(super) struct OpenRequests(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    methods: HashMap<RequestId, Method>,
    /// The largest id so far. Smaller ones belong to requests that are over.
    largest: i64,
    /// The largest id of a request that was forgotten, if any. One that is not larger may be open.
    forgotten: Option<i64>,
}

impl Open {
    /// Returns the kind of a request that may be open.
    fn method(&self, id: &RequestId) -> Option<Method> {
        let of_forgotten = || self.is_forgotten(id).then_some(Method::Other);
        self.methods.get(id).copied().or_else(of_forgotten)
    }

    /// Returns `true` if the request may have been forgotten. An answer to one that is over does no harm:
    /// nothing waits for it.
    fn is_forgotten(&self, id: &RequestId) -> bool {
        match (id, self.forgotten) {
            (RequestId::Number(number), Some(forgotten)) => (0..=forgotten).contains(number),
            _ => false,
        }
    }
}

impl OpenRequests {
    /// Takes note of a message on its way to the server.
    pub(super) fn sent(&self, message: &ClientJsonRpcMessage) {
        match message {
            JsonRpcMessage::Request(request) => {
                self.insert(request.id.clone(), method_of(&request.request));
            }
            JsonRpcMessage::Notification(notification) => {
                if let ClientNotification::CancelledNotification(cancelled) =
                    &notification.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    self.take(id);
                }
            }
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => {}
        }
    }

    pub(super) fn insert(&self, id: RequestId, method: Method) {
        let mut open = self.lock();
        if let RequestId::Number(number) = id {
            open.largest = open.largest.max(number);
        }
        if open.methods.len() >= OPEN_MAX {
            let oldest = open.methods.keys().min_by_key(|id| match id {
                RequestId::Number(number) => *number,
                RequestId::String(_) => i64::MAX,
            });
            if let Some(oldest) = oldest.cloned() {
                open.methods.remove(&oldest);
                if let RequestId::Number(number) = oldest {
                    open.forgotten = open.forgotten.max(Some(number));
                }
            }
        }
        open.methods.insert(id, method);
    }

    /// Ends a request. Returns its kind, or `None` if it is not open.
    pub(super) fn take(&self, id: &RequestId) -> Option<Method> {
        let mut open = self.lock();
        let method = open.method(id);
        open.methods.remove(id);
        method
    }

    /// Returns the open request with this id. A number may have been written as a text or with a
    /// fraction of zero.
    pub(super) fn find(&self, id: &Value) -> Option<RequestId> {
        let id = request_id(id)?;
        let open = self.lock();
        if open.method(&id).is_some() {
            return Some(id);
        }
        let RequestId::String(text) = &id else { return None };
        let number = RequestId::Number(text.trim().parse().ok()?);
        open.method(&number).map(|_| number)
    }

    /// Returns the only open request, or `None` if there are several or none.
    pub(super) fn only(&self) -> Option<(RequestId, Method)> {
        let open = self.lock();
        let mut requests = open.methods.iter();
        let (id, method) = requests.next()?;
        requests.next().is_none().then(|| (id.clone(), *method))
    }

    /// Returns `true` if a request that is over had this id.
    pub(super) fn is_over(&self, id: &Value) -> bool {
        match request_id(id) {
            Some(RequestId::Number(number)) => (0..=self.lock().largest).contains(&number),
            Some(RequestId::String(_)) | None => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the id that a JSON value stands for.
fn request_id(id: &Value) -> Option<RequestId> {
    match id {
        Value::Number(number) => {
            let whole = number.as_i64().or_else(|| {
                let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
                // Beyond it a float is no exact number.
                #[expect(clippy::cast_possible_truncation, reason = "the bound is checked")]
                (float.abs() < 9e15).then_some(float as i64)
            })?;
            Some(RequestId::Number(whole))
        }
        Value::String(text) => Some(RequestId::String(text.as_str().into())),
        _ => None,
    }
}

fn method_of(request: &ClientRequest) -> Method {
    match request {
        ClientRequest::DiscoverRequest(_) => Method::Discover,
        ClientRequest::InitializeRequest(_) => Method::Initialize,
        ClientRequest::ListToolsRequest(_) => Method::ListTools,
        ClientRequest::CallToolRequest(_) => Method::CallTool,
        ClientRequest::GetTaskRequest(_) => Method::GetTask,
        _ => Method::Other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_id_is_found_in_every_form() {
        let open = OpenRequests::default();
        open.insert(RequestId::Number(5), Method::CallTool);
        for id in [json!(5), json!("5"), json!(5.0), json!(" 5 ")] {
            assert_eq!(open.find(&id), Some(RequestId::Number(5)), "{id}");
        }
        for id in [json!(6), json!("five"), json!(5.5), json!(null), json!([5]), json!(1e300)] {
            assert_eq!(open.find(&id), None, "{id}");
        }
    }

    #[test]
    fn of_the_oldest_of_too_many_only_the_kind_is_forgotten() {
        let open = OpenRequests::default();
        (0..=OPEN_MAX).for_each(|id| open.insert(RequestId::Number(id as i64), Method::CallTool));
        assert_eq!(open.find(&json!("0")), Some(RequestId::Number(0)));
        assert_eq!(open.take(&RequestId::Number(0)), Some(Method::Other));
        assert_eq!(open.take(&RequestId::Number(1)), Some(Method::CallTool));
        assert_eq!(open.take(&RequestId::Number(1)), None);
    }

    #[test]
    fn an_answer_that_comes_late_is_known_as_one() {
        let open = OpenRequests::default();
        open.insert(RequestId::Number(3), Method::Other);
        open.take(&RequestId::Number(3));
        assert!(open.is_over(&json!(3)) && !open.is_over(&json!(4)) && !open.is_over(&json!(-1)));
    }
}
