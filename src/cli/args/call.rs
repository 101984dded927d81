//! The arguments of `callpark run` and `callpark start`: a tool and how to call it.

use std::{collections::BTreeMap, io::Read as _, time::Duration};

use callpark_client::{Client, v1};
use serde_json::Value;

use super::{
    duration::{parse_duration, to_wire},
    enums, ids,
    tool_arguments::{self, Arguments},
};
use crate::cli::{error::Failure, exit::Exit, print::json};

/// The longest default description of a call, in characters.
const DESCRIPTION_CHARACTERS_MAX: usize = 60;

/// A tool and how to call it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CallArgs {
    /// Name of the tool, as `callpark tools` lists it
    tool: String,

    /// Input of the tool. For bash: a command line in quotes, or the words of a single command. For
    /// python: a program in quotes. For any other tool: KEY=VALUE pairs, as with --arg
    words: Vec<String>,

    /// Argument of the tool. The value is parsed as JSON, unless the tool takes a text there or the
    /// value is not valid JSON; then it is passed as text. Can be repeated
    #[arg(long = "arg", value_name = "KEY=VALUE", value_parser = tool_arguments::pair)]
    pairs: Vec<(String, String)>,

    /// Arguments of the tool as one JSON object, or `-` to read it from standard input
    #[arg(long = "args", value_name = "JSON")]
    object: Option<String>,

    /// Session of the call [default: a new one]
    #[arg(long, value_name = "ID", value_parser = ids::session)]
    session: Option<String>,

    /// Stop the tool after it has run for this long, whether parked or not [default: the tool's own]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,

    /// Stop the tool after it has written no output for this long
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    idle: Option<Duration>,

    /// Label of the task, for `callpark list --label`. Can be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = tool_arguments::pair)]
    labels: Vec<(String, String)>,

    /// Description of the call [default: the beginning of its input]
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    /// Create a follow-up for an agent when the background task finishes: on_finish, on_failure or
    /// none. List them with `callpark follow-ups` [default: none]
    #[arg(long, value_name = "WHEN", value_parser = enums::parse::<v1::FollowUpPolicy>)]
    follow_up: Option<v1::FollowUpPolicy>,

    /// Keep the call running when the output of this command is closed, and its task when its session
    /// is closed
    #[arg(long)]
    keep: bool,
}

impl CallArgs {
    /// Returns `true` if the arguments themselves are read from standard input.
    pub(crate) fn reads_stdin(&self) -> bool {
        self.object.as_deref() == Some("-")
    }

    /// Returns `true` if the call is to be kept although its caller leaves.
    pub(crate) fn keeps(&self) -> bool {
        self.keep
    }

    /// Returns the call with its arguments in the types that the tool takes. Asks the server for the
    /// tool's schema if that is necessary.
    pub(crate) async fn resolve(self, client: &Client) -> Result<PreparedCall, Failure> {
        let description = self.description.clone();
        let description = description.unwrap_or_else(|| {
            tool_arguments::default_description(&self.words, DESCRIPTION_CHARACTERS_MAX)
        });
        let arguments = self.arguments(client).await?;
        Ok(PreparedCall {
            request: v1::RunToolRequest {
                session_id: self.session.unwrap_or_default(),
                tool: self.tool,
                arguments: Some(json::to_struct(arguments)),
                description,
                execution_timeout: self.timeout.map(to_wire),
                idle_timeout: self.idle.map(to_wire),
                detached: self.keep,
                labels: self.labels.into_iter().collect::<BTreeMap<_, _>>(),
                follow_up: self.follow_up.unwrap_or_default().into(),
                ..Default::default()
            },
        })
    }

    async fn arguments(&self, client: &Client) -> Result<Arguments, Failure> {
        let mut arguments = match &self.object {
            Some(text) => {
                let text = if text == "-" { stdin().await? } else { text.clone() };
                tool_arguments::object(&text).map_err(Failure::usage)?
            }
            None => Arguments::new(),
        };
        let mut pairs = self.pairs.clone();
        match tool_arguments::code_argument(&self.tool) {
            Some(_) if self.words.is_empty() => {}
            Some(name) => {
                let code = tool_arguments::code(&self.tool, &self.words).map_err(Failure::usage)?;
                tool_arguments::add(&mut arguments, name.to_owned(), Value::String(code))
                    .map_err(Failure::usage)?;
            }
            None => {
                let words = self.words.iter().map(|word| tool_arguments::pair(word));
                pairs.extend(words.collect::<Result<Vec<_>, _>>().map_err(Failure::usage)?);
            }
        }
        if !pairs.is_empty() {
            let schema = schema(client, &self.tool).await?;
            for (key, text) in pairs {
                let value = tool_arguments::typed(&schema, &key, &text).map_err(Failure::usage)?;
                tool_arguments::add(&mut arguments, key, value).map_err(Failure::usage)?;
            }
        }
        Ok(arguments)
    }
}

/// A call of a tool that is ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct PreparedCall {
    request: v1::RunToolRequest,
}

impl PreparedCall {
    /// Sets the standard input of the tool.
    pub(crate) fn with_stdin(mut self, data: bytes::Bytes) -> Self {
        self.request.stdin = data;
        self
    }

    /// Converts the call to a request that starts it in the background.
    pub(crate) fn into_start(self) -> v1::StartRequest {
        let work = Some(v1::start_request::Work::ToolCall(self.request));
        v1::StartRequest { work, ..Default::default() }
    }

    /// Converts the call to a request that streams it within its budget.
    pub(crate) fn into_stream(self, budget: Option<Duration>) -> v1::RunToolRequest {
        v1::RunToolRequest { call_budget: budget.map(to_wire), ..self.request }
    }
}

/// Returns the schema of a tool's arguments, or null if it declares none.
async fn schema(client: &Client, name: &str) -> Result<Value, Failure> {
    let (tools, _) = list_tools(client, v1::ListToolsRequest::default()).await?;
    let tool = tools.iter().find(|tool| tool.name == name).ok_or_else(|| {
        let text = format!("there is no tool `{name}`\nlist the tools with `callpark tools`");
        Failure::new(Exit::NotFound, text)
    })?;
    Ok(tool.input_schema.as_ref().map_or(Value::Null, json::from_struct))
}

async fn stdin() -> Result<String, Failure> {
    let read = || {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).map(|_| text)
    };
    let reading = tokio::task::spawn_blocking(read).await.map_err(std::io::Error::from);
    reading.flatten().map_err(|error| {
        Failure::io(format!("cannot read the arguments from standard input: {error}"))
    })
}

/// Lists all tools, page by page, and the sources that offer none now.
pub(crate) async fn list_tools(
    client: &Client,
    mut request: v1::ListToolsRequest,
) -> Result<(Vec<v1::Tool>, Vec<v1::UnavailableSource>), Failure> {
    let (mut tools, mut unavailable) = (Vec::new(), Vec::new());
    loop {
        let page = client.tools().list_with(request.clone()).await?;
        tools.extend(page.tools);
        unavailable.extend(page.unavailable);
        if page.next_page_token.is_empty() {
            return Ok((tools, unavailable));
        }
        request.page_token = page.next_page_token;
    }
}
