//! Parts of the engine by themselves, which it keeps private: the same files once more, with
//! small messages.

#[expect(dead_code, reason = "a kernel is tried without the rest of its actor")]
#[path = "../../src/engine/actor/directory.rs"]
pub mod directory;
#[expect(dead_code, reason = "a key is made by its fields")]
#[path = "../../src/engine/idempotency.rs"]
pub mod idempotency;
#[expect(dead_code, reason = "a kernel is tried without the engine around it")]
#[path = "../../src/engine/topics.rs"]
pub mod topics;

/// The messages of an actor.
pub mod inbox {
    use crate::sync::{mpsc, watch};

    #[derive(Debug)]
    pub struct ActorMessage(pub u32);

    #[derive(Debug, Clone)]
    pub enum SessionSnapshot {
        Loading,
    }

    #[derive(Debug, Clone)]
    pub struct ActorHandle {
        pub inbox: mpsc::Sender<ActorMessage>,
        #[expect(dead_code, reason = "the directory only hands it on")]
        pub snapshot: watch::Receiver<SessionSnapshot>,
    }
}
