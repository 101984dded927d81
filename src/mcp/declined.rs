//! Requests of a server that need a person or a model, which callpark does not ask on its behalf.

use rmcp::model::{ElicitRequestParams, ServerRequest};
use serde_json::Value;

/// Returns the report of such a request, or `None` for other requests. The library answers it: an
/// elicitation with `decline`, sampling with an error.
pub(super) fn declined(request: &ServerRequest) -> Option<String> {
    const ELICITATION: &str = "input from a person (elicitation)";
    const SAMPLING: &str = "a model's answer (sampling)";
    let (what, words) = match request {
        ServerRequest::CreateMessageRequest(_) => (SAMPLING, ""),
        ServerRequest::ElicitRequest(request) => match &request.params {
            ElicitRequestParams::FormElicitationParams { message, .. }
            | ElicitRequestParams::UrlElicitationParams { message, .. } => {
                (ELICITATION, message.as_str())
            }
            _ => (ELICITATION, ""),
        },
        // One whose parameters the library cannot read.
        ServerRequest::CustomRequest(request) => {
            let message = request.params.as_ref().and_then(|params| params.get("message"));
            let message = message.and_then(Value::as_str).unwrap_or_default();
            match request.method.as_str() {
                "elicitation/create" => (ELICITATION, message),
                "sampling/createMessage" => (SAMPLING, ""),
                _ => return None,
            }
        }
        _ => return None,
    };
    let words = if words.is_empty() { String::new() } else { format!(": {words}") };
    Some(format!("the server asked for {what}, which was declined{words}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(request: Value) -> Option<String> {
        declined(&serde_json::from_value(request).unwrap())
    }

    #[test]
    fn a_request_that_breaks_the_protocol_is_reported_too() {
        let odd = json!({ "message": "Your name?", "requestedSchema": { "type": 7 } });
        let elicitation = report(json!({ "method": "elicitation/create", "params": odd }));
        assert_eq!(
            elicitation.as_deref(),
            Some(
                "the server asked for input from a person (elicitation), which was declined: Your \
                 name?"
            )
        );
        let sampling = report(json!({ "method": "sampling/createMessage", "params": {} }));
        assert!(sampling.is_some_and(|report| report.contains("(sampling), which was declined")));
        assert_eq!(report(json!({ "method": "ping" })), None);
    }
}
