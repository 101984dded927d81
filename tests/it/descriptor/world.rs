//! Requests that are good, so that what comes of one comes from the field that was changed.

use prost::Message as _;
use tonic::Code;

use super::answers::Answer;
use crate::support::streams::{close, ended, new_session, task};
use crate::support::waiting::{start_of, start_of_turn};
use crate::support::{TestServer, millis, v1};

/// Takes anything, so that only the bounds of arguments in general stand in the way.
pub const CONFIG: &str = r#"
[[tools]]
name = "any"
argv = ["true"]

[tools.input_schema]
type = "object"
"#;

/// The name of a follow-up that there isn't.
const NO_FOLLOW_UP: &str = "fu-00000000000040008000000000000001";

/// The objects that good requests refer to.
pub struct World {
    session_id: String,
    closed_id: String,
    /// A task that has ended.
    pub background_id: String,
}

impl World {
    /// A session with a task that has ended, and a closed session.
    pub async fn new(server: &TestServer) -> Self {
        let session_id = new_session(server).await;
        let closed_id = new_session(server).await;
        close(server, &closed_id).await;
        let background_id = task(server, &session_id, "echo one").await.background_id;
        ended(server, &background_id).await;
        Self { session_id, closed_id, background_id }
    }

    /// The session.
    pub fn session_id(&self) -> &str {
        &self.session_id
    }

    /// A good request of a method.
    pub fn good(&self, method: &str) -> Vec<u8> {
        match method.split_once('/') {
            Some((_, short)) if short.contains("FollowUp") => good_of_follow_ups(method),
            Some(("ToolRunner", short)) => self.good_of_runner(short),
            Some(("BackgroundTasks", short)) => self.good_of_tasks(short),
            _ => panic!("{method} is in a new service"),
        }
    }

    fn good_of_runner(&self, method: &str) -> Vec<u8> {
        let session_id = self.session_id.clone();
        match method {
            "CreateSession" | "ListSessions" | "GetServerInfo" => Vec::new(),
            // Session ids alone, as the same field of each.
            "ListTools" | "GetSession" | "CancelTurn" | "ListMessages" => {
                v1::GetSessionRequest { session_id }.encode_to_vec()
            }
            "CloseSession" => {
                let session_id = self.closed_id.clone();
                v1::CloseSessionRequest { session_id, ..Default::default() }.encode_to_vec()
            }
            "UpdateSession" => {
                let session = Some(v1::Session { session_id, ..Default::default() });
                let update_mask = Some(prost_types::FieldMask { paths: vec!["model".into()] });
                let request =
                    v1::UpdateSessionRequest { session, update_mask, ..Default::default() };
                request.encode_to_vec()
            }
            "StreamSession" => {
                let follow = Some(false);
                let stream = v1::StreamSessionRequest { session_id, follow, ..Default::default() };
                stream.encode_to_vec()
            }
            "RunTool" | "StreamTool" => good_call().encode_to_vec(),
            "RunTurn" | "StreamTurn" => good_turn().encode_to_vec(),
            other => panic!("{other} is new: say in {} how a good request looks", file!()),
        }
    }

    fn good_of_tasks(&self, method: &str) -> Vec<u8> {
        let background_id = self.background_id.clone();
        match method {
            "List" => Vec::new(),
            "Start" => start_of(good_call()).encode_to_vec(),
            "Start of a turn" => start_of_turn(good_turn()).encode_to_vec(),
            "Delete" => {
                let background_id = "bg-00000000000040008000000000000001".to_owned();
                v1::DeleteRequest { background_id, ..Default::default() }.encode_to_vec()
            }
            "WaitMany" => {
                let background_ids = vec![background_id];
                v1::WaitManyRequest { background_ids, ..Default::default() }.encode_to_vec()
            }
            "Watch" | "Summarize" => {
                v1::SummarizeRequest { session_id: self.session_id.clone() }.encode_to_vec()
            }
            "Get" | "Wait" | "Cancel" | "ReadOutput" => {
                v1::GetRequest { background_id }.encode_to_vec()
            }
            other => panic!("{other} is new: say in {} how a good request looks", file!()),
        }
    }
}

fn good_call() -> v1::RunToolRequest {
    v1::RunToolRequest { tool: "any".into(), dry_run: true, ..Default::default() }
}

/// There is no model, and so no turn: the errors of a request are found before that.
fn good_turn() -> v1::RunTurnRequest {
    v1::RunTurnRequest { prompt: "well?".into(), ..Default::default() }
}

/// A good request of a method of follow-ups, of which there are none.
fn good_of_follow_ups(method: &str) -> Vec<u8> {
    let follow_up_id = NO_FOLLOW_UP.to_owned();
    match method {
        "BackgroundTasks/ListFollowUps" => Vec::new(),
        // There is no caller that waits for one.
        "BackgroundTasks/LeaseFollowUps" => {
            let wait = millis(0);
            v1::LeaseFollowUpsRequest { wait, ..Default::default() }.encode_to_vec()
        }
        "BackgroundTasks/AcknowledgeFollowUp" => {
            let lease_token = "a lease".to_owned();
            v1::AcknowledgeFollowUpRequest { follow_up_id, lease_token, ..Default::default() }
                .encode_to_vec()
        }
        "BackgroundTasks/RetryFollowUp" => {
            v1::RetryFollowUpRequest { follow_up_id, ..Default::default() }.encode_to_vec()
        }
        other => panic!("{other} is new: say in {} how a good request looks", file!()),
    }
}

/// Returns the answer to the good request of a method.
pub fn good_answer(method: &str) -> Answer {
    match method {
        "BackgroundTasks/AcknowledgeFollowUp" | "BackgroundTasks/RetryFollowUp" => {
            Err((Code::NotFound, Some("FOLLOW_UP_NOT_FOUND".into())))
        }
        "BackgroundTasks/Delete" => Err((Code::NotFound, Some("TASK_NOT_FOUND".into()))),
        "ToolRunner/RunTurn" | "ToolRunner/StreamTurn" | "BackgroundTasks/Start of a turn" => {
            Err((Code::NotFound, Some("MODEL_NOT_FOUND".into())))
        }
        _ => Ok(()),
    }
}
