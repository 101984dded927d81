//! The tools for the resources and the prompts of MCP servers.

use serde_json::{Value, json};

use super::fence::{name as plain_name, quoted};

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
    /// The arguments of a prompt.
    pub arguments: Vec<ListedArgument>,
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

/// An argument of a prompt, as it is listed for a model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListedArgument {
    /// The name.
    pub name: String,
    /// `true` if it may be left out.
    pub is_optional: bool,
}

/// Returns documents as a list, one on each line. The words of the server are quoted.
pub fn document_list(listed: &[ListedDocument]) -> String {
    let lines = listed.iter().map(|document| {
        let ListedDocument { name, description, arguments } = document;
        let name = quoted(name);
        let arguments: Vec<_> = arguments.iter().map(argument).collect();
        let arguments = match arguments.as_slice() {
            [] => String::new(),
            arguments => format!("({})", arguments.join(", ")),
        };
        let description = description.split_whitespace().collect::<Vec<_>>().join(" ");
        let end = description.char_indices().nth(DESCRIPTION_CHARACTERS_MAX);
        match (description.as_str(), end) {
            ("", _) => format!("- {name}{arguments}\n"),
            (text, Some((end, _))) => format!("- {name}{arguments}: {}…\n", quoted(&text[..end])),
            (text, None) => format!("- {name}{arguments}: {}\n", quoted(text)),
        }
    });
    lines.collect()
}

/// Returns the name of an argument; `?` behind it says that it is optional.
fn argument(argument: &ListedArgument) -> String {
    let name = plain_name(&argument.name);
    if argument.is_optional { format!("{name}?") } else { name.into_owned() }
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

/// Returns a message of a prompt as text. All of it is the server's.
pub fn prompt_message(role: &str, text: &str) -> String {
    format!("[{role}]: {text}")
}

/// Returns a text in the result of an MCP server with the address that it comes from. All of it is the
/// server's.
pub fn document_text(uri: &str, text: &str) -> String {
    format!("{}:\n{text}", quoted(uri))
}
