//! One running Lictor agent: configuration, sockets and disks around the pure cores.
//!
//! [`run`] starts an agent and waits until it is told to stop. What it puts together:
//!
//! - `config`: from command line and files to one validated configuration; `settings`: what that means for each part;
//! - `boot`: the data directory, the node's identity, its stores, and whom it trusts; `banner`: what is said of
//!   that;
//! - `storage`: the threads that write the log and the state, and read the log;
//! - `network`, `gossip`: the transport's events into the agent's machine, the machine's messages and calls into the transport;
//! - `outlet`: everything that leaves the machine's loop, each to its place;
//! - `community`, `joining`, `memory`: what the agent is in its pools, whom it looks for, and what it remembers of them;
//! - `pools`, `vitals`: who is in the pools, and how the machine is, for readers;
//! - `view`: the published state, and who waits for a change of it;
//! - `local`: what an agent answers by itself; `backend`: what a server answers, from the view or through its node; `client`: what
//!   an agent in client mode asks the servers for;
//! - `rpc`, `routes`: requests passed on from agent to agent, and to whom;
//! - `running`: what runs on this agent; `checks`: looking how well it is;
//! - `remote_exec`: commands that others want carried out here; `process_group`: programs that end with all they have started;
//! - `watches`: what the configuration wants to be told of, and who is told;
//! - `reload`: the configuration, read again;
//! - `recovery`: `peers.json`, for a cluster that has lost its quorum;
//! - `coordinates`: updates of where nodes are, gathered;
//! - `dns`: DNS, from the view or through the same backend as the API;
//! - `failover`: where prepared queries look that find nothing here;
//! - `ending`: how it leaves or stops;
//! - `host`: the machine that it runs on; `metrics`: what is counted and shown of the agent; `open_files`: how many there may be;
//! - `logging`, `signals`: what their names say.

#![forbid(unsafe_code)]

mod agent;
mod backend;
mod banner;
mod boot;
mod checks;
mod client;
mod community;
pub mod config;
mod coordinates;
mod dns;
mod durable;
mod ending;
mod failover;
mod gossip;
mod handle;
mod home;
mod host;
mod joining;
mod local;
mod logging;
mod memory;
mod metrics;
mod network;
mod open_files;
mod outlet;
mod pools;
mod process_group;
mod recovery;
mod reload;
mod remote_exec;
mod routes;
pub mod rpc;
mod running;
mod server;
mod settings;
mod signals;
pub mod snapshot;
mod storage;
mod view;
mod vitals;
mod watches;

pub use agent::run;
