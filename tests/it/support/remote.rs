//! Calls and tasks of a server in a process of its own, by one word.

use callpark_proto::v1;

use super::program::Clients;
use super::streams::replay_of;
use super::waiting::start_of;
use super::{millis, soon};

/// Starts a call in the background.
pub async fn start(clients: &Clients, call: v1::RunToolRequest) -> v1::Task {
    let answer = soon("a start", clients.tasks.clone().start(start_of(call))).await;
    answer.expect("an answer").into_inner().task.expect("a task")
}

/// A task as it is now.
pub async fn task(clients: &Clients, id: &str) -> v1::Task {
    let request = v1::GetRequest { background_id: id.into() };
    let answer = soon("a task", clients.tasks.clone().get(request)).await;
    answer.expect("an answer").into_inner().task.expect("a task")
}

/// A task once it has ended.
pub async fn ended(clients: &Clients, id: &str) -> v1::Task {
    let request = v1::WaitRequest { background_id: id.into(), ..Default::default() };
    let answer = soon("an end", clients.tasks.clone().wait(request)).await;
    let answer = answer.expect("an answer").into_inner();
    assert!(!answer.still_running, "{answer:?}");
    answer.task.expect("a task")
}

/// All tasks, newest first.
pub async fn tasks(clients: &Clients) -> Vec<v1::Task> {
    let request = v1::ListRequest { page_size: 1_000, ..Default::default() };
    let answer = soon("a list", clients.tasks.clone().list(request)).await;
    let answer = answer.expect("an answer").into_inner();
    assert_eq!(answer.next_page_token, "");
    answer.tasks
}

/// A new session's id.
pub async fn session(clients: &Clients) -> String {
    let request = v1::CreateSessionRequest::default();
    let answer = soon("a session", clients.tools.clone().create_session(request)).await;
    answer.expect("an answer").into_inner().session.expect("a session").session_id
}

/// The log of a session as far as it goes now.
pub async fn log(clients: &Clients, session_id: &str) -> Vec<v1::SessionEvent> {
    let stream = soon("a log", clients.tools.clone().stream_session(replay_of(session_id))).await;
    let mut stream = stream.expect("a log").into_inner();
    let mut events = Vec::new();
    while let Some(update) = soon("a log", stream.message()).await.expect("no cut") {
        events.extend(update.events);
    }
    events
}

/// Returns the standard output of a task so far.
pub async fn output(clients: &Clients, id: &str) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let request = v1::ReadOutputRequest {
            background_id: id.into(),
            stream: v1::OutputStream::Stdout.into(),
            position: Some(v1::read_output_request::Position::Offset(all.len() as i64)),
            max_bytes: i32::MAX,
            wait: millis(0),
        };
        let part = soon("output", clients.tasks.clone().read_output(request)).await;
        let part = part.expect("output").into_inner();
        assert_eq!(part.offset, all.len() as i64);
        all.extend_from_slice(&part.data);
        if part.eof || part.data.is_empty() {
            return all;
        }
    }
}
