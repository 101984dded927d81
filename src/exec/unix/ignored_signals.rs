//! The signals that this program was started to ignore: its tools get back their default actions.

use std::fs;

use tokio::signal::unix::{SignalKind, signal};

/// The signal of a broken pipe. The runtime of Rust ignores it, and the standard library restores its
/// default in the programs that it starts.
const BROKEN_PIPE: i32 = 13;

/// Restores the default action of all signals in the programs that this one starts from now on.
///
/// A program that is executed goes on ignoring what its parent ignored: under `nohup` or in the
/// background of a script, no tool could be interrupted. A signal with a handler gets back its default
/// action instead. So each ignored signal gets a handler that does nothing, with which this program goes
/// on ignoring it. Must be called inside a Tokio runtime.
pub fn restore_ignored_signals() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for number in ignored(&status).filter(|number| *number != BROKEN_PIPE) {
        // The handler outlives this value. A few signals cannot have one.
        let _result = signal(SignalKind::from_raw(number));
    }
}

/// Returns the numbers of the ignored signals from the text of `/proc/PID/status`.
fn ignored(status: &str) -> impl Iterator<Item = i32> + use<> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    (0..64).filter(move |bit| mask >> bit & 1 == 1).map(|bit| bit + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_signals_begin_with_one() {
        let status = "Name:\tsleep\nSigBlk:\t0000000000000002\nSigIgn:\t8000000000001003\n";
        assert_eq!(ignored(status).collect::<Vec<_>>(), [1, 2, 13, 64]);
        assert_eq!(ignored("Name:\tsleep\n").count(), 0);
        assert_eq!(ignored("SigIgn:\tnone\n").count(), 0);
    }
}
