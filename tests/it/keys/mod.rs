//! API keys: who their callers are, what they may do, and how they end.

use bytes::Bytes;
use callpark::internals::auth::keys::{KeyFile, KeyId, KeyOptions};
use callpark::internals::engine::{Clock as _, SystemClock};
use callpark::model::{Scope, Scopes, Timestamp};
use secrecy::ExposeSecret as _;
use tonic::Request;

use crate::support::program::Clients;
use crate::support::{TestServer, soon, v1};

mod ending;
mod grants;
mod scopes;

/// A file of keys, and a server that reads it.
pub struct Keys {
    pub server: TestServer,
    file: KeyFile,
}

/// A key, and clients that show it.
pub struct Key {
    id: KeyId,
    text: String,
    pub clients: Clients,
}

impl Keys {
    /// A server with this configuration, and no keys.
    pub async fn with_config(toml: &str) -> Self {
        let server = TestServer::with_config(toml, &[]).await;
        let file = KeyFile::new(server.folder().join("keys"));
        Self { server, file }
    }

    /// Creates a key, and waits until the server accepts it.
    pub async fn create(&self, tenant: &str, scopes: Scopes) -> Key {
        let key = self.create_expiring(tenant, scopes, None);
        let mut tools = key.clients.tools.clone();
        let accepted = async {
            while tools.get_server_info(v1::GetServerInfoRequest {}).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        soon("the new key", accepted).await;
        key
    }

    /// Creates a key that expires at a time.
    fn create_expiring(&self, tenant: &str, scopes: Scopes, expire_time: Option<Timestamp>) -> Key {
        let options = KeyOptions {
            tenant: tenant.to_owned(),
            name: format!("{tenant}-backend"),
            scopes,
            create_time: SystemClock.now(),
            expire_time,
        };
        let key = self.file.create(options).expect("a key");
        let text = key.text.expose_secret().to_owned();
        let clients = Clients::new(&self.server.endpoint, &text);
        Key { id: key.record.id, text, clients }
    }

    fn revoke(&self, key: &Key) {
        let is_new = self.file.revoke(&key.id, SystemClock.now()).expect("a key");
        assert!(is_new);
    }
}

impl Key {
    /// A request of these bytes with the key.
    pub fn request(&self, body: Bytes) -> Request<Bytes> {
        let mut request = Request::new(body);
        let value = format!("Bearer {}", self.text).parse().expect("a header");
        request.metadata_mut().insert("authorization", value);
        request
    }
}

/// All scopes but this one.
fn all_but(scope: Scope) -> Scopes {
    Scopes::ALL.iter().filter(|other| *other != scope).collect()
}
