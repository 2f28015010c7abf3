//! One running Lictor agent: configuration, sockets and disks around the pure cores.
//!
//! [`run`] starts an agent and waits until it is told to stop. What it puts together:
//!
//! - `config`: from command line and files to one validated configuration;
//! - `boot`: the data directory, the node's identity, its stores, and whom it trusts;
//! - `storage`: the threads that write the log and the state, and read the log;
//! - `network`: the transport's events into the node, the node's messages and calls into the transport;
//! - `outlet`: everything that leaves the node's loop, each to its place;
//! - `view`: the published state, and who waits for a change of it;
//! - `backend`: the HTTP API's questions, answered from the view or through the node;
//! - `logging`, `signals`: what their names say.

#![forbid(unsafe_code)]

mod agent;
mod backend;
mod boot;
pub mod config;
mod handle;
mod logging;
mod network;
mod outlet;
mod signals;
mod storage;
mod view;

pub use agent::run;
