//! The language of the tests: a server of one's own, its clients, and waits with a bound.

pub mod appends;
mod call;
mod folder;
pub mod link;
pub mod namespace;
pub mod nap;
pub mod notify_socket;
pub mod npm;
pub mod processor_time;
pub mod program;
pub mod proofs;
pub mod proxy;
pub mod remote;
pub mod server;
pub mod slow_store;
pub mod small_disk;
pub mod streams;
pub mod waiting;
pub mod wire;

pub use call::{bash, python, result_of, stderr_of, stdout_of};
pub use folder::folder;
pub use server::{Additions, AuthorisedChannel, TestServer, check_reason};

use std::future::Future;
use std::time::Duration;

pub use callpark_proto::v1;

/// Longer than anything here may take on a busy machine.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The same future, which must end within [`TEST_TIMEOUT`].
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(TEST_TIMEOUT, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: nothing within {TEST_TIMEOUT:?}"),
    }
}

/// Moves the clock of this test's runtime, with everything in it that waits for a time, such as a
/// server. Nothing that must not run out of time may be waiting.
pub async fn advance(span: Duration) {
    tokio::time::pause();
    tokio::time::advance(span).await;
    tokio::time::resume();
}

/// A span for a request.
pub fn span(span: Duration) -> Option<prost_types::Duration> {
    Some(prost_types::Duration::try_from(span).expect("a span"))
}

/// A span of milliseconds for a request.
pub fn millis(millis: u64) -> Option<prost_types::Duration> {
    span(Duration::from_millis(millis))
}

/// Returns the seed of this run, or of the one that `CALLPARK_TEST_SEED` repeats, and prints it.
pub fn seed() -> u64 {
    let given = waiting::variable("CALLPARK_TEST_SEED").map(|seed| seed.parse().expect("a number"));
    let seed = given.unwrap_or_else(rand::random);
    println!("CALLPARK_TEST_SEED={seed}");
    seed
}

/// A new request id.
pub fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
