//! Names of tools as every chat endpoint accepts them: a letter or `_`, then `a-z A-Z 0-9 _ -`, at most
//! 64 characters. The strictest rule is that of Gemini, whose names don't begin with a digit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::schema::{self, PortableSchema};
use crate::model::{Message, Tool};

/// The longest name that every endpoint accepts.
const NAME_CHARACTERS_MAX: usize = 64;

/// The number of digits behind a name that would otherwise not be unique.
const DIGITS: usize = 8;

/// The tools of one request, and those that only its history names, with their names at the endpoint.
#[derive(Debug, Default)]
pub(super) struct ToolNames {
    by_tool: BTreeMap<String, String>,
    by_wire_name: BTreeMap<String, String>,
    /// The tools that the endpoint is offered, in their order.
    offered: Vec<OfferedTool>,
}

/// A tool as the endpoint is offered it.
#[derive(Debug)]
pub(super) struct OfferedTool {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) schema: PortableSchema,
}

impl ToolNames {
    /// Names the tools. A name that endpoints accept stays; any other is spelled with the characters
    /// that they accept, the same in each request, with digits behind it if it isn't unique then.
    pub(super) fn new(tools: &[Tool], messages: &[Arc<Message>]) -> Self {
        let called = messages.iter().flat_map(|message| match &**message {
            Message::Assistant { calls, .. } => calls.as_slice(),
            Message::User { .. } | Message::Tool { .. } => &[],
        });
        let names: BTreeSet<&str> = tools
            .iter()
            .map(|tool| tool.name.as_str())
            .chain(called.map(|call| call.tool.as_str()))
            .collect();
        let mut claims: BTreeMap<String, u32> = BTreeMap::new();
        for name in &names {
            *claims.entry(spelled(name)).or_default() += 1;
        }
        let wire_name = |name: &str| {
            let spelled = spelled(name);
            let fits = spelled.len() <= NAME_CHARACTERS_MAX;
            let is_free = fits && claims.get(&spelled) == Some(&1);
            if spelled == name && fits || is_free { spelled } else { numbered(&spelled, name) }
        };
        let by_tool: BTreeMap<String, String> =
            names.iter().map(|name| ((*name).to_owned(), wire_name(name))).collect();
        let by_wire_name =
            by_tool.iter().map(|(tool, wire_name)| (wire_name.clone(), tool.clone())).collect();
        let mut seen = BTreeSet::new();
        // Endpoints refuse two tools of one name.
        let distinct = tools.iter().filter(|tool| seen.insert(tool.name.as_str()));
        let offered = distinct.map(|tool| OfferedTool {
            name: by_tool.get(&tool.name).cloned().unwrap_or_default(),
            description: tool.description.clone(),
            schema: schema::portable(&tool.input_schema),
        });
        let offered = offered.collect();
        Self { by_tool, by_wire_name, offered }
    }

    /// Returns the tools that are offered to the model.
    pub(super) fn offered(&self) -> &[OfferedTool] {
        &self.offered
    }

    /// Returns the name of a tool at the endpoint.
    pub(super) fn wire_name(&self, tool: &str) -> String {
        self.by_tool.get(tool).cloned().unwrap_or_else(|| spelled(tool))
    }

    /// Returns the name of the tool that the endpoint calls `name`. An unknown name is kept.
    pub(super) fn resolve(&self, name: &str) -> String {
        self.by_wire_name.get(name).cloned().unwrap_or_else(|| name.to_owned())
    }

    /// Returns arguments as the tool takes them. `name` is that of the endpoint.
    pub(super) fn unwrap_arguments(&self, name: &str, arguments: String) -> String {
        match self.is_wrapped(name) {
            true => schema::unwrap_arguments(&arguments).unwrap_or(arguments),
            false => arguments,
        }
    }

    /// Returns arguments as the endpoint was shown them.
    pub(super) fn wrap_arguments(&self, tool: &str, arguments: Value) -> Value {
        match self.is_wrapped(&self.wire_name(tool)) {
            true => schema::wrap_arguments(arguments),
            false => arguments,
        }
    }

    fn is_wrapped(&self, name: &str) -> bool {
        self.offered.iter().any(|tool| tool.name == name && tool.schema.is_wrapped)
    }
}

/// Returns a name in the characters that endpoints accept. It may be too long.
fn spelled(name: &str) -> String {
    let accepted = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' => character,
        _ => '_',
    };
    let spelled: String = name.chars().map(accepted).collect();
    match spelled.chars().next() {
        Some('a'..='z' | 'A'..='Z' | '_') => spelled,
        Some(_) => format!("_{spelled}"),
        None => "unnamed".to_owned(),
    }
}

/// Returns the spelling with digits that only the same name has.
fn numbered(spelled: &str, name: &str) -> String {
    let digest = Sha256::digest(name.as_bytes());
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let head = spelled.len().min(NAME_CHARACTERS_MAX - DIGITS - 1);
    format!("{}_{}", &spelled[..head], &digits[..DIGITS])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{CallId, ModelCall, Origin, ToolKind, ToolSource};

    fn tool(name: &str) -> Tool {
        Tool::new(name, "", json!({ "type": "object" }), ToolKind::Command, ToolSource::Config)
    }

    fn calls(tools: &[&str]) -> Vec<Arc<Message>> {
        let call = |tool: &&str| ModelCall {
            id: "a".into(),
            tool: (*tool).to_owned(),
            arguments: "{}".into(),
            call_id: CallId::random(),
            provider_data: None,
        };
        let calls = tools.iter().map(call).collect();
        vec![Arc::new(Message::Assistant {
            text: String::new(),
            calls,
            provider_data: None,
            note: None,
            origin: Origin::Model,
        })]
    }

    fn is_accepted(name: &str) -> bool {
        let characters = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let first = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        characters && first && name.len() <= 64
    }

    #[test]
    fn every_name_is_spelled_to_fit_and_mapped_back() {
        let long = "server__".to_owned() + &"x".repeat(80);
        let longer = long.clone() + "y";
        let odd = [
            "a.b",
            "a/b",
            "a_b",
            "1st",
            "-x",
            "",
            "wetter für morgen",
            "天気",
            "気温",
            &long,
            &longer,
        ];
        let tools: Vec<Tool> = odd.iter().map(|name| tool(name)).collect();
        let names = ToolNames::new(&tools, &calls(&["gone.tool", "functions.bash:0"]));
        for name in odd.into_iter().chain(["gone.tool", "functions.bash:0"]) {
            let wire_name = names.wire_name(name);
            assert!(is_accepted(&wire_name), "`{name}` is spelled `{wire_name}`");
            assert_eq!(names.resolve(&wire_name), name);
        }
        assert_eq!(names.wire_name("a_b"), "a_b", "a name that fits stays");
        assert_eq!(names.wire_name("gone.tool"), "gone_tool");
        assert_eq!(names.offered().len(), odd.len(), "each is offered");
    }

    #[test]
    fn the_order_of_the_tools_changes_no_name() {
        let spell = |order: &[&str]| {
            let tools: Vec<Tool> = order.iter().map(|name| tool(name)).collect();
            let names = ToolNames::new(&tools, &[]);
            ["a.b", "a/b"].map(|name| names.wire_name(name))
        };
        assert_eq!(spell(&["a.b", "a/b"]), spell(&["a/b", "a.b", "c"]));
    }

    #[test]
    fn a_name_that_is_offered_twice_is_sent_once_and_an_unknown_one_is_kept() {
        let names = ToolNames::new(&[tool("a"), tool("a")], &[]);
        assert_eq!(names.offered().len(), 1);
        assert_eq!(names.resolve("never.offered"), "never.offered");
    }

    #[test]
    fn arguments_of_a_wrapped_schema_are_unwrapped_and_wrapped_again() {
        let input_schema = json!({ "anyOf": [{ "required": ["a"] }, { "required": ["b"] }] });
        let names = ToolNames::new(&[Tool { input_schema, ..tool("a.b") }], &[]);
        let wire_name = names.wire_name("a.b");
        let wrapped = names.wrap_arguments("a.b", json!({ "a": 1 }));
        assert_eq!(wrapped, json!({ "arguments": { "a": 1 } }));
        assert_eq!(names.unwrap_arguments(&wire_name, wrapped.to_string()), r#"{"a":1}"#);
        assert_eq!(names.unwrap_arguments(&wire_name, r#"{"a":1}"#.into()), r#"{"a":1}"#);
        assert_eq!(names.unwrap_arguments("other", wrapped.to_string()), wrapped.to_string());
    }
}
