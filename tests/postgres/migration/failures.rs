//! Copies that fail on the way: nothing of them is kept, and they can be made again.

use bytes::Bytes;
use callpark::model::SessionId;
use callpark::store::{Append, MigrateError, Store};

use super::fill::{empty, event};
use super::refusals::filled;
use super::{Source, clear, rows};
use crate::cluster::shared;
use crate::load::session;
use crate::support::proxy::{Fate, Proxy};

/// Copies through a proxy that treats the first connection like this, and returns whether it says that
/// it has succeeded.
async fn copy_through(source: &Source, database: &str, fate: Fate) -> Result<bool, MigrateError> {
    let address = format!("127.0.0.1:{}", shared().port);
    let proxy = Proxy::start(&address, 1, Box::new(move || fate)).await;
    let port = proxy.endpoint.rsplit(':').next().and_then(|port| port.parse().ok());
    match source.copy_to(&shared().url(port.expect("a port"), database)).await {
        Ok(_) => Ok(true),
        Err(MigrateError::Write { .. } | MigrateError::Target(_)) => Ok(false),
        Err(other) => Err(other),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_cut_off_can_be_made_again() {
    let source = filled().await;
    for step in 0..4 {
        let database = shared().database();
        for fate in [Fate::CutUp(3_000 + step * 20_000), Fate::CutDown(3_000 + step * 20_000)] {
            let copied = copy_through(&source, &database, fate).await.expect("an outcome");
            assert!(!copied, "{fate:?}: the copy takes more");
            assert_eq!(rows(&database), 0, "{fate:?}");
        }
        let report = source.copy(shared(), &database).await.expect("a copy");
        assert_eq!(report.rows(), rows(&database));
    }
}

/// Cuts the answers at ever closer numbers of bytes around the commit. Whatever is lost, the result is
/// true.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_looked_up() {
    let source = large(20, 100).await;
    let (mut fails, mut succeeds) = (2_000, 100_000);
    let mut looked_up = 0;
    let database = shared().database();
    while fails + 1 < succeeds {
        let middle = (fails + succeeds) / 2;
        let copied = copy_through(&source, &database, Fate::CutDown(middle)).await;
        let copied = copied.expect("an outcome");
        assert_eq!(rows(&database) > 0, copied, "after {middle} bytes");
        let writers = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name LIKE 'callpark%'";
        assert_eq!(shared().sql(&database, writers), "0");
        clear(&database);
        looked_up += usize::from(copied && succeeds - fails < 40);
        if copied { succeeds = middle } else { fails = middle }
    }
    assert!(looked_up > 0, "no answer was lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_ended_leaves_nothing() {
    let source = large(20_000, 500).await;
    let database = shared().database();
    let copy = source.copy(shared(), &database);
    let end = async {
        // While it copies events, which takes a while.
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database() AND query LIKE 'COPY events%'";
        while shared().sql(&database, sql) == "0" {
            tokio::task::yield_now().await;
        }
    };
    let (copied, ()) = tokio::join!(copy, end);
    let error = copied.expect_err("its backend has ended");
    assert!(matches!(error, MigrateError::Write { .. }), "{error}");
    assert_eq!(rows(&database), 0);
    source.copy(shared(), &database).await.expect("a copy");
    assert_eq!(shared().sql(&database, "SELECT count(*) FROM callpark.events"), "20000");
}

/// Returns a store with a log of events of this size.
pub(crate) async fn large(events: u64, bytes: usize) -> Source {
    let source = Source::new();
    let store = source.open();
    let session = callpark::model::Session { id: SessionId::random(), ..session() };
    for first in (1..=events).step_by(500) {
        let content = |n: u64| Bytes::from(n.to_string().repeat(bytes / n.to_string().len()));
        let events = (first..(first + 500).min(events + 1)).map(|n| event(n, None, content(n)));
        let head = (first > 1).then_some(first - 1);
        let append = Append { events: events.collect(), ..empty(&session, head) };
        store.append(append).await.expect("stored");
    }
    store.close().await;
    source
}

/// Changes of rows on their way into a table, which a copy must notice.
const CHANGES: &[(&str, &str)] = &[
    ("events", "IF NEW.sequence = 5 THEN RETURN NULL; END IF; RETURN NEW;"),
    ("events", "NEW.bytes = NEW.bytes || '\\x00'::bytea; RETURN NEW;"),
    ("sessions", "NEW.head = NEW.head + 1; RETURN NEW;"),
    ("calls", "NEW.labels = NULL; RETURN NEW;"),
    ("follow_ups", "NEW.due_time = NEW.due_time + 1; RETURN NEW;"),
    ("requests", "NEW.call_id = NULL; RETURN NEW;"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_differs_is_not_kept() {
    let source = filled().await;
    for (table, change) in CHANGES {
        let database = shared().database();
        shared().open(&database).await.close().await;
        let trigger = format!(
            "SET search_path = callpark;
             CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {change} END $$;
             CREATE TRIGGER change BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION change()"
        );
        shared().sql(&database, &trigger);
        let error = source.refuse(shared(), &database).await;
        let MigrateError::Difference { table: named, source_contents, target_contents } = &error
        else {
            panic!("{change}: {error}");
        };
        assert_eq!(named, table);
        let is_count = change.contains("RETURN NULL");
        assert_eq!(source_contents.rows != target_contents.rows, is_count, "{error}");
        assert_ne!(source_contents.checksum, target_contents.checksum);
        assert_eq!(rows(&database), 0, "{change}");
        shared().sql(&database, &format!("DROP TRIGGER change ON callpark.{table}"));
        source.copy(shared(), &database).await.expect("a copy");
    }
}
