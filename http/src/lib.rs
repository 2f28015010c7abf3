//! Lictor's v1 HTTP API, and the server that it runs on.
//!
//! [`Api`] answers requests for a [`Backend`], which is the cluster, and for [`ThisAgent`]; [`Server`] brings it to sockets. JSON shapes, and the texts
//! and headers that clients rely on, are here and nowhere else.

#![forbid(unsafe_code)]

mod about;
mod admission;
mod agent;
mod api;
mod backend;
mod catalog;
mod coordinate;
mod decode;
mod discovery;
mod event;
mod event_log;
pub mod filter;
mod json;
mod kv;
mod offload;
mod operator;
mod params;
mod renderings;
mod reply;
mod request;
mod route;
mod server;
mod servers;
mod status;
mod text;
mod this_agent;
mod transport;
mod txn;

pub use about::{About, CONSUL_VERSION, Settings};
pub use api::{Api, Config};
pub use backend::{Backend, Failure, ReadMode, ReadOptions, Reading, Secret, WriteOptions};
pub use coordinate::DatacenterCoordinates;
pub use event_log::{EventError, EventLog, LocalService, UserEvent};
pub use offload::offload;
pub use server::{Limits, Listener, Server};
pub use servers::{RaftServer, ServerHealth, ServerRef, ServersHealth};
pub use this_agent::{Pool, ThisAgent};
