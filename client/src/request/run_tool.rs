//! Requests about tools.

use callpark_proto::v1::start_request::Work;

use crate::{
    error::Error,
    request::{IntoArguments, builder},
    v1,
};

builder! {
    /// One call of a tool, for [`Tools::run`](crate::Tools::run),
    /// [`Tools::stream`](crate::Tools::stream) and [`Tasks::start`](crate::Tasks::start).
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use callpark_client::{RunTool, v1};
    /// use serde_json::json;
    ///
    /// # fn main() -> Result<(), callpark_client::Error> {
    /// let request = RunTool::new("bash")
    ///     .arguments(json!({ "command": "make test" }))?
    ///     .call_budget(Duration::from_secs(30))
    ///     .label("job", "nightly");
    /// let message = v1::RunToolRequest::from(request);
    /// assert_eq!(message.call_budget.unwrap().seconds, 30);
    /// # Ok(())
    /// # }
    /// ```
    RunTool(RunToolRequest) {
        /// Runs the call in this session. Default: a new session, named in the answer.
        session_id: text,
        /// Sets the id under which the request can be repeated, a UUID. Default: the client creates
        /// one.
        request_id: text,
        /// Sets the time to wait for the result before the call is parked; 0 parks it at once. At most
        /// 30 days. Default: the budget of the tool. Not used by [`Tasks::start`](crate::Tasks::start).
        call_budget: duration,
        /// Sets the time limit of the run, from its start, parked or not. At most 30 days. Default:
        /// that of the tool.
        execution_timeout: duration,
        /// Sets the time limit for a run that produces no output. At most 30 days. Default: that of
        /// the tool.
        idle_timeout: duration,
        /// Sets what happens to the call if the caller disconnects before it is answered. Default:
        /// the call is parked. Not used by [`Tasks::start`](crate::Tasks::start).
        on_disconnect: choice(v1::OnDisconnect),
        /// Sets which outcomes of the call, once it is parked, cause a follow-up. Default: none.
        follow_up: choice(v1::FollowUpPolicy),
        /// Lets the call, once it is parked, continue when its session is closed.
        detached: flag,
        /// Sets the number of output bytes that are kept, split between head and tail. At most 64
        /// MiB, which is the default.
        max_output_bytes: number(i64),
        /// Adds a label, by which tasks can be listed. At most 64.
        labels: label,
        /// Checks the request and starts nothing.
        dry_run: flag,
        /// Sets the purpose of the call, for people. At most 4 KiB.
        description: text,
        /// Sets the bytes that the tool reads from its standard input. At most 2 MiB. Default: none,
        /// or those that the arguments give.
        stdin: bytes,
    }
}

impl RunTool {
    /// Creates a call of this tool without arguments.
    pub fn new(tool: impl Into<String>) -> Self {
        Self { message: v1::RunToolRequest { tool: tool.into(), ..Default::default() } }
    }

    /// Sets the arguments: a `serde_json::json!({…})` or a [`prost_types::Struct`].
    ///
    /// # Errors
    /// [`Origin::Request`](crate::Origin::Request) for JSON that is not an object, or that contains
    /// an integer that is not exactly representable as a 64-bit float.
    pub fn arguments(mut self, arguments: impl IntoArguments) -> Result<Self, Error> {
        self.message.arguments = Some(arguments.into_arguments()?);
        Ok(self)
    }
}

/// Drops `call_budget` and `on_disconnect`: work that starts in the background has no caller that
/// waits.
impl From<RunTool> for v1::StartRequest {
    fn from(request: RunTool) -> Self {
        let call = v1::RunToolRequest {
            call_budget: None,
            on_disconnect: v1::OnDisconnect::Unspecified.into(),
            ..request.message
        };
        Self { work: Some(Work::ToolCall(call)), ..Default::default() }
    }
}

builder! {
    /// A selection of tools, for [`Tools::list_with`](crate::Tools::list_with).
    ///
    /// ```
    /// use callpark_client::{ListTools, v1};
    ///
    /// let request = ListTools::in_session("ses-1").view(v1::ToolView::Basic);
    /// let message = v1::ListToolsRequest::from(request);
    /// assert_eq!((message.session_id.as_str(), message.view()), ("ses-1", v1::ToolView::Basic));
    /// ```
    #[derive(Default)]
    ListTools(ListToolsRequest) {
        /// Selects the tools that may be used in this session.
        session_id: text,
        /// Sets the amount of detail. Default: everything, with the schemas.
        view: choice(v1::ToolView),
        /// Sets the number of tools in one answer, 1 to 1,000. Default: 1,000.
        page_size: count,
        /// Continues after the answer with this `next_page_token`.
        page_token: text,
    }
}

impl ListTools {
    /// Selects all tools that the caller may use.
    pub fn new() -> Self {
        Self::default()
    }

    /// Selects the tools that may be used in this session.
    pub fn in_session(session_id: impl Into<String>) -> Self {
        Self::new().session_id(session_id)
    }
}
