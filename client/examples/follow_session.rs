//! Follows a session to its end, over cuts and restarts of the server. Stop the server while this
//! runs, and start it again: no event is missing, and none comes twice.
//!
//! ```sh
//! callpark serve &
//! export CALLPARK_TOKEN=$(cat ~/.local/state/callpark/token)
//! cargo run -p callpark-client --example follow_session -- ses-… # a session of `callpark sessions`
//! ```
//!
//! Without a session it makes one, runs a call in it, and closes it.

use std::error::Error;

use callpark_client::{Client, SessionItem, v1};
use futures::TryStreamExt as _;

mod support;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = support::client()?;
    let session_id = match std::env::args().nth(1) {
        Some(session_id) => session_id,
        None => short_session(&client).await?,
    };
    let request = v1::StreamSessionRequest { session_id, ..Default::default() };
    let mut stream = client.sessions().events(request);
    while let Some(item) = stream.try_next().await? {
        match item {
            SessionItem::Event(event) => println!("{} {:?}", event.sequence, event.payload),
            SessionItem::Snapshot(snapshot) => println!("the head is {}", snapshot.head_sequence),
            SessionItem::CaughtUp { .. } => println!("from here on live"),
            SessionItem::Resumed { .. } => println!("the connection was lost, and is back"),
            SessionItem::Gap { from, to } => println!("{from} to {to} are no longer kept"),
            other => println!("{other:?}"),
        }
    }
    println!("the session has ended");
    Ok(())
}

async fn short_session(client: &Client) -> Result<String, callpark_client::Error> {
    let session = client.sessions().create(v1::CreateSessionRequest::default()).await?;
    let session_id = session.session.unwrap_or_default().session_id;
    let call = v1::RunToolRequest { session_id: session_id.clone(), ..support::bash("echo hello") };
    client.tools().run(call).await?;
    let close = v1::CloseSessionRequest { session_id: session_id.clone(), ..Default::default() };
    client.sessions().close(close).await?;
    Ok(session_id)
}
