//! Reads all that a server holds.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::iter;

use super::processes::{Seen, Sighting, marked};
use super::readers::UpdateStream;
use super::views::is_terminal;
use super::{History, KeptOutput, Log, Recorder};
use crate::support::program::Clients;
use crate::support::{soon, v1};
use v1::session_event::Payload;
use v1::session_update::Control;
use v1::{OutputStream, SessionState};

/// Requests at the same time.
const AT_ONCE: usize = 8;
/// The delay of answers on a busy machine; on an idle one it is 50 ms.
const SLACK: Duration = Duration::from_secs(5);

/// Waits until all work of this server has ended, reads all that it holds, and checks every
/// invariant that doesn't need to know the answers to clients. `stops` says how often a server of
/// this store was stopped or killed before.
///
/// A line for the end of any test whose calls come to an end by themselves and whose tasks aren't
/// deleted: `check_everything(&server.connect(), 0).await`.
pub async fn check_everything(clients: &Clients, stops: u32) {
    check_everything_with(clients, History { stops, ..History::default() }).await;
}

/// The same, with what is known beside: of the work of calls, of what readers were given, of shims.
pub async fn check_everything_with(clients: &Clients, known: History) {
    let base = History { slack: SLACK, ..known };
    let sessions = sessions(clients).await;
    read(clients, base, sessions).await.assert_holds();
}

/// All that a recorder has noted, and all that the server holds of these sessions, or of all.
pub async fn collect(
    clients: &Clients,
    recorder: &Recorder,
    session_ids: Option<Vec<String>>,
) -> History {
    let session_ids = match session_ids {
        Some(session_ids) => session_ids,
        None => sessions(clients).await,
    };
    let base = History { slack: SLACK, ..recorder.history() };
    read(clients, base, session_ids).await
}

async fn read(clients: &Clients, base: History, session_ids: Vec<String>) -> History {
    let mut history = base;
    for session_id in &session_ids {
        until_rest(clients, session_id).await;
    }
    let logs = iter(session_ids.clone()).map(|session_id| log(clients, session_id));
    history.logs = logs.buffer_unordered(AT_ONCE).collect().await;
    for session_id in &session_ids {
        history.records.extend(records(clients, session_id).await);
    }
    history.outputs = outputs(clients, &history).await;
    let left = left(&history).await;
    history.processes.extend(left);
    history
}

async fn sessions(clients: &Clients) -> Vec<String> {
    let (mut ids, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListSessionsRequest { page_token, page_size: 100, ..Default::default() };
        let page = soon("sessions", clients.tools.clone().list_sessions(request)).await;
        let page = page.expect("a page").into_inner();
        ids.extend(page.sessions.into_iter().map(|session| session.session_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return ids;
        }
    }
}

/// Waits until no call of a session is live, and a closed one has its last event.
pub async fn until_rest(clients: &Clients, session_id: &str) {
    let rests = async {
        loop {
            let request = v1::GetSessionRequest { session_id: session_id.to_owned() };
            let answer = clients.tools.clone().get_session(request).await.expect("a session");
            let session = answer.into_inner().session.expect("a session");
            if session.live_tasks == 0 && session.state() != SessionState::Closing {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("the end of all calls", rests).await;
}

async fn log(clients: &Clients, session_id: String) -> Log {
    let request = crate::support::streams::replay_of(&session_id);
    let stream = UpdateStream::open(clients, "StreamSession", &request).await;
    let mut stream = stream.expect("a stream");
    let mut log = Log::default();
    while let Some(update) = soon("a log", stream.next()).await.expect("no cut") {
        log.events.extend(update.events);
        if let Some(Control::Snapshot(snapshot)) = update.control {
            log.head = snapshot.head_sequence;
            log.session = snapshot.session.expect("a session");
        }
    }
    log
}

async fn records(clients: &Clients, session_id: &str) -> Vec<v1::Task> {
    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let session_id = session_id.to_owned();
        let request =
            v1::ListRequest { session_id, page_token, page_size: 100, ..Default::default() };
        let page = soon("tasks", clients.tasks.clone().list(request)).await;
        let page = page.expect("a page").into_inner();
        listed.extend(page.tasks);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let whole = iter(listed).map(|task| async move {
        let request = v1::GetRequest { background_id: task.background_id.clone() };
        let answer = soon("a task", clients.tasks.clone().get(request)).await;
        let whole = answer.expect("a listed task").into_inner().task.expect("a task");
        let core = |task: &v1::Task| (task.state, task.end_time, task.revision);
        assert_eq!(core(&whole), core(&task), "listed otherwise");
        whole
    });
    whole.buffer_unordered(AT_ONCE).collect().await
}

/// The output of all commands that can still be read.
async fn outputs(clients: &Clients, history: &History) -> Vec<KeptOutput> {
    let is_command = |accepted: &v1::ToolCallAccepted| accepted.kind() == v1::Kind::Command;
    let mut wanted = Vec::new();
    for call in history.calls().values() {
        let background_id = call.id.replace("call-", "bg-");
        let is_parked = call.parked().is_some();
        let is_there = !(is_parked && history.was_deleted(&background_id));
        if is_there && call.accepted().is_some_and(|(_, accepted)| is_command(accepted)) {
            let id = if is_parked { background_id } else { call.id.to_owned() };
            let streams = [OutputStream::Stdout, OutputStream::Stderr, OutputStream::Combined];
            wanted.extend(streams.map(|stream| (call.id.to_owned(), id.clone(), stream)));
        }
    }
    let outputs = iter(wanted).map(|(call_id, id, stream)| output(clients, call_id, id, stream));
    outputs.buffer_unordered(AT_ONCE).collect().await
}

async fn output(
    clients: &Clients,
    call_id: String,
    background_id: String,
    stream: OutputStream,
) -> KeptOutput {
    let (total_bytes, dropped_bytes) = (0, 0);
    let mut kept = KeptOutput { call_id, stream, total_bytes, dropped_bytes, pieces: Vec::new() };
    let mut offset = 0;
    loop {
        let request = v1::ReadOutputRequest {
            background_id: background_id.clone(),
            stream: stream.into(),
            position: Some(v1::read_output_request::Position::Offset(offset)),
            max_bytes: 1 << 20,
            ..Default::default()
        };
        let answer = soon("output", clients.tasks.clone().read_output(request)).await;
        let part = answer.expect("output of a call that exists").into_inner();
        (kept.total_bytes, kept.dropped_bytes) = (part.total_bytes, part.dropped_bytes);
        if !part.data.is_empty() {
            kept.pieces.push((part.offset, part.data));
        }
        if part.eof {
            return kept;
        }
        assert!(part.next_offset > offset, "no way to the end of {background_id}");
        offset = part.next_offset;
    }
}

/// The processes that are there once every call has ended, with some time to go.
async fn left(history: &History) -> Vec<Sighting> {
    let calls = history.calls();
    let has_ended = |payload: &Payload| match payload {
        Payload::ToolCallFinished(end) => is_terminal(end.state()),
        _ => false,
    };
    let ended = calls.values().filter(|call| call.payloads().any(|(_, p)| has_ended(p)));
    let ended: BTreeSet<&str> = ended.map(|call| call.id).collect();
    let mut processes = marked(&ended);
    // A process that was killed takes a moment to be gone.
    for _ in 0..100 {
        if processes.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        processes = marked(&ended);
    }
    let sighting = |(pid, call_id)| Sighting { pid, call_id, what: Seen::AtRest };
    processes.into_iter().map(sighting).collect()
}
