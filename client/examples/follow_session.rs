//! Follows a session to its end, despite interruptions and restarts of the server. Stop the server while
//! this runs, and start it again: no event is missing, and none is delivered twice.
//!
//! ```sh
//! callpark serve &
//! export CALLPARK_TOKEN=$(cat ~/.local/state/callpark/token)
//! cargo run -p callpark-client --example follow_session -- ses-… # a session of `callpark sessions`
//! ```
//!
//! Without an argument it creates a session, runs a call in it, and closes it.

use std::error::Error;

use callpark_client::{Client, CloseSession, CreateSession, SessionEvents, SessionItem};
use futures::TryStreamExt as _;

mod support;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = support::client()?;
    let session_id = match std::env::args().nth(1) {
        Some(session_id) => session_id,
        None => short_session(&client).await?,
    };
    let mut stream = client.sessions().events(SessionEvents::new(session_id));
    while let Some(item) = stream.try_next().await? {
        match item {
            SessionItem::Event(event) => println!("{} {:?}", event.sequence, event.payload),
            SessionItem::Snapshot(snapshot) => println!("the head is {}", snapshot.head_sequence),
            SessionItem::CaughtUp { .. } => println!("live events follow"),
            SessionItem::Resumed { .. } => println!("the connection was restored"),
            SessionItem::Gap { from, to } => println!("{from} to {to} are no longer kept"),
            other => println!("{other:?}"),
        }
    }
    println!("the session has ended");
    Ok(())
}

async fn short_session(client: &Client) -> Result<String, callpark_client::Error> {
    let answer = client.sessions().create(CreateSession::new()).await?;
    let session_id = answer.session.unwrap_or_default().session_id;
    client.tools().run(support::bash("echo hello")?.session_id(&session_id)).await?;
    client.sessions().close(CloseSession::new(&session_id)).await?;
    Ok(session_id)
}
