//! The server as its users meet it: over the wire, with a real store and real processes.

#![expect(unreachable_pub, reason = "the support modules are a small library of this program")]
#![expect(clippy::expect_used, clippy::panic, reason = "that is how a test says what is wrong")]

mod support;

mod access;
mod admission;
mod admission_start;
mod calls;
mod calls_output;
mod calls_tools;
mod descriptor;
mod errors;
mod faults_clock;
mod faults_cursors;
mod faults_cuts;
mod faults_deadlines;
mod faults_disk;
mod faults_output;
mod faults_pages;
mod faults_processes;
mod faults_races;
mod faults_same_request;
mod faults_start;
mod faults_stop;
mod faults_store;
mod follow_ups;
mod history;
mod http2;
mod idempotency;
mod in_process;
mod mcp;
mod output;
mod park;
mod park_limits;
mod park_stream;
mod processes;
mod program_cli;
mod program_cli_errors;
mod program_cli_follow_ups;
mod program_cli_run;
mod program_crash;
mod program_crash_follow;
mod program_orphans;
mod program_server;
mod program_start;
mod program_stop;
mod sessions;
mod smoke;
mod stream;
mod stream_live;
mod tasks;
mod tasks_cancel;
mod tasks_life;
mod tasks_wait;
mod tasks_watch;
mod toolbox;
mod turns;
