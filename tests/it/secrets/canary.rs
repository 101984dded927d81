//! A run with a secret in every place that can have one, and a search of everything that was written.

use std::path::Path;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::Request;

use crate::support::program::{Clients, Program, Site};
use crate::support::waiting::call;
use crate::support::{remote, soon, v1};

const MODEL_KEY: &str = "canary1model1key1AAAA";
const HEADER: &str = "canary2header2BBBBBBB";
const MCP_TOKEN: &str = "canary3mcp3token3CCCC";
const MCP_ENV: &str = "canary4mcp4env4DDDDDD";
const TOOL_ENV: &str = "canary5tool5env5EEEEE";
const PIN: &str = "canary6pin6FFFFFFFFFF";
const WRONG: &str = "canary7wrong7GGGGGGGG";
const BASIC: &str = "Y2FuYXJ5ODpiYXNpYzg6SEhISEhISEg4";
const JWT: &str = "eyJhbGciOiJub25lIn0.eyJjYW5hcnkiOjl9.Y2FuYXJ5OTk5OTk5OTk5";
const CALLERS_PASSWORD: &str = "canaryAcallersAIIIIII";

const ALL: [&str; 10] =
    [MODEL_KEY, HEADER, MCP_TOKEN, MCP_ENV, TOOL_ENV, PIN, WRONG, BASIC, JWT, CALLERS_PASSWORD];

/// An endpoint for models and MCP that refuses each request, and repeats it.
struct Echo {
    url: String,
    _serving: JoinSet<()>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let mut request = vec![0; 64 << 10];
                    let length = stream.read(&mut request).await.unwrap_or_default();
                    let head = String::from_utf8_lossy(&request[..length]).into_owned();
                    let head = head.split("\r\n\r\n").next().unwrap_or_default().replace('\r', "");
                    let error = json!({ "error": { "message": format!("I refuse {head}") } });
                    let body = error.to_string();
                    let answer = format!(
                        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n\
                         content-length: {}\r\nconnection: close\r\n\r\n{body}",
                        body.len()
                    );
                    let _gone = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { url, _serving: serving }
    }
}

fn config(site: &Site, echo: &Echo) -> String {
    let token = site.write("mcp-token", MCP_TOKEN).display().to_string();
    let url = &echo.url;
    format!(
        r#"
[[models]]
name = "main"
endpoint = "{url}/v1"
api_key_environment = "CANARY_MODEL_KEY"
headers = {{ x-more = {{ environment = "CANARY_HEADER" }} }}

[[mcp_servers]]
name = "wiki"
url = "{url}/mcp"
token_file = "{token}"

[[mcp_servers]]
name = "local"
argv = ["sh", "-c", "echo \"cannot sign in with $MCP_API_KEY\" >&2; exit 1"]
environment = ["PATH"]
set_environment = {{ MCP_API_KEY = "{MCP_ENV}" }}

[[tools]]
name = "login"
description = "x"
argv = ["sh", "-c", "cat > /dev/null; test -n \"$API_KEY\" && exit 3"]
environment = ["PATH"]
set_environment = {{ API_KEY = "{TOOL_ENV}" }}
stdin = "{{pin}}"
secret_arguments = ["pin"]
input_schema = {{ type = "object", required = ["pin"], properties = {{ pin = {{ type = "string" }} }} }}

[[tools]]
name = "missing"
description = "x"
argv = ["/nonexistent/program"]
set_environment = {{ API_KEY = "{TOOL_ENV}" }}
"#
    )
}

/// Makes requests of all kinds, and returns all that callers were answered.
async fn use_all(server: &Program) -> String {
    let clients = server.connect();
    let mut tools = clients.tools.clone();
    let mut seen = String::new();
    for call in [
        call("login", json!({ "pin": PIN })),
        call("login", json!({ "pin": 7 })),
        call("missing", json!({})),
        call("wiki__read", json!({})),
        call("local__read", json!({})),
        // An unknown tool, whose name is repeated.
        call(&format!("password={CALLERS_PASSWORD}"), json!({})),
    ] {
        let mut request = Request::new(call);
        let id = format!("token={CALLERS_PASSWORD}").parse().expect("a header");
        request.metadata_mut().insert("x-request-id", id);
        let answer = soon("an answer", tools.run_tool(request)).await;
        seen += &shown(answer);
    }
    let turn = v1::RunTurnRequest { prompt: "hello".into(), ..Default::default() };
    let turn = soon("a turn", tools.run_turn(turn)).await.expect("an answer").into_inner();
    seen += &format!("{turn:?}\n");
    for session in [&turn.session_id] {
        seen += &format!("{:?}\n", remote::log(&clients, session).await);
    }
    seen +=
        &format!("{:?}\n", soon("tools", tools.list_tools(v1::ListToolsRequest::default())).await);
    let with = |value: String| {
        let (endpoint, mut request) =
            (server.endpoint.clone(), Request::new(v1::ListRequest::default()));
        async move {
            let mut tasks = Clients::new(&endpoint, "").tasks;
            request.metadata_mut().insert("authorization", value.parse().expect("a header"));
            soon("a refusal", tasks.list(request)).await
        }
    };
    for value in
        [format!("Bearer {WRONG}"), format!("Basic {BASIC}"), format!("Bearer {JWT}"), WRONG.into()]
    {
        seen += &shown(with(value).await);
    }
    let refused =
        Clients::new(&server.endpoint, WRONG).tasks.list(v1::ListRequest::default()).await;
    seen + &format!("{refused:?}\n")
}

/// An answer, or all of an error but its metadata, which repeats the id of the request.
fn shown<T: std::fmt::Debug>(answer: Result<tonic::Response<T>, tonic::Status>) -> String {
    match answer {
        Ok(answer) => format!("{:?}\n", answer.into_inner()),
        Err(status) => {
            let details = String::from_utf8_lossy(status.details()).into_owned();
            format!("{:?} {} {details}\n", status.code(), status.message())
        }
    }
}

/// All files below a folder, with their content.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap_or_default()));
        }
    }
    found
}

#[tokio::test]
async fn no_secret_is_written_anywhere() {
    let site = Site::new();
    let echo = Echo::start().await;
    let file = site.write("callpark.toml", &config(&site, &echo)).display().to_string();
    let data = site.data().display().to_string();
    let audit = site.data().join("audit.jsonl").display().to_string();
    for format in ["text", "json"] {
        let mut command = site.command(&[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            &data,
            "--config",
            &file,
            "--log-filter",
            "debug",
            "--log-format",
            format,
            "--audit-file",
            &audit,
            "--admin-listen",
            "127.0.0.1:0",
            "--model-retry-delay",
            "10ms",
        ]);
        command.env("CANARY_MODEL_KEY", MODEL_KEY).env("CANARY_HEADER", HEADER);
        let server = site.serve_with(command).await;
        let token = server.token.clone();
        let answers = use_all(&server).await;
        // The log in JSON does not name its address.
        let page = match format {
            "text" => page(&server.address("  admin  ")).await,
            _ => String::new(),
        };
        let (ended, _) = server.terminate().await;
        let mut written = files(&site.data());
        written.retain(|(path, _)| !path.ends_with("/token"));
        written.push(("the log".to_owned(), ended.stderr().as_bytes().to_vec()));
        written.push(("the standard output".to_owned(), ended.bytes().to_vec()));
        written.push(("the answers".to_owned(), answers.clone().into_bytes()));
        written.push(("the page of metrics".to_owned(), page.into_bytes()));
        for secret in ALL.into_iter().chain([token.as_str()]) {
            for (place, bytes) in &written {
                let at = bytes.windows(secret.len()).position(|part| part == secret.as_bytes());
                let around = at.map(|at| {
                    let (begin, end) = (at.saturating_sub(200), (at + 200).min(bytes.len()));
                    String::from_utf8_lossy(&bytes[begin..end]).into_owned()
                });
                assert_eq!(around, None, "{secret} is in {place}");
            }
        }
        // The search has something to find.
        assert!(answers.contains("I refuse") && answers.contains("[redacted]"), "{answers}");
        assert!(answers.contains("cannot sign in with [redacted]"), "{answers}");
        assert!(ended.stderr().contains("cannot sign in with [redacted]"), "{}", ended.stderr());
        let audit = std::fs::read_to_string(&audit).expect("the audit log");
        assert!(audit.contains("token=[redacted]"), "{audit}");
    }
}

/// The metrics, as operators see them.
async fn page(address: &str) -> String {
    let address = address.trim_start_matches("http://").trim_end_matches("/metrics");
    let read = async {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
        let request = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut page = String::new();
        stream.read_to_string(&mut page).await.expect("read");
        page
    };
    let page = soon("the page", read).await;
    assert!(page.contains("callpark_rpc_requests_total"), "{page}");
    page
}
