//! A consumer of follow-ups.

use std::{fmt, pin::pin, time::Duration};

use futures::{
    FutureExt as _,
    future::{Fuse, join},
};
use tokio::{select, sync::watch};

use crate::{
    error::Error,
    follow_up::{
        lease::Leases,
        report::ConsumerReport,
        workers::{Workers, work},
    },
    transport::connection::Connection,
    v1,
};

/// A consumer of the follow-ups that are delivered by lease.
/// [`FollowUps::consumer`](crate::FollowUps::consumer) creates it, and
/// [`for_each_concurrent`](Self::for_each_concurrent) runs it.
///
/// ```no_run
/// use std::convert::Infallible;
///
/// use callpark_client::{Client, Error, v1};
///
/// # async fn show(client: Client) -> Result<(), Error> {
/// let handle = async |follow_up: v1::FollowUp| {
///     println!("{}", follow_up.message);
///     Ok::<_, Infallible>(())
/// };
/// let until = async {
///     let _ = tokio::signal::ctrl_c().await;
/// };
/// let consumer = client.follow_ups().consumer().name("my agent");
/// let report = consumer.for_each_concurrent(4, until, handle).await?;
/// println!("{} delivered, {} failed", report.delivered, report.failed);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is leased before for_each_concurrent"]
pub struct FollowUpConsumer {
    connection: Connection,
    session_id: String,
    name: String,
    lease_duration: Duration,
    finish_within: Duration,
}

impl FollowUpConsumer {
    pub(super) fn new(connection: &Connection) -> Self {
        Self {
            connection: connection.clone(),
            session_id: String::new(),
            name: String::new(),
            lease_duration: Duration::from_secs(60),
            finish_within: Duration::from_secs(10),
        }
    }

    /// Restricts the consumer to one session: `ses-` and 32 hex digits. Default: all sessions of the
    /// caller.
    pub fn session_id(self, session_id: impl Into<String>) -> Self {
        Self { session_id: session_id.into(), ..self }
    }

    /// Sets the name of the consumer in the records, for people who read them. At most 4 KiB.
    /// Default: empty.
    pub fn name(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Sets the duration of a lease. Leases are renewed every third of it. If the consumer is lost,
    /// its follow-ups are delivered again after this time. At most 1 h. Default: 60 s.
    pub fn lease_duration(self, lease_duration: Duration) -> Self {
        Self { lease_duration, ..self }
    }

    /// Sets the time that handlers have to finish after the stop. The handlers that still run after
    /// it are dropped, and their follow-ups are released. Default: 10 s.
    pub fn finish_within(self, finish_within: Duration) -> Self {
        Self { finish_within, ..self }
    }

    /// Leases follow-ups and passes each to `handle`, up to `limit` at a time, until `until` is ready.
    /// A `limit` of 0 counts as 1. A follow-up is leased only when a handler can start at once.
    ///
    /// - If a handler succeeds, its follow-up is acknowledged as delivered. If it returns an error or
    ///   panics, the follow-up is delivered again later, and the error is recorded, up to 4 KiB.
    /// - While a handler runs, its lease is renewed. If the lease expires nevertheless, because the
    ///   server was unreachable for too long, the handler continues, but its acknowledgement has no
    ///   effect and the follow-up is delivered once more. A handler whose effects must happen exactly
    ///   once stores the [`dedupe_key`](v1::FollowUp::dedupe_key) together with its effects, and does
    ///   nothing for a key that it has stored. If the follow-up returns to this consumer while its
    ///   handler is running, the handler continues under the new lease: the consumer never handles a
    ///   follow-up twice at the same time.
    /// - After the stop nothing more is leased, and handlers have
    ///   [`finish_within`](Self::finish_within) to finish. The rest is released, including a lease
    ///   that was granted at the moment of the stop. Releasing takes up to 10 s, usually much less.
    /// - Interruptions and UNAVAILABLE are retried like a wait of a
    ///   [`TaskHandle`](crate::TaskHandle), and rate limits are waited out. Every other error of
    ///   leasing or acknowledging stops the consumer. A deadline of the client is not used.
    ///
    /// The handlers run inside the returned future, whenever it is polled: a handler that blocks its
    /// thread delays the other handlers and the renewals. Dropping the future drops the handlers;
    /// their leases expire.
    ///
    /// # Errors
    /// The first error that cannot be retried, after the stop: NOT_FOUND `SESSION_NOT_FOUND`;
    /// INVALID_ARGUMENT for a lease duration of 0 or more than 1 h; UNAUTHENTICATED; UNAVAILABLE if
    /// the server stays unreachable; and those that every call may return.
    pub async fn for_each_concurrent<F, W, E>(
        self,
        limit: usize,
        until: impl Future<Output = ()>,
        handle: F,
    ) -> Result<ConsumerReport, Error>
    where
        F: Fn(v1::FollowUp) -> W,
        W: Future<Output = Result<(), E>>,
        E: fmt::Display,
    {
        let leases = self.leases()?;
        let (abort, aborted) = watch::channel(false);
        let start = |lease, follow_up| work(&leases, &handle, aborted.clone(), lease, follow_up);
        let mut workers = Workers::default();
        let mut until = pin!(until);
        // One poll at a time, and none while all workers are busy.
        let mut polling = pin!(Fuse::terminated());
        let mut open_request = None;
        let end = loop {
            if open_request.is_none() && workers.count() < limit.max(1) {
                // Lease nothing that would be released at once.
                if until.as_mut().now_or_never().is_some() {
                    break Ok(());
                }
                let request = leases.request();
                polling.set(leases.take(request.clone()).fuse());
                open_request = Some(request);
            }
            select! {
                biased;
                () = &mut until => break Ok(()),
                finished = workers.next() => if let Err(error) = finished { break Err(error) },
                taken = &mut polling => {
                    open_request = None;
                    match taken {
                        Ok(Some((lease, follow_up))) => workers.begin(lease, follow_up, start),
                        Ok(None) => {}
                        Err(error) => break Err(error),
                    }
                }
            }
        };
        polling.set(Fuse::terminated());
        let recovering = async {
            match open_request {
                Some(request) => leases.recover(request).await,
                None => 0,
            }
        };
        let finishing = workers.finish(self.finish_within, || abort.send_replace(true));
        let (released, finished) = join(recovering, finishing).await;
        let mut report = workers.report();
        report.released += released;
        end.and(finished).map(|()| report)
    }

    fn leases(&self) -> Result<Leases, Error> {
        let template = v1::LeaseFollowUpsRequest {
            session_id: self.session_id.clone(),
            consumer: self.name.clone(),
            ..v1::LeaseFollowUpsRequest::default()
        };
        Leases::new(&self.connection, self.lease_duration, template)
    }
}
