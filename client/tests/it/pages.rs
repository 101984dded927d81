//! Lists in pages, and the settings of sessions.

use std::collections::BTreeMap;

use callpark_client::{ListMessages, ListTools, Origin, UpdateSession, v1};
use futures::TryStreamExt as _;

use crate::{
    fake::{Fake, Play},
    story::{seconds, unavailable},
};

fn tools(names: &[&str], next_page_token: &str) -> Play<v1::ListToolsResponse> {
    let tool = |name: &&str| v1::Tool { name: (*name).to_owned(), ..Default::default() };
    Play::Answer(v1::ListToolsResponse {
        tools: names.iter().map(tool).collect(),
        next_page_token: next_page_token.to_owned(),
        ..Default::default()
    })
}

fn messages(numbers: &[i64], next_page_token: &str) -> Play<v1::ListMessagesResponse> {
    let message = |number: &i64| v1::Message { number: *number, ..Default::default() };
    Play::Answer(v1::ListMessagesResponse {
        messages: numbers.iter().map(message).collect(),
        next_page_token: next_page_token.to_owned(),
    })
}

#[tokio::test(start_paused = true)]
async fn all_pages_of_tools_are_read() {
    let fake = Fake::start();
    fake.list_tools.plays([
        tools(&["bash", "build"], "one"),
        tools(&[], "two"),
        Play::Fail(unavailable()),
        tools(&["test"], ""),
    ]);
    let listed = fake.client().tools().list().await.unwrap();
    let names: Vec<_> = listed.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["bash", "build", "test"]);
    assert_eq!(listed.next_page_token, "");
    let asked: Vec<_> =
        fake.list_tools.requests().into_iter().map(|asked| asked.page_token).collect();
    assert_eq!(asked, ["", "one", "two", "two"], "a page that fails is requested again");
}

#[tokio::test(start_paused = true)]
async fn all_pages_of_tools_have_the_selection_of_the_request() {
    let fake = Fake::start();
    fake.list_tools.plays([tools(&["bash"], "one"), tools(&["build"], "")]);
    let request = ListTools::in_session("ses-1").view(v1::ToolView::Basic).page_size(1);
    fake.client().tools().list_all(request.clone()).await.unwrap();
    let expected = [request.clone().into(), request.page_token("one").into()];
    assert_eq!(fake.list_tools.requests(), expected);
}

#[tokio::test(start_paused = true)]
async fn one_page_of_tools_is_one_request() {
    let fake = Fake::start();
    fake.list_tools.plays([tools(&["bash"], "one")]);
    let page = fake.client().tools().list_with(ListTools::new().page_size(1)).await.unwrap();
    assert_eq!((page.tools.len(), page.next_page_token.as_str()), (1, "one"));
}

#[tokio::test(start_paused = true)]
async fn a_page_that_names_itself_as_the_next_one_ends_the_list() {
    let fake = Fake::start();
    fake.list_tools.plays([tools(&["bash"], "one"), tools(&["bash"], "one")]);
    let error = fake.client().tools().list().await.unwrap_err();
    assert_eq!((error.origin(), error.rpc()), (Origin::Answer, "ToolRunner.ListTools"));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_covers_all_pages() {
    let fake = Fake::start();
    let page = |token: &str| v1::ListToolsResponse {
        next_page_token: token.to_owned(),
        ..Default::default()
    };
    fake.list_tools.plays([
        Play::After(seconds(4), page("one")),
        Play::After(seconds(4), page("two")),
        Play::After(seconds(4), page("")),
    ]);
    let error = fake.client().with_deadline(seconds(10)).tools().list().await.unwrap_err();
    assert_eq!(error.origin(), Origin::Deadline);
}

#[tokio::test(start_paused = true)]
async fn all_pages_of_messages_are_read() {
    let fake = Fake::start();
    fake.list_messages.plays([
        messages(&[1, 2], "one"),
        Play::Cut,
        messages(&[5], "two"),
        messages(&[], ""),
    ]);
    let stream = fake.client().sessions().messages("ses-1");
    let read: Vec<_> = stream.map_ok(|message| message.number).try_collect().await.unwrap();
    assert_eq!(read, [1, 2, 5]);
    let asked = fake.list_messages.requests();
    assert!(asked.iter().all(|asked| asked.session_id == "ses-1"));
    let tokens: Vec<_> = asked.iter().map(|asked| asked.page_token.as_str()).collect();
    assert_eq!(tokens, ["", "one", "one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn pages_of_messages_are_read_when_they_are_needed_and_end_after_an_error() {
    let fake = Fake::start();
    fake.list_messages.plays([messages(&[1], "one"), messages(&[2], "one")]);
    let mut stream = fake.client().sessions().messages("ses-1");
    assert_eq!(stream.try_next().await.unwrap().unwrap().number, 1);
    assert_eq!(fake.list_messages.requests().len(), 1);
    assert_eq!(stream.try_next().await.unwrap_err().origin(), Origin::Answer);
    assert_eq!(stream.try_next().await.unwrap(), None);

    fake.list_messages.plays([messages(&[1], "one")]);
    let request = ListMessages::new("ses-1").page_size(1);
    let page = fake.client().sessions().list_messages(request).await.unwrap();
    assert_eq!(page.next_page_token, "one");
}

#[test]
fn an_update_has_the_fields_that_were_set_in_its_mask() {
    let update = UpdateSession::new("ses-1");
    let message = |update: UpdateSession| v1::UpdateSessionRequest::from(update);
    assert_eq!(message(update.clone()).update_mask.unwrap().paths, Vec::<String>::new());

    let all = update
        .description("nightly")
        .label("team", "build")
        .label("job", "7")
        .allowed_tools(["bash"])
        .model("fast")
        .system_message("Be brief.")
        .max_rounds(8)
        .max_live_tasks(4)
        .task_limit_policy(v1::TaskLimitPolicy::EvictOldest)
        .follow_up(v1::FollowUpPolicy::OnFailure)
        .on_restart(v1::OnRestart::Lose)
        .description("weekly");
    let message = message(all);
    // All fields that the contract allows, each once.
    let paths = [
        "description",
        "labels",
        "allowed_tools",
        "model",
        "system_message",
        "max_rounds",
        "max_live_tasks",
        "task_limit_policy",
        "follow_up",
        "on_restart",
    ];
    assert_eq!(message.update_mask.unwrap().paths, paths);
    let expected = v1::Session {
        session_id: "ses-1".to_owned(),
        description: "weekly".to_owned(),
        labels: [("job", "7"), ("team", "build")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        allowed_tools: vec!["bash".to_owned()],
        model: "fast".to_owned(),
        system_message: "Be brief.".to_owned(),
        max_rounds: 8,
        max_live_tasks: 4,
        task_limit_policy: v1::TaskLimitPolicy::EvictOldest.into(),
        follow_up: v1::FollowUpPolicy::OnFailure.into(),
        on_restart: v1::OnRestart::Lose.into(),
        ..Default::default()
    };
    assert_eq!(message.session, Some(expected));
}

#[tokio::test(start_paused = true)]
async fn an_update_is_sent_again_with_the_same_id() {
    let fake = Fake::start();
    fake.update_session.plays([Play::Cut, Play::Answer(v1::UpdateSessionResponse::default())]);
    // An empty value is a change, too.
    let update = UpdateSession::new("ses-1").labels(BTreeMap::new());
    fake.client().sessions().update(update).await.unwrap();
    let asked = fake.update_session.requests();
    assert!(!asked[0].request_id.is_empty() && asked[0] == asked[1]);
    assert_eq!(asked[0].update_mask.as_ref().unwrap().paths, ["labels"]);
}

#[tokio::test(start_paused = true)]
async fn the_server_describes_itself() {
    let fake = Fake::start();
    let info = v1::GetServerInfoResponse { version: "0.2.0".to_owned(), ..Default::default() };
    fake.server_info.plays([Play::Fail(unavailable()), Play::Answer(info.clone())]);
    assert_eq!(fake.client().server_info().await.unwrap(), info);
}
