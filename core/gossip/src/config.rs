//! A member's settings.

use core::fmt;
use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

use lictor_machine::NodeId;

use crate::member::{Member, Tags};
use crate::wire::{MAX_PACKET_BYTES, MIN_PACKET_BYTES};

/// Settings of a member. [`Config::lan`], [`Config::wan`] and [`Config::local`] have values that go together.
#[derive(Clone, Debug)]
pub struct Config {
    /// This member.
    pub id: NodeId,
    /// Its name: 1 to [`crate::MAX_NAME_BYTES`] bytes.
    pub name: String,
    /// Where others reach it.
    pub address: SocketAddr,
    /// What it says of itself at the start.
    pub tags: Tags,
    /// Whether its certificate is a server's; a member whose tags say so must have one.
    pub server: bool,
    /// The pool's name: `dc1` for a LAN, `wan` for the WAN. Members of another pool are refused.
    pub pool: String,
    /// Seeds everything random. Must differ between members and between starts.
    pub seed: u64,
    /// The largest datagram, in bytes.
    pub packet_bytes: usize,
    /// Between two probes.
    pub probe_interval: Duration,
    /// How long the answer to a probe may take before others are asked to probe.
    pub probe_timeout: Duration,
    /// How many others are asked to probe.
    pub indirect_checks: usize,
    /// Of those who hear of a suspicion, about this many in the whole pool probe the suspect at once, to confirm or to clear it.
    pub confirmers: usize,
    /// Between two rounds of gossip.
    pub gossip_interval: Duration,
    /// To how many members in each round.
    pub gossip_nodes: usize,
    /// For how long those that died are still gossiped to, so that they may contradict.
    pub gossip_to_the_dead: Duration,
    /// Between two exchanges of everything with a random member; longer in large pools.
    pub push_pull_interval: Duration,
    /// A statement is passed on this many times, times the logarithm of the pool's size.
    pub retransmit_mult: u32,
    /// A suspect has this many probe intervals, times the logarithm of the pool's size, to prove that it lives...
    pub suspicion_mult: u32,
    /// ... but never less than this...
    pub suspicion_min: Duration,
    /// ... and this many times as long while nobody else has confirmed the suspicion (Lifeguard §IV-B).
    pub suspicion_max_timeout_mult: u32,
    /// The worst local health: intervals are stretched by at most this plus one (Lifeguard §IV-A).
    pub awareness_max: u32,
    /// A member that serves a deadline by more than this too late was stopped, or starved: it puts the others off by as much, and its
    /// health gets worse.
    pub pause_tolerance: Duration,
    /// How long calls may take.
    pub stream_timeout: Duration,
    /// How often a member that failed is tried again.
    pub reconnect_interval: Duration,
    /// When a member that failed is forgotten.
    pub reconnect_timeout: Duration,
    /// When a member that left is forgotten.
    pub tombstone_timeout: Duration,
    /// How long a leave may take to be passed on.
    pub leave_timeout: Duration,
    /// How often what is to be remembered is written down, if it changed.
    pub remember_interval: Duration,
    /// The most members; others are refused.
    pub members_max: usize,
    /// How many bytes of user events and queries may wait to be passed on. When there is no room, new ones are refused.
    pub payload_bytes: usize,
    /// Join by itself who is remembered, also after this member left in good order.
    pub rejoin_after_leave: bool,
    /// Where equal records of members are shared between machines of one process.
    pub interner: Option<Interner>,
    /// The mistake to make.
    #[cfg(feature = "sabotage")]
    pub sabotage: Option<crate::Sabotage>,
}

/// Replaces a record by an equal one that is held already. A simulation of thousands of members, each of which knows all the
/// others, would not fit into memory without.
#[derive(Clone)]
pub struct Interner(pub Arc<dyn Fn(Member) -> Arc<Member> + Send + Sync>);

impl fmt::Debug for Interner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interner")
    }
}

/// Why settings cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The name is empty or too long.
    #[error("a member's name must have 1 to {max} bytes, this one has {0}", max = crate::MAX_NAME_BYTES)]
    Name(usize),
    /// The pool's name is empty or too long.
    #[error("a pool's name must have 1 to {max} bytes, this one has {0}", max = crate::MAX_NAME_BYTES)]
    Pool(usize),
    /// The tags are too long.
    #[error("a member's tags may have {max} bytes when encoded, these have {0}", max = crate::MAX_TAGS_BYTES)]
    Tags(usize),
    /// The tags say that it is a server, and its certificate does not.
    #[error("the tags say that this member is a server, its certificate does not")]
    NotAServer,
    /// A number is outside its range.
    #[error("{what} must be {must}")]
    Range {
        /// The setting.
        what: &'static str,
        /// What it must be.
        must: &'static str,
    },
}

impl Config {
    /// For members that are close to each other. Where the numbers come from is in docs/gossip.md.
    pub fn lan(id: NodeId, name: impl Into<String>, address: SocketAddr, seed: u64) -> Self {
        Self {
            id,
            name: name.into(),
            address,
            tags: Tags::new(),
            server: false,
            pool: "dc1".to_owned(),
            seed,
            packet_bytes: 1150,
            probe_interval: Duration::from_millis(400),
            probe_timeout: Duration::from_millis(200),
            indirect_checks: 3,
            confirmers: 8,
            gossip_interval: Duration::from_millis(200),
            gossip_nodes: 3,
            gossip_to_the_dead: Duration::from_secs(30),
            push_pull_interval: Duration::from_secs(30),
            retransmit_mult: 4,
            suspicion_mult: 2,
            suspicion_min: Duration::from_secs(2),
            suspicion_max_timeout_mult: 6,
            awareness_max: 8,
            pause_tolerance: Duration::from_millis(200),
            stream_timeout: Duration::from_secs(10),
            reconnect_interval: Duration::from_secs(10),
            reconnect_timeout: Duration::from_hours(72),
            tombstone_timeout: Duration::from_hours(24),
            leave_timeout: Duration::from_secs(5),
            remember_interval: Duration::from_secs(10),
            members_max: 65_536,
            payload_bytes: 1 << 20,
            rejoin_after_leave: false,
            interner: None,
            #[cfg(feature = "sabotage")]
            sabotage: None,
        }
    }

    /// For members on different continents.
    pub fn wan(id: NodeId, name: impl Into<String>, address: SocketAddr, seed: u64) -> Self {
        Self {
            pool: "wan".to_owned(),
            probe_interval: Duration::from_secs(5),
            probe_timeout: Duration::from_secs(3),
            gossip_interval: Duration::from_millis(500),
            gossip_nodes: 4,
            gossip_to_the_dead: Duration::from_mins(1),
            push_pull_interval: Duration::from_mins(1),
            suspicion_mult: 6,
            suspicion_min: Duration::from_secs(30),
            pause_tolerance: Duration::from_secs(1),
            stream_timeout: Duration::from_secs(30),
            ..Self::lan(id, name, address, seed)
        }
    }

    /// For members on one machine, as in development and in tests: everything happens sooner.
    pub fn local(id: NodeId, name: impl Into<String>, address: SocketAddr, seed: u64) -> Self {
        Self {
            probe_interval: Duration::from_millis(200),
            probe_timeout: Duration::from_millis(100),
            gossip_interval: Duration::from_millis(50),
            push_pull_interval: Duration::from_secs(15),
            suspicion_min: Duration::from_secs(1),
            stream_timeout: Duration::from_secs(5),
            reconnect_interval: Duration::from_secs(2),
            remember_interval: Duration::from_secs(2),
            leave_timeout: Duration::from_secs(2),
            ..Self::lan(id, name, address, seed)
        }
    }

    /// Whether the settings can be used.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.name.is_empty() || self.name.len() > crate::MAX_NAME_BYTES {
            return Err(ConfigError::Name(self.name.len()));
        }
        if self.pool.is_empty() || self.pool.len() > crate::MAX_NAME_BYTES {
            return Err(ConfigError::Pool(self.pool.len()));
        }
        check_tags(&self.tags, self.server)?;
        let range = |holds: bool, what, must| {
            if holds {
                Ok(())
            } else {
                Err(ConfigError::Range { what, must })
            }
        };
        range(
            (MIN_PACKET_BYTES..=MAX_PACKET_BYTES).contains(&self.packet_bytes),
            "packet_bytes",
            "1150 to 4096",
        )?;
        range(!self.probe_timeout.is_zero(), "probe_timeout", "above zero")?;
        range(
            self.probe_interval > self.probe_timeout,
            "probe_interval",
            "above probe_timeout",
        )?;
        range(!self.gossip_interval.is_zero(), "gossip_interval", "above zero")?;
        range((1..=64).contains(&self.gossip_nodes), "gossip_nodes", "1 to 64")?;
        range(self.indirect_checks <= 64, "indirect_checks", "at most 64")?;
        range(
            !self.push_pull_interval.is_zero(),
            "push_pull_interval",
            "above zero",
        )?;
        range(
            (1..=64).contains(&self.retransmit_mult),
            "retransmit_mult",
            "1 to 64",
        )?;
        range(
            (1..=64).contains(&self.suspicion_mult),
            "suspicion_mult",
            "1 to 64",
        )?;
        range(
            (1..=64).contains(&self.suspicion_max_timeout_mult),
            "suspicion_max_timeout_mult",
            "1 to 64",
        )?;
        range(self.awareness_max <= 64, "awareness_max", "at most 64")?;
        range(!self.stream_timeout.is_zero(), "stream_timeout", "above zero")?;
        range(
            !self.reconnect_interval.is_zero(),
            "reconnect_interval",
            "above zero",
        )?;
        range(
            !self.remember_interval.is_zero(),
            "remember_interval",
            "above zero",
        )?;
        range(
            (2..=1 << 20).contains(&self.members_max),
            "members_max",
            "2 to 1048576",
        )?;
        range(
            self.payload_bytes >= self.packet_bytes,
            "payload_bytes",
            "not below packet_bytes",
        )
    }
}

/// Whether a member may say this of itself.
pub(crate) fn check_tags(tags: &Tags, server: bool) -> Result<(), ConfigError> {
    let bytes = postcard::experimental::serialized_size(tags).unwrap_or(usize::MAX);
    if bytes > crate::MAX_TAGS_BYTES {
        return Err(ConfigError::Tags(bytes));
    }
    if !server
        && tags
            .get(crate::ROLE_TAG)
            .is_some_and(|role| role == crate::SERVER_ROLE)
    {
        return Err(ConfigError::NotAServer);
    }
    Ok(())
}
