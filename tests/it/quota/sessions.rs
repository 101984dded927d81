//! Open sessions.

use futures::future::join_all;

use super::{check_refusal, limited, other};
use crate::support::streams::close;
use crate::support::waiting::run;
use crate::support::{TestServer, bash, request_id, v1};

async fn create(server: &TestServer) -> Result<String, tonic::Status> {
    let mut tools = server.tools.clone();
    let created = tools.create_session(v1::CreateSessionRequest::default()).await?.into_inner();
    Ok(created.session.expect("a session").session_id)
}

#[tokio::test]
async fn of_many_sessions_at_the_same_time_exactly_as_many_are_created_as_the_limit_says() {
    let keys = limited("max_open_sessions = 5").await;
    let server = &keys.server;
    for _ in 0..3 {
        let creates = (0..40).map(|_| {
            let mut tools = server.connect().tools;
            async move { tools.create_session(v1::CreateSessionRequest::default()).await }
        });
        let (created, refused): (Vec<_>, Vec<_>) =
            join_all(creates).await.into_iter().partition(Result::is_ok);
        assert_eq!(created.len(), 5);
        for status in refused.into_iter().filter_map(Result::err) {
            check_refusal(&status, "QUOTA_EXCEEDED", "max_open_sessions", "5");
        }
        for answer in created.into_iter().flatten() {
            close(server, &answer.into_inner().session.expect("a session").session_id).await;
        }
    }
}

#[tokio::test]
async fn closing_a_session_makes_room_and_a_restart_does_not() {
    let mut keys = limited("max_open_sessions = 2").await;
    let other = other(&keys).await;
    let first = create(&keys.server).await.expect("the first one");
    create(&keys.server).await.expect("the second one");
    check_refusal(
        &create(&keys.server).await.expect_err("full"),
        "QUOTA_EXCEEDED",
        "max_open_sessions",
        "2",
    );
    // A call without a session has one of its own, which counts nowhere.
    run(&keys.server, bash("true")).await;
    other
        .clients
        .tools
        .clone()
        .create_session(v1::CreateSessionRequest::default())
        .await
        .expect("another tenant");
    keys.server = keys.server.restart().await;
    check_refusal(
        &create(&keys.server).await.expect_err("full"),
        "QUOTA_EXCEEDED",
        "max_open_sessions",
        "2",
    );
    close(&keys.server, &first).await;
    create(&keys.server).await.expect("there is room");
    check_refusal(
        &create(&keys.server).await.expect_err("full"),
        "QUOTA_EXCEEDED",
        "max_open_sessions",
        "2",
    );
}

#[tokio::test]
async fn a_repeated_request_finds_its_session_in_a_full_tenant() {
    let keys = limited("max_open_sessions = 1").await;
    let mut tools = keys.server.tools.clone();
    let request = v1::CreateSessionRequest { request_id: request_id(), ..Default::default() };
    let first = tools.create_session(request.clone()).await.expect("created").into_inner();
    let again = tools.create_session(request).await.expect("found").into_inner();
    assert_eq!(first.session.expect("it").session_id, again.session.expect("it").session_id);
}
