//! The tools for the resources and the prompts of MCP servers.

use serde_json::{Value, json};

/// The number of documents that the description of a tool names.
const DESCRIBED_MAX: usize = 20;

/// The longest description of a document, in characters.
const DESCRIPTION_CHARACTERS_MAX: usize = 160;

/// A resource or a prompt of an MCP server, in a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListedDocument {
    /// The URI of a resource, the template of such URIs, or the name of a prompt.
    pub name: String,
    /// The description.
    pub description: String,
    /// The arguments of a prompt. The names of optional ones end with `?`.
    pub arguments: Vec<String>,
}

/// Returns the description of the tool that reads the resources of a server.
pub fn read_resource_description(listed: &[ListedDocument]) -> String {
    format!("Reads a resource of this MCP server by its URI.\n{}", described(listed, "uri"))
}

/// Returns the description of the tool that gets the prompts of a server.
pub fn get_prompt_description(listed: &[ListedDocument]) -> String {
    format!(
        "Gets a prompt of this MCP server: instructions that its authors have written for a \
         task.\n{}",
        described(listed, "name")
    )
}

fn described(listed: &[ListedDocument], argument: &str) -> String {
    let mut text = document_list(&listed[..listed.len().min(DESCRIBED_MAX)]);
    text.push_str(&format!("Without `{argument}` it lists all of them."));
    text
}

/// Returns documents as a list, one on each line.
pub fn document_list(listed: &[ListedDocument]) -> String {
    let lines = listed.iter().map(|document| {
        let ListedDocument { name, description, arguments } = document;
        let arguments = match arguments.is_empty() {
            true => String::new(),
            false => format!("({})", arguments.join(", ")),
        };
        let description = description.split_whitespace().collect::<Vec<_>>().join(" ");
        let end = description.char_indices().nth(DESCRIPTION_CHARACTERS_MAX);
        match (description.as_str(), end) {
            ("", _) => format!("- {name}{arguments}\n"),
            (text, Some((end, _))) => format!("- {name}{arguments}: {}…\n", &text[..end]),
            (text, None) => format!("- {name}{arguments}: {text}\n"),
        }
    });
    lines.collect()
}

/// Returns the JSON Schema of the arguments of the tool that reads resources.
pub fn read_resource_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "uri": {
                "type": "string",
                "description": "The URI of the resource, or one that is made from a template. \
                                Leave it out to list the resources.",
            },
        },
        "additionalProperties": false,
    })
}

/// Returns the JSON Schema of the arguments of the tool that gets prompts.
pub fn get_prompt_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {
                "type": "string",
                "description": "The name of the prompt. Leave it out to list the prompts.",
            },
            "arguments": {
                "type": "object",
                "additionalProperties": { "type": "string" },
                "description": "The arguments of the prompt.",
            },
        },
        "additionalProperties": false,
    })
}

/// Returns a message of a prompt as text.
pub fn prompt_message(role: &str, text: &str) -> String {
    format!("[{role}]: {text}")
}
