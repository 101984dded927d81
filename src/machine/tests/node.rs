//! A server in miniature: places, processes and timers that do as the effects say.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Command, Concurrency, Effect, Refusal, Reply, Start, Timer};
use super::world::{World, exited};
use crate::model::{Call, CallId, ParkReason, SessionState, State, StopCause, Timestamp};

/// A session and what the server has at work for it.
pub(super) struct Node {
    pub(super) world: World,
    /// Calls that a place is being looked for.
    pub(super) searching: BTreeSet<CallId>,
    /// Places, by the call that holds one.
    places: BTreeSet<CallId>,
    /// Processes, and whether each was told to stop.
    pub(super) processes: BTreeMap<CallId, bool>,
    pub(super) timers: BTreeSet<(CallId, Timer)>,
    /// Those that were there when a call came and that it must not run beside.
    waits_for: BTreeMap<CallId, BTreeSet<CallId>>,
}

impl Node {
    pub(super) fn new(world: World) -> Self {
        Self {
            world,
            searching: BTreeSet::new(),
            places: BTreeSet::new(),
            processes: BTreeMap::new(),
            timers: BTreeSet::new(),
            waits_for: BTreeMap::new(),
        }
    }

    /// Tells the session something, does what follows, and checks that all fits together.
    pub(super) fn send(&mut self, command: Command) -> Result<Reply, Refusal> {
        let reply = self.world.send(command);
        // As in the engine: what belongs to ended calls is gone before the effects come.
        let world = &self.world;
        self.searching.retain(|id| world.is_live(*id));
        self.timers.retain(|(id, _)| world.is_live(*id));
        self.places.retain(|id| world.is_live(*id));
        self.processes.retain(|id, _| world.is_live(*id));
        for effect in self.world.last.effects.clone() {
            self.obey(effect);
        }
        self.check_everybody_is_at_work();
        self.check_nobody_is_forgotten();
        self.check_nobody_runs_too_early();
        reply
    }

    fn obey(&mut self, effect: Effect) {
        match effect {
            Effect::Run(id) => {
                assert!(self.places.contains(&id), "{id} runs without a place");
                assert_eq!(self.processes.insert(id, false), None, "{id} runs twice");
            }
            Effect::Reserve(id) => {
                if self.world.is_live(id) {
                    self.searching.insert(id);
                }
            }
            Effect::Release(id) => {
                // The place of a run goes with the run only.
                if !self.processes.contains_key(&id) {
                    self.places.remove(&id);
                }
            }
            Effect::Terminate(id, _) | Effect::Kill(id) => {
                let told = self.processes.get_mut(&id).expect("only what runs is told to stop");
                *told = true;
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
            self.places.insert(id);
        }
        let reply = self.send(Command::Start(Box::new(start)));
        assert_eq!(reply.is_ok(), self.world.accepted.contains(&id));
    }

    /// A place is found.
    pub(super) fn grant(&mut self, id: CallId) {
        self.searching.remove(&id);
        self.places.insert(id);
        let _ = self.send(Command::Begin { call_id: id });
    }

    /// A process ends: because it was told to, or by itself before the signal came.
    pub(super) fn exit(&mut self, id: CallId, code: i32, by_itself: bool) {
        let told = self.processes.remove(&id).expect("it runs");
        let stopped = told && !by_itself;
        let _ = self.world_finish(id, code, stopped);
        let state = self.world.state(id);
        assert!(state.is_terminal(), "the end of a process is the end of its call");
        if !told || by_itself {
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

    /// The server stopped: all its work is gone, and the next one says so first.
    pub(super) fn restart(&mut self) {
        self.searching.clear();
        self.timers.clear();
        let mut live: Vec<_> = self.world.projection.live_calls().map(|call| call.id).collect();
        live.sort();
        for call_id in live {
            self.places.remove(&call_id);
            self.processes.remove(&call_id);
            let lost = self.world.send(Command::Lose { call_id, last_known: Timestamp::default() });
            assert_eq!(lost, Ok(Reply::Done));
        }
        assert!(self.world.projection.is_idle());
    }

    /// Every search finds a place and every process ends, until nothing is left to happen.
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

    /// A call that has begun and not ended has a process and a place, and nothing else has.
    fn check_everybody_is_at_work(&self) {
        let live = self.world.projection.live_calls();
        let begun: BTreeSet<_> =
            live.filter(|call| call.state != State::Pending).map(|call| call.id).collect();
        let processes: BTreeSet<_> = self.processes.keys().copied().collect();
        assert_eq!(processes, begun);
        assert_eq!(self.places, begun, "no place is held for what doesn't run");
        for (id, told) in &self.processes {
            assert_eq!(*told, self.world.record(*id).stopping.is_some(), "{id} is told to stop");
        }
    }

    /// A pending call waits for a place or behind a live call, never for nothing.
    fn check_nobody_is_forgotten(&self) {
        for call in self.world.projection.live_calls() {
            let waits = call.state == State::Pending && !self.searching.contains(&call.id);
            assert!(!waits || self.is_blocked(call), "{call:?} waits for nothing");
        }
    }

    /// Some older live call is one that `call` must not run beside.
    fn is_blocked(&self, call: &Call) -> bool {
        let older = self.world.accepted.iter().take_while(|id| **id != call.id);
        older.filter_map(|id| self.world.projection.call(*id)).any(|other| {
            (call.policy.exclusive && other.tool == call.tool)
                || (call.policy.queued && other.is_task())
        })
    }

    fn check_nobody_runs_too_early(&self) {
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
