//! The built binary from outside: its files, its signals, its sockets, and clusters of it.
//!
//! Every test has loopback addresses of its own, so that the agents can keep their default ports. That takes a system whose
//! loopback interface answers on all of 127.0.0.0/8, as Linux's does.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod bad_files;
mod certificates;
mod clients;
mod cluster;
mod commands;
mod dev_agent;
mod kill_loop;
mod locks;
mod losses;
mod queries;
mod running;
mod snapshots;
mod strangers;
mod support;
mod watches;
