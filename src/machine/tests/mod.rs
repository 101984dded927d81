//! Tests of the machine: a short story for each rule, and random lives of a session that keep
//! every invariant.
//!
//! Every command goes through [`world::World::send`], which checks the invariants after it, so
//! each story tests them too.

mod cancelling;
mod checks;
mod closing;
mod concurrency;
mod ending;
mod follow_ups;
mod limit;
mod node;
mod owners;
mod parking;
mod random;
mod resuming;
mod starting;
mod turns;
mod world;
