//! Streams that resume after interruptions.

mod call;
mod cursor;
mod item;
mod message_items;
mod messages;
mod resume;
mod session;
mod tasks;

pub(crate) use call::CallRequest;
pub use call::CallStream;
pub use item::SessionItem;
pub use messages::MessageStream;
pub use session::SessionStream;
pub use tasks::{WatchItem, WatchStream};
