//! Watches of tasks.

use callpark_client::{Code, Reason, WatchItem, WatchTasks, v1};
use futures::{StreamExt as _, TryStreamExt as _};

use crate::{
    fake::{Fake, Step},
    story::{Notes, refusal, seconds},
};

fn task(background_id: &str) -> v1::Task {
    v1::Task { background_id: background_id.to_owned(), ..Default::default() }
}

fn changed(watch_sequence: i64, id: &str) -> Step<v1::WatchResponse> {
    Step::Send(v1::WatchResponse { tasks: vec![task(id)], watch_sequence, heartbeat: false })
}

fn heartbeat(watch_sequence: i64) -> Step<v1::WatchResponse> {
    Step::Send(v1::WatchResponse { tasks: vec![], watch_sequence, heartbeat: true })
}

fn seen(watch_sequence: i64, id: &str) -> WatchItem {
    WatchItem::Changed { tasks: vec![task(id)], watch_sequence }
}

#[tokio::test(start_paused = true)]
async fn continues_after_the_last_change_despite_interruptions_drains_and_silence() {
    let fake = Fake::start();
    let drained = refusal(Code::Unavailable, Reason::Draining, Some(seconds(2)));
    fake.watch.plays([
        vec![heartbeat(5), Step::Cut],
        vec![heartbeat(5), changed(6, "bg-6"), Step::Fail(drained)],
        vec![heartbeat(6), changed(6, "bg-6"), changed(8, "bg-8"), Step::Hang],
        vec![heartbeat(8), changed(9, "bg-9")],
        vec![heartbeat(9), changed(10, "bg-10"), Step::Hang],
    ]);
    let notes = Notes::default();
    let mut watch = fake
        .client()
        .with_on_retry(notes.taker())
        .tasks()
        .watch(WatchTasks::new().session_id("ses-1"));
    let resumed = |after| WatchItem::Resumed { after_sequence: Some(after) };
    let items: Vec<_> = watch.by_ref().take(9).try_collect().await.unwrap();
    assert_eq!(
        items,
        [
            WatchItem::Began { watch_sequence: 5 },
            resumed(5),
            seen(6, "bg-6"),
            resumed(6),
            seen(8, "bg-8"),
            resumed(8),
            seen(9, "bg-9"),
            resumed(9),
            seen(10, "bg-10"),
        ]
    );
    let asked: Vec<_> = fake.watch.requests().iter().map(|asked| asked.watch_sequence).collect();
    assert_eq!(asked, [None, Some(5), Some(6), Some(8), Some(9)]);
    assert!(fake.watch.requests().iter().all(|asked| asked.session_id == "ses-1"));
    assert_eq!(notes.delays()[1], seconds(2));
    assert_eq!((watch.cursor(), watch.attempts()), (Some(10), 5));
}

#[tokio::test(start_paused = true)]
async fn changes_that_are_no_longer_kept_are_an_error() {
    let fake = Fake::start();
    let trimmed = refusal(Code::OutOfRange, Reason::SequenceTrimmed, None);
    fake.watch.plays([vec![heartbeat(5), Step::Cut], vec![Step::Fail(trimmed)]]);
    let mut watch = fake.client().tasks().watch(WatchTasks::new());
    assert_eq!(watch.next().await.unwrap().unwrap(), WatchItem::Began { watch_sequence: 5 });
    assert_eq!(watch.next().await.unwrap().unwrap_err().reason(), Some(&Reason::SequenceTrimmed));
    assert!(watch.next().await.is_none());
}
