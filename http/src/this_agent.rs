//! What the API needs from the agent that it speaks for, without any server.

use std::sync::Arc;

use async_trait::async_trait;
use lictor_gossip::Member;
use lictor_local::{LocalView, Request};
use lictor_metrics::Registry;
use serde::{Deserialize, Serialize};

use crate::about::About;
use crate::backend::Failure;
use crate::event_log::EventLog;
use crate::host::Host;
use crate::log_lines::LogReaders;

/// The agent by itself, as the API sees it. Every method may be called from many tasks at once, and may be cancelled by dropping its
/// future: what it was asked to change may then be changed, or not.
#[async_trait]
pub trait ThisAgent: Send + Sync + 'static {
    /// What this agent says of itself.
    fn about(&self) -> Result<About, Failure>;

    /// The members of a pool as this agent sees them, itself included, in any order; `None` if it is not in that pool.
    fn members(&self, pool: Pool) -> Option<Vec<Arc<Member>>>;

    /// Joins the pool of whoever is found at `address`: a host or an address, with or without a port, as it stands in the request. Fails
    /// with [`Failure::Several`], a text for each attempt, if nobody was found there.
    async fn join(&self, pool: Pool, address: &str) -> Result<(), Failure>;

    /// Leaves all pools in good order and lets the agent end. Done when the others have been told.
    async fn leave(&self) -> Result<(), Failure>;

    /// Makes a member that failed one that left; with `prune` it is forgotten altogether. In [`Pool::Lan`] this is done to what that
    /// member is in [`Pool::Wan`] too. One that is not in the pool any more is no failure.
    async fn force_leave(&self, pool: Pool, name: &str, prune: bool) -> Result<(), Failure>;

    /// The user events that this agent received.
    fn events(&self) -> &EventLog;

    /// What this agent counts about itself.
    fn metrics(&self) -> &Registry;

    /// Those who read along what this agent logs.
    fn log(&self) -> &Arc<LogReaders>;

    /// The machine that this agent runs on. What cannot be found out is among [`Host::errors`].
    async fn host(&self) -> Host;

    /// What runs on this agent, as it is now.
    fn running(&self) -> Arc<LocalView>;

    /// Waits until what runs on this agent is not `seen` any more, and gives it. Never comes back if nothing changes.
    async fn running_after(&self, seen: &Arc<LocalView>) -> Arc<LocalView>;

    /// Changes what runs on this agent. Done once [`Self::running`] shows it, and it will be there after a restart; the catalog follows by
    /// itself. Fails with [`Failure::Local`] if it makes no sense, and with [`Failure::Refused`] if it is a check that runs programs and
    /// this agent lets nobody register such from afar; then nothing was changed.
    async fn change(&self, request: Request) -> Result<(), Failure>;

    /// Reads the configuration's files again, and does what they say as far as that can be done without a restart. On failure nothing was
    /// changed.
    async fn reload(&self) -> Result<(), Failure>;
}

/// One of the pools that agents gossip in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Pool {
    /// All agents of one data center.
    Lan,
    /// The servers of all data centers.
    Wan,
}
