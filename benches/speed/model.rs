//! A model endpoint that says as many words as its prompt asks for, each with the time when it said
//! it, or one word to what is no such prompt, and a proxy that passes them on: the base line for turns.

use std::time::Duration;

use callpark_proto::stored;
use callpark_proto::v1::{self, session_event::Payload};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use prost::Message as _;
use serde_json::{Value, json};
use sse_stream::SseByteStream;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::TaskTracker;
use tonic::Status;

use crate::{Result, wall_micros};

/// Serves until it is killed.
pub(crate) async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}/v1", listener.local_addr()?);
    let connections = TaskTracker::new();
    loop {
        let (connection, _) = listener.accept().await?;
        connection.set_nodelay(true)?;
        connections.spawn(async move {
            // A client may leave in the middle of an answer.
            let _ = answer_all(connection).await;
        });
    }
}

async fn answer_all(connection: TcpStream) -> Result<()> {
    let mut connection = BufReader::new(connection);
    loop {
        let mut length = 0;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if connection.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        connection.read_exact(&mut body).await?;
        let request: Value = serde_json::from_slice(&body)?;
        let last = request["messages"].as_array().and_then(|messages| messages.last());
        let prompt = last.and_then(|message| message["content"].as_str()).unwrap_or_default();
        let (count, rate) = match prompt.split_once(' ') {
            Some((count, rate)) if !prompt.starts_with('[') => (count.parse()?, rate.parse()?),
            // callpark's own words, of a task that has ended: one word is enough.
            _ => (1, 0.0),
        };
        answer(&mut connection, count, rate).await?;
    }
}

/// Says so many words, so many a second; at a rate of 0 as fast as they are taken.
async fn answer(connection: &mut BufReader<TcpStream>, count: u64, rate: f64) -> Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                transfer-encoding: chunked\r\n\r\n";
    connection.write_all(head.as_bytes()).await?;
    let mut ticks = (rate > 0.0).then(|| interval(Duration::from_secs_f64(1.0 / rate)));
    if let Some(ticks) = &mut ticks {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    }
    for _ in 0..count {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        let word = format!("{:.0},", wall_micros());
        event(connection, &chunk(json!({ "content": word }), Value::Null)).await?;
    }
    event(connection, &chunk(json!({}), json!("stop"))).await?;
    event(connection, "[DONE]").await?;
    connection.write_all(b"0\r\n\r\n").await?;
    Ok(())
}

fn chunk(delta: Value, finish_reason: Value) -> String {
    let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish_reason });
    json!({ "id": "1", "object": "chat.completion.chunk", "choices": [choice] }).to_string()
}

async fn event(connection: &mut BufReader<TcpStream>, data: &str) -> Result<()> {
    let event = format!("data: {data}\n\n");
    connection.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
    Ok(())
}

/// Passes on what the endpoint says to a prompt, word by word, as the events of a turn.
pub(crate) async fn proxied(
    endpoint: &str,
    prompt: &str,
) -> Result<BoxStream<'static, std::result::Result<stored::SessionUpdate, Status>>> {
    let body = json!({ "messages": [{ "role": "user", "content": prompt }], "stream": true });
    let request = reqwest::Client::new().post(format!("{endpoint}/chat/completions")).json(&body);
    let response = request.send().await?;
    let updates = SseByteStream::new(response.bytes_stream()).map(|event| {
        let event = event.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(stored::SessionUpdate {
            events: vec![passed_on(&event.data.unwrap_or_default())],
            control: None,
        })
    });
    Ok(updates.boxed())
}

fn passed_on(data: &str) -> bytes::Bytes {
    let value: Value = serde_json::from_str(data).unwrap_or_default();
    let text = value["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned();
    let payload = match data {
        "[DONE]" => Payload::SessionIdle(v1::SessionIdle::default()),
        _ => Payload::AssistantDelta(v1::AssistantDelta { text }),
    };
    v1::SessionEvent { payload: Some(payload), ..Default::default() }.encode_to_vec().into()
}
