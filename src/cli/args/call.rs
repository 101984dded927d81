//! The arguments of `callpark run` and `callpark start`: a tool and how to call it.

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use callpark_client::{Client, Error, Reason, v1};
use serde_json::Value;
use tokio::time::timeout;

use super::{
    duration::{parse_duration, to_wire},
    enums, ids,
    tool_arguments::{self, Arguments},
};
use crate::{
    app::config::nearest,
    cli::{error::Failure, exit::Exit, print::json},
};

/// The argument of a tool that names the folder in which it runs.
const FOLDER_ARGUMENT: &str = "cwd";

/// A tool and how to call it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CallArgs {
    /// Name of the tool, as `callpark tools` lists it
    tool: String,

    /// Input of the tool; everything from its first word on belongs to the tool. For bash: a command
    /// line in quotes, or the words of a single command. For python: a program in quotes. For any
    /// other tool: KEY=VALUE pairs, as with --arg
    #[arg(trailing_var_arg = true)]
    pub(crate) words: Vec<String>,

    /// Folder in which the tool runs [default: that of the session, else of the server]
    ///
    /// The folder is passed as the argument `cwd`, which bash and python have. A relative one begins at the
    /// current folder.
    #[arg(long, value_name = "FOLDER")]
    cwd: Option<PathBuf>,

    /// Argument of the tool. The value is parsed as JSON, unless the tool takes a text there or the
    /// value is not valid JSON; then it is passed as text. Can be repeated
    #[arg(long = "arg", value_name = "KEY=VALUE", value_parser = tool_arguments::pair)]
    pairs: Vec<(String, String)>,

    /// Arguments of the tool as one JSON object, or `-` to read it from standard input
    #[arg(long = "args", value_name = "JSON")]
    object: Option<String>,

    /// Session of the call [default: a new one]
    #[arg(long, value_name = "ID", value_parser = ids::session)]
    session: Option<ids::GivenId>,

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
    /// tool's schema if that is necessary; a server of tools that is starting is waited for half of the
    /// budget.
    pub(crate) async fn resolve(
        self,
        client: &Client,
        budget: Option<Duration>,
    ) -> Result<PreparedCall, Failure> {
        let lookup_max = budget.map_or(Duration::MAX, |budget| budget / 2);
        let (arguments, lookup_time) = self.arguments(client, lookup_max).await?;
        Ok(PreparedCall {
            lookup_time,
            request: v1::RunToolRequest {
                session_id: ids::resolve_or_empty(self.session.as_ref(), client).await?,
                tool: self.tool,
                arguments: Some(json::to_struct(arguments)),
                description: self.description.unwrap_or_default(),
                execution_timeout: self.timeout.map(to_wire),
                idle_timeout: self.idle.map(to_wire),
                detached: self.keep,
                labels: self.labels.into_iter().collect::<BTreeMap<_, _>>(),
                follow_up: self.follow_up.unwrap_or_default().into(),
                ..Default::default()
            },
        })
    }

    /// Returns the arguments, and the time that the lookup of the tool's schema took.
    async fn arguments(
        &self,
        client: &Client,
        lookup_max: Duration,
    ) -> Result<(Arguments, Duration), Failure> {
        let mut arguments = match &self.object {
            Some(text) => {
                let text = if text == "-" { stdin().await? } else { text.clone() };
                tool_arguments::object(&text).map_err(Failure::usage)?
            }
            None => Arguments::new(),
        };
        let code = tool_arguments::code_argument(&self.tool);
        let needs_schema = !self.pairs.is_empty()
            || (code.is_none() && (!self.words.is_empty() || self.cwd.is_some()));
        let asked = Instant::now();
        // The tool must exist before its input can be wrong.
        let schema = match needs_schema {
            true => schema(client, &self.tool, lookup_max).await?,
            false => Value::Null,
        };
        let lookup_time = asked.elapsed();
        let mut pairs = self.pairs.clone();
        match code {
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
        for (key, text) in pairs {
            let value = match schema.is_null() {
                // The server converts a text where the tool takes something else.
                true => Value::String(text),
                false => tool_arguments::typed(&schema, &key, &text).map_err(Failure::usage)?,
            };
            tool_arguments::add(&mut arguments, key, value).map_err(Failure::usage)?;
        }
        if let Some(folder) = &self.cwd {
            let folder = self.folder(folder, code.is_some(), &schema)?;
            tool_arguments::add(&mut arguments, FOLDER_ARGUMENT.to_owned(), folder)
                .map_err(Failure::usage)?;
        }
        Ok((arguments, lookup_time))
    }

    /// Returns the folder of --cwd for the tool.
    fn folder(&self, given: &Path, has_code: bool, schema: &Value) -> Result<Value, Failure> {
        let declared = schema.get("properties").and_then(|all| all.get(FOLDER_ARGUMENT));
        if !has_code && !schema.is_null() && declared.is_none() {
            return Err(Failure::usage(format!(
                "--cwd cannot be used: the tool `{}` has no argument `{FOLDER_ARGUMENT}`\n\
                 it runs in the folder of its session, or else of the server",
                self.tool
            )));
        }
        let folder = std::path::absolute(given).map_err(|error| {
            Failure::usage(format!("the folder {} cannot be used: {error}", given.display()))
        })?;
        Ok(folder.display().to_string().into())
    }
}

/// A call of a tool that is ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct PreparedCall {
    request: v1::RunToolRequest,
    lookup_time: Duration,
}

impl PreparedCall {
    /// Returns the name of the tool.
    pub(crate) fn tool(&self) -> &str {
        &self.request.tool
    }

    /// Returns the time that the lookup of the tool took, without that for reading its input.
    pub(crate) fn lookup_time(&self) -> Duration {
        self.lookup_time
    }

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

/// Returns the schema of a tool's arguments, or null if it is not known. A tool of an MCP server is
/// looked for no longer than `lookup_max`: its call waits for the server.
async fn schema(client: &Client, name: &str, lookup_max: Duration) -> Result<Value, Failure> {
    let listing = list_tools(client, v1::ListToolsRequest::default());
    let (tools, unavailable) = match name.contains("__") {
        true => match timeout(lookup_max, listing).await {
            Ok(listed) => listed?,
            Err(_) => return Ok(Value::Null),
        },
        false => listing.await?,
    };
    if let Some(tool) = tools.iter().find(|tool| tool.name == name) {
        return Ok(tool.input_schema.as_ref().map_or(Value::Null, json::from_struct));
    }
    // A source that is not available now may have it: the server finds out.
    let is_of = |source: &v1::UnavailableSource| {
        let source = source.source.as_ref().map(|source| source.name.as_str());
        source.and_then(|source| name.strip_prefix(source)).is_some_and(|r| r.starts_with("__"))
    };
    if unavailable.iter().any(is_of) {
        return Ok(Value::Null);
    }
    Err(no_such_tool(name, &tools))
}

/// Returns the failure of a call. If there is no such tool, it names similar ones.
pub(crate) async fn with_similar_tool(error: Error, name: &str, client: &Client) -> Failure {
    if error.reason() != Some(&Reason::ToolNotFound) {
        return error.into();
    }
    match list_tools(client, v1::ListToolsRequest::default()).await {
        Ok((tools, _)) if tools.iter().all(|tool| tool.name != name) => no_such_tool(name, &tools),
        // The error of the call says more.
        Ok(_) | Err(_) => error.into(),
    }
}

fn no_such_tool(name: &str, tools: &[v1::Tool]) -> Failure {
    let similar = nearest(name, tools.iter().map(|tool| tool.name.as_str()));
    let hint = match similar.first() {
        Some(similar) => format!("did you mean `{similar}`? `callpark tools` lists all of them"),
        None => "list the tools with `callpark tools`".to_owned(),
    };
    Failure::new(Exit::NotFound, format!("there is no tool `{name}`\n{hint}"))
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
