//! The handlers that run at the moment.

use std::{
    any::Any, collections::HashMap, fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::pending, stream::FuturesUnordered};
use tokio::{select, sync::watch, time::timeout};
use tonic::Code;

use crate::{
    error::Error,
    follow_up::{
        lease::{Lease, LeaseHandle, Leases, RELEASE_TIME_MAX, released},
        report::ConsumerReport,
    },
    google::rpc,
    v1,
};

/// The size to which the error of a handler is truncated.
const FAILURE_BYTES_MAX: usize = 4 * 1024;

/// The handlers that run, and the report on those that have finished.
pub(super) struct Workers<W> {
    futures: FuturesUnordered<W>,
    /// The leases of the follow-ups that are being handled, by follow-up id.
    leases: HashMap<String, Arc<LeaseHandle>>,
    report: ConsumerReport,
}

impl<W> Default for Workers<W> {
    fn default() -> Self {
        let (futures, leases) = (FuturesUnordered::new(), HashMap::new());
        Self { futures, leases, report: ConsumerReport::default() }
    }
}

impl<W: Future<Output = Worked>> Workers<W> {
    pub(super) fn count(&self) -> usize {
        self.futures.len()
    }

    pub(super) fn report(&self) -> ConsumerReport {
        self.report
    }

    pub(super) fn begin(
        &mut self,
        lease: Lease,
        follow_up: v1::FollowUp,
        start: impl FnOnce(Arc<LeaseHandle>, v1::FollowUp) -> W,
    ) {
        if let Some(handle) = self.leases.get(&lease.follow_up_id) {
            handle.replace(lease);
            return;
        }
        let follow_up_id = lease.follow_up_id.clone();
        let handle = Arc::new(LeaseHandle::new(lease));
        self.leases.insert(follow_up_id, Arc::clone(&handle));
        self.futures.push(start(handle, follow_up));
    }

    /// Waits until a worker has finished, and counts it. Never returns while there is none.
    pub(super) async fn next(&mut self) -> Result<(), Error> {
        let Some(worked) = self.futures.next().await else { return pending().await };
        self.leases.remove(&worked.follow_up_id);
        match worked.end? {
            End::Delivered => self.report.delivered += 1,
            End::Failed => self.report.failed += 1,
            End::Released => self.report.released += 1,
            End::Expired => self.report.expired += 1,
        }
        Ok(())
    }

    /// Waits until all workers have finished. Calls `abort` after `within`.
    ///
    /// # Errors
    /// The first error of a worker.
    pub(super) async fn finish<T>(
        &mut self,
        within: Duration,
        abort: impl FnOnce() -> T,
    ) -> Result<(), Error> {
        let mut end = Ok(());
        // Workers that finish are counted even if the time is over in between.
        let _ = timeout(within, self.drain(&mut end)).await;
        abort();
        if timeout(RELEASE_TIME_MAX, self.drain(&mut end)).await.is_err() {
            let left = self.futures.len();
            tracing::warn!(left, "the server did not answer in time: the leases will expire");
            self.report.expired += left as u64;
        }
        end
    }

    async fn drain(&mut self, end: &mut Result<(), Error>) {
        while !self.futures.is_empty() {
            let finished = self.next().await;
            if end.is_ok() {
                *end = finished;
            }
        }
    }
}

/// A follow-up that was handled and acknowledged.
pub(super) struct Worked {
    follow_up_id: String,
    end: Result<End, Error>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Delivered,
    Failed,
    Released,
    Expired,
}

/// Handles one follow-up, and renews its lease until the end is acknowledged.
pub(super) async fn work<F, W, E>(
    leases: &Leases,
    handle: &F,
    aborted: watch::Receiver<bool>,
    lease: Arc<LeaseHandle>,
    follow_up: v1::FollowUp,
) -> Worked
where
    F: Fn(v1::FollowUp) -> W,
    W: Future<Output = Result<(), E>>,
    E: fmt::Display,
{
    let follow_up_id = follow_up.follow_up_id.clone();
    // State that a panicking handler leaves behind is not used here.
    let handling = AssertUnwindSafe(async { handle(follow_up).await }).catch_unwind();
    let delivering = async {
        let (end, failure) = select! {
            biased;
            handled = handling => match handled {
                Ok(Ok(())) => (End::Delivered, None),
                Ok(Err(error)) => (End::Failed, Some(failed(error.to_string()))),
                Err(panic) => (End::Failed, Some(failed(panic_message(panic.as_ref())))),
            },
            () = wait_until_set(aborted) => (End::Released, Some(released())),
        };
        if let (End::Failed, Some(failure)) = (end, &failure) {
            let error = &failure.message;
            tracing::warn!(follow_up_id, error, "the handler of a follow-up failed");
        }
        match leases.acknowledge(&lease, failure).await {
            Ok(true) => Ok(end),
            Ok(false) => Ok(End::Expired),
            // The consumer stops anyway, and the lease expires.
            Err(error) if end == End::Released => {
                tracing::warn!(follow_up_id, %error, "a lease was not released and will expire");
                Ok(End::Expired)
            }
            Err(error) => Err(error),
        }
    };
    let end = select! {
        biased;
        end = delivering => end,
        never = leases.keep(&lease) => match never {},
    };
    Worked { follow_up_id, end }
}

async fn wait_until_set(mut flag: watch::Receiver<bool>) {
    // An error means that the consumer is gone, which aborts everything.
    let _ = flag.wait_for(|is_set| *is_set).await;
}

fn failed(mut message: String) -> rpc::Status {
    message.truncate(message.floor_char_boundary(FAILURE_BYTES_MAX));
    rpc::Status { code: Code::Unknown.into(), message, details: Vec::new() }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let message = panic.downcast_ref::<&str>().copied();
    let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the handler panicked: {}", message.unwrap_or("without a message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_truncated_between_two_characters() {
        let long = "é".repeat(FAILURE_BYTES_MAX);
        assert_eq!(failed(long.clone()).message.len(), FAILURE_BYTES_MAX);
        assert_eq!(failed(format!("a{long}")).message.len(), FAILURE_BYTES_MAX - 1);
        assert_eq!(failed("short".to_owned()).message, "short");
    }
}
