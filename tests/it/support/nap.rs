//! A tool inside the server that ends to the microsecond: the cheapest work there is to race with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use callpark::model::{Content, ContentKind, Progress, Tool, ToolKind, ToolResult, ToolSource};
use callpark::tool::{
    ArgumentError, Arguments, CallContext, CallableTool, InProcess, ToolContext, Work,
};
use serde_json::json;

use super::waiting::call;
use super::{TestServer, v1};

/// Reports of progress of each nap.
pub const REPORTS: u8 = 2;

/// A timer of the runtime is no finer than this.
const TICK: Duration = Duration::from_millis(2);

struct Nap {
    tool: Tool,
}

/// A server that has the tool `nap`.
pub async fn server() -> Arc<TestServer> {
    let schema = json!({ "type": "object" });
    let description = "Ends after so many microseconds.";
    let tool = Tool {
        read_only: true,
        idempotent: true,
        call_budget: Some(Duration::from_secs(600)),
        ..Tool::new("nap", description, schema, ToolKind::BuiltIn, ToolSource::BuiltIn)
    };
    Arc::new(TestServer::with_tools(vec![Arc::new(Nap { tool })]).await)
}

/// A call that naps for this long, and has this number in its result.
pub fn nap(number: u64, length: Duration) -> v1::RunToolRequest {
    let micros = u64::try_from(length.as_micros()).expect("a short nap");
    call("nap", json!({ "number": number, "micros": micros }))
}

/// Checks that a result is the whole of that of the nap with this number.
#[track_caller]
pub fn check_nap(result: &v1::ToolResult, number: u64) {
    let texts = result.content.iter().map(|content| match &content.kind {
        Some(v1::content::Kind::Text(text)) => text.clone(),
        other => panic!("no text but {other:?}"),
    });
    let texts: Vec<String> = texts.collect();
    assert_eq!(texts, [format!("nap {number}"), "the end".into()], "{result:?}");
    assert!(!result.is_error, "{result:?}");
}

impl CallableTool for Nap {
    fn describe(&self) -> &Tool {
        &self.tool
    }

    fn prepare(
        &self,
        arguments: &Arguments,
        _context: &CallContext,
    ) -> Result<Work, Vec<ArgumentError>> {
        // Numbers of a Struct are floating.
        let number = |name| arguments.get(name).and_then(serde_json::Value::as_f64);
        let number = |name| number(name).map_or(0, |number| number as u64);
        Ok(Work::InProcess(Box::new(Napping {
            number: number("number"),
            length: Duration::from_micros(number("micros")),
        })))
    }
}

struct Napping {
    number: u64,
    length: Duration,
}

#[async_trait]
impl InProcess for Napping {
    async fn run(self: Box<Self>, context: ToolContext) -> ToolResult {
        let end = Instant::now() + self.length;
        for done in 1..=REPORTS {
            let report = Progress { done: f64::from(done), total: None, message: String::new() };
            context.progress(report).await;
        }
        let whole = tokio::select! {
            () = exactly(end) => true,
            () = context.cancellation_token().cancelled() => false,
        };
        let texts = [format!("nap {}", self.number), "the end".to_owned()];
        let piece = |text| Content { kind: ContentKind::Text(text), stream: None, offset: 0 };
        let count = if whole { 2 } else { 1 };
        let content = texts.into_iter().take(count).map(piece).collect();
        ToolResult { content, is_error: !whole, ..ToolResult::default() }
    }
}

/// Until this moment, and no timer's tick longer.
async fn exactly(end: Instant) {
    if let Some(long) = end.checked_duration_since(Instant::now() + TICK) {
        tokio::time::sleep(long).await;
    }
    while Instant::now() < end {
        tokio::task::yield_now().await;
    }
}

/// The moment at which two things meet, as far as tries have shown it. Each try goes by up to two
/// milliseconds before or after it.
pub struct Meeting {
    centre: Duration,
    step: Duration,
    went_later: Option<bool>,
}

impl Meeting {
    const STEP_MIN: Duration = Duration::from_micros(400);
    const STEP_MAX: Duration = Duration::from_millis(25);

    /// Begins with this guess.
    pub fn new(centre: Duration) -> Self {
        Self { centre, step: Self::STEP_MIN, went_later: None }
    }

    /// The moment for the try with this number.
    pub fn at(&self, number: u64) -> Duration {
        // Prime to the number of offsets: neighbours are far apart.
        let offset = Duration::from_micros(number * 1_207 % 4_000);
        (self.centre + offset).saturating_sub(Duration::from_millis(2))
    }

    /// The try was too late: the next ones go earlier.
    pub fn earlier(&mut self) {
        self.adapt(false);
        self.centre = self.centre.saturating_sub(self.step);
    }

    /// The try was too early: the next ones go later.
    pub fn later(&mut self) {
        self.adapt(true);
        self.centre += self.step;
    }

    /// Goes faster in one direction, so that a busy machine, on which all takes longer, is caught
    /// up with in a few tries; and slower after a turn.
    fn adapt(&mut self, later: bool) {
        self.step = match self.went_later.replace(later) {
            Some(before) if before == later => (self.step * 2).min(Self::STEP_MAX),
            _ => (self.step / 2).max(Self::STEP_MIN),
        };
    }
}
