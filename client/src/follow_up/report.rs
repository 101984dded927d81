//! The numbers that a consumer of follow-ups returns.

/// The numbers of follow-ups that a consumer leased, by outcome.
///
/// ```
/// use callpark_client::ConsumerReport;
///
/// let report = ConsumerReport::default();
/// assert_eq!((report.delivered, report.failed, report.released, report.expired), (0, 0, 0, 0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerReport {
    /// Handled, and acknowledged as delivered.
    pub delivered: u64,
    /// Acknowledged as failed, because the handler returned an error or panicked. They are delivered
    /// again later, or dead-lettered after their last attempt.
    pub failed: u64,
    /// Released when the consumer stopped, which does not count as an attempt.
    pub released: u64,
    /// Handled or released without effect: the lease had expired, or the server could not be reached
    /// when the consumer stopped. They are delivered again, unless another consumer has handled them.
    pub expired: u64,
}
