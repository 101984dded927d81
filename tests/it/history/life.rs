//! The life of a session: clients that do this and that at once, readers that come and go.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Code, Request, Status};

use super::processes::{descriptors, marked};
use super::readers::SessionReader;
use super::recorder::Recorded;
use super::work::{Place, any};
use super::{History, Reply};
use crate::support::waiting::{call_of, start_of};
use crate::support::{millis, request_id, soon, v1};

/// Clients of one session at the same time.
const CLIENTS: usize = 2;

/// The place and the manner in which sessions live.
#[derive(Debug, Clone)]
pub struct World {
    /// The folder in which calls leave their traces.
    pub folder: PathBuf,
    /// The server has the tool of [`crate::in_process`].
    pub has_count: bool,
    /// The number of steps of each client.
    pub steps: u32,
    /// Every session is closed at the end, not only most of them.
    pub closes: bool,
}

/// A request that can be sent again.
#[derive(Debug, Clone)]
pub enum Sent {
    /// In the foreground.
    Run(Box<v1::RunToolRequest>),
    /// In the background.
    Start(Box<v1::StartRequest>),
}

/// A session, as its clients know it.
pub struct Life {
    recorded: Recorded,
    world: World,
    /// The session.
    pub session_id: String,
    tasks: Mutex<Vec<String>>,
    sent: Mutex<Vec<Sent>>,
    /// The server doesn't answer any more.
    is_cut: CancellationToken,
}

/// The session of a life that has ended, with readers that can read on.
pub struct Lived {
    /// The session's life.
    pub life: Arc<Life>,
    /// The readers of the session.
    pub readers: Vec<SessionReader>,
}

/// Lives a session: makes it, uses it, lets its work end, and closes it. A server that goes away
/// ends it early. None: it was gone before there was a session.
pub async fn live(recorded: Recorded, world: World, mut random: StdRng) -> Option<Lived> {
    let request = v1::CreateSessionRequest {
        request_id: request_id(),
        max_live_tasks: *[4, 8, 32].choose(&mut random).expect("one"),
        task_limit_policy: random.random_range(0..=2),
        ..Default::default()
    };
    let session_id = recorded.create(request).await.ok()?.session_id;
    let life = Arc::new(Life {
        recorded,
        world,
        session_id,
        tasks: Mutex::default(),
        sent: Mutex::default(),
        is_cut: CancellationToken::new(),
    });
    let leave = CancellationToken::new();
    let tracker = TaskTracker::new();
    let events_max = [usize::MAX, random.random_range(1..20)];
    let readers = events_max.map(|events_max| {
        let (life, leave) = (life.clone(), leave.clone());
        tracker.spawn(async move {
            let mut reader = SessionReader::new(&life.recorded.recorder, &life.session_id);
            reader.follow(&life.recorded.clients, events_max, &leave).await;
            reader
        })
    });
    let clients = (0..CLIENTS).map(|_| {
        let (life, random) = (life.clone(), StdRng::seed_from_u64(random.random()));
        tracker.spawn(async move { life.client(random).await })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("no panic");
    }
    if !life.finish(random.random_bool(0.7)).await {
        leave.cancel();
    }
    let mut lived = Lived { life, readers: Vec::new() };
    for reader in readers {
        lived.readers.push(soon("the end of a reader", reader).await.expect("no panic"));
    }
    Some(lived)
}

impl Life {
    async fn client(&self, mut random: StdRng) {
        for _ in 0..self.world.steps {
            let done = match random.random_range(0..100) {
                0..30 => self.start(&mut random).await,
                30..48 => self.run(&mut random).await,
                48..56 => self.stream(&mut random).await,
                56..60 => self.leave(&mut random).await,
                60..72 => self.wait(&mut random).await,
                72..76 => self.wait_many(&mut random).await,
                76..86 => self.cancel(&mut random).await,
                86..89 => self.delete(&mut random).await,
                89..96 => self.repeat(&mut random).await,
                _ => self.get(&mut random).await,
            };
            self.accept(done.map(drop));
            if self.is_cut.is_cancelled() {
                return;
            }
        }
    }

    /// Refusals that must be counted with are none of the test's business; others are.
    fn accept(&self, done: Result<(), Status>) {
        let Err(status) = done else { return };
        match status.code() {
            // A session at its limit, a busy or a closed one, a task that a client has deleted or
            // that still runs, a deadline that was too short.
            Code::ResourceExhausted
            | Code::Aborted
            | Code::NotFound
            | Code::FailedPrecondition
            | Code::DeadlineExceeded => {}
            // The client's own watch over the deadline.
            Code::Cancelled => {}
            Code::Unavailable => self.is_cut.cancel(),
            // What a connection that broke gives a cause to.
            _ if status.source().is_some() => self.is_cut.cancel(),
            _ => panic!("{status:?}"),
        }
    }

    fn call(&self, random: &mut StdRng) -> v1::RunToolRequest {
        let place = Place { folder: &self.world.folder, has_count: self.world.has_count };
        let (request, known) = any(random, place);
        self.recorded.recorder.knows(known);
        v1::RunToolRequest { session_id: self.session_id.clone(), ..request }
    }

    fn one(&self, random: &mut StdRng) -> Option<String> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).choose(random).cloned()
    }

    fn knows(&self, reply: &Reply) {
        if !reply.background_id.is_empty() {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.push(reply.background_id.clone());
        }
    }

    fn sends(&self, sent: Sent) {
        let request_id = match &sent {
            Sent::Run(request) => &request.request_id,
            Sent::Start(request) => &call_of(request).request_id,
        };
        if !request_id.is_empty() {
            self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(sent);
        }
    }

    async fn start(&self, random: &mut StdRng) -> Result<(), Status> {
        use v1::Concurrency::{Allow, Queue, Reject, Replace};
        let concurrency = match random.random_range(0..20) {
            0 | 1 => Queue,
            2 => Replace,
            3 => Reject,
            _ => Allow,
        };
        let request =
            v1::StartRequest { concurrency: concurrency.into(), ..start_of(self.call(random)) };
        self.sends(Sent::Start(Box::new(request.clone())));
        let reply = self.recorded.start(request).await?;
        self.knows(&reply);
        if random.random_bool(0.1) {
            let seen = descriptors(&marked(&[reply.call_id.as_str()].into()));
            self.recorded.recorder.saw(seen);
        }
        Ok(())
    }

    async fn run(&self, random: &mut StdRng) -> Result<(), Status> {
        let message = self.call(random);
        self.sends(Sent::Run(Box::new(message.clone())));
        let mut request = Request::new(message);
        if random.random_bool(0.2) {
            request.set_timeout(Duration::from_millis(random.random_range(100..400)));
        }
        let reply = self.recorded.run(request).await?;
        self.knows(&reply);
        Ok(())
    }

    async fn stream(&self, random: &mut StdRng) -> Result<(), Status> {
        let request = self.call(random);
        self.sends(Sent::Run(Box::new(request.clone())));
        self.recorded.stream(request).await.map(drop)
    }

    /// Goes away from a call before it is answered.
    async fn leave(&self, random: &mut StdRng) -> Result<(), Status> {
        let mut request = self.call(random);
        request.call_budget = None;
        // The server may get it after all others have gone, and no client could end it then.
        request.detached = false;
        request.set_on_disconnect(match random.random_bool(0.5) {
            true => v1::OnDisconnect::Park,
            false => v1::OnDisconnect::Cancel,
        });
        let timeout = Duration::from_millis(random.random_range(0..60));
        let run = self.recorded.run(Request::new(request));
        tokio::time::timeout(timeout, run).await.map_or(Ok(()), |answer| answer.map(drop))
    }

    async fn wait(&self, random: &mut StdRng) -> Result<(), Status> {
        let Some(background_id) = self.one(random) else { return Ok(()) };
        let wait = millis(random.random_range(0..200));
        let acknowledge = random.random_bool(0.2);
        let request = v1::WaitRequest { background_id, wait, acknowledge };
        self.recorded.wait(request).await.map(drop)
    }

    async fn wait_many(&self, random: &mut StdRng) -> Result<(), Status> {
        let mut background_ids: Vec<String> = (0..3).filter_map(|_| self.one(random)).collect();
        background_ids.sort();
        background_ids.dedup();
        if background_ids.is_empty() {
            return Ok(());
        }
        let request = v1::WaitManyRequest {
            background_ids,
            mode: random.random_range(1..=2),
            wait: millis(random.random_range(0..200)),
            acknowledge: false,
        };
        self.recorded.wait_many(request).await.map(drop)
    }

    async fn cancel(&self, random: &mut StdRng) -> Result<(), Status> {
        let Some(background_id) = self.one(random) else { return Ok(()) };
        let request = v1::CancelRequest {
            background_id,
            request_id: if random.random_bool(0.5) { request_id() } else { String::new() },
            force: random.random_bool(0.3),
            reason: "as chance has it".into(),
            wait: millis(if random.random_bool(0.5) { 0 } else { 500 }),
            grace: millis(random.random_range(0..200)),
            dry_run: false,
        };
        if random.random_bool(0.2) {
            self.recorded.cancel(request.clone()).await?;
        }
        self.recorded.cancel(request).await.map(drop)
    }

    async fn delete(&self, random: &mut StdRng) -> Result<(), Status> {
        let Some(background_id) = self.one(random) else { return Ok(()) };
        let request = v1::DeleteRequest { background_id, request_id: request_id() };
        self.recorded.delete(request).await.map(drop)
    }

    async fn get(&self, random: &mut StdRng) -> Result<(), Status> {
        let Some(background_id) = self.one(random) else { return Ok(()) };
        self.recorded.get(&background_id).await.map(drop)
    }

    async fn repeat(&self, random: &mut StdRng) -> Result<(), Status> {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner).choose(random).cloned();
        match sent {
            Some(sent) => self.resend(&self.recorded, sent).await,
            None => Ok(()),
        }
    }

    async fn resend(&self, recorded: &Recorded, sent: Sent) -> Result<(), Status> {
        let reply = match sent {
            Sent::Run(request) => recorded.run(Request::new(*request)).await?,
            Sent::Start(request) => recorded.start(*request).await?,
        };
        self.knows(&reply);
        Ok(())
    }

    /// Sends all again that was sent, to a server that may be another.
    pub async fn resend_all(&self, recorded: &Recorded) {
        let all = self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for sent in all {
            self.accept(self.resend(recorded, sent).await);
        }
        self.end_all(recorded).await;
    }

    /// Ends what still runs, and perhaps closes the session. True: its log has come to its end.
    async fn finish(&self, may_close: bool) -> bool {
        if self.is_cut.is_cancelled() {
            return false;
        }
        // A call that its client has left goes to the background by and by; one that is detached
        // would outlive the session's closing, for as long as it likes.
        soon("the end of all calls", async {
            while self.is_busy().await {
                self.end_all(&self.recorded).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        if !(may_close || self.world.closes) {
            return false;
        }
        let request = v1::CloseSessionRequest {
            session_id: self.session_id.clone(),
            request_id: request_id(),
            reason: "done".into(),
        };
        self.recorded.close(request).await.is_ok()
    }

    /// Some call of the session hasn't ended.
    async fn is_busy(&self) -> bool {
        let request = v1::GetSessionRequest { session_id: self.session_id.clone() };
        let mut runner = self.recorded.clients.tools.clone();
        let answer = soon("a session", runner.get_session(request)).await;
        answer.is_ok_and(|answer| {
            answer.into_inner().session.is_some_and(|session| session.live_tasks > 0)
        })
    }

    /// Kills what still runs in the background.
    async fn end_all(&self, recorded: &Recorded) {
        use v1::State::{Cancelling, Pending, Running};
        let request = v1::ListRequest {
            session_id: self.session_id.clone(),
            states: [Pending, Running, Cancelling].map(i32::from).to_vec(),
            page_size: 1_000,
            ..Default::default()
        };
        let listed = soon("a list", recorded.clients.tasks.clone().list(request)).await;
        let Ok(listed) = listed else { return };
        let cancels = listed.into_inner().tasks.into_iter().map(|task| {
            let request = v1::CancelRequest {
                background_id: task.background_id,
                force: true,
                wait: millis(10_000),
                ..Default::default()
            };
            recorded.cancel(request)
        });
        for answer in join_all(cancels).await {
            self.accept(answer.map(drop));
        }
    }
}

/// Records the number of effects of each call, one file in the folder for each.
pub fn count_effects(history: &mut History, folder: &Path) {
    for work in &mut history.works {
        let lines = std::fs::read(folder.join(&work.mark)).map_or(0, |lines| lines.len());
        work.effects = Some(lines);
    }
}
