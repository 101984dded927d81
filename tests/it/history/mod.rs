//! The actions of a server and its clients as plain data, and the invariants that hold over them.
//!
//! A [`History`] comes from a [`recorder::Recorder`], through which clients make their calls, and
//! from [`collect`], which reads all that the server holds at the end. Each invariant is one function
//! over a history; [`INVARIANTS`] names them all. Tests of other files end with [`check_everything`].

use std::time::Duration;

use bytes::Bytes;

use crate::support::v1;

mod collect;
mod durability;
mod ends;
mod follow_ups;
pub mod life;
mod log;
mod output;
pub mod processes;
mod readers;
pub mod recorder;
mod resources;
mod sample;
mod shims;
mod soak;
mod state;
mod views;
mod wait;
mod work;

pub use collect::{check_everything, check_everything_with, collect, until_rest};
pub use readers::SessionReader;
pub use recorder::Recorder;
pub use resources::children_of;

/// A moment, as the time since the beginning of 1970. It only goes forward.
pub type Moment = Duration;

/// All that a test knows of what a server did.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The logs of the sessions, as a replay gives them at the end.
    pub logs: Vec<Log>,
    /// The tasks, as List names them and Get gives them at the end.
    pub records: Vec<v1::Task>,
    /// The output of calls, as ReadOutput gives it at the end.
    pub outputs: Vec<KeptOutput>,
    /// The events that readers were given, stream by stream, in the order in which the streams
    /// ended.
    pub deliveries: Vec<Delivery>,
    /// The requests of clients with their answers, in the order in which they were sent.
    pub exchanges: Vec<Exchange>,
    /// The work of some calls, as far as it is known.
    pub works: Vec<KnownWork>,
    /// Sightings of processes.
    pub processes: Vec<processes::Sighting>,
    /// The resources of a server before and after the work.
    pub rest: Option<resources::Rest>,
    /// The number of times that a server of this store was stopped or killed.
    pub stops: u32,
    /// The shims of this store.
    pub shims: Shims,
    /// All requests to these sessions are in `exchanges`.
    pub is_complete: bool,
    /// The longest delay of an answer.
    pub slack: Duration,
}

/// The shims of a store, as far as their lives are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shims {
    /// Any shim may have ended before its calls.
    #[default]
    Unknown,
    /// No shim has ended before its calls.
    Lived,
}

/// The log of a session.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// The session, as its snapshot shows it.
    pub session: v1::Session,
    /// The sequence of the newest event, as the snapshot says.
    pub head: i64,
    /// The events.
    pub events: Vec<Event>,
}

/// An event, as it came over the wire and as it is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The encoded event.
    pub bytes: Bytes,
    /// The decoded event.
    pub message: v1::SessionEvent,
}

/// One stream to one reader.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The reader: several streams of one reader are resumed one from the other.
    pub reader: u64,
    /// The session. Empty: the reader knows it from the events only.
    pub session_id: String,
    /// The request for the stream.
    pub kind: Reading,
    /// The events, in the order in which they came.
    pub events: Vec<Event>,
    /// The head that `caught_up` named, if that came.
    pub caught_up: Option<i64>,
    /// The end of the stream.
    pub end: End,
}

/// The request for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// A session's events after this sequence, and then those that come.
    Follow(i64),
    /// A session's events after this sequence, as far as there are some.
    Replay(i64),
    /// The events of one call, as far as its caller is concerned.
    Call,
}

/// The end of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With OK.
    Ok,
    /// With an error.
    Cut(tonic::Code),
    /// The reader left.
    Left,
}

/// A request, and what came of it.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The time at which the request was sent.
    pub sent: Moment,
    /// The request.
    pub asked: Asked,
    /// The answer. None: the client left before it came.
    pub answer: Option<Answer>,
}

/// A request of a client.
#[derive(Debug, Clone)]
pub enum Asked {
    /// A session.
    Session,
    /// A call.
    Call(CallAsked),
    /// The end of tasks.
    Wait(WaitAsked),
    /// The cancel of this task.
    Cancel(String),
    /// That this task be forgotten.
    Delete(String),
    /// The end of this session.
    Close(String),
    /// The state of a task.
    Get,
}

/// The parts of a request for a call that matter here.
#[derive(Debug, Clone, Default)]
pub struct CallAsked {
    /// The session. Empty: a new one.
    pub session_id: String,
    /// Empty: none.
    pub request_id: String,
    /// The call's description, by which its events are known where no answer came. One for each
    /// request id.
    pub mark: String,
    /// The session's other tasks are cancelled for it.
    pub replaces: bool,
}

/// The parts of a request for the end of tasks that matter here.
#[derive(Debug, Clone)]
pub struct WaitAsked {
    /// The tasks.
    pub background_ids: Vec<String>,
    /// The end of all of them is waited for, not of one.
    pub all: bool,
    /// The longest time to wait.
    pub bound: Duration,
}

/// An answer to a client, and its time.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The time at which the answer came.
    pub time: Moment,
    /// The reply, or the code of the error.
    pub reply: Result<Reply, tonic::Code>,
}

/// The content of an answer. A field that does not apply is empty.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// The session of the request.
    pub session_id: String,
    /// The call that was started.
    pub call_id: String,
    /// The task that the call has become.
    pub background_id: String,
    /// An earlier request had the effect.
    pub replayed: bool,
    /// The result of a call in the foreground.
    pub result: Option<v1::ToolResult>,
    /// The tasks in it.
    pub tasks: Vec<v1::Task>,
    /// The results of those tasks are cut.
    pub is_brief: bool,
    /// The condition of a wait has not been met.
    pub still_running: bool,
}

/// The answer of ReadOutput for one stream of a call.
#[derive(Debug, Clone)]
pub struct KeptOutput {
    /// The call.
    pub call_id: String,
    /// The stream.
    pub stream: v1::OutputStream,
    /// All bytes that the call has written to it.
    pub total_bytes: i64,
    /// The bytes that were dropped.
    pub dropped_bytes: i64,
    /// The others: offsets, and what stands there.
    pub pieces: Vec<(i64, Bytes)>,
}

/// The known work of the calls with one mark.
#[derive(Debug, Clone, Default)]
pub struct KnownWork {
    /// The mark.
    pub mark: String,
    /// The standard output of a run that is not stopped; a shorter run writes the beginning of it.
    pub stdout: Option<Bytes>,
    /// The same for standard error.
    pub stderr: Option<Bytes>,
    /// The number of times that its effect was seen.
    pub effects: Option<usize>,
}

/// Something that an invariant forbids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The subject: a session, a call, a reader.
    pub subject: String,
    /// The description of the violation.
    pub detail: String,
}

impl Violation {
    fn new(subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { subject: subject.into(), detail: detail.into() }
    }
}

/// Checks one invariant: all that breaks it.
pub type Checker = fn(&History) -> Vec<Violation>;

/// All invariants.
pub const INVARIANTS: [(&str, Checker); 29] = [
    ("the sequences of a session are 1 to its head", log::sequences_have_no_gap),
    ("nothing follows the end of a log", log::the_shutdown_is_last),
    ("an event never changes once it was delivered", log::delivered_events_never_change),
    ("a reader's sequences increase", log::readers_go_forward),
    ("a reader misses nothing", log::readers_miss_nothing),
    ("a stream ends OK only after its end", log::streams_end_ok_after_their_end),
    ("a call has one terminal event", state::each_call_ends_once),
    ("a turn has one end", state::each_turn_ends_once),
    ("a call moves along the diagram", state::moves_are_in_the_diagram),
    ("the states of a task never go back", state::task_states_go_forward),
    ("the record of a task says what its log says", state::records_are_the_logs),
    ("a follow-up is delivered once", follow_ups::follow_ups_are_delivered_once),
    ("SUCCEEDED needs a recorded exit", ends::succeeded_has_an_exit),
    ("CANCELLED needs a recorded request", ends::cancelled_was_asked_for),
    ("LOST means a stop and no result", ends::lost_has_no_result),
    ("a parked task ends for a reason of its own", ends::parked_tasks_end_for_a_reason),
    ("elapsed counts from the start of the run", ends::elapsed_counts_from_the_run),
    ("what was acknowledged is there", durability::acknowledged_changes_stay),
    ("what was shown is durable", durability::answers_are_durable),
    ("a request id has one effect", durability::a_request_id_has_one_effect),
    ("the outcome of a task stays", wait::outcomes_stay),
    ("a wait is back in time", wait::waits_are_back_in_time),
    ("output is kept or dropped, and counted", output::counts_add_up),
    ("kept output is byte-exact", output::kept_output_is_exact),
    ("a call whose shim lives is never LOST", shims::calls_of_a_living_shim_are_not_lost),
    ("a reader's output is what the process wrote", shims::readers_have_what_was_written),
    ("nothing of a call is left at rest", processes::none_is_left),
    ("children are reaped and hold three descriptors", processes::children_are_in_order),
    ("what was taken is given back", resources::all_is_given_back),
];

/// Violations of one invariant that are printed; the others are counted.
const PRINTED_MAX: usize = 5;

impl History {
    /// All that is wrong: each invariant that is broken, with what breaks it.
    pub fn violations(&self) -> Vec<(&'static str, Vec<Violation>)> {
        let found = INVARIANTS.iter().map(|(invariant, check)| (*invariant, check(self)));
        found.filter(|(_, violations)| !violations.is_empty()).collect()
    }

    /// Panics with what is wrong.
    #[track_caller]
    pub fn assert_holds(&self) {
        let mut text = String::new();
        for (invariant, violations) in self.violations() {
            text += &format!("\n  {invariant}: {} violations", violations.len());
            for Violation { subject, detail } in violations.iter().take(PRINTED_MAX) {
                text += &format!("\n    {subject}: {detail}");
            }
        }
        assert!(text.is_empty(), "a broken history{text}\n");
    }
}
