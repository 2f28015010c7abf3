//! Lictor's v1 HTTP API, and the server that it runs on.
//!
//! [`Api`] answers requests for a [`Backend`], which is the cluster, and for [`ThisAgent`]; [`Server`] brings it to sockets. JSON shapes, and the texts
//! and headers that clients rely on, are here and nowhere else.

#![forbid(unsafe_code)]

mod about;
mod acl;
mod admission;
mod agent;
mod api;
mod backend;
mod catalog;
mod connect;
mod coordinate;
mod decode;
mod discovery;
mod event;
mod event_log;
pub mod filter;
mod host;
mod json;
mod kv;
mod load;
mod local;
mod log_lines;
mod metrics;
mod monitor;
mod offload;
mod once;
mod operator;
mod params;
mod prepared;
mod proxy;
mod renderings;
mod reply;
mod request;
mod route;
mod server;
mod servers;
mod session;
mod snapshot;
mod status;
mod text;
mod this_agent;
mod transport;
mod txn;

pub use about::{About, CONSUL_VERSION, Settings};
pub use api::{Api, Config};
pub use backend::{Backend, Failure, ReadMode, ReadOptions, Reading, Secret, UNKNOWN_OUTCOME, WriteOptions};
pub use coordinate::DatacenterCoordinates;
pub use event_log::{EventError, EventLog, LocalService, UserEvent};
pub use host::{Cpu, Disk, Host, Memory, System};
pub use local::{DefinitionError, define_check, define_service};
pub use log_lines::{LOG_READERS_MAX, LogFormat, LogLevel, LogLines, LogReaders, LogRecord};
pub use metrics::MetricNames;
pub use offload::offload;
pub use prepared::Executed;
pub use server::{Door, Limits, Listener, Server};
pub use servers::{RaftServer, ServerHealth, ServerRef, ServersHealth};
pub use snapshot::Archive;
pub use this_agent::{Pool, ThisAgent};
