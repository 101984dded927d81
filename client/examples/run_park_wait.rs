//! Runs a command that takes longer than its budget: it is parked, its output is followed, and its
//! result is awaited.
//!
//! ```sh
//! callpark serve &
//! export CALLPARK_TOKEN=$(cat ~/.local/state/callpark/token)
//! cargo run -p callpark-client --example run_park_wait -- 'for i in 1 2 3; do echo $i; sleep 1; done'
//! ```

use std::{error::Error, io::Write as _, time::Duration};

use callpark_client::{OutputOptions, RunOutcome, WaitLimit};
use futures::TryStreamExt as _;

mod support;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = support::client()?;
    let command = std::env::args().nth(1).unwrap_or_else(|| "sleep 1; echo done".to_owned());
    let request = support::bash(&command)?.call_budget(Duration::from_millis(200));
    match client.tools().run(request).await? {
        RunOutcome::Finished(call) => {
            println!("ended within its budget: {:?}", call.result.exit);
        }
        RunOutcome::Parked(task) => {
            println!("parked as {}", task.background_id());
            let mut output = task.output(OutputOptions::new());
            while let Some(chunk) = output.try_next().await? {
                std::io::stdout().write_all(&chunk.data)?;
            }
            let task = task.wait(WaitLimit::Unbounded).await?.task.unwrap_or_default();
            println!("{:?}", task.state());
        }
        _ => println!("nothing was started"),
    }
    Ok(())
}
