//! Every field of every request of the contract, filled with all that the contract allows and much
//! that it doesn't. The descriptors say what there is, so no RPC and no field can be forgotten.

mod answers;
mod bombs;
mod cases;
mod delays;
mod encode;
mod structs;
mod table;
mod targets;
mod tenants;
mod texts;
mod world;

use std::cell::Cell;

use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};

use answers::{Question, ask, comparable, complaints};
use bombs::Bomb;
use cases::{Case, cases};
use table::TABLE;
use targets::{Place, Target, targets};
use world::{CONFIG, World, good_answer};

use crate::support::TestServer;
use crate::support::proofs::proof;
use crate::support::streams::{new_session, run, task_now};
use crate::support::wire::methods;

/// An RPC and what can be filled in its request.
struct Rpc {
    /// `ToolRunner/RunTool`.
    name: String,
    /// Names its good request.
    good: String,
    method: MethodDescriptor,
    targets: Vec<Target>,
}

/// All RPCs. Fails where the contract has a field that the table doesn't have, or the reverse.
fn rpcs() -> Vec<Rpc> {
    let pool = DescriptorPool::decode(callpark_proto::FILE_DESCRIPTOR_SET).expect("descriptors");
    let mut unknown = Vec::new();
    let rpc = |method: crate::support::wire::Method| {
        let (service, short) = method.name.split_once('/').expect("a method");
        let service = pool.get_service_by_name(&format!("callpark.v1.{service}"));
        let mut methods = service.expect("a service").methods().collect::<Vec<_>>().into_iter();
        let descriptor = methods.find(|method| method.name() == short).expect("a method");
        let targets = targets(&descriptor.input(), &mut unknown);
        Rpc { good: method.name.clone(), name: method.name, method: descriptor, targets }
    };
    let rpcs: Vec<Rpc> = methods().into_iter().map(rpc).flat_map(by_work).collect();
    assert!(
        unknown.is_empty(),
        "the contract has fields without a rule: {}. Add them to TABLE in \
         tests/it/descriptor/table.rs, with the bound that their comments state.",
        unknown.join(", ")
    );
    check_for_stale_rules(&pool);
    rpcs
}

/// Splits Start by the work that it takes: each of the two has a good request of its own.
fn by_work(rpc: Rpc) -> Vec<Rpc> {
    if rpc.name != "BackgroundTasks/Start" {
        return vec![rpc];
    }
    let is_of_turn = |target: &Target| target.path.starts_with("turn.");
    let (of_turn, others) = rpc.targets.into_iter().partition(is_of_turn);
    let turn = Rpc {
        good: "BackgroundTasks/Start of a turn".into(),
        targets: of_turn,
        name: rpc.name.clone(),
        method: rpc.method.clone(),
    };
    vec![Rpc { targets: others, ..rpc }, turn]
}

fn check_for_stale_rules(pool: &DescriptorPool) {
    for (name, fields) in TABLE {
        let found = |package| pool.get_message_by_name(&format!("{package}.{name}"));
        let message = found("callpark.v1").or_else(|| found("google.rpc"));
        let message = message.unwrap_or_else(|| panic!("TABLE has {name}, the contract hasn't"));
        for (field, _) in *fields {
            let is_there = message.get_field_by_name(field).is_some()
                || message.oneofs().any(|choice| choice.name() == *field);
            assert!(is_there, "TABLE has {name}.{field}, the contract hasn't");
        }
    }
}

/// A good request, for a message in which fields are replaced.
fn good_request(rpc: &Rpc, world: &World) -> DynamicMessage {
    let bytes = world.good(&rpc.good);
    DynamicMessage::decode(rpc.method.input(), bytes.as_slice()).expect("a message")
}

/// Tries these cases with every target of an RPC, and returns how many there were, and what was
/// wrong with the answers.
async fn try_rpc(
    server: &TestServer,
    world: &World,
    rpc: &Rpc,
    cases_of: impl Fn(&Target) -> Vec<Case>,
) -> (usize, Vec<String>) {
    let good = good_request(rpc, world);
    let answer = good_answer(&rpc.good);
    let found = ask(server, &rpc.name, prost::Message::encode_to_vec(&good)).await;
    let found = found.expect("an answer to a good request");
    assert_eq!(comparable(&found), answer, "{}: {found:?}", rpc.name);
    let mut count = 0;
    let questions = rpc
        .targets
        .iter()
        .flat_map(|target| cases_of(target).into_iter().map(move |case| (target, case)));
    let questions = questions.map(|(target, case)| {
        count += 1;
        let body = target.filled(&good, &case.bytes);
        Question { method: &rpc.name, target, case, body }
    });
    let complaints = complaints(server, &answer, questions).await;
    (count, complaints)
}

/// The server does its work as if nothing had been.
async fn check_that_it_works(server: &TestServer, world: &World, after: &str) {
    let session_id = new_session(server).await;
    let result = run(server, &session_id, "exit 3").await;
    assert!(result.is_error, "after {after}: {result:?}");
    task_now(server, &world.background_id).await;
}

/// Tries all that is tried with each target of every RPC.
async fn try_all(count_min: usize, cases_of: impl Fn(&Target) -> Vec<Case>) {
    let server = TestServer::with_config(CONFIG, &[]).await;
    let world = World::new(&server).await;
    let (mut count, mut wrong) = (0, Vec::new());
    for rpc in rpcs() {
        let (tried, complaints) = try_rpc(&server, &world, &rpc, &cases_of).await;
        count += tried;
        wrong.extend(complaints);
        check_that_it_works(&server, &world, &rpc.name).await;
    }
    let shown: Vec<&str> = wrong.iter().take(40).map(String::as_str).collect();
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), shown.join("\n"));
    assert!(count >= count_min, "{count}");
}

/// Returns the cases for a field that takes JSON.
fn in_json(target: &Target, bombs: fn() -> Vec<Bomb>) -> Vec<Case> {
    let Place::Field(field) = &target.place else { return Vec::new() };
    match target.message().as_deref() {
        Some(name @ ("google.protobuf.Struct" | "google.protobuf.Value")) => {
            bombs::cases(name, field.number(), bombs())
        }
        _ => Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_of_every_request_is_taken_or_refused_as_the_contract_says() {
    try_all(1_500, cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_that_holds_far_too_much_is_answered_in_bounded_time() {
    // All fields go through the same conversion: the share is one of them.
    let (is_proof, is_tried) = (proof(true, false), Cell::new(false));
    let cases_of = |target: &Target| {
        if !is_proof && is_tried.get() {
            return Vec::new();
        }
        let cases = in_json(target, bombs::large);
        is_tried.set(is_tried.get() || !cases.is_empty());
        cases
    };
    try_all(proof(30, 10), cases_of).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_that_is_too_deep_to_be_read_is_refused_as_that_in_bounded_time() {
    try_all(18, |target| in_json(target, bombs::deep)).await;
}
