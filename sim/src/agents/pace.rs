//! How fast the agents of a world live. What is to take weeks must not come with a heartbeat every third of a second, or most of the work
//! of a run would be to let nothing happen.

use core::time::Duration;
use std::net::SocketAddr;

use lictor_catalog::NodeDef;
use lictor_gossip::{Config as GossipConfig, Interner};
use lictor_local as local;
use lictor_machine::NodeId;

#[cfg(feature = "sabotage")]
use super::locks::swarm::Mistake;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Whether the pool's settings are those of a data center; otherwise those of one machine, where everything is sooner.
    pub lan: bool,
    /// How much longer the intervals of gossip are than usual.
    pub gossip: u32,
    /// How much longer those of consensus, and of servers among each other, are.
    pub servers: u32,
    /// How often an agent compares everything with the catalog.
    pub sync_interval: Duration,
    /// How long the output of a check may lag behind.
    pub check_update_interval: Duration,
    /// How often what is to tell how it is does so. Checks wait three times as long.
    pub tell_interval: Duration,
    /// How often other checks look.
    pub probe_interval: Duration,
    /// How long servers keep answers to changes under idempotency keys.
    pub receipt_ttl: Duration,
}

impl Pace {
    /// For minutes of faults, one after the other.
    pub const fn brisk() -> Self {
        Self {
            lan: false,
            gossip: 1,
            servers: 1,
            sync_interval: Duration::from_mins(1),
            check_update_interval: Duration::from_secs(20),
            tell_interval: Duration::from_secs(5),
            probe_interval: Duration::from_secs(3),
            receipt_ttl: Duration::from_mins(10),
        }
    }

    /// For weeks: a dead agent is noticed within minutes, a dead leader in half a minute. What an agent and the catalog have to say to
    /// each other keeps its usual times, and so does the memory for who is gone.
    pub const fn slow() -> Self {
        Self {
            lan: true,
            gossip: 30,
            servers: 30,
            sync_interval: Duration::from_mins(10),
            check_update_interval: Duration::from_mins(5),
            tell_interval: Duration::from_mins(10),
            probe_interval: Duration::from_mins(5),
            receipt_ttl: Duration::from_mins(10),
        }
    }

    /// As in a data center.
    pub const fn data_center() -> Self {
        Self {
            lan: true,
            gossip: 1,
            servers: 1,
            sync_interval: Duration::from_mins(1),
            check_update_interval: Duration::from_mins(5),
            tell_interval: Duration::from_secs(20),
            probe_interval: Duration::from_secs(10),
            receipt_ttl: Duration::from_mins(10),
        }
    }

    /// How soon there must be a leader once nothing is broken any more.
    pub const fn leader_within(self) -> Duration {
        Duration::from_secs(15).saturating_mul(self.servers)
    }

    /// How soon after that everybody must know of everybody, and the right servers vote.
    pub const fn agreed_within(self) -> Duration {
        Duration::from_mins(5).saturating_mul(self.gossip)
    }

    /// How soon after that the catalog must be what runs on the agents: every check has been late that will be, and what the catalog did
    /// not take was offered again.
    pub fn synced_within(self) -> Duration {
        Duration::from_mins(15)
            + self.check_update_interval * 2
            + self.sync_interval * 4
            + self.tell_interval * 4
    }

    /// How often that is looked at.
    pub const fn poll(self) -> Duration {
        Duration::from_millis(500).saturating_mul(self.servers)
    }

    /// How long all must stay as it is, once it is as it should be.
    pub fn rest(self) -> Duration {
        Duration::from_secs(20) * self.servers + self.sync_interval * 2
    }

    /// How long a client waits for the answer of a server; longer than that one holds a request that finds no leader.
    pub const fn patience(self) -> Duration {
        Duration::from_secs(10).saturating_mul(self.servers)
    }

    pub(super) fn pool(self, id: NodeId, name: &str, address: SocketAddr, seed: u64) -> GossipConfig {
        let config = if self.lan {
            GossipConfig::lan(id, name, address, seed)
        } else {
            GossipConfig::local(id, name, address, seed)
        };
        self.stretched(config)
    }

    pub(super) fn wan_pool(self, id: NodeId, name: String, address: SocketAddr, seed: u64) -> GossipConfig {
        self.stretched(GossipConfig::wan(id, name, address, seed))
    }

    fn stretched(self, mut config: GossipConfig) -> GossipConfig {
        let intervals = [
            &mut config.probe_interval,
            &mut config.probe_timeout,
            &mut config.gossip_interval,
            &mut config.gossip_to_the_dead,
            &mut config.push_pull_interval,
            &mut config.suspicion_min,
            &mut config.pause_tolerance,
            &mut config.stream_timeout,
            &mut config.reconnect_interval,
            &mut config.leave_timeout,
            &mut config.remember_interval,
        ];
        for interval in intervals {
            *interval *= self.gossip;
        }
        config
    }

    pub(super) fn server(
        self,
        id: NodeId,
        name: &str,
        address: SocketAddr,
        seed: u64,
    ) -> lictor_node::Config {
        let mut config = lictor_node::Config::new(id, name, address, u128::from(seed));
        config.raft = config.raft.stretched(self.servers);
        config.trailing_entries = 50;
        config.receipt_ttl = self.receipt_ttl;
        config.store_interval = Duration::from_secs(1);
        config.chunk_bytes = 4000;
        let intervals = [
            &mut config.hold,
            &mut config.grace,
            &mut config.retry,
            &mut config.hello_interval,
            &mut config.hello_interval_settled,
            &mut config.store_interval,
            &mut config.tombstone_interval,
            &mut config.autopilot_interval,
        ];
        for interval in intervals {
            *interval *= self.servers;
        }
        config
    }

    pub(super) fn local(self, node: NodeDef, seed: u64, server: bool) -> local::Config {
        let mut config = local::Config::new(node, seed);
        config.server = server;
        config.sync_interval = self.sync_interval;
        config.check_update_interval = self.check_update_interval;
        config
    }
}

/// What a world is made with.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where all randomness comes from.
    pub seed: u64,
    /// How many seats are those of servers, the first ones: of all servers that will ever be.
    pub servers: usize,
    /// How many of them found the cluster.
    pub expect: usize,
    /// How fast everything goes.
    pub pace: Pace,
    /// Whether every view of every member is held against the truth all the time. In a pool of a thousand that is a million views.
    pub watch_gossip: bool,
    /// Where equal records of members are shared.
    pub interner: Option<Interner>,
    /// The mistake that every agent makes with what runs on it.
    #[cfg(feature = "sabotage")]
    pub sabotage: Option<local::Sabotage>,
    /// The mistake that every server makes.
    #[cfg(feature = "sabotage")]
    pub mistake: Option<Mistake>,
}

impl Plan {
    /// Servers that found a cluster together, and places for as many more.
    pub const fn new(seed: u64, founders: usize, spares: usize, pace: Pace) -> Self {
        Self {
            seed,
            servers: founders + spares,
            expect: founders,
            pace,
            watch_gossip: true,
            interner: None,
            #[cfg(feature = "sabotage")]
            sabotage: None,
            #[cfg(feature = "sabotage")]
            mistake: None,
        }
    }
}
