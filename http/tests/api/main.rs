//! The API over real sockets, in front of a catalog in memory.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod agent;
mod blocking;
mod coordinates;
mod discovery;
mod events;
mod kv;
mod limits;
mod operator;
mod rules;
mod support;
mod txn;
