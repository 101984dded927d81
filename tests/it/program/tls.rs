//! Commands that meet TLS where they expect none, and the reverse, and certificates that don't fit.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::support::program::certificates::Certificates;
use crate::support::program::{Ended, Live, Site};

/// A server with its port.
struct Server {
    _live: Live,
    port: String,
}

/// Starts a server with these flags. Its data is its own.
async fn serve(site: &Site, name: &str, flags: &[&str]) -> Server {
    let data = site.folder().join(name).display().to_string();
    let first = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &data];
    let mut live = Live::start(site.command(&[&first, flags].concat()));
    live.stderr.until("callpark listens").await;
    let text = live.stderr.until("  data").await;
    let (_, rest) = text.split_once("127.0.0.1:").expect("an address");
    let port = rest.chars().take_while(char::is_ascii_digit).collect();
    Server { _live: live, port }
}

/// Runs a command that cannot reach a server, and returns what it prints.
async fn refused(site: &Site, endpoint: &str, flags: &[&str]) -> String {
    let ended: Ended =
        site.run(&[&["list", "--endpoint", endpoint], flags].concat()).await.exits(69);
    assert!(ended.stderr().contains(endpoint), "{ended}");
    ended.stderr().to_owned()
}

#[tokio::test]
async fn a_scheme_that_is_not_the_servers_is_named() {
    let site = Site::new();
    let files = Certificates::new(&site);
    let [certificate, key] = files.issued("server", "localhost");
    let secure = serve(&site, "secure", &["--tls-cert", &certificate, "--tls-key", &key]).await;
    let text = refused(&site, &format!("http://localhost:{}", secure.port), &[]).await;
    assert!(text.contains("the server expects TLS: use https:// instead of http://"), "{text}");
    assert!(text.contains(&format!("--endpoint https://localhost:{}", secure.port)), "{text}");

    let plain = serve(&site, "plain", &[]).await;
    let ca = ["--ca-file", &files.ca()];
    let text = refused(&site, &format!("https://localhost:{}", plain.port), &ca).await;
    assert!(text.contains("use http:// instead of https://"), "{text}");
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_or_does_not_fit_is_named() {
    let site = Site::new();
    let files = Certificates::new(&site);
    let ca = files.ca();
    let other_ca = files.self_signed("other", true)[0].clone();
    let cases = [
        (files.self_signed("own", false), &ca, "self-signed, or its authority is not trusted"),
        (files.self_signed("own-ca", true), &ca, "self-signed as one of an authority (CA:TRUE)"),
        (files.issued("private", "localhost"), &other_ca, "its authority is not trusted"),
        (files.issued("elsewhere", "box.example.com"), &ca, "not for `localhost`"),
    ];
    for ([certificate, key], ca, words) in cases {
        let name = format!("data of {}", certificate.replace('/', "-"));
        let flags = ["--tls-cert", &certificate, "--tls-key", &key];
        let server = serve(&site, &name, &flags).await;
        let endpoint = format!("https://localhost:{}", server.port);
        let text = refused(&site, &endpoint, &["--ca-file", ca]).await;
        assert!(text.contains(words), "{text}");
    }
    // A self-signed certificate is its own authority, once it is named.
    let [certificate, key] = files.self_signed("trusted", false);
    let flags = ["--tls-cert", &certificate, "--tls-key", &key];
    let server = serve(&site, "trusted", &flags).await;
    let endpoint = format!("https://localhost:{}", server.port);
    let token = site.folder().join("trusted/token").display().to_string();
    let list = ["list", "--endpoint", &endpoint, "--ca-file", &certificate, "--token-file", &token];
    site.run(&list).await.exits(0);
}

#[tokio::test]
async fn a_server_that_demands_a_client_certificate_is_named_as_such() {
    let site = Site::new();
    let files = Certificates::new(&site);
    let [certificate, key] = files.issued("server", "localhost");
    let ca = files.ca();
    let flags = ["--tls-cert", &certificate, "--tls-key", &key, "--tls-client-ca", &ca];
    let server = serve(&site, "mutual", &flags).await;
    let endpoint = format!("https://localhost:{}", server.port);
    let text = refused(&site, &endpoint, &["--ca-file", &ca]).await;
    assert!(text.contains("the server demands a client certificate"), "{text}");
    assert!(text.contains("--cert-file"), "{text}");

    let [other, other_key] = files.self_signed("stranger", false);
    let identity = ["--ca-file", &ca, "--cert-file", &other, "--key-file", &other_key];
    let text = refused(&site, &endpoint, &identity).await;
    assert!(text.contains("the server refuses the client certificate"), "{text}");

    let [client, client_key] = files.issued("client", "agent.example");
    let token = site.folder().join("mutual/token").display().to_string();
    let identity = [
        "--ca-file",
        &ca,
        "--cert-file",
        &client,
        "--key-file",
        &client_key,
        "--token-file",
        &token,
    ];
    site.run(&[&["list", "--endpoint", &endpoint], &identity[..]].concat()).await.exits(0);
}

#[tokio::test]
async fn a_program_that_speaks_http1_is_named_as_such() {
    let site = Site::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let tasks = TaskTracker::new();
    let answers = tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let text = refused(&site, &format!("http://{address}"), &[]).await;
    assert!(text.contains("the answer is HTTP/1, and gRPC needs HTTP/2"), "{text}");
    let text = refused(&site, &format!("https://{address}"), &["--ca-file", &ca_of(&site)]).await;
    assert!(text.contains("the server does not speak TLS"), "{text}");
    answers.abort();
}

fn ca_of(site: &Site) -> String {
    Certificates::new(site).ca()
}

#[tokio::test]
async fn each_of_several_endpoints_must_have_a_certificate_for_its_own_host() {
    let site = Site::new();
    let files = Certificates::new(&site);
    let [ca, mut endpoints] = [files.ca(), String::new()];
    let mut servers = Vec::new();
    for (host, of) in
        [("localhost", "localhost"), ("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "localhost")]
    {
        let name = format!("{host}-of-{of}");
        let [certificate, key] = files.issued(&name, of);
        let flags = ["--tls-cert", &certificate, "--tls-key", &key];
        let server = serve(&site, &name, &flags).await;
        endpoints.push_str(&format!(",https://{host}:{}", server.port));
        servers.push(server);
    }
    let endpoints = endpoints.trim_start_matches(',');
    let ended = site.run(&["health", "--endpoint", endpoints, "--ca-file", &ca]).await.exits(69);
    let lines: Vec<_> = ended.stdout().lines().collect();
    assert!(lines[0].ends_with(": serving") && lines[1].ends_with(": serving"), "{ended}");
    assert!(lines[2].ends_with("not for `127.0.0.1`"), "{ended}");

    // The one that is refused is passed over.
    let token = site.folder().join("localhost-of-localhost/token").display().to_string();
    let [(good, _), (_, bad)] = [endpoints.split_once(','), endpoints.rsplit_once(',')]
        .map(|split| split.expect("several endpoints"));
    let both = format!("{bad},{good}");
    let flags = ["--ca-file", &ca, "--token-file", &token];
    for _ in 0..3 {
        site.run(&[&["list", "--endpoint", &both], &flags[..]].concat()).await.exits(0);
    }
}
