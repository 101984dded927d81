//! Budgets of sessions: what models may use.

use serde_json::json;

use super::check_refusal;
use crate::support::streams::{created, log_of, session_now};
use crate::support::v1;
use crate::turns::{Endpoint, calls, prompt, says, serve_with, turn};

/// The tokens and the cost of each answer of the endpoint, at the price of the tests' model.
const TOKENS: i64 = 110;
const COST_USD: f64 = (60.0 * 2.0 + 40.0 * 0.5 + 10.0 * 10.0) / 1e6;

fn with(max_cost_usd: f64, max_tokens: i64) -> v1::CreateSessionRequest {
    let budget = Some(v1::Budget { max_cost_usd, max_tokens });
    v1::CreateSessionRequest { budget, ..Default::default() }
}

/// A model that calls a tool again and again.
async fn endless() -> Endpoint {
    let again = calls(&[("c", "bash", json!({ "command": "true" }))]);
    Endpoint::new(vec![again; 9]).await
}

#[tokio::test]
async fn a_turn_ends_between_rounds_when_its_session_has_used_up_its_tokens() {
    let endpoint = endless().await;
    let server = serve_with(&endpoint, "").await;
    // Two requests are within the budget before they are made.
    let session = created(&server, with(0.0, TOKENS + 1)).await;
    let answer = turn(&server, prompt(&session.session_id, "loop")).await;
    assert_eq!((answer.stop_reason(), &answer.error), (v1::StopReason::BudgetUsedUp, &None));
    assert_eq!(endpoint.requests().len(), 2);
    let usage = session_now(&server, &session.session_id).await.usage.expect("a usage");
    assert_eq!(usage.input_tokens + usage.output_tokens, 2 * TOKENS);
    // The calls of the last round were made, and the event says why the turn has ended.
    let events = log_of(&server, &session.session_id).await;
    let idle = events.iter().find_map(|event| match &event.payload {
        Some(v1::session_event::Payload::SessionIdle(idle)) => Some(idle.stop_reason()),
        _ => None,
    });
    assert_eq!(idle, Some(v1::StopReason::BudgetUsedUp));
    // The budget is that of the session: no further turn asks the model, until it is raised.
    let answer = turn(&server, prompt(&session.session_id, "again")).await;
    assert_eq!(answer.stop_reason(), v1::StopReason::BudgetUsedUp);
    assert_eq!(endpoint.requests().len(), 2);
    let raised = v1::UpdateSessionRequest {
        session: Some(v1::Session {
            session_id: session.session_id.clone(),
            budget: Some(v1::Budget { max_cost_usd: 0.0, max_tokens: 3 * TOKENS }),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["budget".into()] }),
        ..Default::default()
    };
    server.tools.clone().update_session(raised).await.expect("an update");
    let answer = turn(&server, prompt(&session.session_id, "again")).await;
    assert_eq!(answer.stop_reason(), v1::StopReason::BudgetUsedUp);
    assert_eq!(endpoint.requests().len(), 3);
}

#[tokio::test]
async fn a_turn_ends_when_its_session_has_used_up_its_money() {
    let endpoint = endless().await;
    let server = serve_with(&endpoint, "").await;
    let session = created(&server, with(COST_USD * 2.5, 0)).await;
    let answer = turn(&server, prompt(&session.session_id, "loop")).await;
    assert_eq!(answer.stop_reason(), v1::StopReason::BudgetUsedUp);
    assert_eq!(endpoint.requests().len(), 3);
    assert_eq!(answer.usage.expect("a usage").cost_usd, 3.0 * COST_USD);
}

#[tokio::test]
async fn the_usage_of_a_sub_agent_counts_and_ends_it_as_well() {
    let agent = ("a", "agent", json!({ "prompt": "loop" }));
    let again = calls(&[("c", "bash", json!({ "command": "true" }))]);
    let mut script = vec![calls(&[agent])];
    script.extend(vec![again; 9]);
    let endpoint = Endpoint::new(script).await;
    let server = serve_with(&endpoint, "").await;
    let session = created(&server, with(0.0, 3 * TOKENS)).await;
    let answer = turn(&server, prompt(&session.session_id, "delegate")).await;
    assert_eq!(answer.stop_reason(), v1::StopReason::BudgetUsedUp);
    // One of the turn, and two of its agent, which had the rest.
    assert_eq!(endpoint.requests().len(), 3);
    let usage = session_now(&server, &session.session_id).await.usage.expect("a usage");
    assert_eq!(usage.input_tokens + usage.output_tokens, 3 * TOKENS);
}

#[tokio::test]
async fn a_budget_that_is_not_reached_changes_nothing() {
    let endpoint = Endpoint::new(vec![says("done")]).await;
    let server = serve_with(&endpoint, "").await;
    let session = created(&server, with(1.0, 1_000)).await;
    assert_eq!(session.budget, Some(v1::Budget { max_cost_usd: 1.0, max_tokens: 1_000 }));
    let answer = turn(&server, prompt(&session.session_id, "go")).await;
    assert_eq!((answer.stop_reason(), &*answer.final_text), (v1::StopReason::EndTurn, "done"));
}

#[tokio::test]
async fn a_model_is_told_that_its_call_is_over_a_limit_of_its_tenant() {
    let slow = "[[tools]]\nname = 'slow'\nargv = ['sleep', '1000']\ncall_budget = '0s'\n\
                [[tenant_limits]]\nname = 'local'\nmax_live_calls = 2\n";
    let endpoint = Endpoint::new(vec![
        calls(&[("one", "slow", json!({}))]),
        calls(&[
            ("two", "slow", json!({})),
            ("list", "check_background_task", json!({ "action": "list" })),
        ]),
        says("it is full"),
    ])
    .await;
    let server = serve_with(&endpoint, slow).await;
    let session = created(&server, v1::CreateSessionRequest::default()).await;
    assert_eq!(turn(&server, prompt(&session.session_id, "go")).await.final_text, "it is full");
    let text = |id: &str| {
        let messages = endpoint.messages(2);
        let answer = messages.iter().find(|message| message["tool_call_id"] == id);
        answer.expect("an answer")["content"].as_str().expect("text").to_owned()
    };
    assert!(text("two").contains("max_live_calls"), "{}", text("two"));
    assert!(
        text("list").contains("slow"),
        "what looks after tasks is not refused: {}",
        text("list")
    );
    let start = crate::support::waiting::start_of(crate::support::bash("sleep 1000"));
    server.tasks.clone().start(start.clone()).await.expect("the turn has ended");
    let refused = server.tasks.clone().start(start).await.expect_err("full");
    check_refusal(&refused, "QUOTA_EXCEEDED", "max_live_calls", "2");
}
