//! The update of a session.

use std::collections::BTreeMap;

use prost_types::FieldMask;

use crate::v1;

/// A change of the settings of a session, for [`Sessions::update`](crate::Sessions::update).
///
/// Each setter adds its field to the mask of the update; the other fields keep their values. A setter
/// with an empty value, or 0, restores the default of the server.
///
/// ```
/// use callpark_client::{UpdateSession, v1};
///
/// let request = UpdateSession::new("ses-1").model("fast").label("team", "build");
/// let message = v1::UpdateSessionRequest::from(request);
/// assert_eq!(message.update_mask.unwrap().paths, ["model", "labels"]);
/// assert_eq!(message.session.unwrap().model, "fast");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is sent"]
pub struct UpdateSession {
    session: v1::Session,
    paths: Vec<String>,
    request_id: String,
}

impl UpdateSession {
    /// Changes the session with this id. The update must set at least one field.
    pub fn new(session_id: impl Into<String>) -> Self {
        let session = v1::Session { session_id: session_id.into(), ..Default::default() };
        Self { session, paths: Vec::new(), request_id: String::new() }
    }

    /// Sets the id under which the request can be repeated, a UUID. Default: the client creates one.
    pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request_id = request_id.into();
        self
    }

    /// Sets the purpose of the session, for people. At most 4 KiB.
    pub fn description(self, description: impl Into<String>) -> Self {
        let description = description.into();
        self.set("description", |session| session.description = description)
    }

    /// Replaces all labels. At most 64.
    pub fn labels(self, labels: BTreeMap<String, String>) -> Self {
        self.set("labels", |session| session.labels = labels)
    }

    /// Adds a label to those that replace all labels of the session.
    pub fn label(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let (key, value) = (key.into(), value.into());
        self.set("labels", |session| {
            session.labels.insert(key, value);
        })
    }

    /// Replaces the tools that may be used in the session. Empty: all tools that the caller may use.
    pub fn allowed_tools<T: Into<String>>(self, tools: impl IntoIterator<Item = T>) -> Self {
        let tools = tools.into_iter().map(Into::into).collect();
        self.set("allowed_tools", |session| session.allowed_tools = tools)
    }

    /// Sets the model of the turns that name none.
    pub fn model(self, model: impl Into<String>) -> Self {
        let model = model.into();
        self.set("model", |session| session.model = model)
    }

    /// Sets the system message of the turns that have none.
    pub fn system_message(self, system_message: impl Into<String>) -> Self {
        let system_message = system_message.into();
        self.set("system_message", |session| session.system_message = system_message)
    }

    /// Sets the maximum number of requests to the model in one turn, 1 to 1,000.
    pub fn max_rounds(self, max_rounds: u32) -> Self {
        let max_rounds = i32::try_from(max_rounds).unwrap_or(i32::MAX);
        self.set("max_rounds", |session| session.max_rounds = max_rounds)
    }

    /// Sets the maximum number of live tasks, 1 to 1,000. Tasks above it continue.
    pub fn max_live_tasks(self, max_live_tasks: u32) -> Self {
        let max_live_tasks = i32::try_from(max_live_tasks).unwrap_or(i32::MAX);
        self.set("max_live_tasks", |session| session.max_live_tasks = max_live_tasks)
    }

    /// Sets what happens to work that would exceed the maximum number of live tasks.
    pub fn task_limit_policy(self, policy: v1::TaskLimitPolicy) -> Self {
        self.set("task_limit_policy", |session| session.set_task_limit_policy(policy))
    }

    /// Sets which outcomes of the background calls of its agent cause a follow-up.
    pub fn follow_up(self, follow_up: v1::FollowUpPolicy) -> Self {
        self.set("follow_up", |session| session.set_follow_up(follow_up))
    }

    /// Sets what happens to its turns when the server goes away.
    pub fn on_restart(self, on_restart: v1::OnRestart) -> Self {
        self.set("on_restart", |session| session.set_on_restart(on_restart))
    }

    /// Sets the usage of models that the session may have, over its whole life.
    pub fn budget(self, budget: v1::Budget) -> Self {
        self.set("budget", |session| session.budget = Some(budget))
    }

    /// Changes a field and adds it to the mask.
    fn set(mut self, path: &str, change: impl FnOnce(&mut v1::Session)) -> Self {
        change(&mut self.session);
        if !self.paths.iter().any(|known| known == path) {
            self.paths.push(path.to_owned());
        }
        self
    }
}

impl From<UpdateSession> for v1::UpdateSessionRequest {
    fn from(request: UpdateSession) -> Self {
        let UpdateSession { session, paths, request_id } = request;
        Self { session: Some(session), update_mask: Some(FieldMask { paths }), request_id }
    }
}
