//! The addresses that a server listens on: names, and Unix domain sockets.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use callpark_client::{Client, ClientOptions, Code, RunTool, TokenSource};
use rustix::process::Signal;

use crate::support::program::{Live, Site};

/// Starts a server on these addresses, and returns its announcement with it.
async fn serve(site: &Site, listen: &str, flags: &[&str]) -> (Live, String) {
    let data = site.data().display().to_string();
    let first = ["serve", "--listen", listen, "--data-dir", &data];
    let mut live = Live::start(site.command(&[&first, flags].concat()));
    live.stderr.until("callpark listens").await;
    let text = live.stderr.until("  try ").await;
    (live, text)
}

fn socket_of(site: &Site) -> (std::path::PathBuf, String) {
    let path = site.folder().join("callpark.sock");
    let address = format!("unix:{}", path.display());
    (path, address)
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

#[tokio::test]
async fn a_server_listens_on_the_addresses_of_a_name() {
    let site = Site::new();
    let (_server, text) = serve(&site, "localhost:0", &[]).await;
    assert!(text.contains("http://127.0.0.1:"), "{text}");
    let port = text.split_once("http://127.0.0.1:").map(|(_, rest)| rest).unwrap_or_default();
    let port: String = port.chars().take_while(char::is_ascii_digit).collect();
    let endpoint = format!("http://localhost:{port}");
    let ended = site.run(&["run", "--endpoint", &endpoint, "bash", "--", "echo hello"]).await;
    assert_eq!(ended.exits(0).line(), "hello");
}

#[tokio::test]
async fn a_name_of_another_machine_needs_tls() {
    let site = Site::new();
    let ended = site.run(&["serve", "--listen", "box.example.com:0"]).await.exits(78);
    assert!(ended.stderr().contains("box.example.com:0` is beyond this machine"), "{ended}");
}

#[tokio::test]
async fn a_unix_socket_serves_commands_and_is_gone_after_the_server() {
    let site = Site::new();
    let (path, address) = socket_of(&site);
    let (server, text) = serve(&site, &address, &[]).await;
    assert!(text.contains(&format!("callpark listens on {address}")), "{text}");
    assert!(text.contains(&format!("callpark run --endpoint {address} bash")), "{text}");
    assert_eq!(mode(&path), 0o600);
    let run = ["run", "--endpoint", &address, "bash", "--", "echo hello"];
    assert_eq!(site.run(&run).await.exits(0).line(), "hello");
    // The same with compression.
    assert_eq!(site.run(&[&["--gzip"], &run[..]].concat()).await.exits(0).line(), "hello");
    server.signal(Signal::TERM);
    server.ended().await.exits(0);
    assert!(!path.exists());
    let ended = site.run(&run).await.exits(69);
    assert!(ended.stderr().contains(&format!("no server at {address}")), "{ended}");
}

#[tokio::test]
async fn a_server_listens_on_a_socket_and_a_port_at_once() {
    let site = Site::new();
    let (path, address) = socket_of(&site);
    let both = format!("127.0.0.1:0,{address}");
    let (_server, text) = serve(&site, &both, &["--socket-mode", "660"]).await;
    assert_eq!(mode(&path), 0o660);
    let (_, rest) = text.split_once("callpark listens on ").expect("the addresses");
    let (endpoint, rest) = rest.split_once(" and ").expect("two addresses");
    assert!(endpoint.starts_with("http://127.0.0.1:") && rest.starts_with(&address), "{text}");
    for endpoint in [endpoint, &address] {
        let ended = site.run(&["run", "--endpoint", endpoint, "bash", "--", "echo hello"]).await;
        assert_eq!(ended.exits(0).line(), "hello", "{endpoint}");
    }
}

#[tokio::test]
async fn the_socket_of_a_killed_server_is_taken_and_that_of_a_live_one_is_not() {
    let site = Site::new();
    let (path, address) = socket_of(&site);
    let (server, _) = serve(&site, &address, &[]).await;
    server.signal(Signal::KILL);
    server.ended().await;
    assert!(path.exists(), "a kill leaves the file");
    let (_server, _) = serve(&site, &address, &[]).await;

    let other = site.folder().join("other").display().to_string();
    let second = site.run(&["serve", "--listen", &address, "--data-dir", &other]).await.exits(75);
    let expected = format!("cannot listen on {address}: another program listens there");
    assert!(second.stderr().contains(&expected), "{second}");
    let ended = site.run(&["run", "--endpoint", &address, "bash", "--", "echo hello"]).await;
    assert_eq!(ended.exits(0).line(), "hello");
}

/// The code of a request with this token. One that is let in lacks its arguments.
async fn code(address: &str, token: TokenSource) -> Code {
    let client = Client::new(ClientOptions::new(address).with_token(token)).expect("a client");
    match client.tools().run(RunTool::new("bash")).await {
        Ok(_) => Code::Ok,
        Err(error) => error.code(),
    }
}

#[tokio::test]
async fn the_user_of_the_server_needs_no_token_on_a_socket_where_that_is_set() {
    let site = Site::new();
    let (_, address) = socket_of(&site);
    let wrong = || TokenSource::Value("0123456789abcdef0123456789abcdef".into());
    let right = || TokenSource::File(site.data().join("token"));
    let (server, _) = serve(&site, &address, &[]).await;
    assert_eq!(code(&address, TokenSource::None).await, Code::Unauthenticated);
    assert_ne!(code(&address, right()).await, Code::Unauthenticated);
    server.signal(Signal::TERM);
    server.ended().await.exits(0);

    let both = format!("{address},127.0.0.1:0");
    let (_server, text) = serve(&site, &both, &["--socket-user-auth"]).await;
    assert_ne!(code(&address, TokenSource::None).await, Code::Unauthenticated);
    assert_ne!(code(&address, right()).await, Code::Unauthenticated);
    assert_eq!(code(&address, wrong()).await, Code::Unauthenticated);
    // The port of the same server asks for the token.
    let at = text.find("http://127.0.0.1:").expect("an address");
    let endpoint: String = text[at..].chars().take_while(|c| !c.is_whitespace()).collect();
    assert_eq!(code(&endpoint, TokenSource::None).await, Code::Unauthenticated);
}
