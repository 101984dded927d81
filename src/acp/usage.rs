//! What a turn has used, from what an agent counts.

use agent_client_protocol::v1::schema::Usage as ProtocolUsage;

use crate::model::Usage;

/// What an agent has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    input: u64,
    cached: u64,
    output: u64,
}

impl From<&ProtocolUsage> for Counts {
    fn from(usage: &ProtocolUsage) -> Self {
        Self {
            input: usage.input_tokens,
            cached: usage.cached_read_tokens.unwrap_or_default(),
            output: usage.output_tokens,
        }
    }
}

/// What was used since `before`. The counts are sums over a conversation; of an agent whose counts
/// fall, they are those of the turn.
pub(super) fn since(before: Counts, now: Counts) -> Usage {
    let falls =
        now.input < before.input || now.output < before.output || now.cached < before.cached;
    let before = if falls { Counts::default() } else { before };
    let input_tokens = now.input - before.input;
    Usage {
        input_tokens,
        cached_input_tokens: (now.cached - before.cached).min(input_tokens),
        output_tokens: now.output - before.output,
        ..Usage::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(before: [u64; 3], now: [u64; 3]) -> [u64; 3] {
        let counts = |[input, cached, output]: [u64; 3]| Counts { input, cached, output };
        let used = since(counts(before), counts(now));
        [used.input_tokens, used.cached_input_tokens, used.output_tokens]
    }

    #[test]
    fn a_turn_has_used_what_the_sums_have_grown_by() {
        assert_eq!(counted([0, 0, 0], [100, 40, 10]), [100, 40, 10]);
        assert_eq!(counted([100, 40, 10], [250, 140, 15]), [150, 100, 5]);
    }

    #[test]
    fn counts_that_fall_are_those_of_the_turn() {
        assert_eq!(counted([100, 0, 10], [60, 0, 20]), [60, 0, 20]);
    }
}
