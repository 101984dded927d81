//! Agent turns: a prompt goes to a model, callpark runs the tool calls that the model asks for, and
//! so on until the model has answered.
//!
//! A turn is a call: it has a record, and can be parked, waited for, cancelled and listed. It runs inside
//! the server, and when its server dies, the next one goes on with it from its last durable point. Everything that it reports becomes events and
//! messages of its session's history, in one commit each.
//!
//! | module | contents |
//! | --- | --- |
//! | `request` | starting, cancelling and waiting for turns |
//! | `run` | one turn, from its prompt to its end |
//! | `resume` | a turn that an earlier server began |
//! | `round` | one request to the model, with retries |
//! | `tool_calls` | the calls that the model asks for |
//! | `task_tools` | the tools by which a model manages its background tasks |
//! | `sub_agent` | the tool that runs another agent |
//! | `external_agent` | a turn of an agent that runs its own loop |
//! | `history` | the messages that a model is sent |
//! | `size` | the sizes of messages in a request |
//! | `compaction` | histories that are longer than the context of a model |
//! | `follow_ups` | follow-ups that are injected into a running turn |
//! | `images` | images in the results of calls |
//!
//! The texts that a model is shown are in [`crate::agent::prompts`].

mod budget;
mod compaction;
mod external_agent;
mod follow_ups;
mod history;
mod images;
mod request;
mod resume;
mod round;
mod run;
mod size;
mod sub_agent;
mod task_tools;
mod tool_calls;

pub(in crate::engine) use resume::resumed_work;

pub use request::{CancelledTurn, TurnOutcome, TurnRequest, Turns};
pub use sub_agent::SubSession;
