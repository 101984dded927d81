//! Starts many tasks in the background and takes each as it ends.
//!
//! ```sh
//! callpark serve &
//! export CALLPARK_TOKEN=$(cat ~/.local/state/callpark/token)
//! cargo run -p callpark-client --example many_tasks -- 20
//! ```

use std::error::Error;

use callpark_client::v1;

mod support;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = support::client()?;
    let count = std::env::args().nth(1).map_or(Ok(10), |count| count.parse::<u32>())?;
    let mut ids = Vec::new();
    for number in 0..count {
        let v1::RunToolRequest { tool, arguments, .. } =
            support::bash(&format!("sleep 0.{}; exit {}", number % 10, number % 2));
        let call = v1::ToolCall { tool, arguments, ..Default::default() };
        let work = Some(v1::start_request::Work::ToolCall(call));
        let answer = client.tasks().start(v1::StartRequest { work, ..Default::default() }).await?;
        ids.push(answer.task.unwrap_or_default().background_id);
    }
    while !ids.is_empty() {
        // Some have ended since the last time; the others are asked for again.
        let answer = client.tasks().wait_any(&ids, None).await?;
        for task in answer.settled {
            println!("{} {:?}", task.background_id, task.state());
            ids.retain(|id| *id != task.background_id);
        }
    }
    println!("all {count} have ended");
    Ok(())
}
