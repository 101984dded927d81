//! A store that is slow, and callers that cannot wait for it as long as usual.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tonic::Request;

use crate::support::slow_store::SlowStore;
use crate::support::waiting::{cancel, cancel_of, parked_of};
use crate::support::{Additions, TestServer, bash, soon, v1};

const APPEND_TIME: Duration = Duration::from_millis(500);

fn hurried<T>(message: T, deadline: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

/// Takes 5 s: the calls are parked shortly before their deadlines, one after the other.
#[tokio::test]
async fn a_call_is_parked_in_time_on_a_slow_store() {
    let store = Some(Arc::new(SlowStore::new(APPEND_TIME)) as _);
    let more = Additions { store, ..Additions::default() };
    let server = TestServer::with_more(more, &[]).await;
    // Of the first one nothing is known but the time that its own start took.
    // Of the second one, two appends of output are under way all the time.
    let chatty = "while :; do echo more; sleep 0.01; done";
    for (command, seconds) in [("sleep 30", 3), (chatty, 5)] {
        let deadline = Duration::from_secs(seconds);
        let begin = Instant::now();
        let mut tools = server.tools.clone();
        let answer = soon("an answer", tools.run_tool(hurried(bash(command), deadline))).await;
        let answer = answer.expect("an answer before the deadline");
        let taken = begin.elapsed();
        assert!(taken < deadline && taken >= deadline / 2, "{command}: {taken:?}");
        let id = parked_of(answer.get_ref()).task.as_ref().expect("a task").background_id.clone();
        cancel(&server, v1::CancelRequest { force: true, ..cancel_of(&id) }).await;
    }
}
