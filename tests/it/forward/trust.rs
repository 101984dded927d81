//! Who is believed to have forwarded a request.

use tonic::{Code, Request};

use super::front::{Front, Local, owner};
use crate::support::{TestServer, bash, check_reason, soon, v1};

const PRINCIPAL: &str = "callpark-principal";
const FORWARDED: &str = "callpark-forwarded";

fn forged() -> Request<v1::RunToolRequest> {
    let mut request = Request::new(bash("true"));
    for name in [PRINCIPAL, FORWARDED] {
        let value = "eyJ0ZW5hbnQiOiJsb2NhbCIsIm5hbWUiOiJsb2NhbCJ9".parse().expect("a header");
        request.metadata_mut().insert(name, value);
    }
    request
}

#[tokio::test]
async fn a_principal_that_no_server_has_signed_is_refused() {
    let owner = owner().await;
    let status = soon("an answer", owner.tools.clone().run_tool(forged())).await;
    check_reason(&status.expect_err("an error"), Code::Unauthenticated, "CREDENTIALS_INVALID");
    let mut anonymous =
        callpark_proto::v1::tool_runner_client::ToolRunnerClient::new(owner.channel.clone());
    let status = soon("an answer", anonymous.run_tool(forged())).await;
    check_reason(&status.expect_err("an error"), Code::Unauthenticated, "CREDENTIALS_INVALID");
}

#[tokio::test]
async fn a_server_without_others_believes_no_principal() {
    let alone = TestServer::start().await;
    let mut anonymous =
        callpark_proto::v1::tool_runner_client::ToolRunnerClient::new(alone.channel.clone());
    let status = soon("an answer", anonymous.run_tool(forged())).await;
    check_reason(&status.expect_err("an error"), Code::Unauthenticated, "CREDENTIALS_MISSING");
    alone.tools.clone().run_tool(forged()).await.expect("its token is good");
}

/// The caller's credentials were right where it has shown them.
#[tokio::test]
async fn a_server_of_another_store_is_no_owner() {
    let owner = owner().await;
    let lines = [Local::Owner(owner.endpoint.clone())];
    let front = Front::with(&lines, [8; 32], 4 << 20).await;
    let status = soon("an answer", front.tools.clone().run_tool(bash("true"))).await;
    check_reason(&status.expect_err("an error"), Code::Unavailable, "NOT_OWNER");
    assert_eq!((front.requests(), front.forwarded("unreachable")), (2, 2));
}

/// The caller of the first server is the caller at the owner, whose own token is another one.
#[tokio::test]
async fn the_caller_is_the_same_everywhere() {
    let owner = owner().await;
    let front = Front::of(&owner.endpoint).await;
    let request = v1::CreateSessionRequest::default();
    let created = front.tools.clone().create_session(request).await.expect("a session");
    let session_id = created.into_inner().session.expect("a session").session_id;
    let request = v1::GetSessionRequest { session_id };
    owner.tools.clone().get_session(request).await.expect("of the same tenant");
    // Without credentials the first server refuses the request itself.
    let channel = tonic::transport::Endpoint::from_shared(front.endpoint.clone());
    let mut anonymous = callpark_proto::v1::tool_runner_client::ToolRunnerClient::new(
        channel.expect("an endpoint").connect_lazy(),
    );
    let status = soon("an answer", anonymous.run_tool(bash("true"))).await;
    check_reason(&status.expect_err("an error"), Code::Unauthenticated, "CREDENTIALS_MISSING");
    assert_eq!(front.requests(), 1);
}
