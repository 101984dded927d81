//! `callpark health`, for probes.

use rustix::process::Signal;

use crate::support::program::Site;

#[tokio::test]
async fn a_serving_server_is_healthy_and_needs_no_token_to_say_so() {
    let site = Site::new();
    let socket = format!("unix:{}", site.folder().join("socket").display());
    let server = site.serve(&["--listen", &format!("127.0.0.1:0,{socket}")]).await;
    assert_eq!(server.cli(&["health"]).await.exits(0).line(), "serving");
    let json = server.cli(&["health", "--json"]).await.exits(0).json();
    assert_eq!(json, serde_json::json!({ "status": "SERVING" }));
    let mut command = server.command(&["health", "--endpoint", &socket]);
    command.env("CALLPARK_TOKEN", "a-wrong-one");
    let ended = crate::support::program::run(command).await;
    assert_eq!(ended.exits(0).line(), "serving");
}

#[tokio::test]
async fn a_server_whose_store_takes_no_changes_is_not_healthy() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    for file in ["callpark.db", "callpark.db-wal", "callpark.db-shm"] {
        std::fs::remove_file(site.data().join(file)).expect("removed");
    }
    assert_ne!(server.cli(&["run", "bash", "true"]).await.code(), 0);
    // The server looks at its store once a second.
    let ended = loop {
        let ended = server.cli(&["health"]).await;
        if ended.code() != 0 {
            break ended;
        }
        assert_eq!(ended.line(), "serving");
    };
    assert_eq!(ended.exits(1).line(), "not serving");
    let json = server.cli(&["health", "--json"]).await.exits(1).json();
    assert_eq!(json, serde_json::json!({ "status": "NOT_SERVING" }));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_unreachable() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    server.live.signal(Signal::STOP);
    let silent = server.cli(&["health", "--timeout", "1s"]).await.exits(69);
    assert!(silent.stderr().contains("has not answered within 1"), "{silent}");
    server.live.signal(Signal::CONT);
    let endpoint = server.endpoint.clone();
    let (ended, _) = server.terminate().await;
    ended.exits(0);
    let gone = site.run(&["health", "--endpoint", &endpoint]).await.exits(69);
    assert_eq!(gone.stdout(), "");
}
