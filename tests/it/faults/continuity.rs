//! A store that goes back in time, or loses some of its files: readers get new epochs, and never see other
//! events under sequences that they know.

use std::fs;
use std::path::Path;

use tonic::Code;

use crate::support::program::{Program, Site};
use crate::support::streams::{
    Reader, ended, log_of, new_session, replay_of, session_now, started, stream_error, tool_start,
};
use crate::support::{TestServer, bash, check_reason, folder, remote, soon, v1};

/// Copies the files of a folder to another one, without those that `skip` names.
fn copy(from: &Path, to: &Path, skip: &[&str]) {
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let name = entry.file_name();
        let is_skipped = skip.iter().any(|skip| name.to_string_lossy().ends_with(skip));
        if entry.path().is_file() && !is_skipped {
            fs::copy(entry.path(), to.join(name)).expect("copied");
        }
    }
}

/// Runs a call in a session to its end.
async fn call(server: &TestServer, session_id: &str, command: &str) -> String {
    let task = started(server, tool_start(session_id, bash(command))).await;
    ended(server, &task.background_id).await;
    task.background_id
}

/// The number of the newest change of a task.
async fn newest_change(server: &TestServer) -> i64 {
    let list = soon("a list", server.tasks.clone().list(v1::ListRequest::default())).await;
    list.expect("a list").into_inner().watch_sequence
}

/// The tasks that changed after a number, up to now.
async fn changed(server: &TestServer, after: i64) -> Vec<String> {
    let newest = newest_change(server).await;
    let request = v1::WatchRequest { watch_sequence: Some(after), ..Default::default() };
    let stream = soon("a watch", server.tasks.clone().watch(request)).await.expect("a watch");
    let mut stream = stream.into_inner();
    let mut ids = Vec::new();
    loop {
        let update = soon("an update", stream.message()).await.expect("no error").expect("one");
        ids.extend(update.tasks.into_iter().map(|task| task.background_id));
        if update.watch_sequence >= newest {
            return ids;
        }
    }
}

#[tokio::test]
async fn a_copy_that_is_put_back_has_new_epochs() {
    let mut server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let kept = call(&server, &session_id, "echo kept").await;
    server.stop().await;
    let older = folder();
    copy(server.folder(), older.path(), &[]);
    let mut server = server.restart().await;
    let before = session_now(&server, &session_id).await;
    let first = log_of(&server, &session_id).await;
    call(&server, &session_id, "echo forgotten").await;
    let seen = session_now(&server, &session_id).await.head_sequence;
    let watched = newest_change(&server).await;
    server.stop().await;
    for name in ["callpark.db", "callpark.db.continuity"] {
        fs::remove_file(server.folder().join(name)).expect("removed");
    }
    copy(older.path(), server.folder(), &[]);
    let server = server.restart().await;

    let after = session_now(&server, &session_id).await;
    assert_ne!(after.stream_epoch, before.stream_epoch);
    call(&server, &session_id, "echo other").await;
    assert!(session_now(&server, &session_id).await.head_sequence >= seen, "the sequences meet");
    let resumed = v1::StreamSessionRequest {
        start_after_sequence: Some(seen),
        stream_epoch: before.stream_epoch.clone(),
        ..replay_of(&session_id)
    };
    let error = stream_error(&server, resumed).await;
    check_reason(&error, Code::OutOfRange, "STREAM_EPOCH_MISMATCH");
    // All events have the epoch of now, and those from before are what they were.
    let log = log_of(&server, &session_id).await;
    assert!(log.iter().all(|event| event.stream_epoch == after.stream_epoch), "{log:?}");
    for (now, then) in log.iter().zip(&first) {
        let then = v1::SessionEvent { stream_epoch: after.stream_epoch.clone(), ..then.clone() };
        assert_eq!(*now, then);
    }
    assert!(changed(&server, watched).await.contains(&kept), "a watcher gets all tasks anew");
}

#[tokio::test]
async fn a_restart_keeps_the_epochs() {
    let mut server = TestServer::start().await;
    let session_id = new_session(&server).await;
    call(&server, &session_id, "true").await;
    let before = session_now(&server, &session_id).await.stream_epoch;
    for _ in 0..2 {
        server.stop().await;
        server = server.restart().await;
        assert_eq!(session_now(&server, &session_id).await.stream_epoch, before);
    }
}

/// A session with an ended task in a server of its own, and its epoch.
async fn ended_task(server: &Program) -> (v1::Task, String) {
    let clients = server.connect();
    let task = remote::start(&clients, bash("echo kept")).await;
    let task = remote::ended(&clients, &task.background_id).await;
    let epoch = remote::log(&clients, &task.session_id).await[0].stream_epoch.clone();
    (task, epoch)
}

#[tokio::test]
async fn kill_9_keeps_the_epochs_and_a_lost_write_ahead_log_does_not() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let (first, epoch) = ended_task(&server).await;
    server.kill().await;
    let server = site.serve(&[]).await;
    let log = remote::log(&server.connect(), &first.session_id).await;
    assert!(log.iter().all(|event| event.stream_epoch == epoch), "{log:?}");
    let (second, _) = ended_task(&server).await;
    server.kill().await;

    fs::remove_file(site.data().join("callpark.db-wal")).expect("removed");
    let server = site.serve(&[]).await;
    let log = remote::log(&server.connect(), &first.session_id).await;
    assert!(log.iter().all(|event| event.stream_epoch != epoch), "{log:?}");
    let request = v1::GetRequest { background_id: second.background_id };
    let lost = server.connect().tasks.get(request).await.expect_err("lost");
    assert_eq!(lost.code(), Code::NotFound);
    let words = server.live.stderr.now();
    assert!(words.contains("new epochs") && words.contains("commits are missing"), "{words}");
}

#[tokio::test]
async fn a_database_copied_without_its_write_ahead_log_is_refused() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    ended_task(&server).await;
    for skip in [&["-wal", "-shm", ".continuity", ".lock"][..], &["-wal", "-shm", ".lock"]] {
        let other = Site::new();
        fs::create_dir_all(other.data()).expect("a folder");
        copy(&site.data(), &other.data(), skip);
        let ended = other.run(&["serve", "--listen", "127.0.0.1:0"]).await.exits(78);
        assert!(ended.stderr().contains("callpark backup"), "{ended}");
        // The loss can be accepted.
        let backup = other.folder().join("copy.db");
        fs::rename(other.data().join("callpark.db"), &backup).expect("renamed");
        let restored = other.run(&["restore", &backup.display().to_string()]).await.exits(0);
        assert!(restored.stderr().contains("newest records are missing"), "{restored}");
        let server = other.serve(&[]).await;
        assert_eq!(remote::tasks(&server.connect()).await, []);
    }
}

#[tokio::test]
async fn a_deleted_file_of_a_running_store_stops_its_writes() {
    for name in ["callpark.db-wal", "callpark.db-shm", "callpark.db.lock"] {
        let site = Site::new();
        let server = site.serve(&[]).await;
        let (task, _) = ended_task(&server).await;
        fs::remove_file(site.data().join(name)).expect("removed");
        let status = server.connect().tools.run_tool(bash("echo never")).await;
        let status = status.expect_err("there is nothing to keep it in");
        assert_eq!(status.code(), Code::Unavailable, "{name}: {status:?}");
        let words = server.live.stderr.now();
        assert!(words.contains(name) && words.contains("deleted or replaced"), "{words}");
        assert_eq!(remote::task(&server.connect(), &task.background_id).await, task, "{name}");
        server.kill().await;
        let server = site.serve(&[]).await;
        assert_eq!(remote::task(&server.connect(), &task.background_id).await, task, "{name}");
    }
}

#[tokio::test]
async fn a_second_server_is_refused_although_the_lock_file_is_gone() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let task = remote::start(&server.connect(), bash("sleep 600")).await;
    fs::remove_file(site.data().join("callpark.db.lock")).expect("removed");
    let ended = site.run(&["serve", "--listen", "127.0.0.1:0"]).await.exits(75);
    assert!(ended.stderr().contains("is used by another server"), "{ended}");
    let task = remote::task(&server.connect(), &task.background_id).await;
    assert_eq!(task.state(), v1::State::Running);
}

#[tokio::test]
async fn a_damaged_event_is_named_and_the_others_can_be_read() {
    let mut server = TestServer::start().await;
    let session_id = new_session(&server).await;
    call(&server, &session_id, "echo one").await;
    let log = log_of(&server, &session_id).await;
    assert!(log.len() > 3, "{log:?}");
    server.stop().await;
    let store = rusqlite::Connection::open(server.folder().join("callpark.db")).expect("a store");
    let damaged = 3;
    let flip =
        "UPDATE events SET bytes = CAST(replace(bytes, 'a', 'b') AS BLOB) WHERE sequence = ?1";
    assert_eq!(store.execute(flip, [damaged]).expect("flipped"), 1);
    store.close().expect("closed");
    let server = server.restart().await;

    let (events, end) = Reader::open(&server, replay_of(&session_id)).await.rest().await;
    let end = end.expect("an error");
    check_reason(&end, Code::DataLoss, "RECORD_DAMAGED");
    let named = format!("session {session_id}: event {damaged}");
    assert!(end.message().contains(&named), "{}", end.message());
    assert_eq!(events, log[..usize::try_from(damaged - 1).expect("small")]);
    let last = log.last().expect("an event").sequence;
    let rest =
        v1::StreamSessionRequest { start_after_sequence: Some(last - 1), ..replay_of(&session_id) };
    let (events, end) = Reader::open(&server, rest).await.rest().await;
    assert_eq!((events.len(), end.is_none()), (1, true));
}

#[tokio::test]
async fn a_backup_of_a_running_server_is_put_back_whole() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let (task, epoch) = ended_task(&server).await;
    let file = site.folder().join("backup.db").display().to_string();
    let ended = server.cli(&["backup", &file]).await.exits(0);
    assert!(ended.stdout().contains("no damage"), "{ended}");
    server.cli(&["backup", &file]).await.exits(2);
    server.cli(&["restore", &file, "--replace"]).await.exits(75);
    let doctor = server.cli(&["doctor", "--json"]).await;
    assert!(doctor.stdout().contains("in use by process"), "{doctor}");
    let (later, _) = ended_task(&server).await;
    server.terminate().await.0.exits(0);

    site.run(&["restore", &file]).await.exits(2);
    let restored = site.run(&["restore", &file, "--replace"]).await.exits(0);
    assert!(restored.stdout().contains("before-restore"), "{restored}");
    let doctor = site.run(&["doctor"]).await;
    assert!(doctor.stdout().contains("new epochs"), "{doctor}");
    let server = site.serve(&[]).await;
    let clients = server.connect();
    assert_eq!(remote::task(&clients, &task.background_id).await, task);
    let log = remote::log(&clients, &task.session_id).await;
    assert!(log.iter().all(|event| event.stream_epoch != epoch), "{log:?}");
    let request = v1::GetRequest { background_id: later.background_id.clone() };
    clients.tasks.clone().get(request).await.expect_err("it is not in the backup");
    drop(server);

    // The store that was replaced is whole, too.
    let folder = fs::read_dir(site.data()).expect("a folder").flatten();
    let previous = folder.map(|entry| entry.path()).find(|path| path.join("callpark.db").exists());
    let previous = previous.expect("a folder");
    let file = previous.join("callpark.db").display().to_string();
    let other = Site::new();
    other.run(&["restore", &file]).await.exits(0);
    let server = other.serve(&[]).await;
    assert_eq!(remote::task(&server.connect(), &later.background_id).await, later);
}

#[tokio::test]
async fn doctor_says_what_is_wrong_and_what_to_do() {
    let site = Site::new();
    let fresh = site.run(&["doctor"]).await;
    assert!(fresh.stdout().contains("there is none yet"), "{fresh}");
    let server = site.serve(&[]).await;
    let (task, _) = ended_task(&server).await;
    server.terminate().await.0.exits(0);
    let sound = site.run(&["doctor", "--json"]).await.exits(0);
    let findings: serde_json::Value = serde_json::from_str(sound.stdout()).expect("JSON");
    let verdicts = findings.as_array().expect("a list").iter().map(|one| &one["verdict"]);
    assert!(verdicts.clone().all(|verdict| verdict != "problem"), "{sound}");

    let store = rusqlite::Connection::open(site.data().join("callpark.db")).expect("a store");
    store.execute("UPDATE calls SET body = replace(body, 'echo', 'ECHO')", []).expect("spoiled");
    store.execute("DELETE FROM events WHERE sequence = 2", []).expect("deleted");
    store.close().expect("closed");
    let ended = site.run(&["doctor"]).await.exits(1);
    assert!(ended.stdout().contains("PROBLEM  integrity"), "{ended}");
    let file = site.folder().join("backup.db").display().to_string();
    let backup = site.run(&["backup", &file]).await.exits(1);
    let call_id = task.background_id.replace("bg-", "call-");
    for named in [format!("call {call_id}"), format!("session {}", task.session_id)] {
        assert!(backup.stderr().contains(&named), "{backup}");
    }
    let other = Site::new();
    let refused = other.run(&["restore", &file]).await.exits(1);
    assert!(refused.stderr().contains("--accept-damage"), "{refused}");
    other.run(&["restore", &file, "--accept-damage"]).await.exits(1);
    let server = other.serve(&[]).await;
    let request = v1::GetRequest { background_id: task.background_id };
    let status = server.connect().tasks.get(request).await.expect_err("damaged");
    check_reason(&status, Code::DataLoss, "RECORD_DAMAGED");
}
