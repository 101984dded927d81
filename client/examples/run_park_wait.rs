//! Runs a command that outlasts its budget: it is parked, its output is followed, and its end waited
//! for.
//!
//! ```sh
//! callpark serve &
//! export CALLPARK_TOKEN=$(cat ~/.local/state/callpark/token)
//! cargo run -p callpark-client --example run_park_wait -- 'for i in 1 2 3; do echo $i; sleep 1; done'
//! ```

use std::{error::Error, io::Write as _};

use callpark_client::{OutputOptions, RunOutcome};
use futures::TryStreamExt as _;

mod support;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = support::client()?;
    let command = std::env::args().nth(1).unwrap_or_else(|| "sleep 1; echo done".to_owned());
    let mut request = support::bash(&command);
    request.call_budget = Some(prost_types::Duration { seconds: 0, nanos: 200_000_000 });
    match client.tools().run(request).await? {
        RunOutcome::Finished(call) => {
            println!("ended within its budget: {:?}", call.result.exit);
        }
        RunOutcome::Parked(call) => {
            println!("parked as {}", call.background_id());
            let mut output = call.output(OutputOptions::default());
            while let Some(chunk) = output.try_next().await? {
                std::io::stdout().write_all(&chunk.data)?;
            }
            let task = call.wait(None).await?.task.unwrap_or_default();
            println!("{:?}", task.state());
        }
        RunOutcome::Checked(_) => println!("checked, and not started"),
    }
    Ok(())
}
