//! The actor of a session: the one writer of its log.
//!
//! It takes what waits in its inbox, decides all of it, and appends once; only when that is durable
//! it acts and answers. While the store writes, one batch more is decided and appended; then the
//! inbox fills, and senders wait: the runner of a process stops reading its pipes, so a slow store
//! slows the process and costs no memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tokio_util::time::{DelayQueue, delay_queue};

use super::appends::{Appended, Appends};
use super::batch::Batch;
use super::directory::Vacancy;
use super::inbox::{Answer, Facts, Message, Origin};
use super::settle::load;
use super::{Error, Shared};
use crate::exec::Stop;
use crate::machine::{Command, Projection, Start, Timer, decide};
use crate::model::limits::{ACTOR_BATCH_COMMANDS_MAX, ACTOR_IDLE_MS, ACTOR_REPORTS_MAX};
use crate::model::{Call, CallId, ParkReason, StopCause};
use crate::store::RequestRecord;
use crate::tool::Work;

/// What the actor holds for a live call, beside its record.
#[derive(Default)]
pub(super) struct Run {
    /// Callers that wait for it in the foreground.
    callers: u32,
    /// What to run, until it runs.
    pub(super) work: Option<Box<Work>>,
    /// Its place among the running calls, until it runs.
    pub(super) slot: Option<OwnedSemaphorePermit>,
    /// Ends the search for a place.
    pub(super) search: Option<CancellationToken>,
    /// How to stop it, while it runs.
    pub(super) control: Option<watch::Sender<Option<Stop>>>,
    pub(super) timers: [Option<delay_queue::Key>; 3],
}

/// What an actor does next.
enum Next {
    /// Decides this, and what waits behind it.
    Message(Message),
    /// Decides again what couldn't be saved.
    Unsaved,
    /// Acts on what came of the oldest append.
    Appended(Batch, Appended),
}

/// The actor of a session.
pub(crate) struct Actor {
    pub(super) shared: Arc<Shared>,
    pub(super) projection: Projection,
    /// The head that the store has once it has done what is under way; none: it has not been asked
    /// to store the session.
    pub(super) decided_head: Option<u64>,
    /// The store has the session.
    pub(super) is_stored: bool,
    pub(super) appends: Appends,
    commands: mpsc::Receiver<Message>,
    /// A message that waits until all that came before it is durable.
    held: Option<Message>,
    /// What runners report. Apart from the inbox: a request never waits behind output that can't
    /// be saved.
    reports: mpsc::Receiver<Message>,
    /// For runners.
    pub(super) report_to: mpsc::Sender<Message>,
    pub(super) runs: HashMap<CallId, Run>,
    pub(super) timers: DelayQueue<(CallId, Timer)>,
    /// Reports whose append failed, to be made again, and after how long.
    pub(super) unsaved: Vec<Command>,
    pub(super) retry_delay: Duration,
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
            decided_head: stored_head,
            is_stored: stored_head.is_some(),
            appends: Appends::default(),
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
        while let Some(next) = self.next().await {
            let goes_on = match next {
                Next::Message(message) => {
                    let batch = self.gather(message).await;
                    self.append(batch);
                    true
                }
                Next::Unsaved => {
                    let batch = self.gather_unsaved();
                    self.append(batch);
                    true
                }
                Next::Appended(batch, result) => self.settle(batch, result).await,
            };
            if !goes_on {
                self.shared.directory.remove(self.projection.session.id);
                return;
            }
        }
    }

    /// What comes next. None: there is nothing to do and the directory has let the actor go, or
    /// the server stops.
    async fn next(&mut self) -> Option<Next> {
        loop {
            if self.appends.is_empty() {
                if !self.unsaved.is_empty() {
                    self.pause().await?;
                    return Some(Next::Unsaved);
                }
                if let Some(message) = self.held.take() {
                    return Some(Next::Message(message));
                }
            }
            if let Some(next) = self.wait().await {
                return Some(next);
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

    /// Waits for the oldest append and, if there may be one more, for a message. None: there has
    /// been nothing for a while, or the server stops.
    async fn wait(&mut self) -> Option<Next> {
        let is_quiet = self.appends.is_empty();
        // While nothing can be saved, one at a time: what could not be saved doesn't pile up.
        let is_saving = is_quiet || self.retry_delay.is_zero();
        let takes_more = is_saving && self.appends.take_more() && self.held.is_none();
        let idle = tokio::time::sleep(Duration::from_millis(ACTOR_IDLE_MS));
        tokio::select! {
            // Timers before messages, or a process that writes without end would keep its call
            // from being parked; messages before the end, or the last reports would be lost.
            biased;
            (batch, result) = self.appends.next(), if !is_quiet => {
                Some(Next::Appended(batch, result))
            }
            Some(due) = self.timers.next(), if takes_more && !self.timers.is_empty() => {
                let (call_id, timer) = due.into_inner();
                Some(Next::Message(Message::Report(self.due(call_id, timer))))
            }
            Some(message) = self.commands.recv(), if takes_more => Some(Next::Message(message)),
            Some(report) = self.reports.recv(), if takes_more => Some(Next::Message(report)),
            () = idle, if is_quiet && self.projection.is_idle() => None,
            () = self.shared.closing.cancelled(), if is_quiet => None,
        }
    }

    /// Decides this message and what is waiting behind it.
    async fn gather(&mut self, first: Message) -> Batch {
        let mut batch = Batch::default();
        if first.is_about_stored() && self.appends.is_empty() {
            self.look_up(first, &mut batch).await;
        } else {
            self.take(first, &mut batch);
        }
        self.gather_more(&mut batch);
        batch
    }

    /// Decides again what couldn't be saved, and what is waiting.
    fn gather_unsaved(&mut self) -> Batch {
        let mut batch = Batch::default();
        for command in std::mem::take(&mut self.unsaved) {
            self.take(Message::Report(command), &mut batch);
        }
        self.gather_more(&mut batch);
        batch
    }

    fn gather_more(&mut self, batch: &mut Batch) {
        while self.held.is_none() && batch.commands < ACTOR_BATCH_COMMANDS_MAX + batch.reports.len()
        {
            let Ok(message) = self.commands.try_recv() else { break };
            self.take(message, batch);
        }
        // While reports can't be saved they gather here: then the others wait, and runners too.
        while batch.reports.len() < ACTOR_BATCH_COMMANDS_MAX {
            let Ok(report) = self.reports.try_recv() else { break };
            self.take(report, batch);
        }
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
    pub(super) fn take(&mut self, message: Message, batch: &mut Batch) {
        if message.is_about_stored() {
            // It is taken once all that came before is durable: see `gather`.
            self.held = Some(message);
            return;
        }
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
            Message::Acknowledge { .. }
            | Message::FollowUp { .. }
            | Message::TakeFollowUps { .. } => {}
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

    pub(super) fn take_start(
        &mut self,
        mut start: Start,
        work: Work,
        attach: bool,
        batch: &mut Batch,
        asked: (Answer, Option<RequestRecord>),
    ) {
        let call_id = start.call_id;
        let slots = self.shared.slots_of(start.kind);
        // What is done elsewhere takes no place here.
        let is_elsewhere = matches!(work, Work::Followed(_));
        let slot = if is_elsewhere { None } else { slots.clone().try_acquire_owned().ok() };
        start.has_slot = is_elsewhere || slot.is_some();
        let now = self.shared.clock.now();
        let command = Command::Start(Box::new(start));
        if batch.decide(&mut self.projection, command, now, Some(asked)) {
            let callers = u32::from(attach);
            let run = Run { callers, work: Some(Box::new(work)), slot, ..Run::default() };
            self.runs.insert(call_id, run);
        }
    }
}
