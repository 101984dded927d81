//! Failures of the disk, the network, processes and clients, one kind of failure in each file.

mod clock;
mod clock_steps;
mod continuity;
mod cursors;
mod cuts;
mod damage;
mod deadlines;
mod disk;
mod endpoints;
mod output;
mod pages;
mod processes;
mod races;
mod random_damage;
mod same_request;
mod slow_store;
mod start;
mod stop;
mod store;
