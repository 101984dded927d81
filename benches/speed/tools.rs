//! Tools that run inside the server.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callpark::model::{Progress, Tool, ToolKind, ToolResult, ToolSource};
use callpark::tool::{
    ArgumentError, Arguments, CallContext, CallableTool, InProcess, ToolContext, Work,
};
use serde_json::json;
use tokio::time::MissedTickBehavior;

/// Ends at once.
pub(crate) const NOTHING: &str = "nothing";
/// Ends after `seconds`; without them never, unless it is cancelled.
pub(crate) const REST: &str = "rest";
/// Reports progress `count` times, `rate` times a second, or as fast as it can.
pub(crate) const REPORT: &str = "report";
/// Makes an event of a report about 200 bytes long.
const MESSAGE: &str = "0123456789abcdef0123456789abcd";

/// All of them.
pub(crate) fn all() -> Vec<Arc<dyn CallableTool>> {
    [NOTHING, REST, REPORT].map(|name| Arc::new(BenchTool::new(name)) as Arc<_>).to_vec()
}

struct BenchTool(Tool);

impl BenchTool {
    fn new(name: &str) -> Self {
        Self(Tool {
            name: name.to_owned(),
            description: "For measuring.".to_owned(),
            input_schema: json!({ "type": "object" }),
            output_schema: None,
            kind: ToolKind::BuiltIn,
            read_only: true,
            destructive: false,
            idempotent: true,
            concurrent_safe: true,
            call_budget: Some(Duration::from_secs(600)),
            execution_timeout: None,
            source: ToolSource::BuiltIn,
            arguments_unchecked: false,
            secret_arguments: Vec::new(),
            warnings: Vec::new(),
        })
    }
}

impl CallableTool for BenchTool {
    fn describe(&self) -> &Tool {
        &self.0
    }

    fn prepare(&self, arguments: &Arguments, _: &CallContext) -> Result<Work, Vec<ArgumentError>> {
        let number = |name| arguments.get(name).and_then(|value| value.as_f64());
        Ok(Work::InProcess(match self.0.name.as_str() {
            NOTHING => Box::new(Nothing),
            REST => Box::new(Rest(number("seconds").map(Duration::from_secs_f64))),
            _ => Box::new(Report {
                count: number("count").unwrap_or_default() as u64,
                period: number("rate").map(|rate| Duration::from_secs_f64(1.0 / rate)),
            }),
        }))
    }
}

struct Nothing;

#[async_trait]
impl InProcess for Nothing {
    async fn run(self: Box<Self>, _: ToolContext) -> ToolResult {
        ToolResult::default()
    }
}

struct Rest(Option<Duration>);

#[async_trait]
impl InProcess for Rest {
    async fn run(self: Box<Self>, context: ToolContext) -> ToolResult {
        let stop = context.cancellation_token();
        match self.0 {
            Some(span) => drop(stop.run_until_cancelled(tokio::time::sleep(span)).await),
            None => stop.cancelled().await,
        }
        ToolResult::default()
    }
}

struct Report {
    count: u64,
    period: Option<Duration>,
}

#[async_trait]
impl InProcess for Report {
    async fn run(self: Box<Self>, context: ToolContext) -> ToolResult {
        let mut ticks = self.period.map(|period| {
            let mut ticks = tokio::time::interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            ticks
        });
        for number in 0..self.count {
            if let Some(ticks) = &mut ticks {
                ticks.tick().await;
            }
            let report = Progress { done: number as f64, total: None, message: MESSAGE.into() };
            context.progress(report).await;
        }
        ToolResult::default()
    }
}
