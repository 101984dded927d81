//! `callpark chat`: turns of an agent on the terminal.

mod activity;
mod printer;
mod turn;

use std::path::PathBuf;

use callpark_client::{Client, v1};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{
    args::{connect::ConnectArgs, ids},
    connection::Connection,
    ephemeral_server::{EphemeralServer, EphemeralServerSpec, setup_failed},
    error::Failure,
    exit::Exit,
    print::output::{Out, eprint_bytes, eprint_note},
};
use turn::{ChatTurn, OnLeave};

/// The variable with the key of an endpoint, unless a flag names another one.
const API_KEY_VARIABLE: &str = "OPENAI_API_KEY";

/// The note on work that a temporary server abandons.
const LOST_WITH_SERVER: &str =
    "the temporary server stops with this chat: work that is still running is lost";

/// The life of the server of a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServerLife {
    Stays,
    EndsWithChat,
}

/// Chat with an agent, and see its tool calls as they happen
///
/// Sends the prompt, or each line of standard input, to a model; the server runs the tools that the
/// model calls. With --model-endpoint, the command starts a temporary server, which stops when the
/// chat ends; otherwise it uses the same server as the other commands. Ctrl-C leaves the turn, which
/// continues in the background, or on a temporary server until the chat ends; a second Ctrl-C cancels
/// it. With a single prompt for a temporary server, the first Ctrl-C does.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ChatArgs {
    /// Prompt to send [default: one prompt for each line of standard input]
    #[arg(trailing_var_arg = true, value_name = "PROMPT")]
    prompt: Vec<String>,

    /// URL of an OpenAI-compatible endpoint, such as http://127.0.0.1:11434/v1
    #[arg(long, value_name = "URL", requires = "model", conflicts_with = "session")]
    model_endpoint: Option<String>,

    /// Name of the model [default: the session's model, else the server's default]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,

    /// Environment variable with the API key for --model-endpoint [default: OPENAI_API_KEY, if set]
    #[arg(long, value_name = "NAME", requires = "model_endpoint")]
    api_key_environment: Option<String>,

    /// Id of a session to continue, the beginning of one, or `last` [default: a new session]
    #[arg(long, value_name = "ID", value_parser = ids::session)]
    session: Option<ids::GivenId>,

    /// Folder in which the agent's commands run [default: the current folder]
    #[arg(long, value_name = "FOLDER", conflicts_with = "session")]
    working_directory: Option<PathBuf>,

    /// Instructions for the agent
    #[arg(long, value_name = "TEXT", conflicts_with = "session")]
    system_message: Option<String>,
}

pub(crate) async fn run(
    args: ChatArgs,
    connect: ConnectArgs,
    connection: &mut Connection,
    out: &mut Out,
) -> Result<Exit, Failure> {
    let Some(endpoint) = &args.model_endpoint else {
        let (client, known) = connect.client()?;
        connection.clone_from(&known);
        return chat(&args, &client, out, ServerLife::Stays).await;
    };
    // Checked here, because the server's error would name a file that the user did not write.
    if !["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme)) {
        return Err(Failure::usage(format!(
            "--model-endpoint {endpoint} is not a URL: \
             it must begin with http:// or https://, such as http://127.0.0.1:11434/v1"
        )));
    }
    let folder = tempfile::Builder::new()
        .prefix("callpark-chat-")
        .tempdir()
        .map_err(|error| setup_failed("create a folder for the temporary server", &error))?;
    let spec = server_spec(&args, endpoint, folder.path().to_owned());
    let mut server = EphemeralServer::start(spec).await?;
    let chatted = match server.client(None) {
        Ok(client) => chat(&args, &client, out, ServerLife::EndsWithChat).await,
        Err(failure) => Err(failure),
    };
    // After a failure too, so that no process of a tool remains.
    let stopped = server.stop().await;
    chatted.and_then(|exit| stopped.map(|()| exit))
}

fn server_spec(args: &ChatArgs, endpoint: &str, folder: PathBuf) -> EphemeralServerSpec {
    let key = match &args.api_key_environment {
        Some(name) => Some(name.clone()),
        None => {
            EphemeralServerSpec::has_variable(API_KEY_VARIABLE).then(|| API_KEY_VARIABLE.to_owned())
        }
    };
    let mut model = toml::Table::new();
    model.insert("name".into(), args.model.clone().unwrap_or_default().into());
    model.insert("endpoint".into(), endpoint.into());
    if let Some(name) = &key {
        model.insert("api_key_environment".into(), name.clone().into());
    }
    let models = toml::Value::Array(vec![model.into()]);
    let configuration = toml::Table::from_iter([("models".to_owned(), models)]).to_string();
    EphemeralServerSpec { folder, configuration, variables: key.into_iter().collect() }
}

/// Runs the turns of the chat.
async fn chat(
    args: &ChatArgs,
    client: &Client,
    out: &mut Out,
    server: ServerLife,
) -> Result<Exit, Failure> {
    let mut interrupts =
        signal(SignalKind::interrupt()).map_err(|error| Failure::io(error.to_string()))?;
    let session_id = match &args.session {
        Some(id) => id.resolve(client).await?,
        None => new_session(args, client).await?,
    };
    let turn = |prompt: String| ChatTurn {
        client: client.clone(),
        session_id: session_id.clone(),
        model: args.model.clone().unwrap_or_default(),
        prompt,
        on_leave: match (server, args.prompt.is_empty()) {
            (ServerLife::Stays, _) => OnLeave::Continues,
            (ServerLife::EndsWithChat, true) => OnLeave::ContinuesInChat,
            (ServerLife::EndsWithChat, false) => OnLeave::Cancelled,
        },
    };
    if !args.prompt.is_empty() {
        let end = turn(args.prompt.join(" ")).run(out, &mut interrupts).await?;
        eprint_lost(end.leaves_work, server);
        return Ok(end.exit);
    }
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stdin());
    if is_terminal {
        eprint_note(&format!("session {session_id}: each line is a prompt; Ctrl-D ends the chat"));
    }
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut last = Exit::Success;
    while let Some(prompt) = next_prompt(&mut lines, &mut interrupts, is_terminal).await? {
        let end = turn(prompt).run(out, &mut interrupts).await?;
        eprint_lost(end.leaves_work, server);
        last = end.exit;
    }
    Ok(last)
}

/// Prints what becomes of work that a turn leaves behind.
fn eprint_lost(leaves_work: bool, server: ServerLife) {
    if leaves_work && server == ServerLife::EndsWithChat {
        eprint_note(LOST_WITH_SERVER);
    }
}

async fn new_session(args: &ChatArgs, client: &Client) -> Result<String, Failure> {
    let given = args.working_directory.clone().unwrap_or_else(|| PathBuf::from("."));
    let folder = std::fs::canonicalize(&given).map_err(|error| {
        Failure::usage(format!("the folder {} cannot be used: {error}", given.display()))
    })?;
    let request = v1::CreateSessionRequest {
        model: args.model.clone().unwrap_or_default(),
        system_message: args.system_message.clone().unwrap_or_default(),
        working_directory: folder.display().to_string(),
        ..Default::default()
    };
    let session = client.sessions().create(request).await?.session;
    let session = session.ok_or_else(|| Failure::unexpected_answer("the answer has no session"))?;
    Ok(session.session_id)
}

/// Returns the next line that is not empty, or `None` at the end of standard input or after Ctrl-C.
async fn next_prompt(
    lines: &mut tokio::io::Lines<BufReader<tokio::io::Stdin>>,
    interrupts: &mut Signal,
    is_terminal: bool,
) -> Result<Option<String>, Failure> {
    loop {
        if is_terminal {
            eprint_bytes(b"> ").await;
        }
        let line = tokio::select! {
            line = lines.next_line() => line,
            _ = interrupts.recv() => return Ok(None),
        };
        let line =
            line.map_err(|error| Failure::io(format!("cannot read standard input: {error}")))?;
        match line {
            Some(line) if line.trim().is_empty() => {}
            other => return Ok(other),
        }
    }
}
