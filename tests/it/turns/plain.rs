//! Turns that go well.

use serde_json::json;
use tonic::Code;

use super::*;
use crate::support::check_reason;
use crate::support::streams::{created, new_session};
use crate::support::waiting::start_of_turn;
use v1::content::Kind;

#[tokio::test]
async fn a_prompt_is_answered_and_the_next_one_knows_of_it() {
    let endpoint = Endpoint::new(vec![says("four"), says("eight")]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let answer = turn(&server, prompt(&session, "two and two?")).await;
    assert_eq!(answer.final_text, "four");
    assert_eq!(answer.stop_reason(), v1::StopReason::EndTurn);
    assert_eq!(answer.session_id, session);
    assert!(answer.turn_id.starts_with("turn-"), "{}", answer.turn_id);
    assert_eq!(answer.error, None);

    let again = turn(&server, prompt(&session, "twice that?")).await;
    assert_eq!(again.final_text, "eight");
    let messages = endpoint.messages(1);
    let said: Vec<_> = messages[1..]
        .iter()
        .map(|m| (m["role"].as_str().expect("a role"), m["content"].as_str().expect("text")))
        .collect();
    let expected = [("user", "two and two?"), ("assistant", "four"), ("user", "twice that?")];
    assert_eq!(said, expected);
    assert_eq!(endpoint.requests()[0]["model"], "fake-1");
    assert!(endpoint.heads()[0].starts_with("POST /v1/chat/completions "));
}

#[tokio::test]
async fn every_event_of_a_turn_comes_in_order() {
    let pieces = vec![
        Piece::Reasoning("hm".into()),
        Piece::Text("yes".into()),
        Piece::Finish("stop"),
        Piece::Usage(100, 40, 10),
    ];
    let endpoint = Endpoint::new(vec![Script::Stream(pieces)]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let events = streamed(&server, prompt(&session, "well?")).await;
    let expected = [
        "turn",
        "started main well?",
        "thinks hm",
        "text yes",
        "used 1 of main",
        "message \"yes\" 0 calls",
        "idle STOP_REASON_END_TURN \"yes\"",
    ];
    assert_eq!(short(&events), expected);
    assert!(events.iter().all(|event| event.attempt == 1));
    assert!(events.iter().all(|event| event.turn_id == events[0].turn_id));
}

#[tokio::test]
async fn usage_has_a_price_and_adds_up() {
    let endpoint = Endpoint::new(vec![says("a"), says("b")]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let one = turn(&server, prompt(&session, "1")).await.usage.expect("usage");
    let counts = (one.input_tokens, one.cached_input_tokens, one.output_tokens, one.requests);
    assert_eq!(counts, (100, 40, 10, 1));
    let cost = (60.0 * 2.0 + 40.0 * 0.5 + 10.0 * 10.0) / 1e6;
    assert!((one.cost_usd - cost).abs() < 1e-12, "{}", one.cost_usd);
    turn(&server, prompt(&session, "2")).await;
    let all = session_now(&server, &session).await.usage.expect("usage");
    assert_eq!((all.input_tokens, all.output_tokens, all.requests), (200, 20, 2));
    assert!((all.cost_usd - 2.0 * cost).abs() < 1e-12, "{}", all.cost_usd);
}

#[tokio::test]
async fn system_message_and_attachments_reach_the_model() {
    let endpoint = Endpoint::new(vec![says("a cat")]).await;
    let server = serve(&endpoint).await;
    let request = v1::CreateSessionRequest {
        system_message: "You look at pictures.".into(),
        ..Default::default()
    };
    let session = created(&server, request).await.session_id;
    let image = v1::Image { media_type: "image/png".into(), data: b"\x89PNG"[..].into() };
    let content = |kind| v1::Content { kind: Some(kind), ..Default::default() };
    let request = v1::RunTurnRequest {
        attachments: vec![content(Kind::Image(image)), content(Kind::Text("a note".into()))],
        ..prompt(&session, "what is it?")
    };
    assert_eq!(turn(&server, request).await.final_text, "a cat");
    let messages = endpoint.messages(0);
    let system = messages[0]["content"].as_str().expect("text");
    assert!(system.starts_with("You look at pictures.\n\n"), "{system}");
    assert!(system.contains("Wait rather than cancel"), "{system}");
    let expected = json!([
        { "type": "text", "text": "what is it?" },
        { "type": "image_url", "image_url": { "url": "data:image/png;base64,iVBORw==" } },
        { "type": "text", "text": "a note" },
    ]);
    assert_eq!(messages[1]["content"], expected);
}

#[tokio::test]
async fn a_repeated_request_attaches_to_its_turn() {
    let endpoint = Endpoint::new(vec![says("once")]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let request =
        v1::RunTurnRequest { request_id: crate::support::request_id(), ..prompt(&session, "1") };
    let first = turn(&server, request.clone()).await;
    let again = turn(&server, request.clone()).await;
    assert!(!first.replayed && again.replayed);
    assert_eq!((&again.turn_id, &again.final_text), (&first.turn_id, &first.final_text));
    assert_eq!(again.usage, first.usage);
    assert_eq!(endpoint.requests().len(), 1);
    let events = streamed(&server, request.clone()).await;
    assert_eq!(short(&events).last().expect("an end"), "idle STOP_REASON_END_TURN \"once\"");
    let other = v1::RunTurnRequest { prompt: "2".into(), ..request };
    let status = server.tools.clone().run_turn(other).await.expect_err("refused");
    check_reason(&status, Code::AlreadyExists, "REQUEST_ID_REUSED");
}

#[tokio::test]
async fn bad_requests_are_refused_whole() {
    let endpoint = Endpoint::new(vec![]).await;
    let server = serve(&endpoint).await;
    let request = v1::RunTurnRequest {
        session_id: "absent".into(),
        max_rounds: -1,
        max_attempts: -1,
        ..Default::default()
    };
    let status = server.tools.clone().run_turn(request).await.expect_err("refused");
    check_reason(&status, Code::InvalidArgument, "INVALID_FIELD");
    for field in ["session_id", "prompt", "max_rounds", "max_attempts"] {
        assert!(status.message().contains(field), "{}", status.message());
    }
    let request = v1::RunTurnRequest { model: "other".into(), ..prompt("", "1") };
    let status = server.tools.clone().run_turn(request).await.expect_err("refused");
    check_reason(&status, Code::NotFound, "MODEL_NOT_FOUND");
    assert!(status.message().contains("this server has main"), "{}", status.message());
    let bare = TestServer::start().await;
    let status = bare.tools.clone().run_turn(prompt("", "1")).await.expect_err("refused");
    check_reason(&status, Code::NotFound, "MODEL_NOT_FOUND");
    assert!(status.message().contains("[[models]]"), "{}", status.message());
}

#[tokio::test]
async fn a_turn_in_the_background_is_a_task() {
    let endpoint = Endpoint::new(vec![says("done")]).await;
    let server = serve(&endpoint).await;
    let description = "a job".to_owned();
    let request = start_of_turn(v1::RunTurnRequest { description, ..prompt("", "do it") });
    let task = crate::support::waiting::start(&server, request).await;
    assert_eq!((task.kind(), task.tool.as_str()), (v1::Kind::Agent, ""));
    let request = v1::WaitRequest { background_id: task.background_id, ..Default::default() };
    let waited = soon("a wait", server.tasks.clone().wait(request)).await.expect("an answer");
    let task = waited.into_inner().task.expect("a task");
    assert_eq!(task.state(), v1::State::Succeeded);
    assert_eq!(task.usage.expect("usage").requests, 1);
    let Some(v1::task::Outcome::Result(result)) = task.outcome else { panic!("no result") };
    assert_eq!(result.content[0].kind, Some(Kind::Text("done".into())));
}
