//! Namespaces of Linux of one's own, for one test.

use super::program::{Site, run};
use super::waiting::variable;

/// Set to 1 where a process may have no namespace of its own: then tests that need one are skipped, and
/// say so.
const SKIP_VARIABLE: &str = "CALLPARK_TEST_NO_NAMESPACES";

/// The words of a command that runs another one in namespaces of its own, with these flags of `unshare`
/// and, where this user may not have them otherwise, as the root of a namespace of users. Returns `None`
/// if neither is possible and an environment variable says that this is known.
pub async fn unshare(site: &Site, flags: &[&str]) -> Option<Vec<String>> {
    let mut attempts = String::new();
    for users in [&[][..], &["-Ur"]] {
        let words = [&["unshare", "--propagation", "private"], users, flags].concat();
        let tried = [&words[1..], &["true"]].concat();
        let ended = run(site.other(words[0], &tried)).await;
        if ended.code() == 0 {
            return Some(words.into_iter().map(str::to_owned).collect());
        }
        attempts = format!("{attempts}{}: {ended}\n", words.join(" "));
    }
    let is_known = variable(SKIP_VARIABLE).is_some_and(|value| value == "1");
    assert!(
        is_known,
        "no process can have such namespaces; {SKIP_VARIABLE}=1 skips these tests:\n{attempts}"
    );
    eprintln!("not checked: there are no namespaces");
    None
}
