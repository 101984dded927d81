//! A client that starts calls until its server is gone, and remembers the answers.

use std::path::PathBuf;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tonic::Status;

use crate::support::program::Clients;
use crate::support::waiting::start_of;
use crate::support::{bash, millis, request_id, soon, v1};
use v1::run_tool_response::Outcome;
use v1::session_event::Payload;

/// Calls of one client, at most.
const CALLS_MAX: u64 = 60;

/// The numbers that the calls of one cycle can have.
pub const NUMBERS_OF_A_CYCLE: u64 = 10_000;

/// Returns the file that ends the slow calls of a cycle.
pub fn gate(folder: &std::path::Path, cycle: u64) -> PathBuf {
    folder.join(format!("gate-{cycle}"))
}

/// The action of a call after it has left its effect and its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Exits with this code.
    Quick(u8),
    /// Goes on until the gate of its cycle is there.
    Slow,
    /// Does so with a child in a session of its own, and doesn't listen to TERM.
    Family,
}

/// A request that can be repeated.
#[derive(Debug, Clone)]
pub enum Request {
    /// Into the background.
    Start(Box<v1::StartRequest>),
    /// In the foreground, perhaps for no time.
    Run(Box<v1::RunToolRequest>),
    /// The same as a stream.
    Stream(Box<v1::RunToolRequest>),
}

/// The answer to a client about a call.
#[derive(Debug, Clone)]
pub struct Answer {
    pub session_id: String,
    pub call_id: String,
    pub replayed: bool,
    /// The stream was cut before the outcome of the call, or the call was lost.
    pub is_open: bool,
    outcome: Option<Outcome>,
}

impl Answer {
    /// The id of the task; none of a call that ended in the foreground, or may have.
    pub fn background_id(&self) -> Option<String> {
        match &self.outcome {
            Some(Outcome::Result(_)) => None,
            None if self.is_open => None,
            _ => Some(self.call_id.replace("call-", "bg-")),
        }
    }

    /// The result of a call that ended in the foreground.
    pub fn result(&self) -> Option<&v1::ToolResult> {
        match &self.outcome {
            Some(Outcome::Result(result)) => Some(result),
            _ => None,
        }
    }
}

impl Request {
    /// Sends it, and checks that the answer fits together.
    pub async fn send(self, clients: &mut Clients) -> Result<Answer, Status> {
        match self {
            Self::Start(request) => {
                let answer = soon("a start", clients.tasks.start(*request)).await?.into_inner();
                let task = answer.task.expect("a task");
                assert_eq!(task.background_id, task.call_id.replace("call-", "bg-"));
                let v1::Task { session_id, call_id, .. } = task;
                let (replayed, is_open) = (answer.replayed, false);
                Ok(Answer { session_id, call_id, replayed, is_open, outcome: None })
            }
            Self::Run(request) => {
                let answer = soon("a call", clients.tools.run_tool(*request)).await?.into_inner();
                let v1::RunToolResponse { session_id, call_id, outcome, replayed, .. } = answer;
                if let Some(Outcome::Parked(parked)) = &outcome {
                    assert_eq!(parked.background_id, call_id.replace("call-", "bg-"));
                }
                Ok(Answer { session_id, call_id, replayed, is_open: false, outcome })
            }
            Self::Stream(request) => streamed(clients, *request).await,
        }
    }
}

/// Reads the stream of a call as far as it goes.
async fn streamed(clients: &mut Clients, request: v1::RunToolRequest) -> Result<Answer, Status> {
    let mut stream = soon("a stream", clients.tools.stream_tool(request)).await?.into_inner();
    let mut answer = None::<Answer>;
    loop {
        let update = match (soon("an update", stream.message()).await, &answer) {
            (Ok(Some(update)), _) => update,
            (Ok(None), _) => return Ok(answer.expect("events before a good end")),
            (Err(status), None) => return Err(status),
            // It was cut, but its events stay true.
            (Err(_), Some(answer)) => return Ok(answer.clone()),
        };
        for event in update.events {
            let v1::SessionEvent { session_id, call_id, payload, .. } = event;
            let outcome = payload.and_then(outcome);
            // A stream doesn't say whether it is of an earlier request.
            let (replayed, is_open) = (true, outcome.is_none());
            answer = Some(Answer { session_id, call_id, replayed, is_open, outcome });
        }
    }
}

/// Returns the outcome of a call by the last event of its stream.
fn outcome(payload: Payload) -> Option<Outcome> {
    match payload {
        Payload::ToolCallParked(v1::ToolCallParked { background_id, .. }) => {
            Some(Outcome::Parked(v1::ParkedCall { background_id, ..Default::default() }))
        }
        Payload::ToolCallFinished(finished) => match finished.outcome? {
            v1::tool_call_finished::Outcome::Result(result) => Some(Outcome::Result(result)),
            v1::tool_call_finished::Outcome::Error(_) => None,
        },
        _ => None,
    }
}

/// A request that was sent, and what came of it.
#[derive(Debug)]
pub struct Sent {
    number: u64,
    folder: PathBuf,
    pub work: Work,
    pub request: Request,
    /// The answer, or `None` if the server was killed before it came.
    pub answer: Option<Answer>,
    /// A cancel may have been sent.
    pub is_cancelled: bool,
    /// The end of its task, as far as the client has seen it.
    pub seen: Option<v1::Task>,
}

impl Sent {
    fn new(session_id: &str, folder: PathBuf, number: u64, random: &mut StdRng) -> Self {
        let work = match random.random_range(0..10) {
            0 => Work::Slow,
            1 => Work::Family,
            2 | 3 => Work::Quick(3),
            _ => Work::Quick(0),
        };
        let effect = format!("echo >> {}/{number}; echo out-{number}", folder.display());
        let gate = gate(&folder, number / NUMBERS_OF_A_CYCLE);
        let wait = format!("until [ -e {} ]; do sleep 0.05; done", gate.display());
        let command = match work {
            Work::Quick(code) => format!("{effect}; exit {code}"),
            Work::Slow => format!("{effect}; {wait}"),
            Work::Family => format!("trap '' TERM; setsid sleep 300 & {effect}; {wait}"),
        };
        let session_id = if random.random_bool(0.7) { session_id } else { "" };
        let is_start = work == Work::Slow || random.random_bool(0.5);
        let request = if is_start {
            let session_id = session_id.into();
            let call =
                v1::RunToolRequest { session_id, request_id: request_id(), ..bash(&command) };
            Request::Start(Box::new(start_of(call)))
        } else {
            let request = v1::RunToolRequest {
                session_id: session_id.into(),
                request_id: request_id(),
                call_budget: millis(if random.random_bool(0.5) { 0 } else { 20 }),
                ..bash(&command)
            };
            if random.random_bool(0.3) {
                Request::Stream(Box::new(request))
            } else {
                Request::Run(Box::new(request))
            }
        };
        Self { number, folder, work, request, answer: None, is_cancelled: false, seen: None }
    }

    /// Returns the output of the call.
    pub fn output(&self) -> String {
        format!("out-{}\n", self.number)
    }

    /// Returns the number of times that the call has run.
    pub fn effects(&self) -> usize {
        let path = self.folder.join(self.number.to_string());
        std::fs::read(path).map_or(0, |lines| lines.len())
    }
}

/// The standard output that a task has in its result.
pub fn stdout_of(task: &v1::Task) -> String {
    match &task.outcome {
        Some(v1::task::Outcome::Result(result)) => {
            String::from_utf8(crate::support::stdout_of(result)).expect("text")
        }
        other => panic!("no result but {other:?}"),
    }
}

/// The number of things that have happened so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Calls that were answered.
    pub calls: usize,
    /// Ends that were seen.
    pub ends: usize,
    /// Tasks that were asked to stop.
    pub cancels: usize,
}

impl Counts {
    fn of(all: &[Sent]) -> Self {
        Self {
            calls: all.iter().filter(|sent| sent.answer.is_some()).count(),
            ends: all.iter().filter(|sent| sent.seen.is_some()).count(),
            cancels: all.iter().filter(|sent| sent.is_cancelled).count(),
        }
    }

    /// Adds the difference between two counts of the same calls.
    fn add(&mut self, before: Self, after: Self) {
        self.calls += after.calls - before.calls;
        self.ends += after.ends - before.ends;
        self.cancels += after.cancels - before.cancels;
    }
}

/// Starts calls until the server is gone, and now and then looks for the end of one. All that
/// happens is added to `counts`.
pub async fn load(
    mut clients: Clients,
    session_id: String,
    folder: PathBuf,
    first: u64,
    mut random: StdRng,
    counts: watch::Sender<Counts>,
) -> Vec<Sent> {
    let mut counted = Counts::default();
    let mut all: Vec<Sent> = Vec::new();
    for number in first..first + CALLS_MAX {
        let mut sent = Sent::new(&session_id, folder.clone(), number, &mut random);
        let answer = sent.request.clone().send(&mut clients).await;
        let is_gone = answer.is_err();
        sent.answer = answer.ok();
        all.push(sent);
        if is_gone {
            break;
        }
        let one = random.random_range(0..all.len());
        if random.random_bool(0.2) {
            cancel(&mut clients, &mut all[one]).await;
        } else {
            look(&mut clients, &mut all[one]).await;
        }
        let now = Counts::of(&all);
        counts.send_modify(|counts| counts.add(counted, now));
        counted = now;
    }
    all
}

/// Keeps the end of a task, if it has come.
async fn look(clients: &mut Clients, sent: &mut Sent) {
    let Some(background_id) = sent.answer.as_ref().and_then(Answer::background_id) else { return };
    let request = v1::WaitRequest { background_id, wait: millis(5), acknowledge: false };
    let Ok(answer) = soon("a wait", clients.tasks.wait(request)).await else { return };
    let answer = answer.into_inner();
    if !answer.still_running {
        sent.seen = answer.task;
    }
}

/// Asks a task to stop, and keeps its end, if it has come.
async fn cancel(clients: &mut Clients, sent: &mut Sent) {
    let Some(background_id) = sent.answer.as_ref().and_then(Answer::background_id) else { return };
    sent.is_cancelled = true;
    let (grace, wait) = (millis(10), millis(20));
    let request = v1::CancelRequest { background_id, grace, wait, ..Default::default() };
    let Ok(answer) = soon("a cancel", clients.tasks.cancel(request)).await else { return };
    let answer = answer.into_inner();
    if !answer.still_running {
        sent.seen = answer.task;
    }
}
