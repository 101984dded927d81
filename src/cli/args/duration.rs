//! Durations on the command line.

use std::time::Duration;

use callpark_client::prost_types;

/// Parses a duration such as `500ms` or `1h 30m`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "must be a duration such as 500ms, 30s, 5m or 1h 30m".to_owned())
}

/// Converts a duration for a request. A duration beyond the contract's range becomes the longest
/// one in it.
pub(crate) fn to_wire(duration: Duration) -> prost_types::Duration {
    let longest = prost_types::Duration { seconds: 315_576_000_000, nanos: 0 };
    prost_types::Duration::try_from(duration).unwrap_or(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_duration_is_answered_with_examples() {
        assert_eq!(parse_duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        let error = parse_duration("ten").expect_err("not a duration");
        assert_eq!(error, "must be a duration such as 500ms, 30s, 5m or 1h 30m");
    }

    #[test]
    fn the_longest_duration_is_kept() {
        assert_eq!(to_wire(Duration::from_millis(1_500)).nanos, 500_000_000);
        assert_eq!(to_wire(Duration::MAX).seconds, 315_576_000_000);
    }
}
