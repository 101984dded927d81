//! The budget of a session.

use serde::{Deserialize, Serialize};

use super::Usage;

/// The usage of models that a session may have over its whole life. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Budget {
    /// The cost in US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cost_usd: Option<f64>,
    /// Tokens, read and written together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
}

impl Budget {
    /// Returns whether there is no limit.
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether this usage has reached a limit.
    pub fn is_used_up(&self, usage: &Usage) -> bool {
        self.max_cost_usd.is_some_and(|max| usage.cost_usd >= max)
            || self.max_tokens.is_some_and(|max| usage.tokens() >= max)
    }

    /// Returns what this usage has left of the budget.
    pub fn left(&self, usage: &Usage) -> Self {
        Self {
            max_cost_usd: self.max_cost_usd.map(|max| (max - usage.cost_usd).max(0.0)),
            max_tokens: self.max_tokens.map(|max| max.saturating_sub(usage.tokens())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_used_up_when_a_limit_is_reached() {
        let usage =
            Usage { input_tokens: 90, output_tokens: 10, cost_usd: 0.5, ..Usage::default() };
        let budget = |max_cost_usd, max_tokens| Budget { max_cost_usd, max_tokens };
        for within in [budget(None, None), budget(Some(0.6), None), budget(Some(0.6), Some(101))] {
            assert!(!within.is_used_up(&usage), "{within:?}");
        }
        for used_up in
            [budget(Some(0.5), None), budget(None, Some(100)), budget(Some(9.0), Some(7))]
        {
            assert!(used_up.is_used_up(&usage), "{used_up:?}");
        }
        assert_eq!(budget(Some(0.75), Some(130)).left(&usage), budget(Some(0.25), Some(30)));
        assert_eq!(budget(Some(0.1), None).left(&usage), budget(Some(0.0), None));
    }
}
