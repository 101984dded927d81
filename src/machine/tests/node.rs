//! A model of the server: slots, processes and timers that follow the effects.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Command, Concurrency, Effect, Loss, Refusal, Reply, Start, Timer};
use super::world::{World, exited};
use crate::model::{Call, CallId, ParkReason, SessionState, State, StopCause, Timestamp};

/// A session with its processes, slots and timers.
pub(super) struct Node {
    pub(super) world: World,
    /// Calls that wait for a slot.
    pub(super) searching: BTreeSet<CallId>,
    /// Calls that have a slot.
    slots: BTreeSet<CallId>,
    /// Calls with a process, and whether it was asked to stop.
    pub(super) processes: BTreeMap<CallId, bool>,
    pub(super) timers: BTreeSet<(CallId, Timer)>,
    /// The live calls that blocked each call when it was accepted.
    waits_for: BTreeMap<CallId, BTreeSet<CallId>>,
}

impl Node {
    pub(super) fn new(world: World) -> Self {
        Self {
            world,
            searching: BTreeSet::new(),
            slots: BTreeSet::new(),
            processes: BTreeMap::new(),
            timers: BTreeSet::new(),
            waits_for: BTreeMap::new(),
        }
    }

    /// Sends a command to the session, runs its effects, and checks the invariants.
    pub(super) fn send(&mut self, command: Command) -> Result<Reply, Refusal> {
        let reply = self.world.send(command);
        // As in the engine: what belongs to ended calls is gone before the effects come.
        let world = &self.world;
        self.searching.retain(|id| world.is_live(*id));
        self.timers.retain(|(id, _)| world.is_live(*id));
        self.slots.retain(|id| world.is_live(*id));
        self.processes.retain(|id, _| world.is_live(*id));
        for effect in self.world.last.effects.clone() {
            self.run_effect(effect);
        }
        self.check_running_calls();
        self.check_pending_calls();
        self.check_blocked_calls();
        reply
    }

    fn run_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Run(id) => {
                assert!(self.slots.contains(&id), "{id} runs without a slot");
                assert_eq!(self.processes.insert(id, false), None, "{id} runs twice");
            }
            Effect::Reserve(id) => {
                if self.world.is_live(id) {
                    self.searching.insert(id);
                }
            }
            Effect::Release(id) => {
                // The slot of a run is released only with the run.
                if !self.processes.contains_key(&id) {
                    self.slots.remove(&id);
                }
            }
            Effect::Terminate(id, _) | Effect::Kill(id) => {
                let asked =
                    self.processes.get_mut(&id).expect("only a running call is asked to stop");
                *asked = true;
            }
            Effect::Arm(id, timer, _) => {
                self.timers.insert((id, timer));
            }
            Effect::Disarm(id, timer) => {
                self.timers.remove(&(id, timer));
            }
        }
    }

    pub(super) fn start(&mut self, start: Start) {
        let id = start.call_id;
        let queued = matches!(start.concurrency, Concurrency::Queue | Concurrency::Replace);
        let is_obstacle = |other: &&Call| {
            (start.policy.exclusive && other.tool == start.tool) || (queued && other.is_task())
        };
        let live = self.world.projection.live_calls();
        let obstacles = live.filter(is_obstacle).map(|other| other.id).collect();
        self.waits_for.insert(id, obstacles);
        if start.has_slot {
            self.slots.insert(id);
        }
        let reply = self.send(Command::Start(Box::new(start)));
        assert_eq!(reply.is_ok(), self.world.accepted.contains(&id));
    }

    /// Acquires a slot for the call.
    pub(super) fn grant(&mut self, id: CallId) {
        self.searching.remove(&id);
        self.slots.insert(id);
        let _ = self.send(Command::Begin { call_id: id });
    }

    /// Ends a process: because it was asked to stop, or by itself before the signal arrived.
    pub(super) fn exit(&mut self, id: CallId, code: i32, by_itself: bool) {
        let asked = self.processes.remove(&id).expect("it runs");
        let stopped = asked && !by_itself;
        let _ = self.world_finish(id, code, stopped);
        let state = self.world.state(id);
        assert!(state.is_terminal(), "the end of a process is the end of its call");
        if !asked || by_itself {
            let own = if code == 0 { State::Succeeded } else { State::Failed };
            assert_eq!(state, own, "an end of its own stays its own");
        }
    }

    fn world_finish(&mut self, id: CallId, code: i32, stopped: bool) -> Result<Reply, Refusal> {
        let finish = super::super::Finish {
            call_id: id,
            result: exited(code),
            stopped,
            survivors: Vec::new(),
        };
        self.send(Command::Finish(Box::new(finish)))
    }

    pub(super) fn fire(&mut self, call_id: CallId, timer: Timer) {
        self.timers.remove(&(call_id, timer));
        let command = match timer {
            Timer::Budget => Command::Park { call_id, reason: ParkReason::Budget },
            Timer::Execution => Command::Timeout { call_id, cause: StopCause::ExecutionTimeout },
            Timer::Idle => Command::Timeout { call_id, cause: StopCause::IdleTimeout },
        };
        let _ = self.send(command);
    }

    /// Restarts the server: all work is lost, and its calls end first.
    pub(super) fn restart(&mut self) {
        self.searching.clear();
        self.timers.clear();
        let mut live: Vec<_> = self.world.projection.live_calls().map(|call| call.id).collect();
        live.sort();
        for call_id in live {
            self.slots.remove(&call_id);
            self.processes.remove(&call_id);
            let lost = self
                .world
                .send(Command::Lose { call_id, loss: Loss::with_server(Timestamp::default()) });
            assert_eq!(lost, Ok(Reply::Done));
        }
        assert!(self.world.projection.is_idle());
    }

    /// Grants all slots and ends all processes, until nothing is left to do.
    pub(super) fn run_until_quiet(&mut self) {
        loop {
            if let Some(id) = self.searching.first().copied() {
                self.grant(id);
            } else if let Some(id) = self.processes.keys().next().copied() {
                self.exit(id, 0, false);
            } else {
                break;
            }
        }
        self.check_quiet();
    }

    /// Checks that exactly the calls that have begun and not ended have a process and a slot.
    fn check_running_calls(&self) {
        let live = self.world.projection.live_calls();
        let begun: BTreeSet<_> =
            live.filter(|call| call.state != State::Pending).map(|call| call.id).collect();
        let processes: BTreeSet<_> = self.processes.keys().copied().collect();
        assert_eq!(processes, begun);
        assert_eq!(self.slots, begun, "only running calls have a slot");
        for (id, asked) in &self.processes {
            assert_eq!(*asked, self.world.record(*id).stopping.is_some(), "{id} is asked to stop");
        }
    }

    /// Checks that each pending call waits for a slot or behind a live call.
    fn check_pending_calls(&self) {
        for call in self.world.projection.live_calls() {
            let waits = call.state == State::Pending && !self.searching.contains(&call.id);
            assert!(!waits || self.is_blocked(call), "{call:?} waits for nothing");
        }
    }

    /// Returns `true` if an older live call blocks `call`.
    fn is_blocked(&self, call: &Call) -> bool {
        let older = self.world.accepted.iter().take_while(|id| **id != call.id);
        older.filter_map(|id| self.world.projection.call(*id)).any(|other| {
            (call.policy.exclusive && other.tool == call.tool)
                || (call.policy.queued && other.is_task())
        })
    }

    fn check_blocked_calls(&self) {
        for id in self.processes.keys() {
            let mut obstacles = self.waits_for[id].iter();
            assert!(!obstacles.any(|other| self.world.is_live(*other)), "{id} runs too early");
        }
    }

    fn check_quiet(&self) {
        let World { projection, log, .. } = &self.world;
        assert!(projection.is_idle(), "nothing is at work, so nothing waits");
        let shutdowns = log.iter().filter(|event| event.call_id.is_none()).count();
        match projection.session.state {
            SessionState::Open => assert_eq!(shutdowns, 0),
            SessionState::Closing => panic!("closing, and nothing is left to wait for"),
            // That nothing follows it is checked with each event.
            SessionState::Closed => assert_eq!(shutdowns, 1, "the log has one end"),
        }
    }
}
