//! The decision whether and when a failed attempt is followed by another one. Pure: no clock and no
//! randomness.

use std::time::Duration;

use crate::options::{ClientOptions, RetryBudget};

/// A transient failure.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Failure {
    /// The delay that the server asks for.
    pub(crate) retry_delay: Option<Duration>,
    /// The server announced the end of a healthy stream, so that resuming it draws on no budget.
    pub(crate) announced: bool,
    /// The server did not process the request, and there is another one, which is asked at once.
    pub(crate) moves_on: bool,
}

/// The next attempt after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The time until the next attempt.
    pub(crate) delay: Duration,
    /// The budget that the next attempt draws on.
    pub(crate) budget: Option<RetryBudget>,
}

/// The retry state of one call or stream.
#[derive(Clone, Debug)]
pub(crate) struct Retries {
    start_attempts: u32,
    resume_attempts: u32,
    backoff: Duration,
    backoff_max: Duration,
    budget: RetryBudget,
    attempts: u32,
    /// Failures since the beginning.
    start_failures: u32,
    /// Failures since the last progress.
    resume_failures: u32,
}

impl Retries {
    pub(crate) fn new(options: &ClientOptions, budget: RetryBudget) -> Self {
        Self {
            start_attempts: options.start_attempts,
            resume_attempts: options.resume_attempts,
            backoff: options.backoff,
            backoff_max: options.backoff_max,
            budget,
            attempts: 0,
            start_failures: 0,
            resume_failures: 0,
        }
    }

    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(crate) fn begin(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
    }

    /// Lets failures draw on the resume budget from now on: the stream has delivered a message.
    pub(crate) fn started(&mut self) {
        self.budget = RetryBudget::Resume;
    }

    /// Resets the resume budget.
    pub(crate) fn progressed(&mut self) {
        self.resume_failures = 0;
    }

    /// Returns the next attempt after a failure, or `None` if the budget is used up. `jitter` is
    /// between 0 and 1.
    pub(crate) fn after(&mut self, failure: Failure, jitter: f64) -> Option<Plan> {
        if failure.announced {
            let delay = failure.retry_delay.unwrap_or_else(|| self.backoff(0, jitter));
            return Some(Plan { delay, budget: None });
        }
        let (failures, may_retry) = match self.budget {
            RetryBudget::Start => {
                self.start_failures = self.start_failures.saturating_add(1);
                (self.start_failures, self.start_failures < self.start_attempts)
            }
            RetryBudget::Resume => {
                self.resume_failures = self.resume_failures.saturating_add(1);
                (self.resume_failures, self.resume_failures <= self.resume_attempts)
            }
        };
        let delay = match failure.moves_on {
            true => Duration::ZERO,
            false => failure.retry_delay.unwrap_or_else(|| self.backoff(failures - 1, jitter)),
        };
        may_retry.then_some(Plan { delay, budget: Some(self.budget) })
    }

    fn backoff(&self, doublings: u32, jitter: f64) -> Duration {
        let factor = 2_u32.saturating_pow(doublings);
        self.backoff.saturating_mul(factor).min(self.backoff_max).mul_f64(jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn retries(budget: RetryBudget) -> Retries {
        Retries::new(&ClientOptions::default(), budget)
    }

    fn delays_ms(retries: &mut Retries, jitter: f64) -> Vec<u128> {
        std::iter::from_fn(|| retries.after(Failure::default(), jitter))
            .map(|plan| plan.delay.as_millis())
            .collect()
    }

    #[test]
    fn a_start_has_five_attempts() {
        assert_eq!(delays_ms(&mut retries(RetryBudget::Start), 1.0), [100, 200, 400, 800]);
    }

    #[test]
    fn a_resume_is_retried_ten_times_and_its_backoff_is_at_most_ten_seconds() {
        let expected = [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000, 10_000];
        assert_eq!(delays_ms(&mut retries(RetryBudget::Resume), 1.0), expected);
    }

    #[test]
    fn jitter_reaches_down_to_zero() {
        assert_eq!(delays_ms(&mut retries(RetryBudget::Start), 0.0), [0, 0, 0, 0]);
        assert_eq!(delays_ms(&mut retries(RetryBudget::Start), 0.5), [50, 100, 200, 400]);
    }

    #[test]
    fn only_the_resume_budget_is_reset() {
        let mut start = retries(RetryBudget::Start);
        for _ in 0..4 {
            assert!(start.after(Failure::default(), 1.0).is_some());
            start.progressed();
        }
        assert_eq!(start.after(Failure::default(), 1.0), None);

        let mut resume = retries(RetryBudget::Resume);
        for _ in 0..100 {
            assert_eq!(resume.after(Failure::default(), 1.0).unwrap().delay, 100 * MS);
            resume.progressed();
        }
    }

    #[test]
    fn a_stream_that_has_started_draws_on_the_other_budget() {
        let mut retries = retries(RetryBudget::Start);
        assert_eq!(
            retries.after(Failure::default(), 1.0).unwrap().budget.unwrap(),
            RetryBudget::Start
        );
        retries.started();
        assert_eq!(delays_ms(&mut retries, 0.0).len(), 10);
    }

    #[test]
    fn the_delay_of_the_server_takes_precedence_and_draws_on_the_budget() {
        let mut retries = retries(RetryBudget::Start);
        let asked = Failure { retry_delay: Some(7_000 * MS), ..Failure::default() };
        for _ in 0..4 {
            assert_eq!(retries.after(asked, 0.3).unwrap().delay, 7_000 * MS);
        }
        assert_eq!(retries.after(asked, 0.3), None);
    }

    #[test]
    fn an_announced_end_draws_on_no_budget() {
        let mut retries = retries(RetryBudget::Resume);
        let announced = Failure { announced: true, ..Failure::default() };
        for _ in 0..100 {
            assert_eq!(retries.after(announced, 1.0), Some(Plan { delay: 100 * MS, budget: None }));
        }
    }

    #[test]
    fn a_move_to_another_server_has_no_delay_and_draws_on_the_budget() {
        let mut retries = retries(RetryBudget::Start);
        let moves_on = Failure { moves_on: true, ..Failure::default() };
        for _ in 0..4 {
            assert_eq!(retries.after(moves_on, 1.0).unwrap().delay, Duration::ZERO);
        }
        assert_eq!(retries.after(moves_on, 1.0), None);
    }

    #[test]
    fn zero_attempts_count_as_one() {
        let options = ClientOptions::default().with_start_attempts(0);
        assert_eq!(Retries::new(&options, RetryBudget::Start).after(Failure::default(), 1.0), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_whole_resume_takes_at_most_42_seconds() {
        let mut retries = retries(RetryBudget::Resume);
        let began = Instant::now();
        while let Some(plan) = retries.after(Failure::default(), 1.0) {
            tokio::time::sleep(plan.delay).await;
        }
        assert_eq!(began.elapsed(), 42_700 * MS);
    }
}
