//! Spans and moments, as people read and write them.

use std::time::Duration;

use callpark_client::prost_types;

use crate::engine::{Clock as _, SystemClock};

const MICROS: i64 = 1_000_000;

/// Reads a span of time of the command line.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| {
        format!("a span of time such as 500ms, 30s, 5m or 1h 30m is expected ({error})")
    })
}

/// A span for a request. One that is beyond the contract becomes the longest there is.
pub(crate) fn to_wire(span: Duration) -> prost_types::Duration {
    let longest = prost_types::Duration { seconds: 315_576_000_000, nanos: 0 };
    prost_types::Duration::try_from(span).unwrap_or(longest)
}

/// A span of an answer. Negative ones count as none.
pub(crate) fn from_wire(span: Option<&prost_types::Duration>) -> Option<Duration> {
    Duration::try_from(*span?).ok()
}

/// A span in two units at most: `850ms`, `3.2s`, `10m`, `1m05s`, `2h03m`, `3d04h`.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{}ms", span.as_millis()),
        1..60 => format!("{seconds}.{}s", span.subsec_millis() / 100),
        60..3_600 => two_units(seconds / 60, 'm', seconds % 60, 's'),
        3_600..86_400 => two_units(seconds / 3_600, 'h', seconds % 3_600 / 60, 'm'),
        _ => two_units(seconds / 86_400, 'd', seconds % 86_400 / 3_600, 'h'),
    }
}

fn two_units(large: u64, large_unit: char, small: u64, small_unit: char) -> String {
    match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit}{small:02}{small_unit}"),
    }
}

/// A span of an answer for people; empty when there is none.
pub(crate) fn wire_span(wire: Option<&prost_types::Duration>) -> String {
    from_wire(wire).map(span).unwrap_or_default()
}

/// A moment as people tell it, against the clock of this machine: `now`, `3.2s ago`, `in 2h03m`.
/// Empty when there is none.
pub(crate) fn moment(time: Option<&prost_types::Timestamp>) -> String {
    let now = SystemClock.now().as_micros();
    time.map(|time| relative(now, micros(time))).unwrap_or_default()
}

/// The time of day here, to the millisecond; empty when there is none.
pub(crate) fn time_of_day(time: Option<&prost_types::Timestamp>) -> String {
    let time = time.and_then(|time| jiff::Timestamp::new(time.seconds, time.nanos).ok());
    let here = time.map(|time| time.to_zoned(jiff::tz::TimeZone::system()));
    here.map(|here| here.strftime("%H:%M:%S%.3f").to_string()).unwrap_or_default()
}

fn micros(time: &prost_types::Timestamp) -> i64 {
    time.seconds.saturating_mul(MICROS).saturating_add(i64::from(time.nanos) / 1_000)
}

fn relative(now_micros: i64, then_micros: i64) -> String {
    let distance = Duration::from_micros(now_micros.abs_diff(then_micros));
    // Clocks of two machines differ a little.
    match (distance < Duration::from_secs(1), then_micros <= now_micros) {
        (true, _) => "now".to_owned(),
        (false, true) => format!("{} ago", span(distance)),
        (false, false) => format!("in {}", span(distance)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units_at_most() {
        for (millis, expected) in [
            (0, "0ms"),
            (850, "850ms"),
            (3_250, "3.2s"),
            (59_999, "59.9s"),
            (600_000, "10m"),
            (65_000, "1m05s"),
            (3_601_000, "1h"),
            (7_380_000, "2h03m"),
            (273_600_000, "3d04h"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn moments_are_told_against_now() {
        assert_eq!(relative(10 * MICROS, 7 * MICROS), "3.0s ago");
        assert_eq!(relative(7 * MICROS, 70 * MICROS), "in 1m03s");
        assert_eq!(relative(7 * MICROS, 7 * MICROS + 900), "now");
        assert_eq!(relative(i64::MAX, i64::MIN), "213503982d08h ago");
    }

    #[test]
    fn spans_of_the_command_line_are_told_with_examples() {
        assert_eq!(parse_span("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_span("0"), Ok(Duration::ZERO));
        let error = parse_span("ten").expect_err("no span");
        assert!(error.contains("500ms, 30s"), "{error}");
    }

    #[test]
    fn the_longest_span_is_kept() {
        assert_eq!(to_wire(Duration::from_millis(1_500)).nanos, 500_000_000);
        assert_eq!(to_wire(Duration::MAX).seconds, 315_576_000_000);
        assert_eq!(from_wire(None), None);
    }
}
