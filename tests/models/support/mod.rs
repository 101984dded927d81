//! The vocabulary of the models.

mod check;
mod decide;
mod process;
mod store;
mod world;

use std::future::poll_fn;
use std::task::Poll;

pub use check::{check, check_all, check_both, finds, saw};
pub use decide::{Basis, decide_all};
pub use process::FOR_EVER;
pub use store::Log;
pub use world::{Rules, World, millis, who};

/// A moment at which others may do something, or not.
pub async fn pause() {
    let mut paused = false;
    poll_fn(|context| {
        if std::mem::replace(&mut paused, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
