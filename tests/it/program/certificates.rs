//! Clients that show a certificate, and certificates that are renewed while the server runs.

use rcgen::{CertificateParams, DnType, SanType};

use crate::support::program::certificates::Certificates;
use crate::support::program::{Ended, Live, Site};
use crate::support::soon;

const TABLES: &str = r#"
[[client_certificates]]
name = "billing"
uri = "spiffe://example.org/ns/billing/*"
tenant = "billing"

[[client_certificates]]
name = "watcher"
common_name = "watcher"
tenant = "operations"
scopes = ["read"]
"#;

/// A server with TLS.
struct Server<'a> {
    site: &'a Site,
    live: Live,
    endpoint: String,
}

impl<'a> Server<'a> {
    async fn start(site: &'a Site, certificate: &[String; 2], flags: &[&str]) -> Self {
        let data = site.folder().join("secure").display().to_string();
        let first = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &data];
        let tls = ["--tls-cert", &certificate[0], "--tls-key", &certificate[1]];
        let mut live = Live::start(site.command(&[&first, &tls[..], flags].concat()));
        live.stderr.until("callpark listens").await;
        let text = live.stderr.until("  data").await;
        let (_, rest) = text.split_once("127.0.0.1:").expect("an address");
        let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Self { site, live, endpoint: format!("https://localhost:{port}") }
    }

    /// Runs a command with the certificate of a client.
    async fn run(&self, ca: &str, identity: &[String; 2], arguments: &[&str]) -> Ended {
        let [certificate, key] = identity;
        let way = ["--endpoint", &self.endpoint, "--ca-file", ca];
        let shown = ["--cert-file", certificate, "--key-file", key];
        self.site.run(&[&way, &shown[..], arguments].concat()).await
    }

    fn token_file(&self) -> String {
        self.site.folder().join("secure/token").display().to_string()
    }
}

/// The parameters of a certificate of a client.
fn client(uris: &[&str], common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    let uri = |uri: &&str| SanType::URI((*uri).try_into().expect("a URI"));
    params.subject_alt_names = uris.iter().map(uri).collect();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

#[tokio::test]
async fn a_client_is_known_by_its_certificate() {
    let site = Site::new();
    let certificates = Certificates::new(&site);
    let (own, ca) = (certificates.issued("server", "localhost"), certificates.ca());
    let config = site.write("certificates.toml", TABLES).display().to_string();
    let flags = ["--tls-client-ca", &ca, "--config", &config];
    let server = Server::start(&site, &own, &flags).await;
    let issued = |name: &str, uris: &[&str], common_name: &str| {
        certificates.issued_with(name, client(uris, common_name))
    };

    let billing = issued("billing", &["spiffe://example.org/ns/billing/api"], "x");
    let who = server.run(&ca, &billing, &["whoami", "--json"]).await.exits(0).json();
    assert_eq!((&who["tenant"], &who["name"]), (&"billing".into(), &"billing".into()), "{who}");
    assert_eq!(who["scopes"], serde_json::json!(["read", "run", "cancel", "follow_up"]), "{who}");
    assert_eq!(server.run(&ca, &billing, &["run", "bash", "echo hi"]).await.exits(0).line(), "hi");

    let watcher = issued("watcher", &[], "watcher");
    let who = server.run(&ca, &watcher, &["whoami", "--json"]).await.exits(0).json();
    assert_eq!(who["tenant"], "operations", "{who}");
    let refused = server.run(&ca, &watcher, &["run", "bash", "echo hi"]).await.exits(77);
    assert!(refused.stderr().contains("requires the scope `run`"), "{refused}");

    // Neither a name that only resembles one of the tables, nor one beside another, is let in.
    let strangers = [
        issued("other", &["spiffe://example.org/ns/billings/api"], "watcher2"),
        issued("both", &["spiffe://example.org/ns/billing/a", "spiffe://example.org/ns/b"], "x"),
    ];
    for stranger in &strangers {
        let refused = server.run(&ca, stranger, &["list"]).await.exits(77);
        assert!(refused.stderr().contains("no credentials"), "{refused}");
        // The token says more than the certificate.
        let token = server.token_file();
        let who = ["whoami", "--json", "--token-file", &token];
        let who = server.run(&ca, stranger, &who).await.exits(0).json();
        assert_eq!(who["tenant"], "local", "{who}");
    }
    let token = server.token_file();
    let who = ["whoami", "--json", "--token-file", &token];
    let who = server.run(&ca, &billing, &who).await.exits(0).json();
    assert_eq!(who["tenant"], "local", "{who}");
}

#[tokio::test]
async fn certificates_are_renewed_while_the_server_runs() {
    let site = Site::new();
    let certificates = Certificates::new(&site);
    let (served, ca) = (certificates.issued("server", "localhost"), certificates.ca());
    let config = site.write("certificates.toml", TABLES).display().to_string();
    let flags = ["--tls-client-ca", &ca, "--config", &config];
    let mut server = Server::start(&site, &served, &flags).await;
    let before = certificates.issued_with("before", client(&[], "watcher"));
    let old_ca = site.write("old-ca.pem", &std::fs::read_to_string(&ca).expect("read"));
    let old_ca = old_ca.display().to_string();
    server.run(&old_ca, &before, &["list"]).await.exits(0);

    // A certificate without its key is of no use, and changes nothing.
    let good = std::fs::read_to_string(&served[0]).expect("read");
    let strange = certificates.issued("strange", "localhost");
    std::fs::copy(&strange[0], &served[0]).expect("copied");
    server.live.stderr.until("the last good files of TLS stay in use").await;
    server.run(&old_ca, &before, &["list"]).await.exits(0);
    std::fs::write(&served[0], good).expect("written");

    // Another authority, for the server and for its clients.
    let renewed = Certificates::new(&site);
    renewed.issued("server", "localhost");
    let after = renewed.issued_with("after", client(&[], "watcher"));
    let accepted = async { while server.run(&ca, &after, &["list"]).await.code() != 0 {} };
    soon("the renewed certificates", accepted).await;
    let refused = server.run(&ca, &before, &["list"]).await.exits(69);
    assert!(refused.stderr().contains("refuses the client certificate"), "{refused}");
    server.run(&old_ca, &after, &["list"]).await.exits(69);
}
