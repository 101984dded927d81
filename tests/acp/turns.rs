//! Turns of an agent: text, calls, permissions, cancels and processes.

use std::sync::Arc;
use std::time::Duration;

use callpark::agent::{Agent as _, AgentEvent};
use callpark::internals::acp::Permissions;
use callpark::model::{Message, Origin, SessionId, StopReason};
use futures::StreamExt as _;

use crate::support::{
    agent, config, is_there, play, request, soon, until_said, until_still, wait_until, with,
};

#[tokio::test]
async fn an_answer_comes_with_its_reasoning_and_its_end() {
    let agent = agent();
    let session = SessionId::random();
    let played = play(&agent, request(session, 0, "think Hm.\nplan\nsay Hello\nsay , you")).await;
    assert_eq!((played.text.as_str(), played.reasoning.as_str()), ("Hello, you", "Hm."));
    assert_eq!(played.reason(), StopReason::EndTurn);
    agent.close().await;
}

#[tokio::test]
async fn each_reason_to_stop_has_its_own() {
    let agent = agent();
    let session = SessionId::random();
    for (reason, stop_reason) in [
        ("max_tokens", StopReason::MaxTokens),
        ("max_turn_requests", StopReason::MaxRounds),
        ("refusal", StopReason::Refusal),
        ("cancelled", StopReason::Cancelled),
    ] {
        let played = play(&agent, request(session, 0, &format!("stop {reason}"))).await;
        assert_eq!(played.reason(), stop_reason);
    }
    agent.close().await;
}

#[tokio::test]
async fn of_a_growing_output_only_the_new_part_is_emitted() {
    let agent = agent();
    let played = play(&agent, request(SessionId::random(), 0, "growing")).await;
    let [seen] = &played.own_calls[..] else { panic!("{played:?}") };
    assert_eq!((seen.tool.as_str(), seen.description.as_str()), ("script__execute", "count"));
    assert_eq!(seen.arguments, r#"{"command":"count"}"#);
    assert_eq!(seen.output, "line 1\nline 2\n<exit 0>\n");
    let result = seen.result.as_ref().unwrap();
    assert!(!result.is_error && result.content.is_empty());
    agent.close().await;
}

#[tokio::test]
async fn replaced_output_is_emitted_whole_behind_a_separator() {
    let agent = agent();
    let played = play(&agent, request(SessionId::random(), 0, "rewriting")).await;
    let separator = "\n--- the agent has replaced its output; all of it follows ---\n";
    assert_eq!(played.own_calls[0].output, format!("old\n{separator}new\nmore\n"));
    agent.close().await;
}

#[tokio::test]
async fn a_failed_tool_has_a_reason_and_one_without_an_end_has_no_result() {
    let agent = agent();
    let session = SessionId::random();
    let played = play(&agent, request(session, 0, "failing")).await;
    let result = played.own_calls[0].result.as_ref().unwrap();
    assert!(result.is_error);
    assert_eq!(result.error_message, "no such file");
    let played = play(&agent, request(session, 2, "unended")).await;
    assert_eq!(played.own_calls[0].output, "line 1\n");
    assert_eq!(played.own_calls[0].result, None);
    agent.close().await;
}

#[tokio::test]
async fn later_updates_complete_a_call_before_it_is_shown() {
    let agent = agent();
    let session = SessionId::random();
    let played = play(&agent, request(session, 0, "late")).await;
    let [seen] = &played.own_calls[..] else { panic!("{played:?}") };
    assert_eq!(seen.description, "`ls` (/x:3)");
    assert_eq!((seen.arguments.as_str(), seen.output.as_str()), (r#"{"command":"ls"}"#, "file\n"));
    assert_eq!(seen.details, [""; 0]);
    let played = play(&agent, request(session, 2, "last")).await;
    let [seen] = &played.own_calls[..] else { panic!("{played:?}") };
    assert_eq!((seen.description.as_str(), seen.output.as_str()), ("`ls`", "file\n"));
    assert_eq!(seen.arguments, r#"{"command":"ls"}"#, "with its end");
    assert!(seen.result.is_some());
    agent.close().await;
}

#[tokio::test]
async fn details_of_a_call_that_is_shown_are_reported_as_they_come() {
    let agent = agent();
    let session = SessionId::random();
    let played = play(&agent, request(session, 0, "after")).await;
    let [seen] = &played.own_calls[..] else { panic!("{played:?}") };
    assert_eq!((seen.description.as_str(), seen.output.as_str()), ("Terminal", "file\n"));
    assert_eq!(seen.details, [r#"`ls`: {"command":"ls"}"#]);
    let played = play(&agent, request(session, 2, "never")).await;
    let [seen] = &played.own_calls[..] else { panic!("{played:?}") };
    assert_eq!((seen.description.as_str(), seen.arguments.as_str()), ("Terminal", "{}"));
    agent.close().await;
}

#[tokio::test]
async fn a_permission_is_given_by_the_kind_of_the_option_where_the_session_allows_the_tool() {
    let agent = agent();
    let session = SessionId::random();
    let played = play(&agent, request(session, 0, "may execute")).await;
    assert!(played.text.contains(r#""optionId": "oallow_once""#), "{}", played.text);
    let mut narrow = request(session, 2, "may execute");
    narrow.allowed_tools = Arc::new(["script__read".to_owned()]);
    let played = play(&agent, narrow.clone()).await;
    assert!(played.text.contains(r#""optionId": "oreject_once""#), "{}", played.text);
    narrow.prompt = "may read".to_owned();
    let played = play(&agent, narrow).await;
    assert!(played.text.contains(r#""optionId": "oallow_once""#), "{}", played.text);
    agent.close().await;
}

#[tokio::test]
async fn an_agent_without_permissions_may_nothing() {
    let mut config = config("");
    config.permissions = Permissions::Reject;
    let agent = with(config);
    let played = play(&agent, request(SessionId::random(), 0, "may execute")).await;
    assert!(played.text.contains(r#""optionId": "oreject_once""#), "{}", played.text);
    agent.close().await;
}

#[tokio::test]
async fn files_and_terminals_are_no_methods() {
    let agent = agent();
    let played = play(&agent, request(SessionId::random(), 0, "files")).await;
    assert_eq!(played.text, "-32601 -32601");
    agent.close().await;
}

#[tokio::test]
async fn the_usage_of_a_turn_is_the_growth_of_the_sums() {
    let agent = agent();
    let session = SessionId::random();
    for messages_before in [0, 2, 4] {
        let played = play(&agent, request(session, messages_before, "say x")).await;
        let [used] = played.used[..] else { panic!("{played:?}") };
        let counts = (used.input_tokens, used.cached_input_tokens, used.output_tokens);
        assert_eq!(counts, (100, 40, 10));
    }
    agent.close().await;
}

#[tokio::test]
async fn the_history_is_sent_only_to_an_agent_that_does_not_have_it() {
    let agent = agent();
    let session = SessionId::random();
    let user =
        Message::User { text: "Hello".to_owned(), attachments: Vec::new(), origin: Origin::Person };
    let assistant = Message::Assistant {
        text: "Hi".to_owned(),
        calls: Vec::new(),
        provider_data: None,
        note: None,
        origin: Origin::Model,
    };
    let messages = vec![Arc::new(user), Arc::new(assistant)];
    let ask = |messages_before| {
        let mut request = request(session, messages_before, "prompt");
        request.messages = messages.clone();
        play(&agent, request)
    };
    let whole = ask(2).await.text;
    let (begin, end) = (r#"["Be brief.", "[The conversation so far."#, r#"", "prompt"]"#);
    assert!(
        whole.starts_with(begin) && whole.ends_with(end),
        "a new process knows nothing: {whole}"
    );
    assert!(
        whole.contains(r">\nHello\n</callpark-data ") && whole.contains(r">\nHi\n<"),
        "{whole}"
    );
    assert_eq!(ask(4).await.text, r#"["prompt"]"#, "it knows its own turns");
    assert_eq!(ask(8).await.text, whole, "another one has spoken between");
    assert_eq!(ask(10).await.text, r#"["prompt"]"#);
    assert!(play(&agent, request(session, 12, "error -32603")).await.end.unwrap().is_err());
    assert_eq!(ask(12).await.text, whole, "the last turn failed");
    agent.close().await;
}

#[tokio::test]
async fn it_works_where_the_session_says() {
    let agent = agent();
    let folder = tempfile::tempdir().unwrap();
    let mut request = request(SessionId::random(), 0, "cwd");
    request.working_directory = Some(folder.path().to_owned());
    assert_eq!(play(&agent, request).await.text, folder.path().display().to_string());
    agent.close().await;
}

#[tokio::test]
async fn nothing_is_started_before_the_first_poll() {
    let mut config = config("");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("started");
    let script = format!("touch {}; exec python3 \"$0\"", file.display());
    let program = config.argv[1].clone();
    config.argv = vec!["sh".to_owned(), "-c".to_owned(), script, program];
    let agent = with(config);
    let stream = agent.turn(request(SessionId::random(), 0, "say x\nwait"));
    tokio::task::yield_now().await;
    assert!(!file.exists());
    let _turn = until_said(stream, "waiting").await;
    assert!(file.exists());
    agent.close().await;
}

#[tokio::test]
async fn a_turn_that_is_dropped_is_cancelled_and_the_process_goes_on() {
    let agent = agent();
    let session = SessionId::random();
    let pid = play(&agent, request(session, 0, "pid")).await.text;
    drop(until_said(agent.turn(request(session, 2, "wait")), "waiting").await);
    let played = play(&agent, request(session, 4, "pid\nsay  \nprompt")).await;
    assert!(played.text.starts_with(&format!("{pid} ")), "another process: {}", played.text);
    assert!(
        played.text.contains("Be brief."),
        "a turn that was cancelled isn't known: {}",
        played.text
    );
    agent.close().await;
}

#[tokio::test]
async fn an_agent_that_does_not_end_a_cancelled_turn_is_ended() {
    let agent = agent();
    let session = SessionId::random();
    let pid = play(&agent, request(session, 0, "pid")).await.text;
    drop(until_said(agent.turn(request(session, 2, "stubborn")), "waiting").await);
    let other = play(&agent, request(session, 4, "pid")).await.text;
    assert_ne!(pid, other);
    assert!(!is_there(&pid));
    agent.close().await;
}

#[tokio::test]
async fn an_agent_writes_no_faster_than_it_is_read() {
    let agent = agent();
    let folder = tempfile::tempdir().unwrap();
    let mut asked = request(SessionId::random(), 0, "say first\nflood 2000");
    asked.working_directory = Some(folder.path().to_owned());
    let mut stream = until_said(agent.turn(asked), "first").await;
    let sent = until_still(folder.path()).await;
    assert!(sent < 1000, "{sent} messages of 10 kB were taken and not read");
    let mut bytes = 0;
    while let Some(event) = soon(stream.next()).await {
        match event.unwrap() {
            AgentEvent::Text(text) => bytes += text.len(),
            AgentEvent::Finished(_) => break,
            _ => {}
        }
    }
    assert_eq!(bytes, 2000 * 10_000, "all of it arrives");
    agent.close().await;
}

#[tokio::test]
async fn a_process_ends_with_its_session_and_with_the_agent() {
    let agent = agent();
    let (one, other) = (SessionId::random(), SessionId::random());
    let first = play(&agent, request(one, 0, "pid")).await.text;
    let second = play(&agent, request(other, 0, "pid")).await.text;
    assert_ne!(first, second, "each session has its own");
    soon(agent.forget(one)).await;
    assert!(!is_there(&first) && is_there(&second));
    let mut waiting = until_said(agent.turn(request(one, 2, "wait")), "waiting").await;
    soon(agent.forget(one)).await;
    let error = soon(waiting.next()).await.unwrap().unwrap_err();
    assert!(error.message.contains("the session is closed"), "{error}");
    soon(agent.close()).await;
    assert!(!is_there(&second));
    let played = play(&agent, request(one, 2, "pid")).await;
    assert!(played.error().message.contains("callpark is stopping"), "{}", played.error());
}

#[tokio::test]
async fn a_process_that_is_idle_for_too_long_ends() {
    let mut config = config("");
    config.idle_timeout = Some(Duration::from_millis(50));
    let agent = with(config);
    let pid = play(&agent, request(SessionId::random(), 0, "pid")).await.text;
    wait_until(|| !is_there(&pid)).await;
    agent.close().await;
}

#[tokio::test]
async fn one_process_too_many_ends_the_longest_idle_one_or_is_refused() {
    let mut config = config("");
    config.max_processes = Some(2);
    let agent = with(config);
    let ids = [SessionId::random(), SessionId::random(), SessionId::random()];
    let first = play(&agent, request(ids[0], 0, "pid")).await.text;
    let second = play(&agent, request(ids[1], 0, "pid")).await.text;
    let third = until_said(agent.turn(request(ids[2], 0, "wait")), "waiting").await;
    assert!(!is_there(&first) && is_there(&second));
    let first = until_said(agent.turn(request(ids[0], 2, "wait")), "waiting").await;
    let played = play(&agent, request(ids[1], 2, "pid")).await;
    assert!(played.error().code.is_transient());
    assert!(played.error().message.contains("all of its 2 processes"), "{}", played.error());
    drop((first, third));
    agent.close().await;
}
