//! A replacement for `tokio::time` and `tokio_util::time`: a clock that leaps.
//!
//! Time stands still while tasks take their steps. A task of its own, [`pass`], makes it leap to
//! the next moment for which a task waits, whenever the scheduler lets it: so a timer may be due
//! between any two steps, and none is due too early. It leaps no further than to its limit: who
//! waits for more than that waits for ever, and shuttle calls it a deadlock.

mod queue;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::ops::Add;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use shuttle::rand::Rng;

pub use queue::{DelayQueue, delay_queue};

/// Of so many turns of the clock one is a leap: the others are left to those that work.
const TURNS_PER_LEAP: u32 = 12;

/// A moment: the time since the execution began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Duration);

impl Instant {
    pub fn now() -> Self {
        CLOCK.with_borrow(|clock| clock.now)
    }

    pub fn elapsed(&self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }

    pub fn saturating_duration_since(&self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The time since the execution began.
    pub fn since_begin(self) -> Duration {
        self.0
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

struct Clock {
    now: Instant,
    sleepers: BTreeMap<(Instant, u64), Waker>,
    /// Makes keys of sleepers different.
    count: u64,
    /// The task that makes time pass.
    passing: Option<Waker>,
}

impl Clock {
    const fn new() -> Self {
        Self { now: Instant(Duration::ZERO), sleepers: BTreeMap::new(), count: 0, passing: None }
    }

    /// The next moment for which a task waits.
    fn next(&mut self, limit: Instant, context: &Context<'_>) -> Poll<Instant> {
        self.passing = Some(context.waker().clone());
        match self.sleepers.first_key_value() {
            Some(((due, _), _)) if *due <= limit => Poll::Ready(*due),
            _ => Poll::Pending,
        }
    }
}

thread_local! {
    // An execution is one thread: it has a clock of its own.
    static CLOCK: RefCell<Clock> = const { RefCell::new(Clock::new()) };
}

/// Sets the clock to the beginning of an execution.
pub fn reset() {
    // What an execution that failed has left there is not to be woken, nor dropped, in this one.
    std::mem::forget(CLOCK.replace(Clock::new()));
}

/// Makes time pass up to `limit`, for as long as it is polled.
pub async fn pass(limit: Duration) {
    let limit = Instant(limit);
    loop {
        let due =
            poll_fn(|context| CLOCK.with_borrow_mut(|clock| clock.next(limit, context))).await;
        if shuttle::rand::thread_rng().gen_ratio(1, TURNS_PER_LEAP) {
            leap(due);
        }
        // Last among those that could go on, in an order by priorities.
        shuttle::future::yield_now().await;
    }
}

fn leap(to: Instant) {
    let woken = CLOCK.with_borrow_mut(|clock| {
        clock.now = clock.now.max(to);
        let later = clock.sleepers.split_off(&(clock.now, u64::MAX));
        std::mem::replace(&mut clock.sleepers, later)
    });
    woken.into_values().for_each(Waker::wake);
}

/// Sleeps for as long.
pub fn sleep(span: Duration) -> Sleep {
    sleep_until(Instant::now() + span)
}

/// Sleeps until then.
pub fn sleep_until(due: Instant) -> Sleep {
    Sleep { due, key: None }
}

#[derive(Debug)]
pub struct Sleep {
    due: Instant,
    key: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let due = self.due;
        let (key, passing) = CLOCK.with_borrow_mut(|clock| {
            if clock.now >= due {
                return (None, None);
            }
            clock.count += 1;
            let key = self.key.unwrap_or(clock.count);
            clock.sleepers.insert((due, key), context.waker().clone());
            (Some(key), clock.passing.take())
        });
        self.key = key;
        if let Some(passing) = passing {
            passing.wake();
        }
        if key.is_some() { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            // A thread that ends after a failure has no clock any more.
            let _ = CLOCK.try_with(|clock| {
                clock.borrow_mut().sleepers.remove(&(self.due, key));
            });
        }
    }
}

pub use interval::{MissedTickBehavior, interval};

/// Ticks, as the sweeper wants them: no model has one.
mod interval {
    use std::time::Duration;

    pub enum MissedTickBehavior {
        Delay,
    }

    pub struct Interval(Duration);

    pub fn interval(period: Duration) -> Interval {
        Interval(period)
    }

    impl Interval {
        pub fn set_missed_tick_behavior(&mut self, _behavior: MissedTickBehavior) {}

        pub async fn tick(&mut self) {
            super::sleep(self.0).await;
        }
    }
}
