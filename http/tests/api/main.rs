//! The API over real sockets, in front of a catalog in memory.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod blocking;
mod kv;
mod limits;
mod rules;
mod support;
mod txn;
