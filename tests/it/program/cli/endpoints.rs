//! Commands with several addresses of one server.

use serde_json::json;

use crate::support::link::Link;
use crate::support::program::{Live, Site, run};

#[tokio::test]
async fn a_command_passes_over_an_address_that_is_dead() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let [dead, live] = [Link::start(&server.endpoint).await, Link::start(&server.endpoint).await];
    dead.cut().await;
    let both = format!("{},{}", dead.endpoint, live.endpoint);
    for _ in 0..3 {
        let words = ["run", "--endpoint", &both, "bash", "echo hello"];
        assert_eq!(site.run(&words).await.exits(0).line(), "hello");
    }
    let mut command = site.command(&["list", "-q"]);
    command.env("CALLPARK_ENDPOINT", &both);
    let ended = run(command).await.exits(0);
    assert_eq!(ended.stderr(), "");
}

#[tokio::test]
async fn output_that_is_followed_goes_on_at_another_address() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let links = [Link::start(&server.endpoint).await, Link::start(&server.endpoint).await];
    let both = format!("{},{}", links[0].endpoint, links[1].endpoint);
    let talk = "for i in $(seq 100); do echo $i; sleep 0.02; done; exit 3";
    let id = super::start(&server, talk).await;
    let mut live = Live::start(site.command(&["output", "--endpoint", &both, "-f", &id]));
    let waiting = Live::start(site.command(&["wait", "--endpoint", &both, &id]));
    live.stdout.until("\n20\n").await;
    links[0].cut().await;
    live.stdout.until("\n50\n").await;
    links[0].mend().await;
    links[1].cut().await;
    let expected: String = (1..=100).map(|number| format!("{number}\n")).collect();
    assert_eq!(live.ended().await.exits(0).stdout(), expected);
    waiting.ended().await.exits(3);
}

#[tokio::test]
async fn when_all_addresses_are_dead_each_is_named_with_its_reason() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let links = [Link::start(&server.endpoint).await, Link::start(&server.endpoint).await];
    for link in &links {
        link.cut().await;
    }
    let both = format!("{},{}", links[0].endpoint, links[1].endpoint);
    let ended = site.run(&["list", "--endpoint", &both]).await.exits(69);
    let refused = "tcp connect error: Connection refused (os error 111)";
    let expected = format!(
        "error: no server can be reached; {}: {refused}; {}: {refused}",
        links[0].endpoint, links[1].endpoint
    );
    assert_eq!(ended.stderr().lines().next(), Some(expected.as_str()), "{ended}");
    let bare = site.run(&["list", "--endpoint", "http://127.0.0.1:1,127.0.0.1:2"]).await.exits(2);
    assert!(bare.stderr().contains("`127.0.0.1:2` is not an endpoint"), "{bare}");
}

#[tokio::test]
async fn the_health_of_each_address_is_shown() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let links = [Link::start(&server.endpoint).await, Link::start(&server.endpoint).await];
    let [first, second] = [&links[0].endpoint, &links[1].endpoint];
    let both = format!("{first},{second}");
    let health = ["health", "--endpoint", &both];
    let ended = site.run(&health).await.exits(0);
    assert_eq!(ended.stdout(), format!("{first}: serving\n{second}: serving\n"));

    links[1].cut().await;
    let refused = "tcp connect error: Connection refused (os error 111)";
    let ended = site.run(&health).await.exits(69);
    assert_eq!(ended.stdout(), format!("{first}: serving\n{second}: {refused}\n"));
    let ended = site.run(&[&health[..], &["--json"]].concat()).await.exits(69);
    let expected = json!({ "endpoints": [
        { "endpoint": first, "status": "SERVING" },
        { "endpoint": second, "status": "UNKNOWN", "error": refused },
    ]});
    assert_eq!(ended.json(), expected);
}

#[tokio::test]
async fn one_address_that_does_not_serve_is_enough_to_fail() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let other = Site::new();
    let broken = other.serve(&[]).await;
    for file in ["callpark.db", "callpark.db-wal", "callpark.db-shm"] {
        std::fs::remove_file(other.data().join(file)).expect("removed");
    }
    assert_ne!(broken.cli(&["run", "bash", "true"]).await.code(), 0);
    // The server looks at its store once a second.
    while broken.cli(&["health"]).await.code() == 0 {}
    let both = format!("{},{}", server.endpoint, broken.endpoint);
    let ended = site.run(&["health", "--endpoint", &both]).await.exits(1);
    let expected = format!("{}: serving\n{}: not serving\n", server.endpoint, broken.endpoint);
    assert_eq!(ended.stdout(), expected);
}
