//! Lictor's v1 HTTP API, and the server that it runs on.
//!
//! [`Api`] answers requests for a [`Backend`], which is the agent; [`Server`] brings it to sockets. JSON shapes, and the texts
//! and headers that clients rely on, are here and nowhere else.

#![forbid(unsafe_code)]

mod admission;
mod api;
mod backend;
mod decode;
mod json;
mod kv;
mod offload;
mod params;
mod reply;
mod request;
mod route;
mod server;
mod status;
mod text;
mod transport;
mod txn;

pub use api::{Api, Config};
pub use backend::{Backend, Failure, ReadMode, ReadOptions, Reading, Secret, WriteOptions};
pub use server::{Limits, Listener, Server};
