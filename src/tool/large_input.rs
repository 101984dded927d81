//! Work on input that may be large, away from the threads that serve all requests.

use std::panic::resume_unwind;
use std::sync::LazyLock;

use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::Arguments;
use crate::model::limits::{LARGE_INPUT_BYTES, LARGE_INPUTS_MAX};

/// The places for large inputs that are worked on at the same time, in the whole program.
static PLACES: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(LARGE_INPUTS_MAX));

/// Does the work on an input of this size: at once if it is small, else on a thread for blocking work,
/// after the inputs before it. The work goes on if the future is dropped.
pub(crate) async fn on_input<T>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T
where
    T: Send + 'static,
{
    if bytes <= LARGE_INPUT_BYTES {
        return work();
    }
    // The semaphore is never closed.
    let place = PLACES.acquire().await;
    let done = spawn_blocking(move || {
        let _place = place;
        work()
    });
    match done.await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is shutting down: this task is about to be dropped.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Returns the size of arguments as JSON, roughly, and without the escapes of texts. Whatever is above
/// [`LARGE_INPUT_BYTES`] is not measured to its end.
pub(crate) fn rough_size(arguments: &Arguments) -> usize {
    let mut bytes = 0;
    add_members(arguments, &mut bytes);
    bytes
}

fn add_members(members: &Arguments, bytes: &mut usize) {
    for (name, value) in members {
        if *bytes > LARGE_INPUT_BYTES {
            return;
        }
        *bytes += name.len();
        add(value, bytes);
    }
}

fn add(value: &Value, bytes: &mut usize) {
    /// A number, or the punctuation around a value.
    const VALUE_BYTES: usize = 4;
    *bytes += VALUE_BYTES;
    match value {
        Value::String(text) => *bytes += text.len(),
        Value::Object(members) => add_members(members, bytes),
        Value::Array(items) => {
            for item in items {
                if *bytes > LARGE_INPUT_BYTES {
                    return;
                }
                add(item, bytes);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn size(arguments: Value) -> usize {
        rough_size(arguments.as_object().expect("an object"))
    }

    #[test]
    fn large_arguments_of_any_shape_are_recognized() {
        assert!(size(json!({ "a": 1, "b": ["c", { "d": null }] })) < 100);
        let many = || (0..LARGE_INPUT_BYTES).map(|number| number.to_string());
        let members: Arguments = many().map(|name| (name, json!(1))).collect();
        let nested = (0..100).fold(json!("x".repeat(LARGE_INPUT_BYTES)), |inner, _| json!([inner]));
        for large in [
            json!({ "a": "x".repeat(LARGE_INPUT_BYTES) }),
            json!({ "x".repeat(LARGE_INPUT_BYTES): 1 }),
            json!({ "a": many().collect::<Vec<_>>() }),
            json!({ "a": nested }),
            Value::Object(members),
        ] {
            assert!(size(large) > LARGE_INPUT_BYTES);
        }
    }
}
