//! The tools that every server has: a shell and Python.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::values::ArgumentErrors;
use super::{ArgumentError, Arguments, CallContext, CallableTool, Work};
use crate::model::{Environment, ProcessSpec, Tool, ToolKind, ToolSource};

/// The options of the built-in tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltInOptions {
    /// The time after which a call is parked.
    pub call_budget: Duration,
    /// The names of the environment variables of the server that the processes see.
    pub environment: Vec<String>,
}

/// Runs a command line: `bash -c <command>`.
pub fn bash(options: BuiltInOptions) -> Arc<dyn CallableTool> {
    Arc::new(Interpreter {
        program: "bash",
        code: "command",
        tool: tool(
            "bash",
            "Runs a bash command line and returns what it writes to stdout and stderr, and its \
             exit code.",
            schema("command", "The command line, as for `bash -c`."),
            options.call_budget,
        ),
        environment: options.environment,
    })
}

/// Runs a Python program: `python3 -c <code>`.
pub fn python(options: BuiltInOptions) -> Arc<dyn CallableTool> {
    Arc::new(Interpreter {
        program: "python3",
        code: "code",
        tool: tool(
            "python",
            "Runs a Python 3 program and returns what it writes to stdout and stderr, and its \
             exit code.",
            schema("code", "The program, as for `python3 -c`."),
            options.call_budget,
        ),
        environment: options.environment,
    })
}

/// A tool that passes its code to an interpreter as one argument.
struct Interpreter {
    program: &'static str,
    /// The name of the argument that holds the code.
    code: &'static str,
    tool: Tool,
    environment: Vec<String>,
}

impl Interpreter {
    fn allowed(&self, context: &CallContext) -> Environment {
        let value_of = |name: &String| Some((name.clone(), context.environment.get(name)?.clone()));
        self.environment.iter().filter_map(value_of).collect()
    }
}

impl CallableTool for Interpreter {
    fn describe(&self) -> &Tool {
        &self.tool
    }

    /// Prepares a process that sees a few variables of the server and those in `env`, which win. A
    /// relative `cwd` is joined to the working directory of the context.
    fn prepare(
        &self,
        arguments: &Arguments,
        context: &CallContext,
    ) -> Result<Work, Vec<ArgumentError>> {
        let mut errors = ArgumentErrors::default();
        let code = errors.text(self.code, arguments.get(self.code)).unwrap_or_default();
        if code.is_empty() {
            errors.add(self.code, "is required and must not be empty");
        }
        errors.check_length(self.code, code.len());
        let directory = errors.text("cwd", arguments.get("cwd"));
        let stdin = errors.text("stdin", arguments.get("stdin"));
        let mut environment = self.allowed(context);
        environment.extend(errors.variables("env", arguments.get("env")));
        let base = context.working_directory.clone();
        errors.finish(Work::Process(ProcessSpec {
            argv: vec![self.program.to_owned(), "-c".to_owned(), code.to_owned()],
            working_directory: match directory {
                Some(directory) => Some(base.unwrap_or_default().join(directory)),
                None => base,
            },
            environment,
            stdin: stdin.map(|text| Bytes::copy_from_slice(text.as_bytes())),
        }))
    }
}

fn tool(name: &str, description: &str, input_schema: Value, call_budget: Duration) -> Tool {
    Tool {
        destructive: true,
        call_budget: Some(call_budget),
        ..Tool::new(name, description, input_schema, ToolKind::Command, ToolSource::BuiltIn)
    }
}

fn schema(code: &str, description: &str) -> Value {
    json!({
        "type": "object",
        "properties": {
            code: { "type": "string", "minLength": 1, "description": description },
            "cwd": {
                "type": "string",
                "minLength": 1,
                "description": "Where it runs. Default: the working directory of the session.",
            },
            "env": {
                "type": "object",
                "additionalProperties": { "type": "string" },
                "description": "More environment variables.",
            },
            "stdin": { "type": "string", "description": "What it reads from standard input." },
        },
        "required": [code],
        "additionalProperties": false,
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::tool::values::SYSTEM_STRING_BYTES_MAX;

    fn options() -> BuiltInOptions {
        let environment = vec!["PATH".to_owned(), "HOME".to_owned(), "ABSENT".to_owned()];
        BuiltInOptions { call_budget: Duration::from_secs(600), environment }
    }

    fn context() -> CallContext {
        let variables = [("PATH", "/bin"), ("HOME", "/root"), ("AWS_SECRET_ACCESS_KEY", "x")];
        CallContext {
            working_directory: Some(PathBuf::from("/srv/work")),
            environment: Arc::new(variables.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
        }
    }

    fn prepare(tool: &dyn CallableTool, arguments: Value) -> Result<ProcessSpec, Vec<String>> {
        match tool.prepare(arguments.as_object().unwrap(), &context()) {
            Ok(Work::Process(spec)) => Ok(spec),
            Ok(_) => panic!("not a process"),
            Err(errors) => Err(errors.into_iter().map(|error| error.path).collect()),
        }
    }

    #[test]
    fn the_code_is_one_argument_of_the_interpreter() {
        let spec =
            prepare(bash(options()).as_ref(), json!({ "command": "ls | wc; echo $HOME" })).unwrap();
        assert_eq!(spec.argv, ["bash", "-c", "ls | wc; echo $HOME"]);
        assert_eq!(spec.working_directory, Some(PathBuf::from("/srv/work")));
        assert_eq!(spec.stdin, None);
        let spec = prepare(python(options()).as_ref(), json!({ "code": "print(1)", "stdin": "x" }))
            .unwrap();
        assert_eq!(spec.argv, ["python3", "-c", "print(1)"]);
        assert_eq!(spec.stdin, Some(Bytes::from_static(b"x")));
    }

    #[test]
    fn only_plain_variables_of_the_server_are_seen() {
        let arguments = json!({ "command": "env", "env": { "PATH": "/opt", "A": "=b" } });
        let spec = prepare(bash(options()).as_ref(), arguments).unwrap();
        let seen: Vec<(&str, &str)> =
            spec.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(seen, [("A", "=b"), ("HOME", "/root"), ("PATH", "/opt")]);
    }

    #[test]
    fn a_working_directory_may_be_relative() {
        for (cwd, expected) in [("sub/dir", "/srv/work/sub/dir"), ("/tmp", "/tmp")] {
            let spec =
                prepare(bash(options()).as_ref(), json!({ "command": "ls", "cwd": cwd })).unwrap();
            assert_eq!(spec.working_directory, Some(PathBuf::from(expected)));
        }
    }

    #[test]
    fn all_errors_are_reported_at_once() {
        let arguments = json!({
            "command": "a\0b",
            "cwd": "\0",
            "env": { "": "x", "A=B": "x", "C": "\0", "CALLPARK_CALL_ID": "x", "D\0": "x", "E": 1 },
            "stdin": "\0",
        });
        let paths = prepare(bash(options()).as_ref(), arguments).unwrap_err();
        let expected = [
            "command",
            "cwd",
            "stdin",
            "env.",
            "env.A=B",
            "env.C",
            "env.CALLPARK_CALL_ID",
            "env.D\0",
            "env.E",
        ];
        assert_eq!(paths, expected);
        assert_eq!(prepare(python(options()).as_ref(), json!({})).unwrap_err(), ["code"]);
    }

    #[test]
    fn text_that_is_too_long_for_the_system_is_refused() {
        let longest = "x".repeat(SYSTEM_STRING_BYTES_MAX);
        assert!(prepare(bash(options()).as_ref(), json!({ "command": longest })).is_ok());
        let arguments = json!({ "command": format!("{longest}x"), "env": { "A": longest } });
        assert_eq!(prepare(bash(options()).as_ref(), arguments).unwrap_err(), ["command", "env.A"]);
    }

    #[test]
    fn their_schemas_are_valid() {
        for tool in [bash(options()), python(options())] {
            crate::tool::schema::Schema::compile(&tool.describe().input_schema).unwrap();
        }
    }
}
