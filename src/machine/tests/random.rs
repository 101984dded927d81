//! Random lives of a session: the invariants hold in every order of commands.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;

use super::super::{Cancel, Close, Command, Concurrency, Loss, Start};
use super::node::Node;
use super::world::{MINUTE, World, cancel};
use crate::model::{
    CallId, CallPolicy, OnDisconnect, OutputPosition, OutputStream, ParkReason, Progress,
    TaskLimitPolicy, Timestamp, ToolOutput,
};

/// Few calls a session, so that limits and races are frequent.
const LIVE_TASKS_MAX: u32 = 4;
const TOOLS: [&str; 2] = ["shell", "deploy"];

/// A random step. An [`Index`] picks the call that it applies to.
#[derive(Debug, Clone)]
enum Happening {
    Start(StartOptions),
    PlaceFound(Index),
    PlaceOffered(Index),
    Exit { process: Index, code: i32, by_itself: bool },
    TimerFires(Index),
    Output(Index),
    Progress(Index),
    SignOfLife(Index),
    Cancel { call: Index, force: bool },
    CallerLeaves(Index),
    DeadlineNears(Index),
    Lose(Index),
    Interrupt(Index),
    Restart,
    Acknowledge(Index),
    Delete(Index),
    Close,
}

#[derive(Debug, Clone)]
struct StartOptions {
    tool: &'static str,
    background: bool,
    concurrency: Concurrency,
    has_slot: bool,
    policy: CallPolicy,
}

fn start_options() -> impl Strategy<Value = StartOptions> {
    let concurrency = prop_oneof![
        3 => Just(Concurrency::Allow),
        1 => Just(Concurrency::Reject),
        2 => Just(Concurrency::Queue),
        2 => Just(Concurrency::Replace),
    ];
    let how = (prop::sample::select(&TOOLS[..]), any::<bool>(), concurrency, any::<bool>());
    (how, policy()).prop_map(|((tool, background, concurrency, has_slot), policy)| {
        // Only a background start can say what is to become of the tasks that are there.
        let concurrency = if background { concurrency } else { Concurrency::Allow };
        StartOptions { tool, background, concurrency, has_slot, policy }
    })
}

fn policy() -> impl Strategy<Value = CallPolicy> {
    let span = || prop::option::of(Just(MINUTE));
    let budget = prop_oneof![Just(None), Just(Some(Duration::ZERO)), Just(Some(MINUTE))];
    let on_disconnect = prop_oneof![Just(OnDisconnect::Park), Just(OnDisconnect::Cancel)];
    (budget, span(), span(), on_disconnect, any::<bool>(), any::<bool>()).prop_map(
        |(call_budget, execution_timeout, idle_timeout, on_disconnect, detached, exclusive)| {
            CallPolicy {
                call_budget,
                execution_timeout,
                idle_timeout,
                on_disconnect,
                detached,
                exclusive,
                ..CallPolicy::default()
            }
        },
    )
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    let one = any::<Index>;
    prop_oneof![
        12 => start_options().prop_map(Start),
        6 => one().prop_map(PlaceFound),
        1 => one().prop_map(PlaceOffered),
        6 => (one(), 0..2, any::<bool>())
            .prop_map(|(process, code, by_itself)| Exit { process, code, by_itself }),
        4 => one().prop_map(TimerFires),
        2 => one().prop_map(Output),
        1 => one().prop_map(Progress),
        1 => one().prop_map(SignOfLife),
        4 => (one(), any::<bool>()).prop_map(|(call, force)| Cancel { call, force }),
        3 => one().prop_map(CallerLeaves),
        2 => one().prop_map(DeadlineNears),
        1 => one().prop_map(Lose),
        1 => one().prop_map(Interrupt),
        1 => Just(Restart),
        2 => one().prop_map(Acknowledge),
        1 => one().prop_map(Delete),
        1 => Just(Close),
    ]
}

fn life() -> impl Strategy<Value = (TaskLimitPolicy, Vec<Happening>)> {
    let policy = prop_oneof![Just(TaskLimitPolicy::Reject), Just(TaskLimitPolicy::EvictOldest)];
    (policy, prop::collection::vec(happening(), 0..60))
}

/// Picks one of the calls, if there are any.
fn pick<T: Clone>(index: Index, from: impl IntoIterator<Item = T>) -> Option<T> {
    let all: Vec<T> = from.into_iter().collect();
    (!all.is_empty()).then(|| index.get(&all).clone())
}

impl Node {
    fn live(task_limit_policy: TaskLimitPolicy, happenings: Vec<Happening>) -> Self {
        let mut node = Self::new(World::with_limit(LIVE_TASKS_MAX, task_limit_policy));
        for happening in happenings {
            node.happens(happening);
        }
        node
    }

    /// Picks any earlier call: a late command must be harmless.
    fn any_call(&self, index: Index) -> Option<CallId> {
        pick(index, self.world.accepted.iter().copied())
    }

    fn happens(&mut self, happening: Happening) {
        let command = match happening {
            Happening::Start(start_options) => return self.start_as(start_options),
            Happening::PlaceFound(index) => {
                if let Some(id) = pick(index, self.searching.iter().copied()) {
                    self.grant(id);
                }
                return;
            }
            // A slot for a call that doesn't wait for one: too early, too late, or a second one.
            Happening::PlaceOffered(index) => {
                if let Some(id) = self.any_call(index) {
                    self.grant(id);
                }
                return;
            }
            Happening::Exit { process, code, by_itself } => {
                if let Some(id) = pick(process, self.processes.keys().copied()) {
                    self.exit(id, code, by_itself);
                }
                return;
            }
            Happening::TimerFires(index) => {
                if let Some((id, timer)) = pick(index, self.timers.iter().copied()) {
                    self.fire(id, timer);
                }
                return;
            }
            Happening::Restart => return self.restart(),
            Happening::Interrupt(index) => {
                self.one_that_began(index).map(|call_id| Command::Interrupt { call_id, loss: None })
            }
            // Only what runs, or ran and is reported late, has something to say.
            Happening::Output(index) => self.one_that_began(index).map(output),
            Happening::Progress(index) => self.one_that_began(index).map(progress),
            Happening::SignOfLife(index) => {
                self.one_that_began(index).map(|call_id| Command::Alive { call_id })
            }
            Happening::Cancel { call, force } => {
                self.any_call(call).map(|id| Command::Cancel(Cancel { force, ..cancel(id) }))
            }
            Happening::CallerLeaves(index) => self.disconnect(index, ParkReason::Disconnected),
            Happening::DeadlineNears(index) => self.disconnect(index, ParkReason::Deadline),
            Happening::Lose(index) => self.any_call(index).map(|call_id| Command::Lose {
                call_id,
                loss: Loss::with_server(Timestamp::default()),
            }),
            Happening::Acknowledge(index) => pick(index, self.world.settled.values().cloned())
                .map(|call| Command::Acknowledge { call: Box::new(call), follow_up: None }),
            Happening::Delete(index) => {
                self.any_call(index).map(|call_id| Command::Delete { call_id })
            }
            Happening::Close => {
                Some(Command::Close(Close { requested_by: "anna".into(), reason: "enough".into() }))
            }
        };
        if let Some(command) = command {
            let _ = self.send(command);
        }
    }

    fn disconnect(&self, index: Index, reason: ParkReason) -> Option<Command> {
        self.any_call(index).map(|call_id| Command::Disconnect { call_id, reason })
    }

    fn start_as(&mut self, start_options: StartOptions) {
        let StartOptions { tool, background, concurrency, has_slot, policy } = start_options;
        let start = self.world.call(tool);
        self.start(Start { background, concurrency, has_slot, policy, ..start });
    }

    fn one_that_began(&self, index: Index) -> Option<CallId> {
        let settled = self.world.settled.values();
        let known = settled.chain(self.world.projection.live_calls());
        let mut began: Vec<_> =
            known.filter(|call| call.start_time.is_some()).map(|call| call.id).collect();
        began.sort();
        pick(index, began)
    }
}

fn output(call_id: CallId) -> Command {
    let position = OutputPosition {
        stream: OutputStream::Stderr,
        offset: 0,
        combined_offset: 0,
        dropped_bytes_before: 0,
    };
    Command::Output { call_id, output: ToolOutput { position, data: Bytes::from_static(b"x") } }
}

fn progress(call_id: CallId) -> Command {
    let progress = Progress { done: 0.5, total: Some(1.0), message: "half".into() };
    Command::Progress { call_id, progress }
}

proptest! {
    /// Checks that every accepted call ends once.
    #[test]
    fn a_session_comes_to_rest((policy, happenings) in life()) {
        Node::live(policy, happenings).run_until_quiet();
    }

    /// Checks that the log of a session ends with one last event, whenever it is closed.
    #[test]
    fn a_closed_session_ends_its_log((policy, happenings) in life()) {
        let mut node = Node::live(policy, happenings);
        node.happens(Happening::Close);
        node.run_until_quiet();
        prop_assert_eq!(node.world.projection.session.state, crate::model::SessionState::Closed);
    }
}
