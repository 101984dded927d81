//! Arguments that are secrets by the configuration of their tool.

use serde_json::json;

use crate::support::program::Site;
use crate::support::streams::log_of;
use crate::support::waiting::{call, lines_of, run};
use crate::support::{remote, v1};
use crate::turns::{Endpoint, calls, prompt, says, serve_with, turn};

const PIN: &str = "rosebud-0815";

/// A tool that writes what it got to a file.
fn tool(file: &std::path::Path) -> String {
    format!(
        "[[tools]]\nname = 'login'\ndescription = 'x'\nidempotent = true\n\
         secret_arguments = ['pin']\n\
         argv = ['bash', '-c', 'cat >> {file}; echo >> {file}; echo done; sleep $1', '-', '{{nap}}']\n\
         stdin = '{{pin}}'\n\
         input_schema = {{ type = 'object', required = ['pin'], properties = {{ pin = {{ type = 'string' }}, \
         nap = {{ type = 'string' }} }} }}\n",
        file = file.display()
    )
}

fn has_pin(bytes: &[u8]) -> bool {
    bytes.windows(PIN.len()).any(|part| part == PIN.as_bytes())
}

/// Returns whether a file of this folder has the secret.
fn is_stored(folder: &std::path::Path) -> bool {
    let files = std::fs::read_dir(folder).expect("a folder").flatten();
    let mut files = files.filter(|entry| entry.path().is_file() && entry.file_name() != "got");
    files.any(|entry| has_pin(&std::fs::read(entry.path()).unwrap_or_default()))
}

#[tokio::test]
async fn the_tool_gets_a_secret_argument_and_nothing_keeps_it() {
    let folder = crate::support::folder();
    let got = folder.path().join("got");
    let endpoint = Endpoint::new(vec![
        calls(&[("a", "login", json!({ "pin": PIN, "nap": "0" }))]),
        says("in"),
    ])
    .await;
    let mut server = serve_with(&endpoint, &tool(&got)).await;
    let answer = run(&server, call("login", json!({ "pin": PIN, "nap": "0" }))).await;
    assert_eq!(lines_of(&got, 1).await, [PIN]);
    let events = log_of(&server, &answer.session_id).await;
    let text = format!("{events:?} {answer:?}");
    assert!(!text.contains(PIN) && text.contains("[redacted]"), "{text}");

    // A model that passes it sees the replacement later, and so does whoever reads the history.
    let answer = turn(&server, prompt("", "log in")).await;
    assert_eq!(lines_of(&got, 2).await, [PIN, PIN]);
    let events = log_of(&server, &answer.session_id).await;
    let list =
        v1::ListMessagesRequest { session_id: answer.session_id.clone(), ..Default::default() };
    let messages = server.tools.clone().list_messages(list).await.expect("messages").into_inner();
    let later = endpoint.messages(1);
    let text = format!("{events:?} {messages:?} {later:?} {answer:?}");
    assert!(!text.contains(PIN), "{text}");
    assert!(format!("{later:?}").contains("[redacted]"), "{later:?}");
    server.stop().await;
    assert!(!is_stored(server.folder()), "it is in a file of the server");
}

#[tokio::test]
async fn the_replacement_never_reaches_the_tool() {
    let folder = crate::support::folder();
    let got = folder.path().join("got");
    let hidden = json!({ "pin": "[redacted]", "nap": "0" });
    let endpoint = Endpoint::new(vec![calls(&[("a", "login", hidden)]), says("no")]).await;
    let server = serve_with(&endpoint, &tool(&got)).await;
    turn(&server, prompt("", "log in")).await;
    let told = format!("{:?}", endpoint.messages(1));
    assert!(told.contains("the value of `pin` is secret and not kept"), "{told}");
    assert!(!got.exists(), "the tool has run");
}

/// The value is gone with the server, so an idempotent tool is not run again without it.
#[tokio::test]
async fn a_lost_call_with_a_secret_argument_is_not_run_again() {
    let site = Site::new();
    let got = site.folder().join("got");
    let file = site.write("callpark.toml", &tool(&got)).display().to_string();
    let server = site.serve(&["--config", &file]).await;
    let start = call("login", json!({ "pin": PIN, "nap": "300" }));
    let id = remote::start(&server.connect(), start).await.background_id;
    lines_of(&got, 1).await;
    site.kill_with_shims(server).await;
    let server = site.serve(&["--config", &file]).await;
    let task = remote::ended(&server.connect(), &id).await;
    assert_eq!(task.state(), v1::State::Lost, "{task:?}");
    assert_eq!(lines_of(&got, 1).await.len(), 1);
    server.terminate().await;
    assert!(!is_stored(&site.data()), "it is in a file of the server");
}
