//! The races of the engine, tried under many orders of its steps.
//!
//! This program compiles the sources of `src/engine/` and `src/tool/` a second time, word for
//! word, against primitives whose every step a scheduler of shuttle's chooses: `tokio` and
//! `tokio_util` are this crate itself, [`sync`] and [`time`] say what stands for what. The floors
//! below are the library's. A model is a story with an end that must hold in every order. For most
//! races one story has a mistake, `it_is_found_when…`: the checker must find it. Where the outcome of
//! a race is open, a model fails that never sees both.
//!
//! The unit tests of the compiled files run here as well, those with a clock or a lock in many
//! orders.
//!
//! What is not varied: weak memory (steps are sequentially consistent), atomics and locks inside
//! the store in memory and the metrics, and the code of tokio itself.
//!
//! On a failure shuttle prints the schedule. To run it again, put it into a file and name that
//! file: `MODELS_SCHEDULE=file cargo test --test models the_name_of_the_model -- --exact`.
//! `MODELS_RUNS=100` tries a hundred times as many orders.

#![expect(unreachable_pub, reason = "the engine is a library, and this is a program")]
#![expect(clippy::expect_used, clippy::panic, reason = "that is how a test says what is wrong")]
#![expect(clippy::duplicate_mod, reason = "parts of the engine are tried by themselves, too")]

extern crate self as tokio;
extern crate self as tokio_util;

#[expect(dead_code, unused_imports, reason = "the models use a part of it")]
#[path = "../../src/engine/mod.rs"]
mod engine;
#[expect(dead_code, unused_imports, reason = "the models use a part of it")]
#[path = "../../src/tool/mod.rs"]
mod tool;

mod kernels;
mod support;
mod sync;
mod task;
mod time;

mod admission;
mod appends;
mod directories;
mod endings;
mod parking;
mod requests;
mod waits;

use callpark::internals::{exec, machine, quota, redact, telemetry};
use callpark::{agent, model, store};
use shuttle_tokio::{select, test};
