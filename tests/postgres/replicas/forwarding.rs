//! Any replica answers: requests reach the owner of their session.

use callpark::store::Store as _;
use callpark_proto::v1;

use super::join;
use super::ownership::{own, quiet, release};
use super::place::Place;
use crate::cluster::shared;
use crate::load;
use crate::support::{bash, millis, remote, soon};

/// Returns a command that runs until the file exists.
fn until(gate: &std::path::Path) -> String {
    format!("echo begun; until [ -e {} ]; do sleep 0.02; done; echo over", gate.display())
}

/// Reads a stream up to the end of a call, and checks that it has all events.
async fn read_to_the_end(stream: &mut tonic::Streaming<v1::SessionUpdate>, call_id: &str) {
    let mut sequences = Vec::new();
    let is_end = |event: &v1::SessionEvent| {
        matches!(&event.payload, Some(v1::session_event::Payload::ToolCallFinished(_)))
            && event.call_id == call_id
    };
    'all: loop {
        let update = soon("an event", stream.message()).await.expect("no cut").expect("an event");
        for event in update.events {
            sequences.push(event.sequence);
            if is_end(&event) {
                break 'all;
            }
        }
    }
    assert!(sequences.iter().copied().eq(1..=sequences.len() as i64), "{sequences:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_replica_answers() {
    let place = Place::new(shared());
    let ((site, a), (_, b)) = (place.replica().await, place.replica().await);
    let (of_a, of_b) = (a.connect(), b.connect());
    let session_id = remote::session(&of_a).await;
    let gate = site.folder().join("gate");
    let call = v1::RunToolRequest { session_id: session_id.clone(), ..bash(&until(&gate)) };
    let task = remote::start(&of_a, call).await;
    let (id, call_id) = (task.background_id, task.call_id);
    // Reads, and a list of the whole tenant.
    assert_eq!(remote::task(&of_b, &id).await.state(), v1::State::Running);
    assert_eq!(remote::tasks(&of_b).await.len(), 1);
    // A stream that follows, and a call in the same session.
    let follow = v1::StreamSessionRequest { session_id: session_id.clone(), ..Default::default() };
    let stream = soon("a stream", of_b.tools.clone().stream_session(follow)).await;
    let mut stream = stream.expect("a stream").into_inner();
    let call = v1::RunToolRequest { session_id: session_id.clone(), ..bash("echo here") };
    let answer = soon("a call", of_b.tools.clone().run_tool(call)).await;
    let answer = answer.expect("an answer").into_inner();
    assert_eq!(answer.session_id, session_id, "{answer:?}");
    // Waits for one and for several tasks, of both replicas.
    let other = remote::start(&of_b, bash(&until(&gate))).await.background_id;
    let waits = async {
        let wait_many = v1::WaitManyRequest {
            background_ids: vec![id.clone(), other.clone()],
            mode: v1::WaitMode::All.into(),
            ..Default::default()
        };
        let (one, of_b, of_a) = tokio::join!(
            remote::ended(&of_b, &id),
            async { of_b.tasks.clone().wait_many(wait_many.clone()).await },
            async { of_a.tasks.clone().wait_many(wait_many.clone()).await },
        );
        assert_eq!(one.state(), v1::State::Succeeded, "{one:?}");
        for answer in [of_b, of_a] {
            let answer = answer.expect("an answer").into_inner();
            assert_eq!((answer.settled.len(), answer.pending.len()), (2, 0), "{answer:?}");
        }
    };
    let opened = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        std::fs::write(&gate, "").expect("a gate");
    };
    soon("all ends", async { tokio::join!(waits, opened) }).await;
    assert_eq!(remote::output(&of_b, &id).await, b"begun\nover\n");
    read_to_the_end(&mut stream, &call_id).await;
    // A request that names nothing of this replica, and one for nothing.
    let missing = v1::GetRequest { background_id: id.replace(&id[4..8], "0000") };
    let error = of_b.tasks.clone().get(missing).await.expect_err("no such task");
    assert_eq!(error.code(), tonic::Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_server_is_away_is_refused_with_a_delay() {
    let place = Place::new(shared());
    let ((site, a), (_, b)) = (place.replica().await, place.replica().await);
    let gate = site.folder().join("gate");
    let id = remote::start(&a.connect(), bash(&until(&gate))).await.background_id;
    a.kill().await;
    let request = v1::CancelRequest { background_id: id, ..Default::default() };
    let error = soon("an answer", b.connect().tasks.cancel(request)).await;
    let error = error.expect_err("its owner is away");
    assert_eq!(error.code(), tonic::Code::Unavailable, "{error}");
    let details = tonic_types::StatusExt::get_error_details(&error);
    let reason = details.error_info().map(|info| info.reason.clone());
    assert_eq!(reason.as_deref(), Some("NOT_OWNER"), "{error}");
    assert!(details.retry_info().is_some_and(|info| info.retry_delay.is_some()), "{error}");
    let text = format!("{error:?}");
    assert!(!text.contains("callpark-owner") && !text.contains("127.0.0.1"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn follow_ups_are_leased_and_acknowledged_at_any_replica() {
    let place = Place::new(shared());
    let ((site, a), (_, b)) = (place.replica().await, place.replica().await);
    let (of_a, of_b) = (a.connect(), b.connect());
    let session_id = remote::session(&of_a).await;
    let gate = site.folder().join("gate");
    let call = |command: &str| v1::RunToolRequest {
        session_id: session_id.clone(),
        follow_up: v1::FollowUpPolicy::OnFinish.into(),
        ..bash(command)
    };
    // The session stays with its replica as long as this runs.
    let busy = remote::start(&of_a, call("exec sleep 1000")).await.background_id;
    let gated = remote::start(&of_a, call(&until(&gate))).await.background_id;
    // A consumer of the whole tenant, and one of the session.
    for session in ["", &session_id] {
        let request = v1::LeaseFollowUpsRequest {
            session_id: session.to_owned(),
            wait: millis(20_000),
            ..Default::default()
        };
        let lease = async { of_b.tasks.clone().lease_follow_ups(request).await };
        let open = async {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            std::fs::write(&gate, "").expect("a gate");
        };
        let (leased, ()) = soon("a lease", async { tokio::join!(lease, open) }).await;
        let mut leased = leased.expect("an answer").into_inner().follow_ups;
        let leased = leased.pop().expect("a follow-up");
        let follow_up = leased.follow_up.expect("a record");
        assert_eq!(follow_up.task.expect("a task").background_id, gated, "{session:?}");
        let request = v1::AcknowledgeFollowUpRequest {
            follow_up_id: follow_up.follow_up_id,
            lease_token: leased.lease_token,
            error: session.is_empty().then(|| callpark_proto::google::rpc::Status {
                code: 14,
                message: "again".into(),
                details: Vec::new(),
            }),
            ..Default::default()
        };
        let answer = soon("an answer", of_b.tasks.clone().acknowledge_follow_up(request)).await;
        let follow_up = answer.expect("taken").into_inner().follow_up.expect("a record");
        let expected = match session {
            "" => v1::FollowUpState::Pending,
            _ => v1::FollowUpState::Delivered,
        };
        assert_eq!(follow_up.state(), expected, "{follow_up:?}");
    }
    let request = v1::CancelRequest { background_id: busy, force: true, ..Default::default() };
    soon("an answer", of_b.tasks.clone().cancel(request)).await.expect("cancelled");
}

/// Waits until no session belongs to a replica.
async fn all_free(place: &Place<'_>) {
    let free = async {
        loop {
            let held = "SELECT count(*) FROM callpark.sessions WHERE owner IS NOT NULL";
            if place.cluster.sql(&place.database, held) == "0" {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    soon("free sessions", free).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_session_is_served_where_it_is_asked_for() {
    let place = Place::new(shared());
    let ((_, a), (_, b)) = (place.replica().await, place.replica().await);
    let (of_a, of_b) = (a.connect(), b.connect());
    let session_id = remote::session(&of_a).await;
    let call = |command: &str| v1::RunToolRequest {
        session_id: session_id.clone(),
        call_budget: millis(60_000),
        ..bash(command)
    };
    // Each reads the newest events from its memory while it has the session, and not what it had before.
    for clients in [&of_a, &of_b, &of_a, &of_b] {
        let follow =
            v1::StreamSessionRequest { session_id: session_id.clone(), ..Default::default() };
        let stream = soon("a stream", clients.tools.clone().stream_session(follow)).await;
        let mut stream = stream.expect("a stream").into_inner();
        let answer = soon("a call", clients.tools.clone().run_tool(call("echo here"))).await;
        let call_id = answer.expect("an answer").into_inner().call_id;
        read_to_the_end(&mut stream, &call_id).await;
        drop(stream);
        all_free(&place).await;
    }
    a.kill().await;
    let answer = soon("a call", of_b.tools.clone().run_tool(call("echo b"))).await;
    answer.expect("the owner is not asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_another_tenant_is_not_touched() {
    let place = Place::new(shared());
    let (_site, b) = place.replica().await;
    // Its address leads nowhere.
    let a = join(place.cluster, &place.database, "http://127.0.0.1:1").await;
    let session = load::session();
    a.append(quiet(&session, None)).await.expect("stored");
    let session_id = session.id.to_string();
    let refused = async || {
        let call = v1::RunToolRequest { session_id: session_id.clone(), ..bash("true") };
        let answer = soon("an answer", b.connect().tools.run_tool(call)).await;
        answer.expect_err("it is not there").code()
    };
    assert_eq!(refused().await, tonic::Code::NotFound, "its owner is not asked");
    let claim = own(&a, session.id).await;
    release(&a, session.id, claim).await;
    assert_eq!(refused().await, tonic::Code::NotFound, "it is free");
    assert_eq!(own(&a, session.id).await, claim + 1, "it was not claimed meanwhile");
    a.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn follow_ups_of_a_replica_that_restarts_are_passed_over() {
    let place = Place::new(shared());
    let ((site_a, a), (_site_b, b)) = (place.replica().await, place.replica().await);
    let (of_a, of_b) = (a.connect(), b.connect());
    let session_id = remote::session(&of_a).await;
    let call = |session_id: &str, command| v1::RunToolRequest {
        session_id: session_id.to_owned(),
        follow_up: v1::FollowUpPolicy::OnFinish.into(),
        ..bash(command)
    };
    // The session waits for its replica because of this one.
    remote::start(&of_a, call(&session_id, "exec sleep 1000")).await;
    let first = remote::start(&of_a, call(&session_id, "true")).await.background_id;
    remote::ended(&of_a, &first).await;
    let second = remote::start(&of_b, call("", "true")).await.background_id;
    remote::ended(&of_b, &second).await;
    let endpoint = a.endpoint.clone();
    a.terminate().await.0.exits(0);
    let lease = async |wait| {
        let request = v1::LeaseFollowUpsRequest {
            max_follow_ups: 1,
            lease_duration: millis(60_000),
            wait: millis(wait),
            ..Default::default()
        };
        let leased = soon("an answer", of_b.tasks.clone().lease_follow_ups(request)).await;
        let leased = leased?.into_inner().follow_ups;
        let tasks = leased.into_iter().filter_map(|leased| leased.follow_up?.task);
        Ok::<_, tonic::Status>(tasks.map(|task| task.background_id).collect::<Vec<_>>())
    };
    let leased = lease(20_000).await.expect("an answer");
    assert_eq!(leased, [second], "the first one has waited for longer");
    assert_eq!(lease(0).await.expect("an answer"), Vec::<String>::new(), "nobody can lease it");
    let back = async {
        // Those that wait notice it.
        let is_away = |error: &tonic::Status| error.code() == tonic::Code::Unavailable;
        loop {
            match lease(20_000).await {
                Err(error) if is_away(&error) => {}
                leased => return leased.expect("an answer"),
            }
        }
    };
    let (leased, _a) = tokio::join!(back, place.restart(&site_a, &endpoint));
    assert_eq!(leased, [first]);
}
