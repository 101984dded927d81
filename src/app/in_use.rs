//! Waiting for what another process uses at the moment.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// The time for which an attempt is repeated.
///
/// A process that a server is about to start holds copies of its sockets and locks until it executes
/// its program. If the server is killed meanwhile, they are in use for that much longer, which is
/// milliseconds on a machine at rest.
const RETRY_TIME: Duration = Duration::from_secs(2);
/// The pause between two attempts: nothing says when something is free again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Repeats an attempt while it fails because something is in use, for two seconds at most.
pub(super) async fn retry_while_in_use<T, E>(
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
    is_in_use: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let end = Instant::now() + RETRY_TIME;
    loop {
        match attempt().await {
            Err(error) if is_in_use(&error) && Instant::now() < end => sleep(RETRY_PAUSE).await,
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_is_in_use_is_tried_again_and_not_forever() {
        let began = Instant::now();
        let attempts = std::cell::Cell::new(0);
        let fail = async |after: u32, error: &'static str| {
            attempts.set(attempts.get() + 1);
            if attempts.get() < after { Err("in use") } else { Err(error) }
        };
        let try_it = async |after, error| {
            attempts.set(0);
            let attempt = async || fail(after, error).await;
            retry_while_in_use(attempt, |error| *error == "in use").await
        };
        assert_eq!(try_it(0, "broken").await, Err::<(), _>("broken"));
        assert_eq!((attempts.get(), began.elapsed()), (1, Duration::ZERO));
        assert_eq!(try_it(10, "broken").await, Err::<(), _>("broken"));
        assert_eq!(attempts.get(), 10);
        let began = Instant::now();
        assert_eq!(try_it(u32::MAX, "").await, Err::<(), _>("in use"));
        assert_eq!(began.elapsed(), RETRY_TIME);
    }
}
