//! The tools of the engines, whose work is code inside them.

use std::sync::Arc;
use std::time::Duration;

use callpark::tool::{CallableTool, FunctionTool, Registry, ToolOutput};
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use crate::tool::Effects;

/// A tool that may have its effect once only.
pub const ONCE: &str = "once";
/// A tool that may be run again.
pub const AGAIN: &str = "again";
/// A tool that fails.
pub const FAIL: &str = "fail";
/// A tool that takes minutes, and is parked.
pub const LONG: &str = "long";

/// The time after which a call of [`LONG`] is parked.
const LONG_BUDGET: Duration = Duration::from_secs(5);

/// The interval at which a tool writes.
const OUTPUT_INTERVAL: Duration = Duration::from_secs(3);

/// Returns the tools, which count their runs by their argument `mark`, and take so many `seconds`.
pub fn registry(effects: &Effects) -> Registry {
    let tools = vec![
        tool(FunctionTool::new(ONCE), effects, true),
        tool(FunctionTool::new(AGAIN).idempotent(), effects, true),
        tool(FunctionTool::new(FAIL), effects, false),
        tool(FunctionTool::new(LONG).call_budget(Some(LONG_BUDGET)), effects, true),
    ];
    Registry::new(tools).expect("a registry")
}

fn tool(tool: FunctionTool, effects: &Effects, succeeds: bool) -> Arc<dyn CallableTool> {
    let effects = effects.clone();
    tool.run(move |arguments: Value, context| {
        let effects = effects.clone();
        async move {
            let mark = arguments["mark"].as_str().unwrap_or_default().to_owned();
            effects.count(&mark);
            let span = Duration::from_secs_f64(arguments["seconds"].as_f64().unwrap_or_default());
            let work = async {
                let until = Instant::now() + span;
                while Instant::now() < until {
                    context.output(".\n").await;
                    sleep_until(until.min(Instant::now() + OUTPUT_INTERVAL)).await;
                }
            };
            context.cancellation_token().run_until_cancelled(work).await;
            if succeeds { Ok(ToolOutput::text(mark)) } else { Err("it fails".into()) }
        }
    })
}
