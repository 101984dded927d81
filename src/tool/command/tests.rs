use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::*;

#[derive(Debug, Deserialize)]
struct File {
    tools: Vec<CommandToolConfig>,
}

const GREP: &str = r#"
[[tools]]
name = "grep"
description = "Searches files."
argv = ["grep", "--count={limit}", "{mode}", "--", "{pattern}", "{paths...}"]
environment = ["PATH", "HOME", "ABSENT"]
set_environment = { LANG = "C", HOME = "/nowhere" }
call_budget = "90s"
execution_timeout = "1h 30m"
working_directory = "sub"
stdin = "{text}"
read_only = true

[tools.input_schema]
type = "object"
required = ["pattern", "paths"]
[tools.input_schema.properties]
pattern = { type = "string" }
paths = { type = "array", items = { type = "string" } }
limit = { type = "integer", minimum = 1 }
mode = { enum = ["-i", "-v"] }
text = { type = "string" }
"#;

fn parse(toml: &str) -> Result<CommandToolConfig, toml::de::Error> {
    toml::from_str::<File>(toml).map(|mut file| file.tools.remove(0))
}

fn load(config: Value) -> Result<CommandTool, CommandToolError> {
    CommandTool::new(serde_json::from_value(config).unwrap())
}

fn prepare(tool: &CommandTool, arguments: Value) -> Result<ProcessSpec, Vec<ArgumentError>> {
    let variables = [("PATH", "/bin"), ("HOME", "/root"), ("TOKEN", "x")];
    let context = CallContext {
        working_directory: Some(PathBuf::from("/srv")),
        environment: Arc::new(variables.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
    };
    tool.prepare(arguments.as_object().unwrap(), &context).map(|work| match work {
        Work::Process(spec) => spec,
        _ => panic!("not a process"),
    })
}

#[test]
fn a_tool_is_what_its_table_says() {
    let tool = CommandTool::new(parse(GREP).unwrap()).unwrap();
    let described = tool.describe();
    assert_eq!(
        (described.name.as_str(), described.description.as_str()),
        ("grep", "Searches files.")
    );
    assert_eq!(described.call_budget, Some(Duration::from_secs(90)));
    assert_eq!(described.execution_timeout, Some(Duration::from_secs(5400)));
    assert_eq!(
        (described.read_only, described.idempotent, described.concurrent_safe),
        (true, false, true)
    );
    assert_eq!((described.kind, &described.source), (ToolKind::Command, &ToolSource::Config));
    assert_eq!(described.input_schema["properties"]["limit"]["minimum"], 1);
}

#[test]
fn unset_keys_have_defaults() {
    let tool = load(json!({ "name": "now", "argv": ["date"] })).unwrap();
    let described = tool.describe();
    assert_eq!(described.call_budget, Some(Duration::from_secs(600)));
    assert_eq!(described.execution_timeout, None);
    assert!(described.concurrent_safe && !described.read_only && !described.idempotent);
    let spec = prepare(&tool, json!({})).unwrap();
    assert_eq!(spec.argv, ["date"]);
    assert_eq!(spec.environment, BTreeMap::new());
    assert_eq!(spec.working_directory, Some(PathBuf::from("/srv")));
    assert_eq!(spec.stdin, None);
    let tool = load(json!({ "name": "now", "argv": ["date"], "call_budget": "never" })).unwrap();
    assert_eq!(tool.describe().call_budget, None);
}

#[test]
fn arguments_are_rendered_into_their_positions() {
    let tool = CommandTool::new(parse(GREP).unwrap()).unwrap();
    let arguments = json!({ "pattern": "a; rm -rf {x}", "paths": ["p q", "r"], "text": "in" });
    let spec = prepare(&tool, arguments).unwrap();
    assert_eq!(spec.argv, ["grep", "--", "a; rm -rf {x}", "p q", "r"]);
    assert_eq!(spec.stdin, Some(Bytes::from_static(b"in")));
    assert_eq!(spec.working_directory, Some(PathBuf::from("/srv/sub")));
    let expected = [("HOME", "/nowhere"), ("LANG", "C"), ("PATH", "/bin")];
    assert_eq!(spec.environment, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    let arguments = json!({ "pattern": "x", "paths": [], "limit": 3, "mode": "-i" });
    let spec = prepare(&tool, arguments).unwrap();
    assert_eq!(spec.argv, ["grep", "--count=3", "-i", "--", "x"]);
    assert_eq!(spec.stdin, None);
}

#[test]
fn values_that_cannot_be_passed_to_a_program_are_errors() {
    let tool = CommandTool::new(parse(GREP).unwrap()).unwrap();
    let long = "x".repeat(200_000);
    let arguments = json!({ "pattern": long, "paths": ["a\0"], "text": "\0" });
    let errors = prepare(&tool, arguments).unwrap_err();
    let paths: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(paths, ["pattern", "paths[0]", "text"]);
}

#[test]
fn invalid_tables_are_refused() {
    let schema = json!({ "type": "object", "properties": { "a": {} } });
    for (change, expected) in [
        (json!({ "argv": [] }), "argv"),
        (json!({ "argv": [""] }), "argv"),
        (json!({ "argv": ["{a}"] }), "argv[0]"),
        (json!({ "argv": ["{a...}", "x"] }), "argv[0]"),
        (json!({ "argv": ["x", "{b}"] }), "argv[1] `{b}` names the argument `b`"),
        (json!({ "argv": ["x", "-{a"] }), "argv[1] `-{a`"),
        (json!({ "argv": ["x", "-{a...}"] }), "argv[1] `-{a...}`"),
        (json!({ "argv": ["x\0"] }), "argv[0]"),
        (json!({ "stdin": "{a...}" }), "stdin"),
        (json!({ "stdin": "{b}" }), "stdin"),
        (json!({ "environment": ["A=B"] }), "environment: `A=B`"),
        (json!({ "set_environment": { "CALLPARK_X": "1" } }), "set_environment: `CALLPARK_X`"),
        (json!({ "set_environment": { "A": "\0" } }), "set_environment.A"),
        (json!({ "working_directory": "\0" }), "working_directory"),
        (json!({ "call_budget": "31d" }), "call_budget must be between 0s and 30days"),
        (json!({ "execution_timeout": "0s" }), "execution_timeout must be between 1ms and 30days"),
    ] {
        let mut config = json!({ "name": "deploy", "argv": ["x"], "input_schema": schema });
        let change = change.as_object().unwrap().clone();
        config.as_object_mut().unwrap().extend(change);
        let error = load(config).unwrap_err().to_string();
        assert!(error.starts_with("tool `deploy`: ") && error.contains(expected), "{error}");
    }
}

#[test]
fn spelling_mistakes_are_found() {
    for (line, expected) in [
        ("descripton = \"x\"", "descripton"),
        ("call_budget = \"soon\"", "never"),
        ("execution_timeout = \"1 parsec\"", "1 parsec"),
    ] {
        let toml = format!("[[tools]]\nname = \"x\"\nargv = [\"x\"]\n{line}\n");
        let error = parse(&toml).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("line 4"), "{error}");
    }
}

#[test]
fn a_configuration_reads_back_as_it_was_written() {
    for toml in [GREP, "[[tools]]\nname = \"x\"\nargv = [\"x\"]\ncall_budget = \"never\"\n"] {
        let config = parse(toml).unwrap();
        let written = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<CommandToolConfig>(&written).unwrap(), config);
    }
}
