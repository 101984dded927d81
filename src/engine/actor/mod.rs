//! The actor of a session: the only writer of the session's log.
//!
//! The actor takes the messages in its inbox, decides all of them, and appends once. Only when the
//! append is durable does it perform effects and answer callers. While the store writes, one more
//! batch is decided and appended. Then the inbox fills up and senders wait: the run of a process
//! stops reading its pipes, so a slow store slows the process down and costs no memory.

mod abandon;
mod batch;
mod commit;
mod directory;
mod effects;
mod hand_over;
mod inbox;
mod live_call;
mod load;
mod notify;
mod pipeline;
mod stored_records;
mod take_up;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_util::time::DelayQueue;

use super::call::CallHold;
use super::replica::term::Term;
use super::{Error, Shared};
use crate::machine::{Command, Projection, Reply, Start, Timer, decide};
use crate::model::limits::{ACTOR_BATCH_COMMANDS_MAX, ACTOR_IDLE_MS, ACTOR_REPORTS_MAX};
use crate::model::{Call, CallId, ParkReason, StopCause};
use crate::store::RequestRecord;
use crate::tool::Work;
use batch::Batch;
use inbox::Answer;
use live_call::LiveCall;
use load::{claim, load};
use pipeline::{AppendPipeline, Appended};

pub(crate) use directory::{ActorSeed, Directory};
pub(crate) use inbox::{ActorHandle, ActorMessage, ActorSource, SessionSnapshot};

/// The next step of the loop.
enum Next {
    /// Decide this message, and those behind it.
    Message(ActorMessage),
    /// Decide the reports again whose append failed.
    Unsaved,
    /// Complete the oldest append.
    Appended(Batch, Appended),
}

/// The actor of a session.
pub(crate) struct SessionActor {
    shared: Arc<Shared>,
    /// The part of the term in which this server has the session. The actor ends with it.
    term: Term,
    is_abandoned: bool,
    projection: Projection,
    /// The head that the store will have after the appends that are under way, or `None` if the
    /// session has not been sent to the store.
    decided_head: Option<u64>,
    /// The store has the session.
    is_stored: bool,
    appends: AppendPipeline,
    inbox: mpsc::Receiver<ActorMessage>,
    /// A message that waits until every earlier append is durable.
    held: Option<ActorMessage>,
    /// Reports of runs. They have a channel of their own so that a request never waits behind
    /// output that cannot be stored.
    reports: mpsc::Receiver<ActorMessage>,
    report_sender: mpsc::Sender<ActorMessage>,
    snapshot: watch::Sender<SessionSnapshot>,
    live_calls: HashMap<CallId, LiveCall>,
    /// Count the live calls for the limits of the tenant.
    holds: HashMap<CallId, CallHold>,
    timers: DelayQueue<(CallId, Timer)>,
    /// Reports whose append failed, to be decided again after `retry_delay`.
    unsaved: Vec<Command>,
    retry_delay: Duration,
}

impl SessionActor {
    /// Loads the session and runs its actor until it has been idle for a while.
    pub(crate) async fn run(shared: Arc<Shared>, source: ActorSource, seed: ActorSeed) {
        let id = source.session_id();
        let term = shared.ownership.term().part();
        let (claim, loaded) = match claim(&shared, &source).await {
            Ok(claim) => (Some(claim), load(&shared, source).await),
            Err(error) => (None, Err(error)),
        };
        let (projection, stored_head) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                shared.directory.remove(id);
                seed.snapshot.send_replace(SessionSnapshot::Failed(error));
                if let Some(claim) = claim {
                    shared.ownership.release(id, claim).await;
                }
                return;
            }
        };
        let hold = |call: &Call| (call.id, CallHold::of_live(&shared, call));
        let holds = projection.live_calls().map(hold).collect();
        let session = Arc::new(projection.session.clone());
        seed.snapshot.send_replace(SessionSnapshot::Known(session));
        // Live calls were started by a server that stopped. This server counts their ends, so it
        // counts them as live.
        let live = i32::try_from(projection.live_calls().count()).unwrap_or(i32::MAX);
        shared.metrics.live_calls_changed(live);
        let (report_sender, reports) = mpsc::channel(ACTOR_REPORTS_MAX);
        let mut actor = Self {
            shared: shared.clone(),
            term: term.clone(),
            is_abandoned: false,
            projection,
            decided_head: stored_head,
            is_stored: stored_head.is_some(),
            appends: AppendPipeline::default(),
            inbox: seed.inbox,
            held: None,
            reports,
            report_sender,
            snapshot: seed.snapshot,
            live_calls: HashMap::new(),
            holds,
            timers: DelayQueue::new(),
            unsaved: Vec::new(),
            retry_delay: Duration::ZERO,
        };
        actor.serve().await;
        drop(actor);
        if !shared.closing.is_cancelled() && !term.is_over() {
            shared.ownership.release(id, claim.unwrap_or_default()).await;
        }
    }

    async fn serve(&mut self) {
        self.take_up().await;
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
                Next::Appended(batch, result) => self.complete(batch, result).await,
            };
            if !goes_on {
                // An actor that has left its session is not in the directory any more.
                if !self.is_abandoned {
                    self.shared.directory.remove(self.projection.session.id);
                }
                return;
            }
        }
    }

    /// Returns the next step, or `None` if the actor has retired or the server stops.
    async fn next(&mut self) -> Option<Next> {
        loop {
            if self.appends.is_empty() {
                if !self.unsaved.is_empty() {
                    self.wait_for_retry().await?;
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
            if self.term.is_over() {
                self.abandon();
                return None;
            }
            let id = self.projection.session.id;
            if self.shared.directory.retire(id, &self.inbox) {
                return None;
            }
        }
    }

    /// Waits for the oldest append and, if one more is allowed, for a message. Returns `None` if
    /// the actor has been idle for a while or the server stops.
    async fn wait(&mut self) -> Option<Next> {
        let is_quiet = self.appends.is_empty();
        // After a failure only one append is under way, so that unsaved reports do not pile up.
        let is_saving = is_quiet || self.retry_delay.is_zero();
        let takes_more = is_saving && self.appends.allows_next() && self.held.is_none();
        let idle = tokio::time::sleep(Duration::from_millis(ACTOR_IDLE_MS));
        tokio::select! {
            // Timers go before messages, or a process that writes without end would keep its call
            // from being parked. Messages go before the end, or the last reports would be lost.
            biased;
            () = self.term.ended() => None,
            (batch, result) = self.appends.next(), if !is_quiet => {
                Some(Next::Appended(batch, result))
            }
            Some(due) = self.timers.next(), if takes_more && !self.timers.is_empty() => {
                let (call_id, timer) = due.into_inner();
                Some(Next::Message(ActorMessage::Report(self.fire(call_id, timer))))
            }
            Some(message) = self.inbox.recv(), if takes_more => Some(Next::Message(message)),
            Some(report) = self.reports.recv(), if takes_more => Some(Next::Message(report)),
            () = idle, if is_quiet && self.projection.is_idle() => None,
            () = self.shared.closing.cancelled(), if is_quiet => None,
        }
    }

    /// Waits before unsaved reports are decided again. A timer that fires meanwhile adds a report:
    /// timeouts apply while nothing can be stored, too. Returns `None` if the server stops.
    async fn wait_for_retry(&mut self) -> Option<()> {
        let closing = self.shared.closing.clone();
        let delay = tokio::time::sleep(self.retry_delay);
        tokio::select! {
            biased;
            () = closing.cancelled() => return None,
            () = self.term.ended() => {
                self.abandon();
                return None;
            }
            Some(due) = self.timers.next(), if !self.timers.is_empty() => {
                let (call_id, timer) = due.into_inner();
                let command = self.fire(call_id, timer);
                self.unsaved.push(command);
            }
            () = delay => {}
        }
        Some(())
    }

    /// Returns the command of a timer that is due.
    fn fire(&mut self, call_id: CallId, timer: Timer) -> Command {
        if let Some(live) = self.live_calls.get_mut(&call_id) {
            live.timers[timer as usize] = None;
        }
        match timer {
            Timer::Budget => Command::Park { call_id, reason: ParkReason::Budget },
            Timer::Execution => Command::Timeout { call_id, cause: StopCause::ExecutionTimeout },
            Timer::Idle => Command::Timeout { call_id, cause: StopCause::IdleTimeout },
        }
    }

    /// Decides this message and those that wait behind it.
    async fn gather(&mut self, first: ActorMessage) -> Batch {
        let mut batch = self.new_batch();
        if first.needs_stored_records() && self.appends.is_empty() {
            self.decide_on_stored(first, &mut batch).await;
        } else {
            self.decide(first, &mut batch);
        }
        self.gather_more(&mut batch);
        batch
    }

    fn new_batch(&mut self) -> Batch {
        // Another shim may have taken the place of one that ended.
        self.projection.settings.run_owner = self.shared.runner.owner();
        Batch::default()
    }

    /// Decides the unsaved reports again, and the messages that wait.
    fn gather_unsaved(&mut self) -> Batch {
        let mut batch = self.new_batch();
        for command in std::mem::take(&mut self.unsaved) {
            self.decide(ActorMessage::Report(command), &mut batch);
        }
        self.gather_more(&mut batch);
        batch
    }

    fn gather_more(&mut self, batch: &mut Batch) {
        while self.held.is_none() && batch.commands < ACTOR_BATCH_COMMANDS_MAX + batch.reports.len()
        {
            let Ok(message) = self.inbox.try_recv() else { break };
            self.decide(message, batch);
        }
        // Reports that cannot be saved are collected up to this bound. Further ones wait in their
        // channel, and then runs wait, too.
        while batch.reports.len() < ACTOR_BATCH_COMMANDS_MAX {
            let Ok(report) = self.reports.try_recv() else { break };
            self.decide(report, batch);
        }
    }

    /// Decides one message and adds the result to the batch.
    fn decide(&mut self, message: ActorMessage, batch: &mut Batch) {
        if message.needs_stored_records() {
            // `gather` decides it once every earlier append is durable.
            self.held = Some(message);
            return;
        }
        match message {
            ActorMessage::Command { command, request, answer } => {
                batch.keep_stop(&command);
                let now = self.shared.now();
                batch.decide(&mut self.projection, command, now, Some((answer, request)));
            }
            ActorMessage::Start { start, work, attach, request, claim, hold, answer } => {
                batch.claims.extend(claim);
                self.decide_start(*start, work, (attach, hold), batch, (answer, request));
            }
            ActorMessage::Probe { start, answer } => {
                let now = self.shared.now();
                let decision = decide(&self.projection, Command::Start(start), now);
                batch.answers.push((answer, decision.reply.map_err(Error::from)));
            }
            ActorMessage::Acknowledge { .. }
            | ActorMessage::FollowUp { .. }
            | ActorMessage::TakeFollowUps { .. } => {}
            ActorMessage::Report(command) => self.decide_report(command, batch),
            ActorMessage::ParkProcesses { answer } => {
                self.park_processes(batch);
                self.park_turns(batch);
                batch.answers.push((answer, Ok(Reply::Done)));
            }
            ActorMessage::Restart(call_id, restart) => {
                if self.projection.call(call_id).is_some() {
                    for command in self.hold_restart(call_id, *restart) {
                        self.decide_report(command, batch);
                    }
                }
            }
            ActorMessage::Slot(call_id, permit) => {
                if let Some(live) = self.live_calls.get_mut(&call_id) {
                    live.slot_search = None;
                    live.slot = Some(permit);
                    self.decide_report(Command::Begin { call_id }, batch);
                }
            }
            ActorMessage::Attach(call_id) => {
                if let Some(live) = self.live_calls.get_mut(&call_id) {
                    live.callers += 1;
                }
            }
            ActorMessage::Detach(call_id) => {
                if let Some(live) = self.live_calls.get_mut(&call_id) {
                    live.callers = live.callers.saturating_sub(1);
                    if live.callers == 0 {
                        self.decide_report(
                            Command::Disconnect { call_id, reason: ParkReason::Disconnected },
                            batch,
                        );
                    }
                }
            }
        }
    }

    fn decide_report(&mut self, command: Command, batch: &mut Batch) {
        batch.reports.push(command.clone());
        let now = self.shared.now();
        batch.decide(&mut self.projection, command, now, None);
    }

    fn decide_start(
        &mut self,
        mut start: Start,
        work: Work,
        (attach, hold): (bool, CallHold),
        batch: &mut Batch,
        answer: (Answer, Option<RequestRecord>),
    ) {
        let call_id = start.call_id;
        let slots = self.shared.slots_of(start.kind);
        // Work that runs outside of this server needs no slot.
        let is_external = matches!(work, Work::Followed(_));
        let slot = if is_external { None } else { slots.clone().try_acquire_owned().ok() };
        start.has_slot = is_external || slot.is_some();
        let now = self.shared.now();
        let command = Command::Start(Box::new(start));
        if batch.decide(&mut self.projection, command, now, Some(answer)) {
            let callers = u32::from(attach);
            let live =
                LiveCall { callers, work: Some(Box::new(work)), slot, ..LiveCall::default() };
            self.live_calls.insert(call_id, live);
            self.holds.insert(call_id, hold);
        }
    }
}
