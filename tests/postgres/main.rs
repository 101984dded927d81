//! The store in PostgreSQL, against a real one that the tests start.

#![expect(clippy::expect_used, clippy::panic, reason = "that is how a test says what is wrong")]

mod cluster;
mod conformance;
mod crashes;
mod cuts;
#[path = "../it/history/mod.rs"]
#[expect(
    unreachable_pub,
    unused_imports,
    reason = "the module is shared with the tests over the wire"
)]
mod history;
mod load;
mod migration;
mod opening;
mod plans;
mod program;
mod replicas;
#[path = "../it/support/mod.rs"]
#[expect(
    unreachable_pub,
    dead_code,
    unused_imports,
    reason = "the module is shared with the tests over the wire"
)]
mod support;
