//! Clients whose questions and answers are noted.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tonic::{Request, Response, Status};

use super::processes::Sighting;
use super::{
    Answer, Asked, CallAsked, Delivery, Exchange, History, KnownWork, Moment, Reply, WaitAsked,
};
use crate::support::program::Clients;
use crate::support::waiting::call_of;
use crate::support::{soon, v1};
use v1::run_tool_response::Outcome;

/// Notes what clients ask and are answered, and what readers are given. A clone notes in the same
/// place.
#[derive(Clone)]
pub struct Recorder(Arc<Notes>);

struct Notes {
    wall: Moment,
    began: Instant,
    readers: AtomicU64,
    history: Mutex<History>,
}

impl Recorder {
    /// A recorder without notes.
    pub fn new() -> Self {
        let began = Instant::now();
        let wall = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a time after 1970");
        let history = Mutex::new(History { is_complete: true, ..History::default() });
        Self(Arc::new(Notes { wall, began, readers: AtomicU64::new(0), history }))
    }

    /// Now.
    pub fn now(&self) -> Moment {
        self.0.wall + self.0.began.elapsed()
    }

    /// Clients that note all that they do.
    pub fn clients(&self, clients: Clients) -> Recorded {
        Recorded { recorder: self.clone(), clients }
    }

    /// Returns the history that was recorded.
    pub fn history(&self) -> History {
        self.note(|history| history.clone())
    }

    /// A number that no other reader has.
    pub fn next_reader(&self) -> u64 {
        self.0.readers.fetch_add(1, Ordering::Relaxed)
    }

    /// A stream has ended.
    pub fn delivered(&self, delivery: Delivery) {
        self.note(|history| history.deliveries.push(delivery));
    }

    /// Records work that is known.
    pub fn knows(&self, work: KnownWork) {
        self.note(|history| history.works.push(work));
    }

    /// Something was seen of processes.
    pub fn saw(&self, sightings: Vec<Sighting>) {
        self.note(|history| history.processes.extend(sightings));
    }

    /// The server is stopped or killed.
    pub fn stopped(&self) {
        self.note(|history| history.stops += 1);
    }

    /// A question is sent; the number to answer it by.
    pub fn ask(&self, asked: Asked) -> usize {
        let exchange = Exchange { sent: self.now(), asked, answer: None };
        self.note(|history| {
            history.exchanges.push(exchange);
            history.exchanges.len() - 1
        })
    }

    /// A question is answered.
    pub fn answer(&self, number: usize, reply: &Result<Reply, Status>) {
        let reply = reply.clone().map_err(|status| status.code());
        let answer = Answer { time: self.now(), reply };
        self.note(|history| history.exchanges[number].answer = Some(answer));
    }

    fn note<T>(&self, change: impl FnOnce(&mut History) -> T) -> T {
        change(&mut self.0.history.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Clients that note all that they do.
#[derive(Clone)]
pub struct Recorded {
    /// The recorder of all requests and answers.
    pub recorder: Recorder,
    /// The clients.
    pub clients: Clients,
}

impl Recorded {
    async fn exchange<T>(
        &self,
        asked: Asked,
        answer: impl Future<Output = Result<Response<T>, Status>>,
        reply: impl FnOnce(T) -> Reply,
    ) -> Result<Reply, Status> {
        let what = format!("an answer to {asked:?}");
        let number = self.recorder.ask(asked);
        let answer = soon(&what, answer).await.map(|answer| reply(answer.into_inner()));
        self.recorder.answer(number, &answer);
        answer
    }

    /// Makes a session.
    pub async fn create(&self, request: v1::CreateSessionRequest) -> Result<Reply, Status> {
        let mut tools = self.clients.tools.clone();
        self.exchange(Asked::Session, tools.create_session(request), reply_of_session).await
    }

    /// Closes a session.
    pub async fn close(&self, request: v1::CloseSessionRequest) -> Result<Reply, Status> {
        let mut tools = self.clients.tools.clone();
        let asked = Asked::Close(request.session_id.clone());
        let reply = |answer: v1::CloseSessionResponse| Reply {
            session_id: answer.session.expect("a session").session_id,
            replayed: answer.replayed,
            ..Reply::default()
        };
        self.exchange(asked, tools.close_session(request), reply).await
    }

    /// Runs a call.
    pub async fn run(&self, request: Request<v1::RunToolRequest>) -> Result<Reply, Status> {
        let mut tools = self.clients.tools.clone();
        let message = request.get_ref();
        let asked = CallAsked {
            session_id: message.session_id.clone(),
            request_id: message.request_id.clone(),
            mark: message.description.clone(),
            replaces: false,
        };
        self.exchange(Asked::Call(asked), tools.run_tool(request), reply_of_run).await
    }

    /// Starts a task.
    pub async fn start(&self, request: v1::StartRequest) -> Result<Reply, Status> {
        let mut tasks = self.clients.tasks.clone();
        let call = call_of(&request);
        let asked = CallAsked {
            session_id: call.session_id.clone(),
            request_id: call.request_id.clone(),
            mark: call.description.clone(),
            replaces: request.concurrency() == v1::Concurrency::Replace,
        };
        let reply = |answer: v1::StartResponse| reply_of_task(answer.task, answer.replayed);
        self.exchange(Asked::Call(asked), tasks.start(request), reply).await
    }

    /// Waits for a task.
    pub async fn wait(&self, request: v1::WaitRequest) -> Result<Reply, Status> {
        let mut tasks = self.clients.tasks.clone();
        let asked = WaitAsked {
            background_ids: vec![request.background_id.clone()],
            all: false,
            bound: crate::support::waiting::span_of(&request.wait),
        };
        let reply = |answer: v1::WaitResponse| Reply {
            still_running: answer.still_running,
            ..reply_of_tasks(answer.task)
        };
        self.exchange(Asked::Wait(asked), tasks.wait(request), reply).await
    }

    /// Waits for tasks.
    pub async fn wait_many(&self, request: v1::WaitManyRequest) -> Result<Reply, Status> {
        let mut tasks = self.clients.tasks.clone();
        let all = request.mode() == v1::WaitMode::All;
        let asked = WaitAsked {
            background_ids: request.background_ids.clone(),
            all,
            bound: crate::support::waiting::span_of(&request.wait),
        };
        let reply = |answer: v1::WaitManyResponse| Reply {
            still_running: if all { !answer.pending.is_empty() } else { answer.settled.is_empty() },
            is_brief: true,
            ..reply_of_tasks(answer.settled.into_iter().chain(answer.pending))
        };
        self.exchange(Asked::Wait(asked), tasks.wait_many(request), reply).await
    }

    /// Cancels a task.
    pub async fn cancel(&self, request: v1::CancelRequest) -> Result<Reply, Status> {
        let mut tasks = self.clients.tasks.clone();
        let asked = Asked::Cancel(request.background_id.clone());
        let reply = |answer: v1::CancelResponse| Reply {
            still_running: answer.still_running,
            replayed: answer.replayed,
            ..reply_of_tasks(answer.task)
        };
        self.exchange(asked, tasks.cancel(request), reply).await
    }

    /// Deletes a task.
    pub async fn delete(&self, request: v1::DeleteRequest) -> Result<Reply, Status> {
        let mut tasks = self.clients.tasks.clone();
        let asked = Asked::Delete(request.background_id.clone());
        let reply =
            |answer: v1::DeleteResponse| Reply { replayed: answer.replayed, ..Reply::default() };
        self.exchange(asked, tasks.delete(request), reply).await
    }

    /// Reads a task.
    pub async fn get(&self, background_id: &str) -> Result<Reply, Status> {
        let mut tasks = self.clients.tasks.clone();
        let background_id = background_id.to_owned();
        let reply = |answer: v1::GetResponse| reply_of_tasks(answer.task);
        self.exchange(Asked::Get, tasks.get(v1::GetRequest { background_id }), reply).await
    }
}

fn reply_of_session(answer: v1::CreateSessionResponse) -> Reply {
    let session = answer.session.expect("a session");
    Reply { session_id: session.session_id, replayed: answer.replayed, ..Reply::default() }
}

fn reply_of_run(answer: v1::RunToolResponse) -> Reply {
    let v1::RunToolResponse { session_id, call_id, outcome, replayed, .. } = answer;
    let reply = Reply { session_id, call_id, replayed, ..Reply::default() };
    match outcome.expect("an outcome") {
        Outcome::Result(result) => Reply { result: Some(result), ..reply },
        Outcome::Parked(parked) => {
            let tasks = parked.task.into_iter().collect();
            Reply { background_id: parked.background_id, tasks, ..reply }
        }
    }
}

fn reply_of_task(task: Option<v1::Task>, replayed: bool) -> Reply {
    let task = task.expect("a task");
    Reply {
        session_id: task.session_id.clone(),
        call_id: task.call_id.clone(),
        background_id: task.background_id.clone(),
        replayed,
        tasks: vec![task],
        ..Reply::default()
    }
}

fn reply_of_tasks(tasks: impl IntoIterator<Item = v1::Task>) -> Reply {
    Reply { tasks: tasks.into_iter().collect(), ..Reply::default() }
}
