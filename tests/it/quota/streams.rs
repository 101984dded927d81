//! Open streams.

use super::{check_refusal, limited, other};
use crate::support::streams::{Reader, new_session, stream_of};
use crate::support::waiting::Gate;
use crate::support::{bash, soon, v1};

#[tokio::test]
async fn streams_of_starts_leave_a_quarter_to_readers() {
    let keys = limited("max_streams = 4").await;
    let (server, other) = (&keys.server, other(&keys).await);
    let session_id = new_session(server).await;
    let mut gate = Gate::new(server.folder(), "gate");
    let mut calls = Vec::new();
    for _ in 0..3 {
        let call = server.tools.clone().stream_tool(bash(&gate.wait())).await;
        calls.push(call.expect("a stream").into_inner());
    }
    let refused = server.tools.clone().stream_tool(bash("true")).await.expect_err("full");
    check_refusal(&refused, "QUOTA_EXCEEDED", "max_streams", "4");
    let reader = Reader::open(server, stream_of(&session_id)).await;
    let refused = server.tools.clone().stream_session(stream_of(&session_id)).await;
    check_refusal(&refused.expect_err("full"), "QUOTA_EXCEEDED", "max_streams", "4");
    other.clients.tools.clone().stream_tool(bash("true")).await.expect("another tenant");
    // A stream that ends, and one whose caller leaves, make room.
    for _ in &calls {
        gate.open();
    }
    for mut call in calls {
        while soon("the end", call.message()).await.expect("a message").is_some() {}
    }
    drop(reader);
    let mut streams = Vec::new();
    for _ in 0..4 {
        let room = async {
            loop {
                match server.tools.clone().stream_session(stream_of(&session_id)).await {
                    Ok(stream) => return stream,
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
                }
            }
        };
        streams.push(soon("room for a stream", room).await);
    }
    let refused = server.tools.clone().stream_session(stream_of(&session_id)).await;
    check_refusal(&refused.expect_err("full"), "QUOTA_EXCEEDED", "max_streams", "4");
    let calls = v1::ListRequest::default();
    server.tasks.clone().list(calls).await.expect("no stream is needed");
}
