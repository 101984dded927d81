//! Tools of the configuration: a program, with arguments from a template.

mod config;

#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::template::Template;
use super::values::{ArgumentErrors, tool_variable_name_error};
use super::{ArgumentError, Arguments, CallContext, CallableTool, Work};
use crate::exec::{ChildProcessConfig, ChildProcessError};
use crate::model::{ProcessSpec, Tool, ToolKind, ToolSource, limits};

pub use config::{CallBudget, CommandToolConfig};

/// An error in the configuration of a command tool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandToolError {
    /// A key with which no process can be started.
    #[error("tool `{tool}`: {error}")]
    Process {
        /// The tool.
        tool: String,
        /// The key, and what is wrong with it.
        error: ChildProcessError,
    },
    /// The program would be chosen by the caller.
    #[error("tool `{tool}`: argv[0] must name a program; `{element}` takes it from an argument")]
    ProgramFromArgument {
        /// The tool.
        tool: String,
        /// The element.
        element: String,
    },
    /// A template is not valid.
    #[error("tool `{tool}`: {key} `{element}`: {cause}")]
    TemplateInvalid {
        /// The tool.
        tool: String,
        /// The position of the template, such as `argv[2]` or `stdin`.
        key: String,
        /// The template.
        element: String,
        /// The error.
        cause: String,
    },
    /// A placeholder names an argument that the tool does not take.
    #[error(
        "tool `{tool}`: {key} `{element}` names the argument `{argument}`, which is not among the \
         properties of input_schema"
    )]
    ArgumentUnknown {
        /// The tool.
        tool: String,
        /// The position of the template.
        key: String,
        /// The template.
        element: String,
        /// The argument that it names.
        argument: String,
    },
    /// A duration is out of its bounds.
    #[error("tool `{tool}`: {key} must be {expected}")]
    SpanInvalid {
        /// The tool.
        tool: String,
        /// `call_budget` or `execution_timeout`.
        key: &'static str,
        /// The bounds.
        expected: String,
    },
}

/// A tool that runs a program on the machine of the server.
///
/// The program is started without a shell, so the value of an argument is never more than one
/// element of argv, or, with `{name...}`, one for each item. A value can still look like an option of
/// the program: put `--` before free text where the program supports it.
#[derive(Debug)]
pub struct CommandTool {
    tool: Tool,
    argv: Vec<Template>,
    stdin: Option<Template>,
    process: ChildProcessConfig,
}

impl CommandTool {
    /// Creates the tool.
    ///
    /// # Errors
    ///
    /// The first error in the configuration, with the tool and the key. The name and the schema are
    /// checked by the [`Registry`](super::Registry).
    pub fn new(config: CommandToolConfig) -> Result<Self, CommandToolError> {
        let check = Check { tool: &config.name, input_schema: &config.input_schema };
        let process = config.process();
        check.process(&process)?;
        let argv = check.argv(&process.argv)?;
        let stdin = config.stdin.as_deref().map(|text| check.stdin(text)).transpose()?;
        check.secret_arguments(&config.secret_arguments)?;
        let call_budget = check.call_budget(config.call_budget)?;
        let execution_timeout = check.execution_timeout(config.execution_timeout)?;
        Ok(Self {
            argv,
            stdin,
            process,
            tool: Tool {
                name: config.name,
                description: config.description,
                input_schema: config.input_schema,
                output_schema: None,
                kind: ToolKind::Command,
                read_only: config.read_only,
                destructive: config.destructive.unwrap_or(!config.read_only),
                idempotent: config.idempotent,
                concurrent_safe: config.concurrent_safe,
                call_budget,
                execution_timeout,
                source: ToolSource::Config,
                arguments_unchecked: false,
                secret_arguments: config.secret_arguments,
                warnings: Vec::new(),
            },
        })
    }

    fn render_argv(&self, arguments: &Arguments, errors: &mut ArgumentErrors) -> Vec<String> {
        let mut argv = Vec::with_capacity(self.argv.len());
        for template in &self.argv {
            let elements = template.render(arguments, errors);
            if let (Template::Text(_), Some(name)) = (template, template.names().first()) {
                errors.check_length(name, elements.iter().map(String::len).sum());
            }
            argv.extend(elements);
        }
        argv
    }
}

impl CallableTool for CommandTool {
    fn describe(&self) -> &Tool {
        &self.tool
    }

    /// Renders the templates. A relative working directory is joined to that of the context.
    fn prepare(
        &self,
        arguments: &Arguments,
        context: &CallContext,
    ) -> Result<Work, Vec<ArgumentError>> {
        let mut errors = ArgumentErrors::default();
        let argv = self.render_argv(arguments, &mut errors);
        let stdin =
            self.stdin.as_ref().and_then(|stdin| stdin.render(arguments, &mut errors).pop());
        let base = context.working_directory.clone();
        errors.finish(Work::Process(ProcessSpec {
            argv,
            working_directory: match &self.process.working_directory {
                Some(directory) => Some(base.unwrap_or_default().join(directory)),
                None => base,
            },
            environment: self.process.environment(&context.environment),
            stdin: stdin.map(Bytes::from),
        }))
    }
}

/// Checks the configuration of one tool.
#[derive(Clone, Copy)]
struct Check<'a> {
    tool: &'a str,
    input_schema: &'a Value,
}

impl Check<'_> {
    fn process(self, process: &ChildProcessConfig) -> Result<(), CommandToolError> {
        let checked = process.check();
        let checked = checked.and_then(|()| process.check_variable_names(tool_variable_name_error));
        checked.map_err(|error| self.process_error(error))
    }

    fn process_error(self, error: ChildProcessError) -> CommandToolError {
        CommandToolError::Process { tool: self.tool.to_owned(), error }
    }

    fn argv(self, argv: &[String]) -> Result<Vec<Template>, CommandToolError> {
        let templates: Vec<Template> = argv
            .iter()
            .enumerate()
            .map(|(index, element)| self.template(format!("argv[{index}]"), element))
            .collect::<Result<_, _>>()?;
        match (templates.first(), argv.first()) {
            (Some(template), Some(element)) if !template.names().is_empty() => {
                Err(CommandToolError::ProgramFromArgument {
                    tool: self.tool.to_owned(),
                    element: element.clone(),
                })
            }
            _ => Ok(templates),
        }
    }

    fn stdin(self, text: &str) -> Result<Template, CommandToolError> {
        let key = "stdin".to_owned();
        if text.contains('\0') {
            return Err(self.process_error(ChildProcessError::Nul { key }));
        }
        match self.template(key, text)? {
            Template::Spread(name) => Err(CommandToolError::TemplateInvalid {
                tool: self.tool.to_owned(),
                key: "stdin".to_owned(),
                element: text.to_owned(),
                cause: format!("standard input is one text: write `{{{name}}}`"),
            }),
            template @ Template::Text(_) => Ok(template),
        }
    }

    fn template(self, key: String, element: &str) -> Result<Template, CommandToolError> {
        let (tool, element) = (self.tool.to_owned(), element.to_owned());
        let template = match Template::parse(&element) {
            Ok(template) => template,
            Err(cause) => {
                return Err(CommandToolError::TemplateInvalid { tool, key, element, cause });
            }
        };
        let properties = self.input_schema.get("properties");
        let is_unknown = |name: &&str| properties.and_then(|known| known.get(name)).is_none();
        match template.names().into_iter().find(is_unknown).map(str::to_owned) {
            Some(argument) => {
                Err(CommandToolError::ArgumentUnknown { tool, key, element, argument })
            }
            None => Ok(template),
        }
    }

    fn secret_arguments(self, names: &[String]) -> Result<(), CommandToolError> {
        let properties = self.input_schema.get("properties").and_then(Value::as_object);
        let is_known = |name: &&String| properties.is_some_and(|known| known.contains_key(*name));
        match names.iter().find(|name| !is_known(name)) {
            None => Ok(()),
            Some(name) => Err(CommandToolError::ArgumentUnknown {
                tool: self.tool.to_owned(),
                key: "secret_arguments".to_owned(),
                element: name.clone(),
                argument: name.clone(),
            }),
        }
    }

    fn call_budget(self, budget: CallBudget) -> Result<Option<Duration>, CommandToolError> {
        match budget {
            CallBudget::Never => Ok(None),
            CallBudget::After(span) => {
                self.span("call_budget", span, Duration::ZERO)?;
                Ok(Some(span))
            }
        }
    }

    fn execution_timeout(
        self,
        timeout: Option<Duration>,
    ) -> Result<Option<Duration>, CommandToolError> {
        if let Some(span) = timeout {
            self.span("execution_timeout", span, Duration::from_millis(1))?;
        }
        Ok(timeout)
    }

    fn span(
        self,
        key: &'static str,
        span: Duration,
        shortest: Duration,
    ) -> Result<(), CommandToolError> {
        let longest = Duration::from_secs(limits::SPAN_SECONDS_MAX);
        if (shortest..=longest).contains(&span) {
            return Ok(());
        }
        let (shortest, longest) =
            (humantime::format_duration(shortest), humantime::format_duration(longest));
        let expected = format!("between {shortest} and {longest}");
        Err(CommandToolError::SpanInvalid { tool: self.tool.to_owned(), key, expected })
    }
}
