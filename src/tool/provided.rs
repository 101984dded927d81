//! Tools of providers. A call of one waits for its provider within the limits of the call.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;

use super::provider::{Catalog, ResolvedTool, ToolProvider};
use super::{
    ArgumentError, Arguments, CallContext, CallableTool, InProcess, Registry, ToolContext, Work,
    coerce_arguments, on_input, rough_size,
};
use crate::model::{Tool, ToolResult, WorkHandle};

/// Returns the tool of this name. Without a catalog it is described as it was last known, or by its
/// name alone, and its arguments are not checked before the call runs. `is_late`: the provider was
/// waited for.
pub(super) fn provided_tool(
    provider: &Arc<dyn ToolProvider>,
    catalog: Option<Arc<Catalog>>,
    is_late: bool,
    name: &str,
) -> Option<ResolvedTool> {
    let waits = catalog.is_none();
    let known = catalog.clone().or_else(|| provider.known_catalog());
    let listed = known.as_ref().and_then(|known| known.registry.get(name));
    let tool = match listed {
        Some(tool) if waits => Tool { input_schema: json!({}), ..tool.describe().clone() },
        Some(tool) => tool.describe().clone(),
        // The provider may have more tools once it is available again.
        None if waits => provider.unknown_tool(name),
        None => return None,
    };
    let (provider, checked) = (provider.clone(), catalog.clone().filter(|_| !is_late));
    let tool: Arc<dyn CallableTool> = Arc::new(ProvidedTool { tool, provider, checked });
    let offer = match catalog {
        Some(catalog) => catalog,
        None => Arc::new(Registry::new(vec![tool.clone()]).ok()?.into()),
    };
    Some(ResolvedTool { offer, tool, waits, is_late })
}

/// A tool that is found at its provider when a call of it runs.
struct ProvidedTool {
    tool: Tool,
    provider: Arc<dyn ToolProvider>,
    /// The catalog that its arguments are checked against before that, if any.
    checked: Option<Arc<Catalog>>,
}

impl CallableTool for ProvidedTool {
    fn describe(&self) -> &Tool {
        &self.tool
    }

    fn prepare(
        &self,
        arguments: &Arguments,
        context: &CallContext,
    ) -> Result<Work, Vec<ArgumentError>> {
        Ok(self.call(Input::Arguments(arguments.clone()), context))
    }

    fn take_up(&self, handle: &WorkHandle, context: &CallContext) -> Option<Work> {
        Some(self.call(Input::Handle(handle.clone()), context))
    }
}

impl ProvidedTool {
    fn call(&self, input: Input, context: &CallContext) -> Work {
        Work::InProcess(Box::new(ProvidedCall {
            name: self.tool.name.clone(),
            provider: self.provider.clone(),
            checked: self.checked.clone(),
            input,
            context: context.clone(),
        }))
    }
}

/// The input of a call.
enum Input {
    Arguments(Arguments),
    /// The handle of an earlier call, which goes on.
    Handle(WorkHandle),
}

struct ProvidedCall {
    name: String,
    provider: Arc<dyn ToolProvider>,
    checked: Option<Arc<Catalog>>,
    input: Input,
    context: CallContext,
}

#[async_trait]
impl InProcess for ProvidedCall {
    async fn run(self: Box<Self>, context: ToolContext) -> ToolResult {
        let bytes = match &self.input {
            Input::Arguments(arguments) => rough_size(arguments),
            Input::Handle(_) => 0,
        };
        let ready = self.provider.ready_catalog();
        let catalog = match context.cancellation_token().run_until_cancelled(ready).await {
            Some(Ok(catalog)) => catalog,
            Some(Err(unavailable)) => return failed(unavailable.reason),
            None => return failed("the call was stopped".to_owned()),
        };
        let prepare = move || self.prepare(&catalog);
        match on_input(bytes, prepare).await {
            Ok(work) => work.run(context).await,
            Err(reason) => failed(reason),
        }
    }
}

impl ProvidedCall {
    fn prepare(&self, catalog: &Catalog) -> Result<Box<dyn InProcess>, String> {
        let name = &self.name;
        let Some(tool) = catalog.registry.get(name) else {
            let provider = self.provider.name();
            return Err(format!("`{provider}` has no tool `{name}`: list its tools"));
        };
        let work = match &self.input {
            Input::Arguments(arguments) => self.prepare_call(tool, arguments, catalog)?,
            Input::Handle(handle) => tool.take_up(handle, &self.context).ok_or_else(|| {
                format!("`{name}` cannot go on with a call of an earlier server: call it again")
            })?,
        };
        match work {
            Work::InProcess(work) => Ok(work),
            Work::Process(_) | Work::Followed(_) => {
                Err(format!("`{name}` cannot be called: its provider gives it no code"))
            }
        }
    }

    fn prepare_call(
        &self,
        tool: &Arc<dyn CallableTool>,
        arguments: &Arguments,
        catalog: &Catalog,
    ) -> Result<Work, String> {
        let name = &self.name;
        let is_checked = self
            .checked
            .as_ref()
            .is_some_and(|checked| Arc::ptr_eq(&checked.registry, &catalog.registry));
        let prepared = match is_checked {
            true => tool.prepare(arguments, &self.context),
            false => {
                // The caller could not see what the tool takes, and may have written all as text.
                let coerced = coerce_arguments(tool.describe(), arguments.clone());
                let arguments = coerced.arguments;
                let checked = catalog.registry.check(name, &arguments);
                checked.and_then(|()| tool.prepare(&arguments, &self.context))
            }
        };
        prepared.map_err(|faults| invalid(name, &faults))
    }
}

fn invalid(name: &str, faults: &[ArgumentError]) -> String {
    let faults = faults.iter().map(|ArgumentError { path, description }| match path.as_str() {
        "" => description.clone(),
        path => format!("`{path}` {description}"),
    });
    let faults = faults.collect::<Vec<_>>().join("; ");
    format!("the arguments of `{name}` are not valid: {faults}")
}

fn failed(error_message: String) -> ToolResult {
    ToolResult { is_error: true, error_message, ..ToolResult::default() }
}
