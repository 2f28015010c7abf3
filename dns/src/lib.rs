//! The DNS interface: names of nodes and services, answered from the catalog.
#![forbid(unsafe_code)]

mod config;
mod domain;
mod source;

pub use config::{Config, Limits, RecursorStrategy, ServiceTtls, Soa, ZonePreference};
pub use domain::{Domain, NotADomain};
pub use source::{Ask, Execute, Execution, Failure, Freshness, Reading, Snapshot, Source};
