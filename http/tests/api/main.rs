//! The API over real sockets, in front of a catalog in memory.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod agent;
mod blocking;
mod checks;
mod coordinates;
mod discovery;
mod events;
mod kv;
mod limits;
mod load;
mod mesh;
mod metrics;
mod monitor;
mod operator;
mod prepared;
mod rules;
mod services;
mod sessions;
mod snapshot;
mod support;
mod txn;
mod ui;
