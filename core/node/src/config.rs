//! A node's settings.

use core::time::Duration;
use std::net::SocketAddr;

use lictor_catalog::AutopilotConfig;
use lictor_machine::NodeId;

/// Settings of a node.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where it wants to be reached by others.
    pub address: SocketAddr,
    /// Seeds everything random. Must differ between nodes and between starts: it also names a cluster that this node founds.
    pub seed: u128,
    /// How many servers found a cluster together; 0: this server founds none, 1: it founds one alone.
    pub expect: u32,
    /// Consensus.
    pub raft: lictor_raft::Config,
    /// How long a request may wait for a leader, or for the cluster to agree.
    pub hold: Duration,
    /// How long a former leader may still take to answer a request that was forwarded to it, once another leads.
    pub grace: Duration,
    /// How soon a request that found no leader, or the wrong one, is tried again, if nothing wakes it before.
    pub retry: Duration,
    /// How often servers that are in no cluster yet greet those they know.
    pub hello_interval: Duration,
    /// How often servers of a cluster greet each other, to learn of new addresses.
    pub hello_interval_settled: Duration,
    /// How many applied entries the log keeps for followers that lag.
    pub trailing_entries: u64,
    /// How many bytes of applied entries the log keeps for followers that lag.
    pub trailing_bytes: usize,
    /// How long rows may wait before they go to the state store.
    pub store_interval: Duration,
    /// How many bytes of rows may wait before they go to the state store at once.
    pub store_bytes: usize,
    /// The size of a snapshot's chunk in bytes; a single larger row may exceed it.
    pub chunk_bytes: usize,
    /// How long the tombstone of a deleted key is kept, at least.
    pub tombstone_ttl: Duration,
    /// How often tombstones are looked through.
    pub tombstone_interval: Duration,
    /// How long the answer to a change under an idempotency key is kept, at least.
    pub receipt_ttl: Duration,
    /// How often the leader looks whether the right servers are in the configuration.
    pub autopilot_interval: Duration,
    /// How the leader cares for the configuration, until an operator says otherwise.
    pub autopilot: AutopilotConfig,
    /// The most requests that may be open at once.
    pub requests_max: usize,
    /// The largest command in bytes.
    pub command_bytes_max: usize,
    /// A deliberate mistake.
    #[cfg(feature = "sabotage")]
    pub sabotage: Option<crate::Sabotage>,
}

impl Config {
    /// The usual settings for a server.
    pub fn new(id: NodeId, name: impl Into<String>, address: SocketAddr, seed: u128) -> Self {
        Self {
            id,
            name: name.into(),
            address,
            seed,
            expect: 0,
            raft: lictor_raft::Config::lan(id, seed as u64),
            hold: Duration::from_secs(7),
            grace: Duration::from_millis(250),
            retry: Duration::from_millis(50),
            hello_interval: Duration::from_millis(250),
            hello_interval_settled: Duration::from_secs(10),
            trailing_entries: 10_240,
            trailing_bytes: 64 << 20,
            store_interval: Duration::from_secs(4),
            store_bytes: 16 << 20,
            chunk_bytes: 512 << 10,
            tombstone_ttl: Duration::from_mins(15),
            tombstone_interval: Duration::from_secs(30),
            receipt_ttl: Duration::from_mins(10),
            autopilot_interval: Duration::from_secs(1),
            autopilot: AutopilotConfig::default(),
            requests_max: 100_000,
            command_bytes_max: 4 << 20,
            #[cfg(feature = "sabotage")]
            sabotage: None,
        }
    }

    /// Whether the settings make sense. Raft checks its own.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let intervals = [
            self.retry,
            self.hello_interval,
            self.hello_interval_settled,
            self.store_interval,
            self.tombstone_interval,
            self.autopilot_interval,
        ];
        if intervals.iter().any(Duration::is_zero) {
            return Err("the intervals of a node must be above zero");
        }
        Ok(())
    }
}
