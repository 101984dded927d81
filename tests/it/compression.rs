//! Messages in gzip, in both directions.

use bytes::Bytes;
use callpark_proto::v1::tool_runner_client::ToolRunnerClient;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::support::wire::{first_answer, with_token};
use crate::support::{TestServer, bash, check_reason, result_of, soon, stdout_of, v1};

/// A client that sends gzip and reads it.
fn zipped(server: &TestServer) -> ToolRunnerClient<crate::support::AuthorisedChannel> {
    let (gzip, tools) = (CompressionEncoding::Gzip, server.tools.clone());
    tools.send_compressed(gzip).accept_compressed(gzip)
}

fn encoding(head: &MetadataMap) -> Option<&str> {
    head.get("grpc-encoding").map(|name| name.to_str().expect("text"))
}

#[tokio::test]
async fn a_compressed_call_is_answered_in_the_same_compression() {
    let server = TestServer::start().await;
    let answer = zipped(&server).run_tool(bash("seq 100000")).await.expect("an answer");
    assert_eq!(encoding(answer.metadata()), Some("gzip"));
    let output = stdout_of(result_of(answer.get_ref()));
    assert!(output.ends_with(b"\n99999\n100000\n"), "{} bytes", output.len());
    let plain = server.tools.clone().run_tool(bash("echo hello")).await.expect("an answer");
    assert_eq!(encoding(plain.metadata()), None);
}

/// Messages in the `deflate` of gRPC are read, and answered without compression.
#[tokio::test]
async fn a_call_in_deflate_is_read() {
    let server = TestServer::start().await;
    let mut tools = server.tools.clone().send_compressed(CompressionEncoding::Deflate);
    let answer = tools.run_tool(bash("echo hello")).await.expect("an answer");
    assert_eq!(stdout_of(result_of(answer.get_ref())), b"hello\n");
    assert_eq!(encoding(answer.metadata()), None);
}

#[tokio::test]
async fn a_stream_is_compressed_for_a_client_that_asks_for_it() {
    let server = TestServer::start().await;
    let answer = zipped(&server).stream_tool(bash("seq 1000")).await.expect("a stream");
    assert_eq!(encoding(answer.metadata()), Some("gzip"));
    let mut stream = answer.into_inner();
    let mut events = 0;
    while let Some(update) = soon("an update", stream.message()).await.expect("no cut") {
        events += update.events.len();
    }
    assert!(events >= 3, "{events}");
}

/// Most libraries name everything that they can read, and want none of it.
#[tokio::test]
async fn an_answer_is_compressed_only_for_a_client_that_prefers_it() {
    let server = TestServer::start().await;
    for (accepted, expected) in [
        ("identity,deflate,gzip", None),
        ("identity, gzip", None),
        ("gzip", Some("gzip")),
        ("gzip,identity", Some("gzip")),
        ("zstd", None),
    ] {
        let mut request = with_token(&server, Bytes::new());
        request.metadata_mut().insert("grpc-accept-encoding", accepted.parse().expect("a name"));
        // The answer cannot be read by a client that has not asked for it.
        let answer = first_answer(&server.channel, "ToolRunner/ListTools", request).await;
        match expected {
            None => assert_eq!(encoding(&answer.expect(accepted).1), None, "{accepted}"),
            Some(name) => {
                let status = answer.expect_err(accepted);
                assert_eq!(status.code(), Code::Unimplemented, "{status:?}");
                assert!(status.message().contains(name), "{status:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_request_that_is_too_large_once_it_is_decompressed_is_refused() {
    let server = TestServer::with(&[("max-request", "64KiB")]).await;
    let request = v1::RunToolRequest { description: "x".repeat(100_000), ..bash("true") };
    let status = zipped(&server).run_tool(request).await.expect_err("too large");
    check_reason(&status, Code::ResourceExhausted, "MESSAGE_TOO_LARGE");
    assert!(status.message().contains("65536 bytes, decompressed"), "{status:?}");
}

#[tokio::test]
async fn health_is_answered_to_a_client_that_compresses_all_that_it_sends() {
    let server = TestServer::start().await;
    let mut health =
        HealthClient::new(server.channel.clone()).send_compressed(CompressionEncoding::Gzip);
    soon("health", health.check(Request::new(HealthCheckRequest::default())))
        .await
        .expect("an answer");
}
