//! The tool of the simulation: it takes its time, says so, and counts its effects.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use callpark::model::{Content, ContentKind, Progress, Tool, ToolKind, ToolResult, ToolSource};
use callpark::tool::{
    ArgumentError, Arguments, CallContext, CallableTool, InProcess, ToolContext, Work,
};
use serde_json::json;

/// The name of the tool.
pub const WORK: &str = "work";

/// The number of times that the work of each mark has begun, over all lives of the server.
#[derive(Clone, Default)]
pub struct Effects(Arc<Mutex<BTreeMap<String, usize>>>);

impl Effects {
    /// All that were counted.
    pub fn counted(&self) -> BTreeMap<String, usize> {
        self.0.lock().expect("no panic").clone()
    }

    /// Counts one more beginning.
    pub fn count(&self, mark: &str) {
        *self.0.lock().expect("no panic").entry(mark.to_owned()).or_default() += 1;
    }
}

/// Works for `milliseconds`, reports `reports` times meanwhile, and gives its `mark` back.
pub struct WorkTool {
    tool: Tool,
    effects: Effects,
}

impl WorkTool {
    pub fn new(effects: Effects) -> Self {
        let schema = json!({ "type": "object" });
        let tool = Tool {
            destructive: true,
            ..Tool::new(WORK, "Takes its time.", schema, ToolKind::BuiltIn, ToolSource::BuiltIn)
        };
        Self { tool, effects }
    }
}

impl CallableTool for WorkTool {
    fn describe(&self) -> &Tool {
        &self.tool
    }

    fn prepare(&self, arguments: &Arguments, _: &CallContext) -> Result<Work, Vec<ArgumentError>> {
        let number = |name| arguments.get(name).and_then(serde_json::Value::as_f64);
        let mark = arguments.get("mark").and_then(serde_json::Value::as_str);
        Ok(Work::InProcess(Box::new(Working {
            mark: mark.unwrap_or_default().to_owned(),
            span: Duration::from_millis(number("milliseconds").unwrap_or_default() as u64),
            reports: number("reports").unwrap_or_default() as u32,
            effects: self.effects.clone(),
        })))
    }
}

struct Working {
    mark: String,
    span: Duration,
    reports: u32,
    effects: Effects,
}

#[async_trait]
impl InProcess for Working {
    async fn run(self: Box<Self>, context: ToolContext) -> ToolResult {
        self.effects.count(&self.mark);
        let work = async {
            for done in 1..=self.reports {
                tokio::time::sleep(self.span / (self.reports + 1)).await;
                let report = Progress { done: done.into(), total: None, message: String::new() };
                context.progress(report).await;
            }
            tokio::time::sleep(self.span / (self.reports + 1)).await;
        };
        context.cancellation_token().run_until_cancelled(work).await;
        let content = Content { kind: ContentKind::Text(self.mark), stream: None, offset: 0 };
        ToolResult { content: vec![content], ..ToolResult::default() }
    }
}
