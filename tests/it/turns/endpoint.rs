//! A model endpoint that says what a test wants, in the protocol of the real ones: HTTP/1.1, chunked
//! server-sent events, one script a request. A request that any of the real ones refuses is refused,
//! and takes no script.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::strict;
use crate::support::TEST_TIMEOUT;

/// One piece of an answer.
#[derive(Clone)]
pub enum Piece {
    /// Text.
    Text(String),
    /// Reasoning, as some endpoints give it.
    Reasoning(String),
    /// A piece of a call: its index, and what of id, name and arguments comes in it.
    Call(u32, Value),
    /// The reason for the end of the answer.
    Finish(&'static str),
    /// Tokens: read, from a cache, written.
    Usage(u64, u64, u64),
    /// These bytes as the data of an event.
    Data(String),
    /// Nothing more until the test says so.
    Wait(Arc<Notify>),
    /// Nothing more, ever.
    Hang,
    /// The connection is cut.
    Cut,
}

/// The answer to one request.
#[derive(Clone)]
pub enum Script {
    /// A stream of these pieces, with the mark of the end after them.
    Stream(Vec<Piece>),
    /// The same without that mark.
    Unmarked(Vec<Piece>),
    /// A status, headers, and a body.
    Status(u16, Vec<(&'static str, String)>, String),
}

/// A whole answer of text, with usage.
pub fn says(text: &str) -> Script {
    Script::Stream(vec![Piece::Text(text.into()), Piece::Finish("stop"), Piece::Usage(100, 40, 10)])
}

/// An answer that isn't whole before the test says so.
pub fn held(text: &str) -> (Script, Arc<Notify>) {
    let go_on = Arc::new(Notify::new());
    let pieces = vec![
        Piece::Text("I ".into()),
        Piece::Wait(go_on.clone()),
        Piece::Text(text.into()),
        Piece::Finish("stop"),
    ];
    (Script::Stream(pieces), go_on)
}

/// A whole answer that asks for calls, each with its arguments in two pieces.
pub fn calls(wanted: &[(&str, &str, Value)]) -> Script {
    let mut pieces = Vec::new();
    for (index, (id, tool, arguments)) in (0..).zip(wanted) {
        let text = arguments.to_string();
        let (head, tail) = text.split_at(text.len() / 2);
        let begin = json!({ "id": id, "type": "function",
            "function": { "name": tool, "arguments": head } });
        pieces.push(Piece::Call(index, begin));
        pieces.push(Piece::Call(index, json!({ "function": { "arguments": tail } })));
    }
    pieces.extend([Piece::Finish("tool_calls"), Piece::Usage(100, 40, 10)]);
    Script::Stream(pieces)
}

/// The answer to a request, as it follows from its messages.
type Rule = Box<dyn Fn(&[Value]) -> Script + Send + Sync>;

/// The endpoint. It is gone when it is dropped.
pub struct Endpoint {
    /// The URL for the configuration.
    pub url: String,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    scripts: Mutex<VecDeque<Script>>,
    requests: Mutex<Vec<Value>>,
    heads: Mutex<Vec<String>>,
    asked: Notify,
    arrived: Notify,
    /// True: requests that other endpoints refuse are accepted.
    is_lenient: bool,
    /// The answer to each request, in place of scripts that are used up.
    rule: Option<Rule>,
}

impl Shared {
    /// The next script, which the test may still be about to write.
    async fn next(&self, messages: &[Value]) -> Option<Script> {
        if let Some(rule) = &self.rule {
            return Some(rule(messages));
        }
        let next = async {
            loop {
                let arrived = self.arrived.notified();
                if let Some(script) = self.scripts.lock().expect("a lock").pop_front() {
                    return script;
                }
                arrived.await;
            }
        };
        tokio::time::timeout(TEST_TIMEOUT, next).await.ok()
    }
}

impl Endpoint {
    /// An endpoint that answers so, request by request. One request more waits for another script.
    pub async fn new(scripts: Vec<Script>) -> Self {
        Self::with_shared(Shared { scripts: Mutex::new(scripts.into()), ..Shared::default() }).await
    }

    /// An endpoint for requests of other software than callpark, which accepts all of them.
    pub async fn for_others(scripts: Vec<Script>) -> Self {
        let scripts = Mutex::new(scripts.into());
        Self::with_shared(Shared { scripts, is_lenient: true, ..Shared::default() }).await
    }

    /// An endpoint whose answers follow from the messages of each request.
    pub async fn ruled(rule: impl Fn(&[Value]) -> Script + Send + Sync + 'static) -> Self {
        Self::with_shared(Shared { rule: Some(Box::new(rule)), ..Shared::default() }).await
    }

    async fn with_shared(shared: Shared) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let shared = Arc::new(shared);
        let mut serving = JoinSet::new();
        let of_server = shared.clone();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                let shared = of_server.clone();
                connections.spawn(async move {
                    // A client that leaves in mid-answer is what some tests are about.
                    let _ = serve(connection, &shared).await;
                });
            }
        });
        Self { url, shared, _serving: serving }
    }

    /// One more answer.
    pub fn then(&self, script: Script) {
        self.shared.scripts.lock().expect("a lock").push_back(script);
        self.shared.arrived.notify_one();
    }

    /// The bodies of the requests so far.
    pub fn requests(&self) -> Vec<Value> {
        self.shared.requests.lock().expect("a lock").clone()
    }

    /// The messages of one request.
    pub fn messages(&self, request: usize) -> Vec<Value> {
        let requests = self.requests();
        requests[request]["messages"].as_array().expect("messages").clone()
    }

    /// The first lines and headers of the requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().expect("a lock").clone()
    }

    /// Waits until so many requests have come.
    pub async fn asked(&self, count: usize) {
        loop {
            let next = self.shared.asked.notified();
            if self.requests().len() >= count {
                return;
            }
            crate::support::soon("a request to the model", next).await;
        }
    }
}

async fn serve(connection: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut connection = BufReader::new(connection);
    loop {
        let mut head = String::new();
        loop {
            let mut line = String::new();
            if connection.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        let lower = head.to_ascii_lowercase();
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        connection.read_exact(&mut body).await?;
        let request = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let refusal = strict::refusal(&request).filter(|_| !shared.is_lenient);
        let messages = request["messages"].as_array().cloned().unwrap_or_default();
        shared.requests.lock().expect("a lock").push(request);
        shared.heads.lock().expect("a lock").push(head);
        shared.asked.notify_waiters();
        if let Some(words) = refusal {
            let error = json!({ "error": { "message": format!("strict: {words}") } });
            status(&mut connection, 400, &[], &error.to_string()).await?;
            continue;
        }
        let goes_on = match shared.next(&messages).await {
            Some(Script::Stream(pieces)) => stream(&mut connection, pieces, true).await?,
            Some(Script::Unmarked(pieces)) => stream(&mut connection, pieces, false).await?,
            Some(Script::Status(code, headers, body)) => {
                status(&mut connection, code, &headers, &body).await?
            }
            None => status(&mut connection, 400, &[], "{\"error\":\"no script is left\"}").await?,
        };
        if !goes_on {
            return Ok(());
        }
    }
}

async fn status(
    connection: &mut BufReader<TcpStream>,
    code: u16,
    headers: &[(&str, String)],
    body: &str,
) -> std::io::Result<bool> {
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let answer = format!("HTTP/1.1 {code} Said\r\n{more}content-length: {length}\r\n\r\n{body}");
    connection.write_all(answer.as_bytes()).await?;
    connection.flush().await?;
    Ok(true)
}

/// True: the connection can be used again.
async fn stream(
    connection: &mut BufReader<TcpStream>,
    pieces: Vec<Piece>,
    marked: bool,
) -> std::io::Result<bool> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                transfer-encoding: chunked\r\n\r\n";
    connection.write_all(head.as_bytes()).await?;
    connection.flush().await?;
    for piece in pieces {
        let data = match piece {
            Piece::Text(text) => choice(json!({ "content": text })),
            Piece::Reasoning(text) => choice(json!({ "reasoning_content": text })),
            Piece::Call(index, mut call) => {
                call["index"] = index.into();
                choice(json!({ "tool_calls": [call] }))
            }
            Piece::Finish(reason) => {
                chunk(json!([{ "index": 0, "delta": {}, "finish_reason": reason }]), Value::Null)
            }
            Piece::Usage(read, cached, written) => {
                let usage = json!({
                    "prompt_tokens": read,
                    "completion_tokens": written,
                    "total_tokens": read + written,
                    "prompt_tokens_details": { "cached_tokens": cached },
                });
                chunk(json!([]), usage)
            }
            Piece::Data(data) => data,
            Piece::Wait(notify) => {
                notify.notified().await;
                continue;
            }
            Piece::Hang => {
                // Until the client leaves.
                connection.read_u8().await?;
                return Ok(false);
            }
            Piece::Cut => return Ok(false),
        };
        event(connection, &data).await?;
    }
    if marked {
        event(connection, "[DONE]").await?;
    }
    connection.write_all(b"0\r\n\r\n").await?;
    connection.flush().await?;
    Ok(true)
}

async fn event(connection: &mut BufReader<TcpStream>, data: &str) -> std::io::Result<()> {
    let event = format!("data: {data}\n\n");
    let framed = format!("{:x}\r\n{event}\r\n", event.len());
    connection.write_all(framed.as_bytes()).await?;
    connection.flush().await
}

fn choice(delta: Value) -> String {
    chunk(json!([{ "index": 0, "delta": delta, "finish_reason": null }]), Value::Null)
}

fn chunk(choices: Value, usage: Value) -> String {
    json!({
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "fake",
        "choices": choices,
        "usage": usage,
    })
    .to_string()
}
