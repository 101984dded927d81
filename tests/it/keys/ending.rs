//! Keys that are revoked or expire, while requests of theirs are open.

use std::time::Duration;

use callpark::internals::engine::{Clock as _, SystemClock};
use callpark::model::{Scopes, Timestamp};
use tonic::{Code, Status};

use super::{Key, Keys};
use crate::support::streams::stream_of;
use crate::support::wire::only_reason;
use crate::support::{millis, soon, v1};

/// The open requests of a caller: a stream of a session's events, and a wait for a task.
struct Open {
    events: tonic::Streaming<v1::SessionUpdate>,
    wait: tokio::task::JoinHandle<Result<tonic::Response<v1::WaitResponse>, Status>>,
    background_id: String,
}

impl Open {
    async fn of(key: &Key) -> Self {
        let (mut tools, mut tasks) = (key.clients.tools.clone(), key.clients.tasks.clone());
        let start = crate::support::streams::start_of("", "sleep 300");
        let task = tasks.start(start).await.expect("a task").into_inner().task.expect("a task");
        let stream = stream_of(&task.session_id);
        let mut events = tools.stream_session(stream).await.expect("a stream").into_inner();
        soon("an event", events.message()).await.expect("an event");
        let background_id = task.background_id;
        let request = v1::WaitRequest {
            background_id: background_id.clone(),
            wait: millis(300_000),
            ..Default::default()
        };
        let wait =
            tokio_util::task::TaskTracker::new().spawn(async move { tasks.wait(request).await });
        Self { events, wait, background_id }
    }

    /// Checks that both end with this reason.
    async fn end(mut self, reason: &str) {
        let refused = |status: Status| {
            assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
            assert_eq!(only_reason(&status).as_deref(), Some(reason), "{status:?}");
        };
        let waited = soon("the end of the wait", self.wait).await.expect("no panic");
        refused(waited.expect_err("the wait goes on"));
        let streamed = async {
            loop {
                match self.events.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("the stream has ended as if all were well"),
                    Err(status) => return status,
                }
            }
        };
        refused(soon("the end of the stream", streamed).await);
    }
}

fn in_seconds(seconds: u64) -> Timestamp {
    SystemClock.now().saturating_add(Duration::from_secs(seconds))
}

/// The reason with which a key is refused.
async fn refusal(key: &Key) -> Option<String> {
    let mut tools = key.clients.tools.clone();
    let answer = tools.get_server_info(v1::GetServerInfoRequest {}).await;
    answer.err().and_then(|status| only_reason(&status))
}

#[tokio::test]
async fn a_revoked_key_is_refused_and_what_it_has_open_ends_but_not_its_tasks() {
    let keys = Keys::with_config("").await;
    let [key, other] =
        [keys.create("acme", Scopes::ALL).await, keys.create("acme", Scopes::ALL).await];
    let (open, kept) = (Open::of(&key).await, Open::of(&other).await);
    let background_id = open.background_id.clone();
    keys.revoke(&key);
    open.end("CREDENTIALS_REVOKED").await;
    assert_eq!(refusal(&key).await.as_deref(), Some("CREDENTIALS_REVOKED"));
    assert_eq!(refusal(&other).await, None);
    let request = v1::GetRequest { background_id };
    let task = other.clients.tasks.clone().get(request).await.expect("the task").into_inner();
    assert_eq!(task.task.expect("a task").state(), v1::State::Running);
    assert!(!kept.wait.is_finished(), "the other key lost its wait");
    keys.revoke(&other);
    kept.end("CREDENTIALS_REVOKED").await;
}

#[tokio::test]
async fn a_key_that_expires_is_refused_and_what_it_has_open_ends() {
    let keys = Keys::with_config("").await;
    let key = keys.create_expiring("acme", Scopes::ALL, Some(in_seconds(3)));
    let accepted = async {
        while refusal(&key).await.is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("the new key", accepted).await;
    Open::of(&key).await.end("CREDENTIALS_EXPIRED").await;
    assert_eq!(refusal(&key).await.as_deref(), Some("CREDENTIALS_EXPIRED"));
}

#[tokio::test]
async fn what_a_key_has_open_ends_if_the_key_is_restricted() {
    let keys = Keys::with_config("").await;
    let [key, other] =
        [keys.create("acme", Scopes::ALL).await, keys.create("acme", Scopes::ALL).await];
    let (open, kept) = (Open::of(&key).await, Open::of(&other).await);
    let text = std::fs::read_to_string(keys.file.path()).expect("a file");
    // As an operator may do it, with another change that takes nothing from the other key.
    let (first, second) = text.trim_end().split_once('\n').expect("two lines");
    let end = ",\"expire_time\":\"9000-01-01T00:00:00Z\"}";
    let first = first.strip_suffix('}').expect("an object").to_owned() + end;
    let second = second.replace("acme-backend", "renamed");
    std::fs::write(keys.file.path(), format!("{first}\n{second}\n")).expect("written");
    open.end("CREDENTIALS_REVOKED").await;
    assert_eq!(refusal(&key).await, None, "the key itself is valid");
    let info = other.clients.tools.clone().get_server_info(v1::GetServerInfoRequest {}).await;
    let caller = info.expect("an answer").into_inner().caller.expect("a caller");
    assert_eq!(caller.name, "renamed");
    assert!(!kept.wait.is_finished(), "the renamed key lost its wait");
}

#[tokio::test]
async fn a_file_that_others_could_change_admits_nobody_until_it_is_mended() {
    use std::os::unix::fs::PermissionsExt as _;

    let keys = Keys::with_config("").await;
    let key = keys.create("acme", Scopes::ALL).await;
    let open = Open::of(&key).await;
    let mode = |mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(keys.file.path(), permissions).expect("a file");
    };
    mode(0o666);
    open.end("CREDENTIALS_REVOKED").await;
    assert_eq!(refusal(&key).await.as_deref(), Some("CREDENTIALS_INVALID"));
    mode(0o600);
    let accepted = async {
        while refusal(&key).await.is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("the key again", accepted).await;
}
