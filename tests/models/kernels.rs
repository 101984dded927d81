//! Parts of the engine by themselves, which it keeps private: the same files once more, with
//! small messages.

#[expect(dead_code, reason = "a kernel is tried without the rest of its actor")]
#[path = "../../src/engine/directory.rs"]
pub mod directory;
#[expect(dead_code, reason = "a key is made by its fields")]
#[path = "../../src/engine/requests.rs"]
pub mod requests;
#[path = "../../src/engine/topics.rs"]
pub mod topics;

use crate::engine::Error;

/// The messages of an actor.
pub mod inbox {
    #[derive(Debug)]
    pub struct Message(pub u32);

    #[derive(Debug, Clone)]
    pub enum Facts {
        Loading,
    }
}
