//! The program as a process: its commands, its start and stop, and what a kill leaves.

mod addresses;
mod again;
mod certificates;
mod cli;
mod crash;
mod deploy;
mod leftovers;
mod namespaces;
mod notify;
mod operations;
mod ordinary_user;
mod orphans;
mod ownership;
mod server;
mod shim;
mod start;
mod stop;
mod terminal;
mod tls;

use callpark_proto::google::rpc::Status as Failure;

use crate::support::program::Program;
use crate::support::{soon, v1};

/// Fails with this message to deliver the session's only follow-up until it is given up.
async fn give_up(server: &Program, session: &str, message: &str) {
    let mut tasks = server.connect().tasks;
    let failure = Failure { code: 2, message: message.to_owned(), ..Default::default() };
    for _ in 0..10 {
        let wanted =
            v1::LeaseFollowUpsRequest { session_id: session.to_owned(), ..Default::default() };
        let answer = soon("leases", tasks.lease_follow_ups(wanted)).await.expect("leases");
        let answer = answer.into_inner();
        let [lease] = &answer.follow_ups[..] else { panic!("{answer:?}") };
        let failed = v1::AcknowledgeFollowUpRequest {
            follow_up_id: lease.follow_up.as_ref().expect("a follow-up").follow_up_id.clone(),
            lease_token: lease.lease_token.clone(),
            error: Some(failure.clone()),
            ..Default::default()
        };
        soon("an answer", tasks.acknowledge_follow_up(failed)).await.expect("taken");
    }
}
