//! The tools of a server, by name.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::schema::Schema;
use super::{ArgumentError, Arguments, CallableTool};
use crate::model::Tool;

/// The longest name of a tool, in bytes.
pub const TOOL_NAME_BYTES_MAX: usize = 64;

/// The reason why tools cannot be offered together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The name of a tool is not valid.
    #[error(
        "tool name `{name}` must be 1 to {TOOL_NAME_BYTES_MAX} characters of a-z A-Z 0-9 _ - ."
    )]
    NameInvalid {
        /// The name.
        name: String,
    },
    /// Two tools have one name.
    #[error("two tools are named `{name}`: rename or remove one of them")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The input schema of a tool is not valid.
    #[error("the input_schema of tool `{tool}` is not a valid JSON Schema: {cause}")]
    SchemaInvalid {
        /// The tool.
        tool: String,
        /// The error, and its position in the schema.
        cause: String,
    },
}

/// An immutable set of tools, with their compiled schemas.
#[derive(Debug, Default)]
pub struct Registry {
    tools: BTreeMap<String, Registered>,
}

struct Registered {
    tool: Arc<dyn CallableTool>,
    schema: Schema,
}

impl Registry {
    /// Checks the names of the tools and compiles their schemas.
    ///
    /// # Errors
    ///
    /// The first tool whose name is invalid or taken, or whose schema is invalid.
    pub fn new(tools: Vec<Arc<dyn CallableTool>>) -> Result<Self, RegistryError> {
        let mut registry = Self { tools: BTreeMap::new() };
        for tool in tools {
            registry.add(tool)?;
        }
        Ok(registry)
    }

    /// Creates a registry of the tools that are valid, and returns the errors of the others.
    pub fn of_first(tools: Vec<Arc<dyn CallableTool>>) -> (Self, Vec<RegistryError>) {
        let mut registry = Self::default();
        let refused = tools.into_iter().filter_map(|tool| registry.add(tool).err()).collect();
        (registry, refused)
    }

    fn add(&mut self, tool: Arc<dyn CallableTool>) -> Result<(), RegistryError> {
        let name = tool.describe().name.clone();
        if !is_tool_name(&name) {
            return Err(RegistryError::NameInvalid { name });
        }
        let schema = Schema::of(tool.describe())
            .map_err(|cause| RegistryError::SchemaInvalid { tool: name.clone(), cause })?;
        match self.tools.entry(name) {
            Entry::Occupied(taken) => Err(RegistryError::NameTaken { name: taken.key().clone() }),
            Entry::Vacant(free) => {
                free.insert(Registered { tool, schema });
                Ok(())
            }
        }
    }

    /// Returns the tool of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn CallableTool>> {
        self.tools.get(name).map(|registered| &registered.tool)
    }

    /// Returns all tools, sorted by name.
    pub fn list(&self) -> impl Iterator<Item = &Tool> {
        self.tools.values().map(|registered| registered.tool.describe())
    }

    /// Checks arguments against the input schema of a tool.
    ///
    /// # Errors
    ///
    /// Every error with its path, or the first hundred and the number of the others. An unknown tool is
    /// an error of the root.
    pub fn check(&self, name: &str, arguments: &Arguments) -> Result<(), Vec<ArgumentError>> {
        let Some(registered) = self.tools.get(name) else {
            let description = format!("there is no tool named `{name}`");
            return Err(vec![ArgumentError { path: String::new(), description }]);
        };
        registered.schema.check(arguments)
    }
}

/// Checks arguments against the input schema of a tool that is in no registry.
///
/// # Errors
///
/// The errors of [`Registry::check`], or that of a schema that is not valid.
pub fn check_arguments(tool: &Tool, arguments: &Arguments) -> Result<(), Vec<ArgumentError>> {
    let unfit = |description| vec![ArgumentError { path: String::new(), description }];
    Schema::of(tool).map_err(unfit)?.check(arguments)
}

/// Checks that arguments can be checked against a schema. Nothing is fetched for it.
///
/// # Errors
///
/// The part that is not valid JSON Schema, or is more than callpark can do, and its position.
pub fn check_schema(schema: &Value) -> Result<(), String> {
    Schema::compile(schema).map(drop)
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tool.describe().fmt(f)
    }
}

/// Returns `true` for a valid name of a tool.
pub fn is_tool_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=TOOL_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::tool::{BuiltInOptions, CommandTool, CommandToolConfig, bash, python};

    fn options() -> BuiltInOptions {
        BuiltInOptions { call_budget: Duration::from_secs(600), environment: Vec::new() }
    }

    fn tool(name: &str, input_schema: Value) -> Arc<dyn CallableTool> {
        let config = json!({ "name": name, "argv": ["true"], "input_schema": input_schema });
        let config: CommandToolConfig = serde_json::from_value(config).unwrap();
        Arc::new(CommandTool::new(config).unwrap())
    }

    fn plain(name: &str) -> Arc<dyn CallableTool> {
        tool(name, json!({ "type": "object" }))
    }

    #[test]
    fn tools_are_found_and_listed_by_name() {
        let registry =
            Registry::new(vec![plain("z"), python(options()), bash(options()), plain("A.b-c_9")])
                .unwrap();
        let names: Vec<&str> = registry.list().map(|tool| tool.name.as_str()).collect();
        assert_eq!(names, ["A.b-c_9", "bash", "python", "z"]);
        assert_eq!(registry.get("bash").unwrap().describe().name, "bash");
        assert!(registry.get("Bash").is_none());
    }

    #[test]
    fn names_are_checked() {
        for name in ["", "a b", "a/b", "ü", &"x".repeat(65)] {
            let error = Registry::new(vec![plain(name)]).unwrap_err();
            assert_eq!(error, RegistryError::NameInvalid { name: name.to_owned() });
        }
        assert!(Registry::new(vec![plain(&"x".repeat(64))]).is_ok());
        let error = Registry::new(vec![bash(options()), plain("bash")]).unwrap_err();
        assert_eq!(error, RegistryError::NameTaken { name: "bash".to_owned() });
    }

    #[test]
    fn a_bad_schema_names_its_tool() {
        let error = Registry::new(vec![tool("deploy", json!({ "type": 7 }))]).unwrap_err();
        assert!(error.to_string().contains("`deploy`"), "{error}");
    }

    #[test]
    fn arguments_are_checked_against_the_schema_of_their_tool() {
        let registry = Registry::new(vec![bash(options())]).unwrap();
        let check = |arguments: Value| registry.check("bash", arguments.as_object().unwrap());
        assert_eq!(check(json!({ "command": "ls" })), Ok(()));
        let errors = check(json!({ "command": 1, "env": { "A": 2 } })).unwrap_err();
        assert_eq!(errors.len(), 2);
        let errors = registry.check("zsh", &Arguments::new()).unwrap_err();
        assert!(errors[0].description.contains("zsh"));
    }
}
