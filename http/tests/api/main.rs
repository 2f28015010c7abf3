//! The API over real sockets, in front of a catalog in memory.

mod blocking;
mod kv;
mod limits;
mod rules;
mod support;
mod txn;
