//! Damage of the database: it is noticed, named, and costs nothing else.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rusqlite::Connection;

use super::{options, store};
use crate::model::OutputStream;
use crate::store::conformance::world::{SessionWriter, read_log, whole};
use crate::store::sqlite::SqliteStore;
use crate::store::{
    EventQuery, LogEvent, OutputFrom, OutputQuery, OutputSelection, Store, StoreError,
};
use crate::telemetry::Metrics;

/// Each column of an event that its checksum covers, and a damage of it.
const DAMAGES: &[&str] = &[
    "bytes = CAST(bytes || x'00' AS BLOB)",
    "bytes = CAST(replace(bytes, substr(bytes, 1, 1), x'ff') AS BLOB)",
    "kind = CASE kind WHEN 1 THEN 2 ELSE 1 END",
    "kind = 200",
    "call_id = randomblob(16)",
    "checksum = checksum + 1",
    "checksum = NULL",
    "sequence = 1000",
];

#[tokio::test]
async fn damage_of_any_column_ends_the_page_before_it_and_fails_the_next() {
    for damage in DAMAGES {
        let (directory, store) = store();
        let mut log = SessionWriter::stored(&store, 0).await;
        log.write(&store, 6).await;
        let sound = read_log(&store, log.id()).await;
        store.close().await;
        let database = Connection::open(directory.path().join("callpark.db")).unwrap();
        let sql = format!("UPDATE events SET {damage} WHERE sequence = 4");
        assert_eq!(database.execute(&sql, []).unwrap(), 1);
        database.close().unwrap();

        let store = SqliteStore::open(&options(directory.path()), Metrics::default()).unwrap();
        let page = store.events(whole(log.id())).await.unwrap();
        assert_eq!(page.scanned_to, 3, "{damage}");
        assert_eq!(page.events, sound.events[..3], "{damage}");
        let next = EventQuery { after: 3, ..whole(log.id()) };
        let error = store.events(next).await.unwrap_err();
        let StoreError::Corrupt(cause) = &error else { panic!("{damage}: {error:?}") };
        assert!(cause.contains(&format!("session {}: event 4", log.id())), "{damage}: {cause}");
        let after = EventQuery { after: 4, ..whole(log.id()) };
        assert_eq!(store.events(after).await.unwrap().events, sound.events[4..], "{damage}");
        store.close().await;
    }
}

#[tokio::test]
async fn a_damaged_record_of_a_migration_is_named() {
    let damages = ["applied_on = '2026-11-3x'", "checksum = 'x'"];
    for damage in damages {
        let (directory, store) = store();
        store.close().await;
        let database = Connection::open(directory.path().join("callpark.db")).unwrap();
        let sql = format!("UPDATE refinery_schema_history SET {damage} WHERE version = 2");
        assert_eq!(database.execute(&sql, []).unwrap(), 1);
        // The newest schema needs no migration.
        let open = || SqliteStore::open(&options(directory.path()), Metrics::default());
        open().unwrap().close().await;
        database.execute("DELETE FROM refinery_schema_history WHERE version = 5", []).unwrap();
        let error = open().unwrap_err().to_string();
        assert!(error.contains("migration 2 is damaged"), "{error}");
    }
}

#[tokio::test]
async fn a_damaged_time_of_a_session_is_not_the_newest() {
    let (directory, store) = store();
    let mut log = SessionWriter::stored(&store, 0).await;
    let task = log.ended(0, 9);
    log.put_one(&store, &task).await;
    let newest = store.newest_time().await.unwrap();
    assert!(newest.is_some());
    store.close().await;
    let database = Connection::open(directory.path().join("callpark.db")).unwrap();
    let flip = "UPDATE sessions SET update_time = update_time + (1 << 50)";
    assert_eq!(database.execute(flip, []).unwrap(), 1);
    database.close().unwrap();
    let store = SqliteStore::open(&options(directory.path()), Metrics::default()).unwrap();
    assert_eq!(store.newest_time().await, Ok(Some(task.update_time)));
    store.close().await;
}

#[tokio::test]
async fn damaged_output_is_not_returned() {
    let (directory, store) = store();
    let mut log = SessionWriter::stored(&store, 0).await;
    let call = log.task(0);
    log.put_one(&store, &call).await;
    let pieces = [(OutputStream::Stdout, 0, 3), (OutputStream::Stdout, 0, 3)];
    log.write_output(&store, call.id, &pieces).await;
    store.close().await;
    let database = Connection::open(directory.path().join("callpark.db")).unwrap();
    let shift = "UPDATE events SET stream_offset = stream_offset + 1 WHERE stream_offset = 0";
    assert_eq!(database.execute(shift, []).unwrap(), 1);
    database.close().unwrap();
    let store = SqliteStore::open(&options(directory.path()), Metrics::default()).unwrap();
    let query = OutputQuery {
        call_id: call.id,
        selection: OutputSelection::Stdout,
        from: OutputFrom::Offset(0),
        bytes_max: 100,
    };
    let error = store.output(query).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
    store.close().await;
}

/// Random damage of the files of a store. The store is refused, or an answer is an error, or it is
/// what it was.
#[tokio::test]
async fn random_damage_never_changes_an_answer() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (directory, store) = store();
    let mut log = SessionWriter::stored(&store, 0).await;
    for _ in 0..20 {
        log.write(&store, 10).await;
        let task = log.ended(0, 9);
        log.put_one(&store, &task).await;
    }
    let sound = answers(&store, &log).await;
    store.close().await;
    let path = directory.path().join("callpark.db");
    let bytes = std::fs::read(&path).unwrap();
    let mut refused = 0;
    for _ in 0..60 {
        let mut damaged = bytes.clone();
        for _ in 0..random.random_range(1..8) {
            let at = random.random_range(0..damaged.len());
            damaged[at] ^= 1 << random.random_range(0..8);
        }
        std::fs::write(&path, damaged).unwrap();
        let Ok(store) = SqliteStore::open(&options(directory.path()), Metrics::default()) else {
            refused += 1;
            continue;
        };
        for (now, then) in answers(&store, &log).await.into_iter().zip(&sound) {
            assert!(now.is_err() || &now == then, "seed {seed}: {now:?}\n{then:?}");
        }
        store.close().await;
    }
    assert!(refused < 60, "some are served");
}

/// The events of each page of a log, three on each.
async fn answers(
    store: &SqliteStore,
    log: &SessionWriter,
) -> Vec<Result<Vec<LogEvent>, StoreError>> {
    let mut pages = Vec::new();
    for after in (0..200).step_by(3) {
        let query = EventQuery { after, scan_max: 3, ..whole(log.id()) };
        let page = store.events(query).await;
        // A page that ends early is continued by an error.
        let page = page.and_then(|page| match page.scanned_to {
            end if end == (after + 3).min(200) => Ok(page.events),
            end => Err(StoreError::Corrupt(format!("ends at {end}"))),
        });
        pages.push(page);
    }
    pages
}
