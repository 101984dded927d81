//! Working off follow-ups.

use std::{
    any::Any, collections::HashMap, fmt, panic::AssertUnwindSafe, pin::pin, sync::Arc,
    time::Duration,
};

use futures::{
    FutureExt as _, StreamExt as _,
    future::{Fuse, join, pending},
    stream::FuturesUnordered,
};
use tokio::{select, sync::watch, time::timeout};
use tonic::Code;

use crate::{
    client::Client,
    error::Error,
    google::rpc,
    lease::{GIVE_BACK_TIME_MAX, Held, Lease, Leases, cancelled},
    v1,
};

/// Why a delivery failed is cut to this, in bytes.
const FAILURE_BYTES_MAX: usize = 4 * 1024;

/// The follow-ups that are delivered by lease: records of background tasks that ended, which an agent
/// must hear of. [`Client::follow_ups`] makes it, and
/// [`for_each_concurrent`](Self::for_each_concurrent) works them off.
#[derive(Clone, Debug)]
#[must_use = "nothing is leased before for_each_concurrent"]
pub struct FollowUps {
    client: Client,
    session_id: String,
    consumer: String,
    lease_duration: Duration,
    finish_within: Duration,
}

/// What became of the follow-ups that were leased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FollowUpsDone {
    /// Handled, and acknowledged as delivered.
    pub delivered: u64,
    /// Acknowledged as failed: the handler gave an error or panicked. They are handed out again
    /// later, or dead-lettered after their last attempt.
    pub failed: u64,
    /// Given back at the stop, which doesn't count as an attempt.
    pub given_back: u64,
    /// Handled or given back in vain: the lease had run out, or at the stop the server couldn't be
    /// told. They are handed out again, unless somebody else has handled them.
    pub expired: u64,
}

impl Client {
    /// The follow-ups that are delivered by lease. Asks the server nothing.
    pub fn follow_ups(&self) -> FollowUps {
        FollowUps {
            client: self.clone(),
            session_id: String::new(),
            consumer: String::new(),
            lease_duration: Duration::from_secs(60),
            finish_within: Duration::from_secs(10),
        }
    }
}

impl FollowUps {
    /// Only those of this session: `ses-` and 32 hex digits. Default: all the caller's.
    pub fn session_id(self, session_id: impl Into<String>) -> Self {
        Self { session_id: session_id.into(), ..self }
    }

    /// Who takes the leases, for people who look at the records, in at most 4 KiB. Default: empty.
    pub fn consumer(self, consumer: impl Into<String>) -> Self {
        Self { consumer: consumer.into(), ..self }
    }

    /// How long a lease runs unless it is renewed, which happens every third of it. A follow-up whose
    /// consumer is gone is handed out again after this. At most 1 h. Default: 60 s.
    pub fn lease_duration(self, lease_duration: Duration) -> Self {
        Self { lease_duration, ..self }
    }

    /// How long handlers may go on after the stop. Those that haven't ended by then are dropped, and
    /// their follow-ups given back. Default: 10 s.
    pub fn finish_within(self, finish_within: Duration) -> Self {
        Self { finish_within, ..self }
    }

    /// Leases follow-ups and hands each to `handle`, up to `limit` at once, until `until` is done. 0
    /// counts as 1. A follow-up is leased when there is room to work on it, and not before.
    ///
    /// - A handler that ends well has its follow-up acknowledged. One that gives an error or panics has
    ///   it handed out again later; what the error says is kept with it, up to 4 KiB.
    /// - While a handler runs, its lease is renewed. When it runs out all the same, because the server
    ///   was away for long, the handler goes on, and its end is acknowledged in vain: then the
    ///   follow-up is delivered once more. A handler that is to have each effect once remembers the
    ///   [`dedupe_key`](v1::FollowUp::dedupe_key), together with the effect, and does nothing for a key
    ///   that it knows. When such a follow-up comes back here while its handler still runs, the
    ///   handler goes on under the new lease: this consumer never handles a follow-up twice at once.
    /// - At the stop nothing more is leased, and handlers have [`finish_within`](Self::finish_within)
    ///   to end. What isn't done by then is given back, and so is a lease that was taken at the very
    ///   moment of the stop. After `finish_within` that takes up to 10 s, mostly much less.
    /// - Cuts and UNAVAILABLE are outlasted as for a wait of [`ParkedCall`](crate::ParkedCall), and
    ///   rate limits are waited out. Each other error of leasing and acknowledging is a stop, too. A
    ///   deadline of the client isn't used.
    ///
    /// The handlers run inside of this future, each time that it is polled: one that blocks its thread
    /// holds up the others, and the renewals. Dropping the future drops them; their leases run out.
    ///
    /// # Errors
    /// The first that can't be retried, after the stop: NOT_FOUND `SESSION_NOT_FOUND`;
    /// INVALID_ARGUMENT for a lease of 0 or more than 1 h; UNAUTHENTICATED; UNAVAILABLE when the server
    /// stays away; and the others that every call may give.
    pub async fn for_each_concurrent<F, W, E>(
        self,
        limit: usize,
        until: impl Future<Output = ()>,
        handle: F,
    ) -> Result<FollowUpsDone, Error>
    where
        F: Fn(v1::FollowUp) -> W,
        W: Future<Output = Result<(), E>>,
        E: fmt::Display,
    {
        let leases = self.leases()?;
        let (cut, is_cut) = watch::channel(false);
        let start = |held, follow_up| work(&leases, &handle, is_cut.clone(), held, follow_up);
        let mut crew = Crew::default();
        let mut until = pin!(until);
        // One poll at a time, and none when there is no room.
        let mut polling = pin!(Fuse::terminated());
        let mut asked = None;
        let end = loop {
            if asked.is_none() && crew.workers.len() < limit.max(1) {
                // Nothing is asked for that would only be given back.
                if until.as_mut().now_or_never().is_some() {
                    break Ok(());
                }
                let request = leases.request();
                polling.set(leases.take(request.clone()).fuse());
                asked = Some(request);
            }
            select! {
                biased;
                () = &mut until => break Ok(()),
                noted = crew.next() => if let Err(error) = noted { break Err(error) },
                taken = &mut polling => {
                    asked = None;
                    match taken {
                        Ok(Some((lease, follow_up))) => crew.begin(lease, follow_up, start),
                        Ok(None) => {}
                        Err(error) => break Err(error),
                    }
                }
            }
        };
        polling.set(Fuse::terminated());
        let recovering = async {
            match asked {
                Some(request) => leases.recover(request).await,
                None => 0,
            }
        };
        let finishing = crew.finish(self.finish_within, || cut.send_replace(true));
        let (given_back, finished) = join(recovering, finishing).await;
        crew.done.given_back += given_back;
        end.and(finished).map(|()| crew.done)
    }

    fn leases(&self) -> Result<Leases, Error> {
        let template = v1::LeaseFollowUpsRequest {
            session_id: self.session_id.clone(),
            consumer: self.consumer.clone(),
            ..v1::LeaseFollowUpsRequest::default()
        };
        Leases::new(&self.client, self.lease_duration, template)
    }
}

/// The follow-ups that are worked on.
struct Crew<W> {
    workers: FuturesUnordered<W>,
    /// What is worked on, by id.
    held: HashMap<String, Arc<Held>>,
    done: FollowUpsDone,
}

impl<W> Default for Crew<W> {
    fn default() -> Self {
        let (workers, held) = (FuturesUnordered::new(), HashMap::new());
        Self { workers, held, done: FollowUpsDone::default() }
    }
}

impl<W: Future<Output = Worked>> Crew<W> {
    fn begin(
        &mut self,
        lease: Lease,
        follow_up: v1::FollowUp,
        start: impl FnOnce(Arc<Held>, v1::FollowUp) -> W,
    ) {
        if let Some(held) = self.held.get(&lease.follow_up_id) {
            held.replace(lease);
            return;
        }
        let follow_up_id = lease.follow_up_id.clone();
        let held = Arc::new(Held::new(lease));
        self.held.insert(follow_up_id, Arc::clone(&held));
        self.workers.push(start(held, follow_up));
    }

    /// Waits until one is done, and counts it. Never ends while there is none.
    async fn next(&mut self) -> Result<(), Error> {
        let Some(worked) = self.workers.next().await else { return pending().await };
        self.held.remove(&worked.follow_up_id);
        match worked.end? {
            End::Delivered => self.done.delivered += 1,
            End::Failed => self.done.failed += 1,
            End::GivenBack => self.done.given_back += 1,
            End::Expired => self.done.expired += 1,
        }
        Ok(())
    }

    /// Waits until all are done: so long by themselves, then because they are cut. The first error.
    async fn finish<T>(&mut self, within: Duration, cut: impl FnOnce() -> T) -> Result<(), Error> {
        let mut end = Ok(());
        // What has ended is counted also when the time is over in between.
        let _ = timeout(within, self.drain(&mut end)).await;
        cut();
        if timeout(GIVE_BACK_TIME_MAX, self.drain(&mut end)).await.is_err() {
            let left = self.workers.len();
            tracing::warn!(left, "the server couldn't be told in time: leases are left to run out");
            self.done.expired += left as u64;
        }
        end
    }

    async fn drain(&mut self, end: &mut Result<(), Error>) {
        while !self.workers.is_empty() {
            let noted = self.next().await;
            if end.is_ok() {
                *end = noted;
            }
        }
    }
}

/// One follow-up, worked on and acknowledged.
struct Worked {
    follow_up_id: String,
    end: Result<End, Error>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Delivered,
    Failed,
    GivenBack,
    Expired,
}

/// Works on one follow-up, with its lease renewed until the end is acknowledged.
async fn work<F, W, E>(
    leases: &Leases,
    handle: &F,
    is_cut: watch::Receiver<bool>,
    held: Arc<Held>,
    follow_up: v1::FollowUp,
) -> Worked
where
    F: Fn(v1::FollowUp) -> W,
    W: Future<Output = Result<(), E>>,
    E: fmt::Display,
{
    let follow_up_id = follow_up.follow_up_id.clone();
    // What a handler leaves behind when it panics is the handler's: nothing of it is seen here.
    let handling = AssertUnwindSafe(async { handle(follow_up).await }).catch_unwind();
    let delivering = async {
        let (end, failure) = select! {
            biased;
            handled = handling => match handled {
                Ok(Ok(())) => (End::Delivered, None),
                Ok(Err(error)) => (End::Failed, Some(failed(error.to_string()))),
                Err(panic) => (End::Failed, Some(failed(panicked(panic.as_ref())))),
            },
            () = wait_for(is_cut) => (End::GivenBack, Some(cancelled())),
        };
        if let (End::Failed, Some(failure)) = (end, &failure) {
            tracing::warn!(follow_up_id, why = failure.message, "a follow-up's handler failed");
        }
        match leases.acknowledge(&held, failure).await {
            Ok(true) => Ok(end),
            Ok(false) => Ok(End::Expired),
            // Nothing is lost by it: the lease runs out.
            Err(error) if end == End::GivenBack => {
                tracing::warn!(follow_up_id, %error, "a lease is left to run out");
                Ok(End::Expired)
            }
            Err(error) => Err(error),
        }
    };
    let end = select! {
        biased;
        end = delivering => end,
        never = leases.keep(&held) => match never {},
    };
    Worked { follow_up_id, end }
}

async fn wait_for(mut is_cut: watch::Receiver<bool>) {
    // An error is the end of the consumer, which cuts everything.
    let _ = is_cut.wait_for(|is_cut| *is_cut).await;
}

fn failed(mut message: String) -> rpc::Status {
    message.truncate(message.floor_char_boundary(FAILURE_BYTES_MAX));
    rpc::Status { code: Code::Unknown.into(), message, details: Vec::new() }
}

fn panicked(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().copied();
    let words = words.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the handler panicked: {}", words.unwrap_or("without a message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_cut_between_two_characters() {
        let long = "é".repeat(FAILURE_BYTES_MAX);
        assert_eq!(failed(long.clone()).message.len(), FAILURE_BYTES_MAX);
        assert_eq!(failed(format!("a{long}")).message.len(), FAILURE_BYTES_MAX - 1);
        assert_eq!(failed("short".to_owned()).message, "short");
    }
}
