//! Failures of the disk, the network, processes and clients, one kind of failure in each file.

mod clock;
mod cursors;
mod cuts;
mod damage;
mod deadlines;
mod disk;
mod output;
mod pages;
mod processes;
mod races;
mod same_request;
mod start;
mod stop;
mod store;
