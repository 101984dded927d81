//! What `run` and `start` have in common: which call of which tool.

use std::{collections::BTreeMap, io::Read as _, time::Duration};

use callpark_client::{Client, v1};
use serde_json::Value;

use super::{
    arguments::{self, Arguments},
    exit::Exit,
    failure::Failure,
    ids, json,
    output::clean,
    time::{parse_span, to_wire},
    words,
};

/// The description of a call that has none of its own, at most, in characters.
const DESCRIPTION_CHARACTERS_MAX: usize = 60;

/// Which call of which tool.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CallArgs {
    /// The tool, as `callpark tools` lists it
    tool: String,

    /// What to run. For bash: one word with a command line, or the words of a single command. For
    /// python: one word with a program. For any other tool: KEY=VALUE pairs, as with --arg
    words: Vec<String>,

    /// An argument of the tool. The value is JSON, unless the tool takes a text there or it is no
    /// JSON: then it is a text. Can be repeated
    #[arg(long = "arg", value_name = "KEY=VALUE", value_parser = arguments::pair)]
    pairs: Vec<(String, String)>,

    /// Arguments of the tool as one JSON object; `-` reads it from standard input
    #[arg(long = "args", value_name = "JSON")]
    object: Option<String>,

    /// The session that the call belongs to; without it the call gets a new one
    #[arg(long, value_name = "ID", value_parser = ids::session)]
    session: Option<String>,

    /// Stop the tool when it has run for so long, parked or not
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    timeout: Option<Duration>,

    /// Stop the tool when it puts out nothing for so long
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    idle: Option<Duration>,

    /// A label, to find the task by with `callpark list --label`. Can be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = arguments::pair)]
    labels: Vec<(String, String)>,

    /// What the call is for [default: the beginning of its words]
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    /// Which ends of the call, once it is in the background, tell an agent: on_finish, on_failure or
    /// none. `callpark follow-ups` shows what became of it [default: none]
    #[arg(long, value_name = "ENDS", value_parser = words::parse_follow_up_policy)]
    follow_up: Option<v1::FollowUpPolicy>,

    /// The task goes on when its session is closed
    #[arg(long)]
    keep: bool,
}

impl CallArgs {
    /// The call, with its arguments as the tool wants them. Asks the server for the tool's schema
    /// where that matters.
    pub(crate) async fn resolve(self, client: &Client) -> Result<Call, Failure> {
        let description = self.description.clone();
        let description = description
            .unwrap_or_else(|| arguments::describe(&self.words, DESCRIPTION_CHARACTERS_MAX));
        let arguments = self.arguments(client).await?;
        Ok(Call {
            session_id: self.session.unwrap_or_default(),
            call: v1::ToolCall {
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
                arguments::object(&text).map_err(Failure::usage)?
            }
            None => Arguments::new(),
        };
        let mut pairs = self.pairs.clone();
        match arguments::code_argument(&self.tool) {
            Some(_) if self.words.is_empty() => {}
            Some(name) => {
                let code = arguments::code(&self.tool, &self.words).map_err(Failure::usage)?;
                arguments::add(&mut arguments, name.to_owned(), Value::String(code))
                    .map_err(Failure::usage)?;
            }
            None => {
                let words = self.words.iter().map(|word| arguments::pair(word));
                pairs.extend(words.collect::<Result<Vec<_>, _>>().map_err(Failure::usage)?);
            }
        }
        if !pairs.is_empty() {
            let schema = schema(client, &self.tool).await?;
            for (key, text) in pairs {
                let value = arguments::typed(&schema, &key, &text);
                arguments::add(&mut arguments, key, value).map_err(Failure::usage)?;
            }
        }
        Ok(arguments)
    }
}

/// A call of a tool, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Empty: a new session.
    session_id: String,
    call: v1::ToolCall,
}

impl Call {
    /// The call, for the background.
    pub(crate) fn into_start(self) -> v1::StartRequest {
        v1::StartRequest {
            session_id: self.session_id,
            work: Some(v1::start_request::Work::ToolCall(self.call)),
            ..Default::default()
        }
    }

    /// The call, to be waited for as long as its budget.
    pub(crate) fn into_stream(self, budget: Option<Duration>) -> v1::StreamToolRequest {
        let Self { session_id, call } = self;
        v1::StreamToolRequest {
            session_id,
            tool: call.tool,
            arguments: call.arguments,
            description: call.description,
            call_budget: budget.map(to_wire),
            execution_timeout: call.execution_timeout,
            idle_timeout: call.idle_timeout,
            detached: call.detached,
            labels: call.labels,
            follow_up: call.follow_up,
            ..Default::default()
        }
    }
}

/// The schema of a tool's arguments; null where it declares none.
async fn schema(client: &Client, name: &str) -> Result<Value, Failure> {
    let answer = client.tools().list_with(v1::ListToolsRequest::default()).await?;
    let tool = answer.tools.iter().find(|tool| tool.name == name).ok_or_else(|| Failure::Told {
        exit: Exit::NotFound,
        text: format!("there is no tool `{}`\n`callpark tools` lists those there are", clean(name)),
    })?;
    Ok(tool.input_schema.as_ref().map_or(Value::Null, json::from_struct))
}

async fn stdin() -> Result<String, Failure> {
    let read = || {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).map(|_| text)
    };
    let failed = |reason: String| Failure::Told {
        exit: Exit::Io,
        text: format!("cannot read the arguments from standard input: {reason}"),
    };
    let reading = tokio::task::spawn_blocking(read).await;
    reading.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
}
