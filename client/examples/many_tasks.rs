//! Starts many tasks in the background and prints each when it ends.
//!
//! ```sh
//! callpark serve &
//! export CALLPARK_TOKEN=$(cat ~/.local/state/callpark/token)
//! cargo run -p callpark-client --example many_tasks -- 20
//! ```

use std::error::Error;

use callpark_client::WaitLimit;

mod support;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = support::client()?;
    let count = std::env::args().nth(1).map_or(Ok(10), |count| count.parse::<u32>())?;
    let mut ids = Vec::new();
    for number in 0..count {
        let call = support::bash(&format!("sleep 0.{}; exit {}", number % 10, number % 2))?;
        let answer = client.tasks().start(call).await?;
        ids.push(answer.task.unwrap_or_default().background_id);
    }
    while !ids.is_empty() {
        // Returns the tasks that have ended since the last time; wait for the others again.
        let answer = client.tasks().wait_any(&ids, WaitLimit::Unbounded).await?;
        for task in answer.settled {
            println!("{} {:?}", task.background_id, task.state());
            ids.retain(|id| *id != task.background_id);
        }
    }
    println!("all {count} have ended");
    Ok(())
}
