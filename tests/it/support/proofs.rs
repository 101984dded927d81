//! Proofs: tests that repeat a race, a kill or a cut hundreds or thousands of times.

use super::waiting::variable;

/// Returns `all` in a run of the proofs, as `.ci/run proofs` is, and `share` in any other run, so
/// that the other tests need not wait for the proofs.
///
/// `.ci/run proofs` finds the files that call this function by its name.
pub fn proof<T>(all: T, share: T) -> T {
    if is_proof() { all } else { share }
}

/// Returns how often a proof is repeated: as often as the variable `CALLPARK_REPETITIONS` says, or as
/// [`proof`].
pub fn repetitions(all: usize, share: usize) -> usize {
    match variable("CALLPARK_REPETITIONS") {
        Some(number) => number.parse().expect("CALLPARK_REPETITIONS is a number"),
        None => proof(all, share),
    }
}

/// Returns whether the proofs run in full.
pub fn is_proof() -> bool {
    variable("CALLPARK_PROOFS").is_some_and(|value| value == "1")
}
