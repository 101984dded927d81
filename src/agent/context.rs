//! The size of the requests that the context of a model holds.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The assumed bytes of a token until the endpoint has reported a usage. It is less than in most texts,
/// so that too much is left out rather than too little.
const BYTES_PER_TOKEN: f64 = 3.0;

/// The limits of the bytes of a token that a reported usage is believed to show.
const BYTES_PER_TOKEN_MIN: f64 = 1.0;
const BYTES_PER_TOKEN_MAX: f64 = 6.0;

/// The part of the context that is kept free for the answer if its limit is unknown.
const ANSWER_SHARE: u64 = 8;

/// The part of a refused size that is assumed to fit.
const FITTING_SHARE: f64 = 0.9;

/// The size of the requests that the context of a model holds, as far as it is known.
///
/// Sizes are bytes, because no endpoint counts tokens before it is asked. The usage that it reports
/// corrects the estimate, and so does a refusal.
#[derive(Debug)]
pub struct ContextMeter {
    /// The tokens of a request that leaves room for its answer, or `None` if they are unknown.
    tokens: Option<u64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bytes_per_token: f64,
    /// The size that is assumed to fit since a larger request was refused.
    fitting_bytes: Option<usize>,
    /// The size of the largest request that was accepted. A refusal of a smaller one has another reason,
    /// such as the limit of a proxy.
    accepted_bytes: usize,
}

impl ContextMeter {
    /// Creates the meter of a model with a context of so many tokens, if they are known.
    pub fn new(context_tokens: Option<u64>, max_output_tokens: Option<u32>) -> Self {
        let tokens = context_tokens.map(|tokens| {
            let answer = max_output_tokens.map_or(tokens / ANSWER_SHARE, u64::from);
            // A limit of answers that leaves nothing for requests is that of another context.
            tokens.saturating_sub(answer).max(tokens / 2)
        });
        let state =
            State { bytes_per_token: BYTES_PER_TOKEN, fitting_bytes: None, accepted_bytes: 0 };
        Self { tokens, state: Mutex::new(state) }
    }

    /// Returns the size of the largest request that fits, in bytes, or `None` if it is unknown.
    pub fn request_bytes_max(&self) -> Option<usize> {
        let state = self.lock();
        match self.tokens {
            Some(tokens) => Some((tokens as f64 * state.bytes_per_token) as usize),
            None => state.fitting_bytes,
        }
    }

    /// Notes the tokens that an endpoint has counted in a request, which it has thereby accepted.
    pub fn counted(&self, request_bytes: usize, tokens: u64) {
        if tokens == 0 {
            return;
        }
        let mut state = self.lock();
        state.set_bytes_per_token(request_bytes as f64 / tokens as f64);
        state.accepted_bytes = state.accepted_bytes.max(request_bytes);
        state.fitting_bytes = state.fitting_bytes.map(|fitting| fitting.max(request_bytes));
    }

    /// Notes that a request exceeds the context. The size that is assumed to fit stays at least that of
    /// the largest request that was accepted.
    pub fn refused(&self, request_bytes: usize) {
        let mut state = self.lock();
        let fitting = (request_bytes as f64 * FITTING_SHARE) as usize;
        let fitting = fitting.max(state.accepted_bytes);
        match self.tokens {
            Some(tokens) => {
                let bytes = state.bytes_per_token.min(fitting as f64 / tokens as f64);
                state.set_bytes_per_token(bytes);
            }
            None => {
                let known = state.fitting_bytes.unwrap_or(usize::MAX);
                state.fitting_bytes = Some(known.min(fitting));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The values are estimates of their own, so that a change is never half of one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn set_bytes_per_token(&mut self, bytes: f64) {
        self.bytes_per_token = bytes.clamp(BYTES_PER_TOKEN_MIN, BYTES_PER_TOKEN_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_context_is_known_after_a_refusal() {
        let meter = ContextMeter::new(None, None);
        meter.counted(4_000, 1_000);
        assert_eq!(meter.request_bytes_max(), None);
        meter.refused(10_000);
        meter.refused(20_000);
        assert_eq!(meter.request_bytes_max(), Some(9_000));
    }

    #[test]
    fn tokens_become_bytes_as_the_endpoint_counts_them() {
        let meter = ContextMeter::new(Some(10_000), Some(2_000));
        assert_eq!(meter.request_bytes_max(), Some(24_000));
        meter.counted(20_000, 5_000);
        assert_eq!(meter.request_bytes_max(), Some(32_000));
        meter.refused(30_000);
        assert_eq!(meter.request_bytes_max(), Some(27_000));
        // A usage that can't be right.
        meter.counted(1_000_000, 1);
        assert_eq!(meter.request_bytes_max(), Some(48_000));
        meter.counted(1_000_000, 0);
        assert_eq!(meter.request_bytes_max(), Some(48_000));
    }

    #[test]
    fn a_size_that_was_accepted_stays_the_least_that_fits() {
        let meter = ContextMeter::new(None, None);
        meter.counted(50_000, 12_000);
        meter.refused(2_000);
        assert_eq!(meter.request_bytes_max(), Some(50_000));
        let meter = ContextMeter::new(Some(10_000), Some(2_000));
        meter.counted(20_000, 5_000);
        meter.refused(1_000);
        assert_eq!(meter.request_bytes_max(), Some(20_000));
    }

    #[test]
    fn a_larger_request_that_is_accepted_raises_what_fits() {
        let meter = ContextMeter::new(None, None);
        meter.refused(2_000);
        meter.counted(1_000, 300);
        assert_eq!(meter.request_bytes_max(), Some(1_800));
        meter.counted(9_000, 0);
        assert_eq!(meter.request_bytes_max(), Some(1_800), "it may have failed");
        meter.counted(9_000, 3_000);
        assert_eq!(meter.request_bytes_max(), Some(9_000));
    }

    #[test]
    fn there_is_always_room_for_a_request() {
        assert_eq!(ContextMeter::new(Some(8_000), None).request_bytes_max(), Some(21_000));
        assert_eq!(ContextMeter::new(Some(8_000), Some(8_000)).request_bytes_max(), Some(12_000));
    }
}
