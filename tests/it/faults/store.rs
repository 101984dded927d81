//! A store that goes away or can't be written.

use std::time::Duration;

use tonic::Code;
use v1::State;

use crate::support::program::{Live, Site};
use crate::support::small_disk::SmallDisk;
use crate::support::waiting::{Gate, outcome_of, start_of};
use crate::support::wire::only_reason;
use crate::support::{bash, millis, remote, soon, stdout_of, v1};

#[tokio::test]
async fn a_read_only_file_system_is_reported_in_one_line() {
    let site = Site::new();
    let Some(disk) = SmallDisk::new(&site, "ro,size=1m").await else { return };
    let ended = Live::start(disk.server(&site, &[])).ended().await.exits(78);
    let line = ended.stderr().strip_suffix('\n').expect("a line");
    assert!(!line.contains('\n') && line.starts_with("error: "), "{ended}");
    assert!(line.contains(&disk.folder().display().to_string()), "{line}");
    assert!(line.to_lowercase().contains("read-only"), "{line}");
}

#[tokio::test]
async fn a_deleted_data_folder_changes_no_earlier_answer() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let clients = server.connect();
    let mut gate = Gate::new(site.folder(), "gate");
    let before = remote::start(&clients, bash("echo before")).await;
    let before = remote::ended(&clients, &before.background_id).await;
    let log = remote::log(&clients, &before.session_id).await;
    let runs = remote::start(&clients, bash(&format!("{}; echo done", gate.wait()))).await;
    std::fs::remove_dir_all(site.data()).expect("removed");
    assert_eq!(remote::task(&clients, &before.background_id).await, before);
    assert_eq!(stdout_of(outcome_of(&before)), b"before\n");
    assert_eq!(remote::log(&clients, &before.session_id).await, log);
    // So many at once that every reader of the store is needed.
    let lists = (0..16).map(|_| {
        let mut tasks = clients.tasks.clone();
        async move { tasks.list(v1::ListRequest::default()).await }
    });
    for list in soon("the lists", futures::future::join_all(lists)).await {
        assert_eq!(list.expect("a list").into_inner().tasks.len(), 2);
    }
    gate.open();
    let request = v1::WaitRequest {
        background_id: runs.background_id.clone(),
        wait: millis(2_000),
        acknowledge: false,
    };
    // If its end cannot be stored, then it isn't shown, either.
    let answer = soon("a wait", clients.tasks.clone().wait(request)).await;
    let task = answer.expect("an answer").into_inner().task.expect("a task");
    match task.state() {
        State::Running => assert_eq!(task.outcome, None),
        State::Succeeded => assert_eq!(stdout_of(outcome_of(&task)), b"done\n"),
        _ => panic!("{task:?}"),
    }
    let (ended, took) = server.terminate().await;
    assert!(took < Duration::from_secs(26), "{took:?}");
    ended.exits(0);
}

#[tokio::test]
async fn no_id_is_returned_once_the_data_folder_is_deleted() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let clients = server.connect();
    remote::session(&clients).await;
    std::fs::remove_dir_all(site.data()).expect("removed");
    let call = || bash("echo never");
    let session = v1::CreateSessionRequest::default();
    let refused = [
        soon("a start", clients.tasks.clone().start(start_of(call()))).await.map(drop),
        soon("a call", clients.tools.clone().run_tool(call())).await.map(drop),
        soon("a session", clients.tools.clone().create_session(session)).await.map(drop),
    ];
    for answer in refused {
        let status = answer.expect_err("a refusal: there is nothing to keep it in");
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert_eq!(only_reason(&status).as_deref(), Some("STORE_UNAVAILABLE"));
    }
}
