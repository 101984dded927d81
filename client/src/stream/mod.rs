//! Streams that resume after interruptions.

mod call;
mod cursor;
mod item;
mod message_items;
mod resume;
mod session;
mod tasks;

pub(crate) use call::CallRequest;
pub use call::CallStream;
pub use item::SessionItem;
pub use session::SessionStream;
pub use tasks::{WatchItem, WatchStream};
