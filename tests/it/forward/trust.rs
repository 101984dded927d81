//! Trust in the server that has forwarded a request.

use callpark::model::Timestamp;
use tonic::{Code, Request};

use super::front::{Front, Local, OwnerOfAll, TIME, owner};
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
    let replicas = OwnerOfAll { key: [8; 32], ..OwnerOfAll::default() };
    let front = Front::with(&lines, replicas, 4 << 20).await;
    let status = soon("an answer", front.tools.clone().run_tool(bash("true"))).await;
    check_reason(&status.expect_err("an error"), Code::Unavailable, "NOT_OWNER");
    assert_eq!((front.requests(), front.forwarded("unreachable")), (2, 2));
}

/// A request that was read between two servers cannot be sent again later.
#[tokio::test]
async fn what_was_forwarded_long_ago_is_refused() {
    let owner = owner().await;
    let lines = [Local::Owner(owner.endpoint.clone())];
    for (age_micros, is_good) in [(29_000_000, true), (31_000_000, false)] {
        let time = Timestamp::from_micros(TIME.as_micros() - age_micros);
        let replicas = OwnerOfAll { time, ..OwnerOfAll::default() };
        let front = Front::with(&lines, replicas, 4 << 20).await;
        let answer = soon("an answer", front.tools.clone().run_tool(bash("true"))).await;
        match answer {
            Ok(_) => assert!(is_good),
            Err(status) if is_good => panic!("{status}"),
            Err(status) => check_reason(&status, Code::Unavailable, "NOT_OWNER"),
        }
    }
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

/// The owner gets what the caller says about itself and its trace, and no credentials.
#[tokio::test]
async fn only_known_headers_are_forwarded() {
    let owner = Front::start(&[Local::Answer]).await;
    let front = Front::of(&owner.endpoint).await;
    let mut request = Request::new(bash("true"));
    request.set_timeout(std::time::Duration::from_secs(30));
    let own = [("x-request-id", "mine"), ("traceparent", "00-1-2-01"), ("tracestate", "a=b")];
    for (name, value) in own.into_iter().chain([("x-other", "secret"), ("cookie", "secret")]) {
        request.metadata_mut().insert(name, value.parse().expect("a header"));
    }
    soon("an answer", front.tools.clone().run_tool(request)).await.expect("an answer");
    let (head, first) = (owner.head(), front.head());
    for (name, value) in own {
        assert_eq!(head.get(name).expect(name), value);
    }
    for name in ["content-type", "te", "user-agent"] {
        assert_eq!(head.get(name).expect(name), first.get(name).expect(name));
    }
    let timeout = head.get("grpc-timeout").expect("a timeout").to_str().expect("text");
    let micros: u64 = timeout.strip_suffix('u').expect("microseconds").parse().expect("a number");
    assert!((25_000_000..30_000_000).contains(&micros), "{micros}");
    let known = ["content-length", "grpc-timeout", PRINCIPAL, FORWARDED];
    for name in head.keys() {
        let is_known = first.contains_key(name) || known.contains(&name.as_str());
        let is_private = ["authorization", "x-other", "cookie"].contains(&name.as_str());
        assert!(is_known && !is_private, "{name}");
    }
}
