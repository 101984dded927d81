//! Hears of background tasks that end, each once, until Ctrl-C. What is under way then may still end.
//!
//! ```sh
//! callpark serve &
//! export CALLPARK_TOKEN=$(cat ~/.local/state/callpark/token)
//! cargo run -p callpark-client --example follow_ups -- 'sleep 1; echo done'
//! ```

use std::{collections::HashSet, convert::Infallible, error::Error, sync::Mutex};

use callpark_client::v1;

mod support;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = support::client()?;
    let command = std::env::args().nth(1).unwrap_or_else(|| "echo done".to_owned());
    let v1::RunToolRequest { tool, arguments, .. } = support::bash(&command);
    let follow_up = v1::FollowUpPolicy::OnFinish.into();
    let call = v1::ToolCall { tool, arguments, follow_up, ..Default::default() };
    let work = Some(v1::start_request::Work::ToolCall(call));
    client.tasks().start(v1::StartRequest { work, ..Default::default() }).await?;

    // A program that must not forget what it has done keeps the keys where it keeps its effects.
    let handled = Mutex::new(HashSet::new());
    let handle = async |follow_up: v1::FollowUp| {
        let new = handled.lock().is_ok_and(|mut keys| keys.insert(follow_up.dedupe_key));
        if new {
            println!("{}\n", follow_up.message);
        }
        Ok::<_, Infallible>(())
    };
    let stop = async {
        // Without a handler for it, Ctrl-C ends the program at once.
        let _ = tokio::signal::ctrl_c().await;
    };
    let follow_ups = client.follow_ups().consumer().consumer("the example");
    let done = follow_ups.for_each_concurrent(4, stop, handle).await?;
    println!("{done:?}");
    Ok(())
}
