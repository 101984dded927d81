//! An identity provider on loopback, which shows its keys.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tokio_util::task::TaskTracker;

use super::Signer;

/// A server with a key set.
pub struct Provider {
    address: SocketAddr,
    answer: Arc<Mutex<String>>,
    requests: Arc<AtomicUsize>,
    _serving: AbortOnDropHandle<()>,
}

impl Provider {
    /// With these keys.
    pub async fn start(keys: &[&Signer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (answer, requests) =
            (Arc::new(Mutex::new(String::new())), Arc::new(AtomicUsize::new(0)));
        let (of_task, counted) = (Arc::clone(&answer), Arc::clone(&requests));
        let serving = TaskTracker::new().spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n")
                    && stream.read_buf(&mut head).await.is_ok_and(|n| n > 0)
                {}
                counted.fetch_add(1, Ordering::SeqCst);
                let answer: String = of_task.lock().expect("a lock").clone();
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let _serving = AbortOnDropHandle::new(serving);
        let provider = Self { address, answer, requests, _serving };
        provider.show(keys);
        provider
    }

    /// Shows these keys from here on.
    pub fn show(&self, keys: &[&Signer]) {
        let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
        self.answer("200 OK", &json!({ "keys": keys }).to_string());
    }

    /// Answers with this from here on.
    pub fn answer(&self, status: &str, body: &str) {
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n");
        *self.answer.lock().expect("a lock") = format!("{head}\r\n{body}");
    }

    /// The URL of its keys.
    pub fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    /// The number of requests so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}
