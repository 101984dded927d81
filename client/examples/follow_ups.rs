//! Prints the follow-up of each background task that ends, until Ctrl-C. Handlers that are running then
//! may still finish.
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
    let call = support::bash(&command)?.follow_up(v1::FollowUpPolicy::OnFinish);
    client.tasks().start(call).await?;

    // A program whose effects must happen exactly once stores the keys together with its effects.
    let handled = Mutex::new(HashSet::new());
    let handle = async |follow_up: v1::FollowUp| {
        let is_new = handled.lock().is_ok_and(|mut keys| keys.insert(follow_up.dedupe_key));
        if is_new {
            println!("{}\n", follow_up.message);
        }
        Ok::<_, Infallible>(())
    };
    let stop = async {
        // If no handler can be installed, Ctrl-C ends the program at once.
        let _ = tokio::signal::ctrl_c().await;
    };
    let consumer = client.follow_ups().consumer().name("the example");
    let report = consumer.for_each_concurrent(4, stop, handle).await?;
    println!("{report:?}");
    Ok(())
}
