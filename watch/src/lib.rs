//! Watches: being told what there is, and again whenever that has changed.
//!
//! A watch is a question to an agent's HTTP API, asked again and again so that each answer comes when there is another one. [`Plan`] is
//! the question, made of [`Parameters`]; [`News`] is what an answer says, in the form that programs are told it; [`Progress`] knows what
//! was told already, and so what is news, and when to ask again after a failure.
//!
//! This crate asks nobody and runs nothing: the command line does that in its way, and the agent, for the watches of its configuration,
//! in another.

#![forbid(unsafe_code)]

mod news;
mod parameters;
mod plan;
mod progress;
mod shape;

pub use news::News;
pub use parameters::Parameters;
pub use plan::{Plan, PlanError, VersionKind};
pub use progress::{Progress, Version};

/// In the environment of a program that is told news: the version of what it is told.
pub const INDEX_VARIABLE: &str = "CONSUL_INDEX";

/// In a request that tells news: the version of what it tells.
pub const INDEX_HEADER: &str = "X-Consul-Index";
