//! Notices of retries.

use std::{sync::Arc, time::Duration};

use crate::error::Error;

/// A callback that is invoked before each delay that precedes a retry. It must not block.
///
/// ```
/// use std::sync::Arc;
///
/// use callpark_client::{ClientOptions, OnRetry};
///
/// let on_retry: OnRetry = Arc::new(|notice| {
///     eprintln!("{}: {}; next attempt in {:?}", notice.rpc, notice.error, notice.delay);
/// });
/// let options = ClientOptions::default().with_on_retry(on_retry);
/// # assert!(options.on_retry.is_some());
/// ```
pub type OnRetry = Arc<dyn Fn(&RetryNotice<'_>) + Send + Sync>;

/// A failed attempt that is followed by another one.
///
/// ```
/// use callpark_client::{RetryBudget, RetryNotice};
///
/// fn print(notice: &RetryNotice<'_>) {
///     if notice.budget == Some(RetryBudget::Resume) {
///         eprintln!("the connection was lost; next attempt in {:?}", notice.delay);
///     }
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct RetryNotice<'a> {
    /// The RPC, as `Service.Method`.
    pub rpc: &'static str,

    /// The number of attempts so far, including the failed one.
    pub attempts: u32,

    /// The budget that the next attempt draws on, or `None` if it draws on none: the server announced
    /// the end of the stream, or the token was fetched again.
    pub budget: Option<RetryBudget>,

    /// The time until the next attempt.
    pub delay: Duration,

    /// The cursor after which a stream resumes, or `None` if there is none yet or the call is not a
    /// stream.
    pub after_sequence: Option<i64>,

    /// The error of the failed attempt.
    pub error: &'a Error,
}

/// The budget that a retry draws on.
///
/// ```
/// use callpark_client::{ClientOptions, RetryBudget};
///
/// fn attempts_max(options: &ClientOptions, budget: RetryBudget) -> u32 {
///     match budget {
///         RetryBudget::Start => options.start_attempts,
///         _ => options.resume_attempts,
///     }
/// }
/// # assert_eq!(attempts_max(&ClientOptions::default(), RetryBudget::Resume), 10);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RetryBudget {
    /// [`start_attempts`](crate::ClientOptions::start_attempts): the call was never answered, or the
    /// stream never delivered a message.
    Start,
    /// [`resume_attempts`](crate::ClientOptions::resume_attempts): a stream or a wait was
    /// interrupted.
    Resume,
}
