//! Tools that are functions of a program that embeds callpark.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{ArgumentError, Arguments, CallContext, CallableTool, InProcess, ToolContext, Work};
use crate::model::limits::CALL_BUDGET_SECONDS_DEFAULT;
use crate::model::{Content, ContentKind, Tool, ToolKind, ToolResult, ToolSource};

/// The output of a tool that is a function: nothing by default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ToolOutput {
    content: Vec<ContentKind>,
}

impl ToolOutput {
    /// Creates an output of one text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::default().with(ContentKind::Text(text.into()))
    }

    /// Creates an output of one JSON value. An object is the structured result of the call, too.
    pub fn json(value: Value) -> Self {
        Self::default().with(ContentKind::Json(value))
    }

    /// Adds a piece, such as an image.
    #[must_use]
    pub fn with(mut self, content: ContentKind) -> Self {
        self.content.push(content);
        self
    }
}

impl From<ToolOutput> for ToolResult {
    fn from(output: ToolOutput) -> Self {
        let structured = output.content.iter().find_map(|content| match content {
            ContentKind::Json(Value::Object(object)) => Some(Box::new(object.clone())),
            _ => None,
        });
        let piece = |kind| Content { kind, stream: None, offset: 0 };
        let content = output.content.into_iter().map(piece).collect();
        Self { content, structured, ..Self::default() }
    }
}

/// The reason why a tool that is a function failed: any error, or a text.
///
/// The call ends with a failed result that bears its message.
pub struct ToolError(Box<dyn std::error::Error + Send + Sync>);

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for ToolError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl fmt::Debug for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The result of a tool that is a function.
pub type FunctionResult = Result<ToolOutput, ToolError>;

/// A tool that is a function of a program that embeds callpark.
///
/// ```
/// use callpark::model::Progress;
/// use callpark::tool::{FunctionTool, ToolOutput};
/// use serde_json::Value;
///
/// let count = FunctionTool::new("count").description("Counts to three.").run(
///     |_: Value, context| async move {
///         for done in 1..=3 {
///             context.progress(Progress { done: done.into(), ..Progress::default() }).await;
///         }
///         Ok(ToolOutput::text("three"))
///     },
/// );
/// assert_eq!(count.describe().name, "count");
/// ```
#[derive(Debug, Clone)]
#[must_use = "a tool is created by `run`"]
pub struct FunctionTool {
    tool: Tool,
}

impl FunctionTool {
    /// Creates a tool that takes any object, may change things, runs beside other calls, and is
    /// parked after the default budget of 10 minutes.
    pub fn new(name: impl Into<String>) -> Self {
        let tool = Tool {
            name: name.into(),
            description: String::new(),
            input_schema: json!({ "type": "object" }),
            output_schema: None,
            kind: ToolKind::BuiltIn,
            read_only: false,
            destructive: true,
            idempotent: false,
            concurrent_safe: true,
            call_budget: Some(Duration::from_secs(CALL_BUDGET_SECONDS_DEFAULT)),
            execution_timeout: None,
            source: ToolSource::BuiltIn,
            arguments_unchecked: false,
            secret_arguments: Vec::new(),
            warnings: Vec::new(),
        };
        Self { tool }
    }

    /// Sets the description of the tool, which models read.
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.tool.description = description.into();
        self
    }

    /// Sets the JSON Schema that its arguments must satisfy.
    pub fn input_schema(mut self, schema: Value) -> Self {
        self.tool.input_schema = schema;
        self
    }

    /// Sets the JSON Schema of its structured results.
    pub fn output_schema(mut self, schema: Value) -> Self {
        self.tool.output_schema = Some(schema);
        self
    }

    /// Declares that it changes nothing.
    pub fn read_only(mut self) -> Self {
        self.tool.read_only = true;
        self.tool.destructive = false;
        self.tool.idempotent = true;
        self
    }

    /// Declares that calling it twice with the same arguments has the effect of one call.
    pub fn idempotent(mut self) -> Self {
        self.tool.idempotent = true;
        self
    }

    /// Keeps calls of one session from running at the same time.
    pub fn exclusive(mut self) -> Self {
        self.tool.concurrent_safe = false;
        self
    }

    /// Sets the time after which a call is parked, or `None` if the budget never ends.
    pub fn call_budget(mut self, budget: Option<Duration>) -> Self {
        self.tool.call_budget = budget;
        self
    }

    /// Sets the hard limit of one run, instead of the server's.
    pub fn execution_timeout(mut self, timeout: Duration) -> Self {
        self.tool.execution_timeout = Some(timeout);
        self
    }

    /// Returns the tool, each call of which runs `function`.
    ///
    /// The arguments are checked against the input schema first, then deserialized: `A` is a type of
    /// the program's own, or [`serde_json::Value`]. The function runs on the threads of the server
    /// and must not block them. An error is a failed result; a panic fails its call and nothing else.
    pub fn run<A, F, R>(self, function: F) -> Arc<dyn CallableTool>
    where
        A: DeserializeOwned + Send + 'static,
        F: Fn(A, ToolContext) -> R + Send + Sync + 'static,
        R: Future<Output = FunctionResult> + Send + 'static,
    {
        let function = Arc::new(function);
        let bind = move |arguments: &Arguments| -> Result<BoundFunction, String> {
            let arguments: A = serde_json::from_value(Value::Object(arguments.clone()))
                .map_err(|error| error.to_string())?;
            let function = function.clone();
            Ok(BoundFunction(Box::new(move |context| function(arguments, context).boxed())))
        };
        Arc::new(CallableFunction { tool: self.tool, bind: Box::new(bind) })
    }
}

/// Binds arguments to the function, or returns the reason why they do not fit.
type Bind = dyn Fn(&Arguments) -> Result<BoundFunction, String> + Send + Sync;

struct CallableFunction {
    tool: Tool,
    bind: Box<Bind>,
}

impl CallableTool for CallableFunction {
    fn describe(&self) -> &Tool {
        &self.tool
    }

    fn prepare(
        &self,
        arguments: &Arguments,
        _context: &CallContext,
    ) -> Result<Work, Vec<ArgumentError>> {
        match (self.bind)(arguments) {
            Ok(function) => Ok(Work::InProcess(Box::new(function))),
            Err(description) => Err(vec![ArgumentError { path: String::new(), description }]),
        }
    }
}

/// The function with the arguments of one call.
struct BoundFunction(Box<dyn FnOnce(ToolContext) -> BoxFuture<'static, FunctionResult> + Send>);

#[async_trait]
impl InProcess for BoundFunction {
    async fn run(self: Box<Self>, context: ToolContext) -> ToolResult {
        match (self.0)(context).await {
            Ok(output) => output.into(),
            Err(ToolError(error)) => ToolResult {
                is_error: true,
                error_message: error.to_string(),
                ..ToolResult::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CallId;

    #[derive(serde::Deserialize)]
    struct Span {
        from: u8,
        to: u8,
    }

    fn span() -> Arc<dyn CallableTool> {
        FunctionTool::new("span").run(|Span { from, to }: Span, context| async move {
            context.output(format!("{from}..{to}")).await;
            let length = to.checked_sub(from).ok_or("`to` must not be less than `from`")?;
            Ok(ToolOutput::json(json!({ "length": length })).with(ContentKind::Text("ok".into())))
        })
    }

    async fn result(arguments: Value) -> ToolResult {
        let context = CallContext::default();
        let Ok(Work::InProcess(work)) =
            span().prepare(arguments.as_object().expect("an object"), &context)
        else {
            panic!("no code to run")
        };
        let (context, _reports) = ToolContext::new(CallId::random(), 1);
        work.run(context).await
    }

    #[tokio::test]
    async fn arguments_are_typed_and_an_object_is_the_structured_result() {
        let result = result(json!({ "from": 2, "to": 5 })).await;
        assert_eq!(result.content.len(), 2);
        assert_eq!(result.structured.as_deref(), json!({ "length": 3 }).as_object());
        assert!(!result.is_error);
    }

    #[tokio::test]
    async fn an_error_is_a_failed_result() {
        let result = result(json!({ "from": 5, "to": 2 })).await;
        assert!(result.is_error);
        assert_eq!(result.error_message, "`to` must not be less than `from`");
    }

    #[tokio::test]
    async fn arguments_of_another_type_are_refused() {
        let arguments = json!({ "from": 1 });
        let refused = span().prepare(arguments.as_object().unwrap(), &CallContext::default());
        let errors = refused.err().expect("refused");
        assert!(errors[0].description.contains("missing field `to`"), "{errors:?}");
    }
}
