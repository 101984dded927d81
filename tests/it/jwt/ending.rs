//! Tokens that expire while requests of theirs are open.

use serde_json::json;
use tonic::Code;

use super::{Issued, Signer, claims_with, now};
use crate::support::program::Clients;
use crate::support::streams::{start_of, stream_of};
use crate::support::{check_reason, millis, soon, v1};

#[tokio::test]
async fn streams_and_waits_end_with_their_token_but_its_tasks_do_not() {
    let key = Signer::ec("a", "ES256");
    let issued = Issued::new(&[&key], "tenant_claim = \"tenant\"\nleeway = \"0s\"").await;
    let token = key.token(&claims_with(json!({ "exp": now() + 4 })));
    let Clients { mut tools, mut tasks, .. } = Clients::new(&issued.server.endpoint, &token);
    let task = tasks.start(start_of("", "sleep 300")).await.expect("a task").into_inner();
    let task = task.task.expect("a task");
    let stream = tools.stream_session(stream_of(&task.session_id)).await.expect("a stream");
    let mut events = stream.into_inner();
    let request = v1::WaitRequest {
        background_id: task.background_id.clone(),
        wait: millis(300_000),
        ..Default::default()
    };
    let streamed = async {
        loop {
            match events.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream has ended as if all were well"),
                Err(status) => return status,
            }
        }
    };
    let (waited, streamed) =
        soon("the ends", async { tokio::join!(tasks.wait(request), streamed) }).await;
    for status in [waited.expect_err("the wait goes on"), streamed] {
        check_reason(&status, Code::Unauthenticated, "CREDENTIALS_EXPIRED");
    }
    assert_eq!(issued.caller(&token).await, Err("CREDENTIALS_EXPIRED".to_owned()));
    // Another token of the tenant finds the task.
    let token = key.token(&claims_with(json!({ "sub": "agent-8" })));
    let mut tasks = Clients::new(&issued.server.endpoint, &token).tasks;
    let request = v1::GetRequest { background_id: task.background_id };
    let task = tasks.get(request).await.expect("the task").into_inner().task.expect("a task");
    assert_eq!(task.state(), v1::State::Running);
}
