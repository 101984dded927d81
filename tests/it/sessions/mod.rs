//! Making, finding, listing and closing sessions.

mod update;

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use tonic::Code;

use crate::support::streams::{
    Gate, Reader, close, created, log_of, new_session, run, sequences, session_now, start_of,
    started, stream_error, stream_of, task,
};
use crate::support::{TestServer, bash, check_reason, soon, v1};

const UNKNOWN: &str = "ses-00000000000040008000000000000000";

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

async fn listed(server: &TestServer, request: v1::ListSessionsRequest) -> v1::ListSessionsResponse {
    let answer = soon("a list", server.tools.clone().list_sessions(request)).await;
    answer.expect("a list").into_inner()
}

fn ids(sessions: &[v1::Session]) -> Vec<String> {
    sessions.iter().map(|session| session.session_id.clone()).collect()
}

#[tokio::test]
async fn a_session_is_read_back_as_it_was_created() {
    let server = TestServer::start().await;
    let folder = server.folder().display().to_string();
    let request = v1::CreateSessionRequest {
        description: "fix the build".into(),
        labels: labels(&[("team", "infra"), ("empty", "")]),
        allowed_tools: vec!["bash".into()],
        model: "a-model".into(),
        system_message: "Be brief.".into(),
        max_rounds: 7,
        working_directory: folder.clone(),
        max_live_tasks: 3,
        task_limit_policy: v1::TaskLimitPolicy::EvictOldest.into(),
        ..Default::default()
    };
    let session = created(&server, request.clone()).await;
    assert!(session.session_id.starts_with("ses-") && session.session_id.len() == 36);
    assert_eq!(session.description, request.description);
    assert_eq!(session.labels, request.labels);
    assert_eq!(session.allowed_tools, request.allowed_tools);
    assert_eq!((&session.model, session.max_rounds), (&request.model, 7));
    assert_eq!(session.system_message, request.system_message);
    assert_eq!(session.working_directory, folder);
    assert_eq!((session.max_live_tasks, session.task_limit_policy), (3, 2));
    assert_eq!(session_now(&server, &session.session_id).await, session);
    let list = listed(&server, v1::ListSessionsRequest::default()).await;
    let brief = v1::Session { system_message: String::new(), ..session.clone() };
    assert_eq!(list.sessions, [brief], "a list leaves long system messages out");
    let server = server.restart().await;
    assert_eq!(session_now(&server, &session.session_id).await, session);
}

#[tokio::test]
async fn an_empty_request_for_a_session_has_the_defaults() {
    let server = TestServer::start().await;
    let session = created(&server, v1::CreateSessionRequest::default()).await;
    assert_eq!(session.state(), v1::SessionState::Open);
    assert_eq!(session.max_live_tasks, 32);
    assert_eq!(session.task_limit_policy(), v1::TaskLimitPolicy::Reject);
    assert_eq!((session.head_sequence, session.first_sequence, session.live_tasks), (0, 1, 0));
    assert!(session.allowed_tools.is_empty() && session.labels.is_empty());
    assert!(session.close_time.is_none() && session.create_time.is_some());
    assert!(!session.stream_epoch.is_empty());
    let other = created(&server, v1::CreateSessionRequest::default()).await;
    assert_ne!(other.session_id, session.session_id);
    assert_ne!(other.stream_epoch, session.stream_epoch);
}

#[tokio::test]
async fn a_session_for_a_tool_that_does_not_exist_is_refused() {
    let server = TestServer::start().await;
    let request = v1::CreateSessionRequest {
        allowed_tools: vec!["bash".into(), "no-such-tool".into()],
        ..Default::default()
    };
    let status = server.tools.clone().create_session(request).await.expect_err("refused");
    check_reason(&status, Code::NotFound, "TOOL_NOT_FOUND");
    assert!(status.message().contains("no-such-tool"), "{status:?}");
    let list = listed(&server, v1::ListSessionsRequest::default()).await;
    assert!(list.sessions.is_empty(), "it was made all the same");
}

#[tokio::test]
async fn sessions_are_listed_newest_first_and_by_every_filter() {
    let server = TestServer::start().await;
    let mut made = Vec::new();
    for number in 0..4 {
        let parity = if number % 2 == 0 { "even" } else { "odd" };
        let labels = labels(&[("parity", parity), ("all", "yes")]);
        let request = v1::CreateSessionRequest { labels, ..Default::default() };
        made.push(created(&server, request).await);
    }
    made.reverse();
    let all = listed(&server, v1::ListSessionsRequest::default()).await;
    assert_eq!((ids(&all.sessions), all.next_page_token.as_str()), (ids(&made), ""));
    close(&server, &made[1].session_id).await;
    let of = |request| async { ids(&listed(&server, request).await.sessions) };
    let request = |state: v1::SessionState| v1::ListSessionsRequest {
        state: state.into(),
        ..Default::default()
    };
    assert_eq!(of(request(v1::SessionState::Closed)).await, ids(&made[1..2]));
    let open = ids(&[made[0].clone(), made[2].clone(), made[3].clone()]);
    assert_eq!(of(request(v1::SessionState::Open)).await, open);
    assert!(of(request(v1::SessionState::Closing)).await.is_empty());
    let marked = |pairs| v1::ListSessionsRequest { labels: labels(pairs), ..Default::default() };
    let odd = ids(&[made[0].clone(), made[2].clone()]);
    assert_eq!(of(marked(&[("parity", "odd"), ("all", "yes")])).await, odd);
    assert!(of(marked(&[("parity", "odd"), ("all", "no")])).await.is_empty());
    let later =
        v1::ListSessionsRequest { created_after: made[2].create_time, ..Default::default() };
    assert_eq!(of(later).await, ids(&made[..2]));
}

#[tokio::test]
async fn pages_of_sessions_are_stable_while_sessions_come() {
    let server = TestServer::start().await;
    let mut there = BTreeSet::new();
    for _ in 0..10 {
        there.insert(new_session(&server).await);
    }
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let request =
            v1::ListSessionsRequest { page_size: 3, page_token: token, ..Default::default() };
        let page = listed(&server, request).await;
        assert!(page.sessions.len() <= 3);
        seen.extend(ids(&page.sessions));
        new_session(&server).await;
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let once: BTreeSet<_> = seen.iter().cloned().collect();
    assert_eq!((once.len(), &once), (seen.len(), &there), "each that was there, once");
}

#[tokio::test]
async fn a_sessions_page_token_is_for_its_filters_only() {
    let server = TestServer::start().await;
    for _ in 0..3 {
        new_session(&server).await;
    }
    let request = v1::ListSessionsRequest { page_size: 1, ..Default::default() };
    let token = listed(&server, request.clone()).await.next_page_token;
    assert!(!token.is_empty());
    let again = v1::ListSessionsRequest { page_token: token.clone(), ..request.clone() };
    assert_eq!(listed(&server, again.clone()).await, listed(&server, again.clone()).await);
    let other = v1::ListSessionsRequest { state: v1::SessionState::Open.into(), ..again.clone() };
    let garbage = v1::ListSessionsRequest { page_token: "x".repeat(64), ..request };
    for wrong in [other, garbage] {
        let status = server.tools.clone().list_sessions(wrong).await.expect_err("refused");
        check_reason(&status, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    }
}

#[tokio::test]
async fn closing_cancels_calls_that_are_not_detached_and_a_second_close_answers_the_same() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let gate = Gate::new(&server, "detached");
    task(&server, &session_id, "sleep 60").await;
    let mut detached = start_of(&session_id, &gate.command());
    if let Some(v1::start_request::Work::ToolCall(call)) = &mut detached.work {
        call.detached = true;
    }
    started(&server, detached).await;
    let first = close(&server, &session_id).await;
    assert_eq!((first.cancelled_tasks, first.detached_tasks, first.replayed), (1, 1, false));
    let session = first.session.expect("a session");
    assert_eq!(session.state(), v1::SessionState::Closing);
    assert!(session.close_time.is_some());
    let second = close(&server, &session_id).await;
    assert_eq!((second.cancelled_tasks, second.detached_tasks, second.replayed), (1, 1, true));
    assert_eq!(second.session.expect("a session").close_time, session.close_time);
    let mut reader = Reader::open(&server, stream_of(&session_id)).await;
    reader.until_caught_up().await;
    gate.open();
    let (_, end) = reader.rest().await;
    assert!(end.is_none(), "{end:?}");
    let session = session_now(&server, &session_id).await;
    assert_eq!((session.state(), session.live_tasks), (v1::SessionState::Closed, 0));
}

#[tokio::test]
async fn the_log_of_a_closed_session_is_replayed_whole_and_ends() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    for number in 0..3 {
        run(&server, &session_id, &format!("echo {number}")).await;
    }
    close(&server, &session_id).await;
    let mut reader = Reader::open(&server, stream_of(&session_id)).await;
    let snapshot = reader.snapshot().await;
    assert_eq!(snapshot.session.expect("a session").state(), v1::SessionState::Closed);
    let (events, end) = reader.rest().await;
    assert!(end.is_none(), "{end:?}");
    assert_eq!(sequences(&events), (1..=snapshot.head_sequence).collect::<Vec<_>>());
    let shutdown = events.last().and_then(|event| event.payload.clone());
    let Some(v1::session_event::Payload::SessionShutdown(shutdown)) = shutdown else {
        panic!("not the last: {shutdown:?}");
    };
    assert_eq!((shutdown.reason.as_str(), shutdown.cancelled_tasks), ("done", 0));
    let server = server.restart().await;
    assert_eq!(log_of(&server, &session_id).await, events);
}

#[tokio::test]
async fn a_closed_session_takes_no_work() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    close(&server, &session_id).await;
    let before = session_now(&server, &session_id).await;
    let call = v1::RunToolRequest { session_id: session_id.clone(), ..bash("true") };
    let status = server.tools.clone().run_tool(call).await.expect_err("refused");
    check_reason(&status, Code::FailedPrecondition, "SESSION_CLOSED");
    let start = start_of(&session_id, "true");
    let status = server.tasks.clone().start(start).await.expect_err("refused");
    check_reason(&status, Code::FailedPrecondition, "SESSION_CLOSED");
    assert_eq!(session_now(&server, &session_id).await, before);
}

#[tokio::test]
async fn an_unknown_session_is_not_found_whatever_is_asked() {
    let server = TestServer::start().await;
    let id = || UNKNOWN.to_owned();
    let (mut tools, mut tasks) = (server.tools.clone(), server.tasks.clone());
    let get = tools.get_session(v1::GetSessionRequest { session_id: id() }).await.err();
    let request = v1::CloseSessionRequest { session_id: id(), ..Default::default() };
    let close = tools.close_session(request).await.err();
    let list_tools = tools
        .list_tools(v1::ListToolsRequest { session_id: id(), ..Default::default() })
        .await
        .err();
    let call = v1::RunToolRequest { session_id: id(), ..bash("true") };
    let run = tools.run_tool(call).await.err();
    let start = tasks.start(start_of(UNKNOWN, "true")).await.err();
    let request = v1::ListRequest { session_id: id(), ..Default::default() };
    let list = tasks.list(request).await.err();
    let summary = tasks.summarize(v1::SummarizeRequest { session_id: id() }).await.err();
    let stream = Some(stream_error(&server, stream_of(UNKNOWN)).await);
    let request = v1::WatchRequest { session_id: id(), watch_sequence: None };
    let watch = match tasks.watch(request).await {
        Err(status) => Some(status),
        Ok(stream) => soon("an error", stream.into_inner().message()).await.err(),
    };
    for status in [get, close, list_tools, run, start, list, summary, stream, watch] {
        let status = status.expect("an error");
        check_reason(&status, Code::NotFound, "SESSION_NOT_FOUND");
        assert!(status.message().contains(UNKNOWN), "{status:?}");
    }
}

#[tokio::test]
async fn a_page_of_sessions_with_much_to_say_fits_into_an_answer() {
    let server = TestServer::start().await;
    let labels = (0..64).map(|n| (format!("label-{n}"), "x".repeat(255))).collect();
    let wordy = v1::CreateSessionRequest {
        system_message: "x".repeat(64 * 1024),
        labels,
        ..Default::default()
    };
    for _ in 0..130 {
        created(&server, wordy.clone()).await;
    }
    let mut seen = std::collections::HashSet::new();
    let mut request = v1::ListSessionsRequest { page_size: 1_000, ..Default::default() };
    loop {
        let page = listed(&server, request.clone()).await;
        assert!(prost::Message::encoded_len(&page) < 3 << 20);
        seen.extend(page.sessions.into_iter().map(|session| session.session_id));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(seen.len(), 130);
}
