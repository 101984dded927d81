//! The limit of a turn's silence: half an hour, on a clock that the test moves.

use std::cell::RefCell;
use std::io;
use std::sync::{Arc, Mutex, Once};

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::*;
use crate::support::streams::{Reader, log_of, new_session};
use crate::support::{advance, millis};

const SILENCE: std::time::Duration = std::time::Duration::from_secs(30 * 60);

/// The lines about operations of the servers of this thread, as JSON.
#[derive(Clone, Default)]
struct Log(Arc<Written>);

#[derive(Default)]
struct Written {
    bytes: Mutex<Vec<u8>>,
    more: Notify,
}

thread_local! {
    /// The log of this thread, or `None` if its lines are dropped.
    static LOG: RefCell<Option<Log>> = const { RefCell::new(None) };
}

/// Writes to the log of the thread that writes.
struct LogOfThread;

impl Log {
    /// Collects the lines of this thread. The subscriber is that of the whole process: with one for a
    /// thread, a place of the code that another thread reaches first would stay silent.
    fn collect() -> Self {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(|| {
            let subscriber = tracing_subscriber::fmt().json().with_writer(|| LogOfThread);
            subscriber.with_env_filter("callpark::telemetry::operations=info").init();
        });
        let log = Self::default();
        LOG.set(Some(log.clone()));
        log
    }

    /// Waits for the line of this message about a call, and returns its fields.
    async fn line(&self, message: &str, call: &str) -> Value {
        loop {
            let more = self.0.more.notified();
            let log = String::from_utf8(self.0.bytes.lock().expect("a log").clone()).expect("text");
            // The last line may not be complete.
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut fields = lines.map(|line| line["fields"].clone());
            let found = fields.find(|f| f["message"] == message && f["call"] == call);
            match found {
                Some(found) => return found,
                None => soon("a line of the log", more).await,
            }
        }
    }
}

impl io::Write for LogOfThread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A thread that ends has no log any more.
        let _written = LOG.try_with(|log| {
            if let Some(Log(written)) = &*log.borrow() {
                written.bytes.lock().expect("a log").extend_from_slice(bytes);
                written.more.notify_one();
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_turn_that_is_silent_for_too_long_names_the_calls_that_go_on() {
    let log = Log::collect();
    let sleep = json!({ "command": "sleep 1000" });
    let endpoint = Endpoint::new(vec![
        calls(&[("c", "bash", sleep)]),
        Script::Stream(vec![Piece::Text("well".into()), Piece::Hang]),
    ])
    .await;
    let toml = config(&endpoint, "read_timeout = '2h'");
    let settings = [("call-budget", "0s"), ("execution-timeout", "2h")];
    let server = TestServer::with_config(&toml, &settings).await;
    let session = new_session(&server).await;
    let request = v1::StreamSessionRequest { session_id: session.clone(), ..Default::default() };
    let mut events = Reader::open(&server, request).await;
    let (mut tools, request) = (server.tools.clone(), prompt(&session, "go"));
    let request = v1::RunTurnRequest { call_budget: millis(7_200_000), ..request };
    let turning = TaskTracker::new().spawn(async move { tools.run_turn(request).await });
    events.until_event(|event| matches!(event.payload, Some(Payload::AssistantDelta(_)))).await;
    advance(SILENCE).await;

    let answer = soon("the end of the turn", turning).await.expect("no panic");
    let answer = FinishedTurn::of(answer.expect("an answer").into_inner());
    let error = error_of(&answer);
    assert_eq!((error.code.as_str(), error.retryable), ("idle_timeout", true), "{error:?}");
    assert_eq!(error.message, "timed out: no output of the model for 1800 s");
    let [left] = &error.unresolved_calls[..] else { panic!("{error:?}") };
    assert_eq!(left.tool, "bash");
    let of_log =
        log_of(&server, &session).await.into_iter().find_map(|event| match event.payload {
            Some(Payload::SessionError(error)) => Some(error),
            _ => None,
        });
    assert_eq!(of_log.as_ref(), Some(error));

    let line = log.line("a call ended", &answer.call_id).await;
    assert_eq!((&line["state"], &line["reason"]), (&"timed_out".into(), &"idle_timeout".into()));
    assert_eq!(line["unresolved"], left.call_id.as_str());
}
