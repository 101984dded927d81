//! The opening of stores, and the errors that it can end with.

use std::sync::Arc;
use std::time::Duration;

use callpark::internals::telemetry::Metrics;
use callpark::model::{Call, State};
use callpark::store::{PostgresOpenError, PostgresOptions, PostgresStore, Store, StoreError};

use crate::cluster::{Cluster, PASSWORD, ROLE, open, shared};
use crate::load::{append, session};

/// Fails to open a store, and returns the error.
async fn refuse(url: &str) -> PostgresOpenError {
    let options = PostgresOptions { wait: Duration::ZERO, ..PostgresOptions::new(url) };
    let error = PostgresStore::open(&options, Metrics::default()).await.expect_err("an error");
    assert!(!error.to_string().contains(PASSWORD), "{error}");
    assert!(!format!("{error:?} {options:?}").contains(PASSWORD), "{error:?}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_there_after_the_next_opening() {
    let cluster = shared();
    let database = cluster.database();
    let url = cluster.url(cluster.port, &database);
    let session = session();
    let store = open(&url).await;
    store.append(append(&session, None)).await.expect("stored");
    let key = store.page_token_key().authenticate(&[1; 32], b"token");
    let stored = store.session(session.id).await;
    store.close().await;
    let store = open(&url).await;
    assert_eq!(store.page_token_key().authenticate(&[1; 32], b"token"), key);
    assert_eq!(store.session(session.id).await, stored);
    let stored = stored.expect("read").expect("a session");
    assert_eq!((stored.head_sequence, &*stored.stream_epoch), (1, "epoch"));
    store.append(append(&session, Some(1))).await.expect("stored");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_at_a_time_uses_a_database() {
    let cluster = shared();
    let database = cluster.database();
    let first = cluster.open(&database).await;
    let error = refuse(&cluster.url(cluster.port, &database)).await.to_string();
    let expected = format!("the database 127.0.0.1:{}/{database} is used by another", cluster.port);
    assert!(error.starts_with(&expected), "{error}");
    let advice = "stop that one, give this one a database of its own, or set `advertise` for both, so \
                  that they share it";
    assert!(error.ends_with(advice), "{error}");
    first.close().await;
    cluster.open(&database).await.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lost_its_database_to_another_writes_nothing() {
    let cluster = Cluster::start();
    let database = cluster.database();
    let first = Arc::new(cluster.open(&database).await);
    let session = session();
    first.append(append(&session, None)).await.expect("stored");
    // The other server is faster than the first one after a crash of the database.
    cluster.sql(&database, &format!("ALTER ROLE {ROLE} CONNECTION LIMIT 0"));
    cluster.sql(
        &database,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name LIKE 'callpark %'",
    );
    let full = first.append(append(&session, Some(1))).await.expect_err("no connection");
    assert!(full.to_string().contains("close other connections"), "{full}");
    cluster.sql(&database, "CREATE ROLE other SUPERUSER LOGIN PASSWORD 'open-sesame'");
    let url = format!("postgres://other:{PASSWORD}@127.0.0.1:{}/{database}", cluster.port);
    let second = open(&url).await;
    cluster.sql(&database, &format!("ALTER ROLE {ROLE} CONNECTION LIMIT -1"));
    let refused = loop {
        match first.append(append(&session, Some(1))).await {
            Err(StoreError::Unavailable(cause)) if cause.contains("another server") => break cause,
            Err(StoreError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
            other => panic!("{other:?}"),
        }
    };
    assert!(refused.contains("has taken the database: stop one of them"), "{refused}");
    assert!(first.check().await.is_err());
    second.append(append(&session, Some(1))).await.expect("stored");
    second.close().await;
    loop {
        match first.check().await {
            Ok(()) => break,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    let conflict = first.append(append(&session, Some(1))).await;
    assert_eq!(conflict, Err(StoreError::Conflict { head: Some(2) }));
    first.append(append(&session, Some(2))).await.expect("stored");
    first.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_error_says_what_to_do() {
    let cluster = shared();
    let port = cluster.port;
    let is = |error: PostgresOpenError, part: &str| {
        assert!(error.to_string().contains(part), "{error}");
    };
    is(refuse(&cluster.url(port, "nowhere")).await, "create it, or name another in the URL");
    is(refuse(&cluster.url(1, "nowhere")).await, "start it, or correct the address of the store");
    let stranger = format!("postgres://{ROLE}:wrong@127.0.0.1:{port}/postgres");
    is(refuse(&stranger).await, "check the user and the password");
    let odd = format!("postgres://{ROLE}:{PASSWORD}@127.0.0.1:{port}/postgres?color=red");
    is(refuse(&odd).await, "unknown option `color`");
    is(refuse(&format!("postgres://{ROLE}:{PASSWORD}@[::1")).await, "write postgres://");
    let encrypted = format!("{}?sslmode=require", cluster.url(port, "postgres"));
    is(refuse(&encrypted).await, "TLS");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_connection_verifies_the_server() {
    let cluster = Cluster::start();
    let database = cluster.database();
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let file = cluster.data().join("server.crt");
    for (path, pem) in [
        (file.clone(), certificate.pem()),
        (cluster.data().join("server.key"), key.serialize_pem()),
    ] {
        std::fs::write(&path, pem).expect("written");
        Cluster::give(&path);
    }
    let own = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(own.path(), certificate.pem()).expect("written");
    cluster.sql("postgres", "ALTER SYSTEM SET ssl = on");
    cluster.crash();
    cluster.resume();
    let url = cluster.url(cluster.port, &database).replace("127.0.0.1", "localhost");
    let url = format!("{url}?sslmode=verify-full");
    let root_certificates = Some(own.path().to_owned());
    let options = PostgresOptions { root_certificates, ..PostgresOptions::new(&url) };
    let store = PostgresStore::open(&options, Metrics::default()).await.expect("a store");
    store.append(append(&session(), None)).await.expect("stored");
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE application_name LIKE 'callpark%'";
    assert_eq!(cluster.sql("postgres", encrypted), "t");
    store.close().await;
    let error = refuse(&url).await.to_string();
    assert!(error.contains("certificate"), "a certificate of nobody: {error}");
    let missing = Some("/nowhere.pem".into());
    let options = PostgresOptions { root_certificates: missing, ..options };
    let error = PostgresStore::open(&options, Metrics::default()).await.expect_err("no file");
    assert!(error.to_string().contains("/nowhere.pem"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_schema_is_left_alone() {
    let cluster = shared();
    let database = cluster.database();
    cluster.open(&database).await.close().await;
    let newer = "INSERT INTO callpark.schema_history (version, name, applied_on, checksum)
        VALUES (99, 'newer', '2030-01-01T00:00:00Z', '1')";
    cluster.sql(&database, newer);
    let error = refuse(&cluster.local_url(&database)).await;
    assert!(matches!(error, PostgresOpenError::Newer { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("start the newer server again"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_takes_no_writes_says_so() {
    let cluster = shared();
    let database = cluster.database();
    cluster.open(&database).await.close().await;
    let store = cluster.open(&database).await;
    cluster.sql(
        "postgres",
        &format!("ALTER DATABASE {database} SET default_transaction_read_only = on"),
    );
    cluster.sql(
        "postgres",
        &format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
        ),
    );
    let error = loop {
        // Until the connection is replaced, the old one may answer.
        match store.append(append(&session(), None)).await {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("name the primary in the URL"), "{error}");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_has_new_epochs() {
    let cluster = shared();
    let database = cluster.database();
    let session = session();
    let first = append(&session, None);
    let task = Call { state: State::Succeeded, ..first.calls[0].clone() };
    let store = cluster.open(&database).await;
    store.append(first).await.expect("stored");
    store.close().await;
    // Another database of the same content, as a dump that is put in again.
    let copy = cluster.database();
    cluster.sql("postgres", &format!("DROP DATABASE {copy}"));
    cluster.sql("postgres", &format!("CREATE DATABASE {copy} TEMPLATE {database} OWNER {ROLE}"));
    let store = cluster.open(&copy).await;
    let found = store.session(session.id).await.expect("read").expect("a session");
    assert_ne!(&*found.stream_epoch, "epoch");
    let query = callpark::store::EventQuery {
        session_id: session.id,
        after: 0,
        kinds: Vec::new(),
        call_id: None,
        scan_max: 10,
        bytes_max: 1_000,
    };
    let page = store.events(query.clone()).await.expect("events");
    assert_eq!(page.stream_epoch.as_deref(), Some(&*found.stream_epoch));
    let next = append(&found, Some(1));
    store.append(next).await.expect("stored");
    let page = store.events(callpark::store::EventQuery { after: 1, ..query }).await;
    assert_eq!(page.expect("events").stream_epoch, None, "it was written under the new one");
    assert_eq!(store.call(task.id).await.expect("read").map(|call| call.id), Some(task.id));
    store.close().await;
    let store = cluster.open(&copy).await;
    let again = store.session(session.id).await.expect("read").expect("a session");
    assert_eq!(again.stream_epoch, found.stream_epoch, "it changes once");
    store.close().await;
}
