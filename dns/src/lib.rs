//! The DNS interface: names of nodes and services, answered from the catalog.
//!
//! [`Server`] answers on sockets, from a [`Source`], as [`Config`] says. In between everything but the asking is pure:
//!
//! 1. `request` reads a message; `form` says what a name asks for.
//! 2. `lookup` finds out what that takes, and asks for it: the published catalog, what other agents said and is `kept`, a `recursor`.
//! 3. `services` and `nodes` say what the records are; `encode` turns them into bytes, once for all who ask the same (`cache`).
//! 4. `message` puts as many of them into a message as there is room for, in a new order each time.
//!
//! Nothing is asked of anybody for a name of the own data center at an agent that has the catalog.

#![forbid(unsafe_code)]

mod answer;
mod answerer;
mod cache;
mod config;
mod domain;
mod encode;
mod form;
mod kept;
mod kind;
mod lookup;
mod message;
mod meters;
mod name;
mod nodes;
mod recursor;
mod request;
mod server;
mod service;
mod services;
mod source;
mod stats;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

pub use answerer::Answerer;
pub use config::{Config, Limits, RecursorStrategy, ServiceTtls, Soa, ZonePreference};
pub use domain::{Domain, NotADomain};
pub use meters::Meters;
pub use server::{Handle, Listener, Server};
pub use source::{Ask, Execute, Execution, Failure, Freshness, Reading, Snapshot, Source};
pub use stats::{AnswerStats, Stats};
