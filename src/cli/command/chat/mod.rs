//! `callpark chat`: turns of an agent on the terminal.

mod show;
mod turn;

use std::path::PathBuf;

use callpark_client::{Client, v1};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{
    connect::{ConnectArgs, Connection},
    exit::Exit,
    failure::Failure,
    ids,
    output::{Out, tell},
    own_server::{OwnServer, Server, failed},
};
use turn::{Ended, Turn};

/// Talk to an agent, and see its tool calls and parks as they happen
///
/// Sends the prompt, or each line of standard input, to a model, whose calls of tools the server
/// runs. With --model-endpoint the server is one of the command's own, which is gone afterwards;
/// else it is the one that other commands talk to. Ctrl-C leaves the turn, which goes on in the
/// background; a second one cancels it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ChatArgs {
    /// What to ask [default: the lines of standard input, one after the other]
    #[arg(trailing_var_arg = true, value_name = "PROMPT")]
    prompt: Vec<String>,

    /// An OpenAI-compatible endpoint, such as http://127.0.0.1:11434/v1
    #[arg(long, value_name = "URL", requires = "model", conflicts_with = "session")]
    model_endpoint: Option<String>,

    /// The model [default: that of the session, else the server's]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,

    /// The variable with the key for --model-endpoint [default: OPENAI_API_KEY, if it is set]
    #[arg(long, value_name = "NAME", requires = "model_endpoint")]
    api_key_environment: Option<String>,

    /// Go on in this session [default: a new one]
    #[arg(long, value_name = "ID", value_parser = ids::session)]
    session: Option<String>,

    /// Where its commands run [default: here]
    #[arg(long, value_name = "FOLDER", conflicts_with = "session")]
    working_directory: Option<PathBuf>,

    /// How the agent should behave
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
        return chat(&args, &client, out, "").await;
    };
    // Said here of the flag: the server would say it of a file that nobody has written.
    if !["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme)) {
        return Err(Failure::usage(format!(
            "--model-endpoint {endpoint} is no URL: one such as http://127.0.0.1:11434/v1 is expected"
        )));
    }
    let folder = tempfile::Builder::new()
        .prefix("callpark-chat-")
        .tempdir()
        .map_err(|error| failed("make a folder for its store", &error))?;
    let mut server = Server::start(own_server(&args, endpoint, folder.path().to_owned())).await?;
    let leaving = "callpark: the server of this chat ends with it: what still runs is lost";
    let chatted = match server.client(None) {
        Ok(client) => chat(&args, &client, out, leaving).await,
        Err(failure) => Err(failure),
    };
    // Also after a failure, so that no process of a tool is left.
    let stopped = server.stop().await;
    chatted.and_then(|exit| stopped.map(|()| exit))
}

fn own_server(args: &ChatArgs, endpoint: &str, folder: PathBuf) -> OwnServer {
    let key = match &args.api_key_environment {
        Some(name) => Some(name.clone()),
        None => OwnServer::has_variable("OPENAI_API_KEY").then(|| "OPENAI_API_KEY".to_owned()),
    };
    let mut model = toml::Table::new();
    model.insert("name".into(), args.model.clone().unwrap_or_default().into());
    model.insert("endpoint".into(), endpoint.into());
    if let Some(name) = &key {
        model.insert("api_key_environment".into(), name.clone().into());
    }
    let models = toml::Value::Array(vec![model.into()]);
    let configuration = toml::Table::from_iter([("models".to_owned(), models)]).to_string();
    OwnServer { folder, configuration, variables: key.into_iter().collect() }
}

/// `leaving`: what to say when work is left behind, if there is anything to say.
async fn chat(
    args: &ChatArgs,
    client: &Client,
    out: &mut Out,
    leaving: &str,
) -> Result<Exit, Failure> {
    let mut interrupts = signal(SignalKind::interrupt())
        .map_err(|error| Failure::Told { exit: Exit::Io, text: error.to_string() })?;
    let session_id = match &args.session {
        Some(id) => id.clone(),
        None => new_session(args, client).await?,
    };
    let turn = |prompt: String| Turn {
        client: client.clone(),
        session_id: session_id.clone(),
        model: args.model.clone().unwrap_or_default(),
        prompt,
    };
    if !args.prompt.is_empty() {
        let ended = turn(args.prompt.join(" ")).play(out, &mut interrupts).await?;
        return Ok(end(&ended, leaving));
    }
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stdin());
    if is_terminal {
        tell(&format!("callpark: {session_id}; a line is a prompt, Ctrl-D ends the chat"));
    }
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut exit = Exit::Success;
    while let Some(prompt) = next_prompt(&mut lines, &mut interrupts, is_terminal).await? {
        let ended = turn(prompt).play(out, &mut interrupts).await?;
        exit = end(&ended, leaving);
    }
    Ok(exit)
}

fn end(ended: &Ended, leaving: &str) -> Exit {
    if ended.leaves_work && !leaving.is_empty() {
        tell(leaving);
    }
    ended.exit
}

async fn new_session(args: &ChatArgs, client: &Client) -> Result<String, Failure> {
    let here = args.working_directory.clone().unwrap_or_else(|| PathBuf::from("."));
    let folder = std::fs::canonicalize(&here).map_err(|error| {
        Failure::usage(format!("the folder {} can't be used: {error}", here.display()))
    })?;
    let request = v1::CreateSessionRequest {
        model: args.model.clone().unwrap_or_default(),
        system_message: args.system_message.clone().unwrap_or_default(),
        working_directory: folder.display().to_string(),
        ..Default::default()
    };
    let session = client.sessions().create(request).await?.session;
    Ok(session.ok_or_else(|| Failure::answer("no session came"))?.session_id)
}

/// The next line that isn't empty. `None`: there is none, or Ctrl-C came while nothing ran.
async fn next_prompt(
    lines: &mut tokio::io::Lines<BufReader<tokio::io::Stdin>>,
    interrupts: &mut Signal,
    is_terminal: bool,
) -> Result<Option<String>, Failure> {
    loop {
        if is_terminal {
            crate::cli::output::stderr_bytes(b"> ").await;
        }
        let line = tokio::select! {
            line = lines.next_line() => line,
            _ = interrupts.recv() => return Ok(None),
        };
        let line = line.map_err(|error| Failure::Told {
            exit: Exit::Io,
            text: format!("standard input can't be read: {error}"),
        })?;
        match line {
            Some(line) if line.trim().is_empty() => {}
            other => return Ok(other),
        }
    }
}
