//! Requests of the API from agent to agent.
//!
//! An agent that cannot answer a request itself passes it on as an *ask*: a client agent to a server of its data
//! center, a server to one of the data center that the request is for. Whoever is asked answers as it would answer its
//! own API.
//!
//! - [`wire`]: asks and their answers as bytes;
//! - `caller`: whom to ask, for how long to wait, and what may be tried again;
//! - `service`: answers the asks of others;
//! - `ticker`: one timer for all that are under way.

pub(crate) mod caller;
pub(crate) mod service;
pub(crate) mod ticker;
pub mod wire;

#[cfg(test)]
mod tests;
