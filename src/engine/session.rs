//! The actor of a session: the one writer of its log.
//!
//! It takes what waits in its inbox, decides all of it, appends once, and only then acts and
//! answers. While an append is under way the inbox fills, and senders wait: the runner of a
//! process stops reading its pipes, so a slow store slows the process and costs no memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tokio_util::time::{DelayQueue, delay_queue};

use super::batch::Batch;
use super::directory::Vacancy;
use super::inbox::{Answer, Facts, Message, Origin};
use super::{Error, Shared};
use crate::exec::Stop;
use crate::machine::{Command, Effect, Projection, Reply, Start, Timer, decide};
use crate::model::limits::{ACTOR_BATCH_COMMANDS_MAX, ACTOR_IDLE_MS, ACTOR_REPORTS_MAX};
use crate::model::{Call, CallId, ParkReason, StopCause};
use crate::store::{RequestRecord, StoreError};
use crate::tool::Work;

/// What the actor holds for a live call, beside its record.
#[derive(Default)]
pub(super) struct Run {
    /// Callers that wait for it in the foreground.
    callers: u32,
    /// What to run, until it runs.
    pub(super) work: Option<Work>,
    /// Its place among the running calls, until it runs.
    pub(super) slot: Option<OwnedSemaphorePermit>,
    /// Ends the search for a place.
    pub(super) search: Option<CancellationToken>,
    /// How to stop it, while it runs.
    pub(super) control: Option<watch::Sender<Option<Stop>>>,
    pub(super) timers: [Option<delay_queue::Key>; 3],
}

/// The actor of a session.
pub(crate) struct Actor {
    pub(super) shared: Arc<Shared>,
    pub(super) projection: Projection,
    /// The head that the store has; none: the store doesn't know the session.
    pub(super) stored_head: Option<u64>,
    commands: mpsc::Receiver<Message>,
    /// A message that must not share a batch with those before it.
    held: Option<Message>,
    /// What runners report. Apart from the inbox: a request never waits behind output that can't
    /// be saved.
    reports: mpsc::Receiver<Message>,
    /// For runners.
    pub(super) report_to: mpsc::Sender<Message>,
    pub(super) runs: HashMap<CallId, Run>,
    pub(super) timers: DelayQueue<(CallId, Timer)>,
    /// Reports whose append failed, to be made again, and after how long.
    unsaved: Vec<Command>,
    retry_delay: Duration,
}

impl Actor {
    /// Reads the session and runs until there has been nothing to do for a while.
    pub(crate) async fn run(shared: Arc<Shared>, origin: Origin, vacancy: Vacancy) {
        let facts = vacancy.facts;
        let id = match &origin {
            Origin::New(session) => session.id,
            Origin::Stored(id) => *id,
        };
        let (projection, stored_head) = match load(&shared, origin).await {
            Ok(loaded) => loaded,
            Err(error) => {
                shared.directory.remove(id);
                facts.send_replace(Facts::Failed(error));
                return;
            }
        };
        facts.send_replace(Facts::Known(Arc::new(projection.session.clone())));
        // Their ends will be counted here; their starts were by the server that died.
        let live = i32::try_from(projection.live_calls().count()).unwrap_or(i32::MAX);
        shared.metrics.live_calls_changed(live);
        let (report_to, reports) = mpsc::channel(ACTOR_REPORTS_MAX);
        let mut actor = Self {
            shared: shared.clone(),
            projection,
            stored_head,
            commands: vacancy.commands,
            held: None,
            reports,
            report_to,
            runs: HashMap::new(),
            timers: DelayQueue::new(),
            unsaved: Vec::new(),
            retry_delay: Duration::ZERO,
        };
        actor.serve().await;
    }

    async fn serve(&mut self) {
        // What a server that died has left running is gone: its end is the first thing to tell.
        let last_known = self.projection.session.update_time;
        let lose = |call: &Call| Command::Lose { call_id: call.id, last_known };
        let lost = self.projection.live_calls().map(lose);
        self.unsaved = lost.collect();
        while let Some(batch) = self.next_batch().await {
            if !self.commit(batch).await {
                self.shared.directory.remove(self.projection.session.id);
                return;
            }
        }
    }

    /// What is waiting, decided; none once nothing will come any more.
    async fn next_batch(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        if self.unsaved.is_empty() {
            match self.next_message().await? {
                Message::Acknowledge { call_id, answer } => {
                    self.acknowledge(call_id, answer, &mut batch).await;
                }
                first => self.take(first, &mut batch),
            }
        } else {
            self.pause().await?;
            for command in std::mem::take(&mut self.unsaved) {
                self.take(Message::Report(command), &mut batch);
            }
        }
        while self.held.is_none() && batch.commands < ACTOR_BATCH_COMMANDS_MAX + batch.reports.len()
        {
            let Ok(message) = self.commands.try_recv() else { break };
            if matches!(message, Message::Acknowledge { .. }) {
                self.held = Some(message);
                break;
            }
            self.take(message, &mut batch);
        }
        // While reports can't be saved they gather here: then the others wait, and runners too.
        while batch.reports.len() < ACTOR_BATCH_COMMANDS_MAX {
            let Ok(report) = self.reports.try_recv() else { break };
            self.take(report, &mut batch);
        }
        Some(batch)
    }

    /// Waits before reports are made again. A timer that fires meanwhile is one more: limits hold
    /// also while nothing can be saved. None: the server stops.
    async fn pause(&mut self) -> Option<()> {
        let closing = self.shared.closing.clone();
        let pause = tokio::time::sleep(self.retry_delay);
        tokio::select! {
            biased;
            () = closing.cancelled() => return None,
            Some(due) = self.timers.next(), if !self.timers.is_empty() => {
                let (call_id, timer) = due.into_inner();
                let command = self.due(call_id, timer);
                self.unsaved.push(command);
            }
            () = pause => {}
        }
        Some(())
    }

    /// The record of a call that has ended is in the store only. It is read when all that came
    /// before is there, so that one that was deleted in between doesn't come back.
    async fn acknowledge(&mut self, call_id: CallId, answer: Answer, batch: &mut Batch) {
        match self.shared.store.call(call_id).await {
            Ok(Some(call)) => {
                let command = Command::Acknowledge { call: Box::new(call) };
                let now = self.shared.clock.now();
                batch.decide(&mut self.projection, command, now, Some((answer, None)));
            }
            Ok(None) => batch.answers.push((answer, Ok(Reply::Done))),
            Err(error) => batch.answers.push((answer, Err(error.into()))),
        }
    }

    /// None: there is nothing to do and the directory has let the actor go, or the server stops.
    async fn next_message(&mut self) -> Option<Message> {
        if let Some(message) = self.held.take() {
            return Some(message);
        }
        loop {
            if let Some(message) = self.wait_for_message().await {
                return Some(message);
            }
            if self.shared.closing.is_cancelled() {
                return None;
            }
            let id = self.projection.session.id;
            if self.shared.directory.retire(id, &self.commands) {
                return None;
            }
        }
    }

    async fn wait_for_message(&mut self) -> Option<Message> {
        let idle = tokio::time::sleep(Duration::from_millis(ACTOR_IDLE_MS));
        tokio::select! {
            // Timers before messages, or a process that writes without end would keep its call
            // from being parked; messages before the end, or the last reports would be lost.
            biased;
            Some(due) = self.timers.next(), if !self.timers.is_empty() => {
                let (call_id, timer) = due.into_inner();
                Some(Message::Report(self.due(call_id, timer)))
            }
            message = self.commands.recv() => message,
            report = self.reports.recv() => report,
            () = idle, if self.projection.is_idle() => None,
            () = self.shared.closing.cancelled() => None,
        }
    }

    fn due(&mut self, call_id: CallId, timer: Timer) -> Command {
        if let Some(run) = self.runs.get_mut(&call_id) {
            run.timers[timer as usize] = None;
        }
        match timer {
            Timer::Budget => Command::Park { call_id, reason: ParkReason::Budget },
            Timer::Execution => Command::Timeout { call_id, cause: StopCause::ExecutionTimeout },
            Timer::Idle => Command::Timeout { call_id, cause: StopCause::IdleTimeout },
        }
    }

    /// Decides one message and keeps what follows in the batch.
    fn take(&mut self, message: Message, batch: &mut Batch) {
        match message {
            Message::Command { command, request, answer } => {
                batch.keep_stop(&command);
                let now = self.shared.clock.now();
                batch.decide(&mut self.projection, command, now, Some((answer, request)));
            }
            Message::Start { start, work, attach, request, claim, answer } => {
                batch.claims.extend(claim);
                self.take_start(*start, work, attach, batch, (answer, request));
            }
            Message::Probe { start, answer } => {
                let now = self.shared.clock.now();
                let decision = decide(&self.projection, Command::Start(start), now);
                batch.answers.push((answer, decision.reply.map_err(Error::from)));
            }
            // Never in a batch with others: see `next_batch`.
            held @ Message::Acknowledge { .. } => self.held = Some(held),
            Message::Report(command) => self.take_report(command, batch),
            Message::Slot(call_id, permit) => {
                if let Some(run) = self.runs.get_mut(&call_id) {
                    run.search = None;
                    run.slot = Some(permit);
                    self.take_report(Command::Begin { call_id }, batch);
                }
            }
            Message::Attach(call_id) => {
                if let Some(run) = self.runs.get_mut(&call_id) {
                    run.callers += 1;
                }
            }
            Message::Detach(call_id) => {
                if let Some(run) = self.runs.get_mut(&call_id) {
                    run.callers = run.callers.saturating_sub(1);
                    if run.callers == 0 {
                        self.take_report(Command::Disconnect { call_id }, batch);
                    }
                }
            }
        }
    }

    fn take_report(&mut self, command: Command, batch: &mut Batch) {
        batch.reports.push(command.clone());
        let now = self.shared.clock.now();
        batch.decide(&mut self.projection, command, now, None);
    }

    fn take_start(
        &mut self,
        mut start: Start,
        work: Work,
        attach: bool,
        batch: &mut Batch,
        asked: (Answer, Option<RequestRecord>),
    ) {
        let call_id = start.call_id;
        let slot = self.shared.slots.clone().try_acquire_owned().ok();
        start.has_slot = slot.is_some();
        let now = self.shared.clock.now();
        let command = Command::Start(Box::new(start));
        if batch.decide(&mut self.projection, command, now, Some(asked)) {
            let callers = u32::from(attach);
            let run = Run { callers, work: Some(work), slot, ..Run::default() };
            self.runs.insert(call_id, run);
        }
    }

    /// Appends the batch, then acts and answers. False: the session could not even be stored,
    /// and there is nothing to be in charge of.
    async fn commit(&mut self, mut batch: Batch) -> bool {
        if !batch.is_written() && self.stored_head.is_some() {
            self.act(batch);
            return true;
        }
        let append = batch.append(self);
        let head = append.session.head_sequence;
        let events = append.events.len();
        let began = tokio::time::Instant::now();
        match self.shared.store.append(append).await {
            Ok(()) => {
                self.shared.metrics.events_appended(events as u64);
                self.shared.metrics.store_appended(began.elapsed());
                self.stored_head = Some(head);
                self.retry_delay = Duration::ZERO;
                self.act(batch);
                true
            }
            Err(error) => self.fail(batch, error).await,
        }
    }

    /// Nothing of the batch has happened: says so, and goes back to what the store has. But what
    /// was to be stopped is stopped at once, and the reason is recorded when it can be.
    async fn fail(&mut self, batch: Batch, error: StoreError) -> bool {
        let session_id = self.projection.session.id;
        tracing::warn!(%session_id, %error, "an append failed");
        let error = Error::from(error);
        for (answer, _) in batch.answers {
            // An asker who has left needs no answer.
            let _ = answer.send(Err(error.clone()));
        }
        if self.stored_head.is_none() {
            return false;
        }
        for effect in batch.effects {
            let stops = match &effect {
                Effect::Terminate(id, _) | Effect::Kill(id) => Some(*id),
                _ => None,
            };
            if batch.reports.iter().any(|report| stops.is_some() && report.stops() == stops) {
                self.perform(effect);
            }
        }
        self.unsaved = batch.reports;
        self.retry_delay =
            (self.retry_delay * 2).clamp(Duration::from_millis(50), Duration::from_secs(1));
        loop {
            match load(&self.shared, Origin::Stored(session_id)).await {
                Ok((projection, stored_head)) => {
                    self.projection = projection;
                    self.stored_head = stored_head;
                    let live = &self.projection;
                    self.runs.retain(|id, _| live.call(*id).is_some());
                    return true;
                }
                Err(Error::SessionNotFound(_)) => return false,
                Err(error) => {
                    tracing::warn!(%session_id, %error, "the session can't be read back");
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_secs(1)) => {}
                        () = self.shared.closing.cancelled() => return false,
                    }
                }
            }
        }
    }

    /// What was decided is durable: it is done, told to readers, and answered.
    fn act(&mut self, batch: Batch) {
        for call in &batch.written.settled {
            if let Some(run) = self.runs.remove(&call.id) {
                self.forget(run);
            }
        }
        self.shared.tell(&self.projection, &batch.written);
        for effect in batch.effects {
            self.perform(effect);
        }
        for (answer, reply) in batch.answers {
            // An asker who has left needs no answer.
            let _ = answer.send(reply);
        }
    }
}

async fn load(shared: &Shared, origin: Origin) -> Result<(Projection, Option<u64>), Error> {
    match origin {
        Origin::New(session) => {
            Ok((Projection::new(*session, Vec::new(), shared.options.machine), None))
        }
        Origin::Stored(id) => {
            let session = shared.store.session(id).await?;
            let session = session.ok_or_else(|| Error::SessionNotFound(id.to_string()))?;
            let live = shared.store.live_calls(id).await?;
            let head = session.head_sequence;
            Ok((Projection::new(session, live, shared.options.machine), Some(head)))
        }
    }
}
