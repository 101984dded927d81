//! The usage of a turn, derived from the counts of an agent.

use agent_client_protocol::v1::schema::Usage as ProtocolUsage;

use crate::model::Usage;

/// The token counts of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct TokenCounts {
    input: u64,
    cached: u64,
    output: u64,
}

impl From<&ProtocolUsage> for TokenCounts {
    fn from(usage: &ProtocolUsage) -> Self {
        Self {
            input: usage.input_tokens,
            cached: usage.cached_read_tokens.unwrap_or_default(),
            output: usage.output_tokens,
        }
    }
}

/// Returns the usage between two counts. Counts are sums over a conversation; if they fall, the agent
/// counts each turn by itself.
pub(super) fn usage_since(before: TokenCounts, now: TokenCounts) -> Usage {
    let has_fallen =
        now.input < before.input || now.output < before.output || now.cached < before.cached;
    let before = if has_fallen { TokenCounts::default() } else { before };
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
        let counts = |[input, cached, output]: [u64; 3]| TokenCounts { input, cached, output };
        let used = usage_since(counts(before), counts(now));
        [used.input_tokens, used.cached_input_tokens, used.output_tokens]
    }

    #[test]
    fn the_usage_of_a_turn_is_the_growth_of_the_sums() {
        assert_eq!(counted([0, 0, 0], [100, 40, 10]), [100, 40, 10]);
        assert_eq!(counted([100, 40, 10], [250, 140, 15]), [150, 100, 5]);
    }

    #[test]
    fn counts_that_fall_belong_to_the_turn() {
        assert_eq!(counted([100, 0, 10], [60, 0, 20]), [60, 0, 20]);
    }
}
