//! The title, the input and the locations of a call, which an agent completes by updates.

use agent_client_protocol::v1::schema::{ToolCallLocation, ToolCallUpdateFields};
use serde_json::{Map, Value};

/// The details of a call that are known so far.
#[derive(Debug, Default)]
pub(super) struct CallDetails {
    title: String,
    input: Option<Value>,
    locations: Vec<ToolCallLocation>,
    /// `true` once the call is shown, so that later changes are reported.
    is_shown: bool,
}

impl CallDetails {
    /// Takes over the details of an update. What an update leaves out or empty stays as it was.
    /// Returns the changes as text, if the call is shown already.
    pub(super) fn merge(&mut self, fields: &mut ToolCallUpdateFields) -> Option<String> {
        let before = (self.title.clone(), self.input.clone(), self.locations.len());
        if let Some(title) = fields.title.take().filter(|title| !title.trim().is_empty()) {
            self.title = title;
        }
        if let Some(input) = fields.raw_input.take().filter(|input| !is_empty(input)) {
            self.input = Some(input);
        }
        if let Some(locations) = fields.locations.take().filter(|places| !places.is_empty()) {
            self.locations = locations;
        }
        let has_input = before.1 != self.input;
        let has_changed = has_input || before.0 != self.title || before.2 != self.locations.len();
        (self.is_shown && has_changed).then(|| match &self.input {
            Some(input) if has_input => format!("{}: {input}", self.description()),
            Some(_) | None => self.description(),
        })
    }

    /// Marks the call as shown with its details so far.
    pub(super) fn set_shown(&mut self) {
        self.is_shown = true;
    }

    pub(super) fn has_input(&self) -> bool {
        self.input.is_some()
    }

    /// Returns the title, with the locations that it doesn't name.
    pub(super) fn description(&self) -> String {
        let places = self.locations.iter().filter_map(|place| {
            let path = place.path.display().to_string();
            let line = place.line.map(|line| format!(":{line}")).unwrap_or_default();
            (!self.title.contains(&path)).then(|| format!("{path}{line}"))
        });
        let places = places.collect::<Vec<_>>().join(", ");
        match (self.title.as_str(), places.as_str()) {
            (title, "") => title.to_owned(),
            ("", places) => places.to_owned(),
            (title, places) => format!("{title} ({places})"),
        }
    }

    /// Returns the input as an object.
    pub(super) fn arguments(&self) -> Map<String, Value> {
        match &self.input {
            Some(Value::Object(arguments)) => arguments.clone(),
            None | Some(Value::Null) => Map::new(),
            Some(other) => Map::from_iter([("input".to_owned(), other.clone())]),
        }
    }
}

/// Returns `true` for an input that says nothing: agents announce a call with one.
fn is_empty(input: &Value) -> bool {
    match input {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(title: &str, input: Value, path: &str) -> ToolCallUpdateFields {
        let mut fields = ToolCallUpdateFields::new();
        fields.title = Some(title.to_owned());
        fields.raw_input = Some(input);
        fields.locations = Some(match path {
            "" => Vec::new(),
            path => vec![ToolCallLocation::new(path).line(3)],
        });
        fields
    }

    #[test]
    fn an_update_completes_what_is_known() {
        let mut details = CallDetails::default();
        assert_eq!(details.merge(&mut fields("Terminal", json!({}), "")), None);
        assert!(!details.has_input() && details.arguments().is_empty());
        details.merge(&mut fields("`ls`", json!({ "command": "ls" }), "/x"));
        assert_eq!(details.description(), "`ls` (/x:3)");
        details.merge(&mut fields("", Value::Null, ""));
        assert_eq!(details.description(), "`ls` (/x:3)", "nothing is taken back");
        assert_eq!(Value::Object(details.arguments()), json!({ "command": "ls" }));
    }

    #[test]
    fn a_change_is_reported_once_the_call_is_shown() {
        let mut details = CallDetails::default();
        details.merge(&mut fields("Read", json!({}), ""));
        details.set_shown();
        assert_eq!(details.merge(&mut fields("Read", json!({}), "")), None);
        let change = details.merge(&mut fields("Read /x", json!({ "path": "/x" }), "/x"));
        assert_eq!(change.as_deref(), Some(r#"Read /x: {"path":"/x"}"#));
        let change = details.merge(&mut fields("Read /x (2 lines)", json!({}), ""));
        assert_eq!(change.as_deref(), Some("Read /x (2 lines)"));
    }
}
