//! Durations and times for people.

use std::time::Duration;

use callpark_client::prost_types;

use crate::engine::{Clock as _, SystemClock};
use crate::model::Timestamp;

const MICROS: i64 = 1_000_000;

/// Converts a duration of an answer, or returns `None` if there is none or it is negative.
pub(crate) fn from_wire(duration: Option<&prost_types::Duration>) -> Option<Duration> {
    Duration::try_from(*duration?).ok()
}

/// Returns a duration in at most two units: `850ms`, `3.2s`, `10m`, `1m05s`, `2h03m`, `3d04h`.
pub(crate) fn format_span(span: Duration) -> String {
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

/// Returns a duration of an answer for people, or an empty text if there is none.
pub(crate) fn format_wire_span(span: Option<&prost_types::Duration>) -> String {
    from_wire(span).map(format_span).unwrap_or_default()
}

/// Returns a time relative to the clock of this machine: `now`, `3.2s ago`, `in 2h03m`. Returns an
/// empty text if there is none.
pub(crate) fn relative_time(time: Option<&prost_types::Timestamp>) -> String {
    let now = SystemClock.now().as_micros();
    time.map(|time| relative(now, micros(time))).unwrap_or_default()
}

/// Returns a time of this machine relative to its clock, as [`relative_time`].
pub(crate) fn relative_to_now(time: Timestamp) -> String {
    relative(SystemClock.now().as_micros(), time.as_micros())
}

/// Returns the local time of day to the millisecond, or an empty text if there is none.
pub(crate) fn time_of_day(time: Option<&prost_types::Timestamp>) -> String {
    let time = time.and_then(|time| jiff::Timestamp::new(time.seconds, time.nanos).ok());
    let local = time.map(|time| time.to_zoned_datetime(jiff::tz::TimeZone::system()));
    local.map(|local| local.strftime("%H:%M:%S%.3f").to_string()).unwrap_or_default()
}

fn micros(time: &prost_types::Timestamp) -> i64 {
    time.seconds.saturating_mul(MICROS).saturating_add(i64::from(time.nanos) / 1_000)
}

fn relative(now_micros: i64, then_micros: i64) -> String {
    let distance = Duration::from_micros(now_micros.abs_diff(then_micros));
    // The clocks of two machines differ a little.
    match (distance < Duration::from_secs(1), then_micros <= now_micros) {
        (true, _) => "now".to_owned(),
        (false, true) => format!("{} ago", format_span(distance)),
        (false, false) => format!("in {}", format_span(distance)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_at_most_two_units() {
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
            assert_eq!(format_span(Duration::from_millis(millis)), expected);
        }
        assert_eq!(from_wire(None), None);
    }

    #[test]
    fn times_are_relative_to_now() {
        assert_eq!(relative(10 * MICROS, 7 * MICROS), "3.0s ago");
        assert_eq!(relative(7 * MICROS, 70 * MICROS), "in 1m03s");
        assert_eq!(relative(7 * MICROS, 7 * MICROS + 900), "now");
        assert_eq!(relative(i64::MAX, i64::MIN), "213503982d08h ago");
    }
}
