//! Ids of another tenant, in every field that takes an id: the answer is that for an unknown one.

use std::collections::BTreeSet;

use callpark::model::Scopes;
use prost::Message as _;
use tonic::Status;

use super::encode::delimited;
use super::table::Rule;
use super::targets::{Place, Target};
use super::world::{CONFIG, World};
use super::{Rpc, good_request, rpcs};
use crate::keys::{Key, Keys};
use crate::support::streams::{ended, start_of, started, tool_start};
use crate::support::wire::first_answer;
use crate::support::{bash, request_id, v1};

/// The number with which unknown ids end. They have the form of an id.
const UNKNOWN: &str = "00000000000040008000000000000001";

/// The part of an id behind its kind.
fn number(id: &str) -> &str {
    id.split_once('-').expect("a kind").1
}

/// The id with which a field of this rule is filled, or `None` if it takes no id.
fn filling(rule: Rule, number: &str) -> Option<String> {
    let kind = match rule {
        Rule::Session { .. } => "ses",
        Rule::Task | Rule::TaskOrCall | Rule::Tasks { .. } => "bg",
        Rule::FollowUp => "fu",
        Rule::Beginning { kind } => kind.trim_end_matches('-'),
        _ => return None,
    };
    Some(format!("{kind}-{number}"))
}

/// An answer without the number that was asked for, as text.
fn comparable(answer: Result<Option<bytes::Bytes>, Status>, number: &str) -> String {
    match answer {
        Ok(message) => format!("{message:?}").replace(number, UNKNOWN),
        Err(status) => {
            let details = String::from_utf8_lossy(status.details()).into_owned();
            format!("{:?} {} {details}", status.code(), status.message()).replace(number, UNKNOWN)
        }
    }
}

async fn answer(
    keys: &Keys,
    key: &Key,
    method: &str,
    body: Vec<u8>,
) -> Result<Option<bytes::Bytes>, Status> {
    let answer = first_answer(&keys.server.channel, method, key.request(body.into())).await;
    answer.map(|(message, _)| message)
}

/// Fills a target with the id of an object and with an unknown one, and returns both answers.
async fn both(
    keys: &Keys,
    key: &Key,
    rpc: &Rpc,
    target: &Target,
    good: &prost_reflect::DynamicMessage,
    of_other: &str,
) -> Option<[String; 2]> {
    let Place::Field(field) = &target.place else { return None };
    let mut answers = Vec::new();
    for number in [of_other, UNKNOWN] {
        let id = filling(target.rule, number)?;
        let body = target.filled(good, &delimited(field.number(), id.as_bytes()));
        answers.push(comparable(answer(keys, key, &rpc.name, body).await, number));
    }
    answers.try_into().ok()
}

#[tokio::test]
async fn an_id_of_another_tenant_is_answered_as_one_that_does_not_exist() {
    let keys = Keys::with_config(CONFIG).await;
    let other = keys.create("other", Scopes::ALL).await;
    // All of it belongs to the tenant of the token.
    let (server, world) = (&keys.server, World::new(&keys.server).await);
    let follow_up = v1::FollowUpPolicy::OnFinish.into();
    let call = v1::RunToolRequest { follow_up, ..bash("true") };
    let task = started(server, tool_start(world.session_id(), call)).await;
    ended(server, &task.background_id).await;
    assert!(world.session_id().starts_with("ses-") && task.background_id.starts_with("bg-"));
    let owner = keys.create("local", Scopes::ALL).await;
    let (mut tried, mut telling, mut wrong) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for rpc in rpcs() {
        let good = good_request(&rpc, &world);
        for target in &rpc.targets {
            let of_other = match target.rule {
                Rule::Session { .. } | Rule::Beginning { kind: "ses-" } => world.session_id(),
                _ => &task.background_id,
            };
            let Some([found, unknown]) =
                both(&keys, &other, &rpc, target, &good, number(of_other)).await
            else {
                continue;
            };
            let name = format!("{} {}", rpc.good, target.path);
            let [own, none] =
                both(&keys, &owner, &rpc, target, &good, number(of_other)).await.expect("an id");
            if own != none {
                telling.insert(name.clone());
            }
            tried.insert(name);
            if found != unknown {
                wrong.push(format!("{} {}:\n{found}\n{unknown}", rpc.name, target.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried.len() >= 27, "{tried:#?}");
    // The owner has another answer, so that equal ones mean something: all but those in which nothing is due.
    let silent: Vec<_> = tried.difference(&telling).collect();
    assert!(silent.len() <= 3, "{silent:#?}");
    // The resource of an update is a message, in which no field is tried above.
    let update = |number: &str| {
        let session_id = format!("ses-{number}");
        let session = Some(v1::Session { session_id, ..Default::default() });
        let update_mask = Some(prost_types::FieldMask { paths: vec!["model".into()] });
        v1::UpdateSessionRequest { session, update_mask, ..Default::default() }.encode_to_vec()
    };
    let [found, unknown] =
        [number(world.session_id()), UNKNOWN].map(|number| {
            let (keys, other, body) = (&keys, &other, update(number));
            async move {
                comparable(answer(keys, other, "ToolRunner/UpdateSession", body).await, number)
            }
        });
    assert_eq!(found.await, unknown.await);
}

#[tokio::test]
async fn a_tenant_has_lists_and_request_ids_of_its_own() {
    let keys = Keys::with_config(CONFIG).await;
    let [one, two] = [keys.create("one", Scopes::ALL).await, keys.create("two", Scopes::ALL).await];
    let request = v1::CreateSessionRequest { request_id: request_id(), ..Default::default() };
    let mut sessions = Vec::new();
    for key in [&one, &two] {
        let created = key.clients.tools.clone().create_session(request.clone()).await;
        let session = created.expect("a session").into_inner().session.expect("a session");
        let start = start_of(&session.session_id, "true");
        let task = key.clients.tasks.clone().start(start).await.expect("a task");
        let task = task.into_inner().task.expect("a task");
        let listed = key.clients.tasks.clone().list(v1::ListRequest::default()).await;
        let listed = listed.expect("a list").into_inner().tasks;
        let ids: Vec<_> = listed.into_iter().map(|task| task.background_id).collect();
        assert_eq!(ids, [task.background_id]);
        let mut tools = key.clients.tools.clone();
        let listed = tools.list_sessions(v1::ListSessionsRequest::default()).await;
        let listed = listed.expect("a list").into_inner().sessions;
        let ids: Vec<_> = listed.into_iter().map(|session| session.session_id).collect();
        assert_eq!(ids, std::slice::from_ref(&session.session_id));
        sessions.push(session.session_id);
    }
    assert_ne!(sessions[0], sessions[1], "one request id of two tenants");
}
