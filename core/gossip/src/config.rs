//! A member's settings.

use core::time::Duration;
use std::net::SocketAddr;

use lictor_machine::NodeId;

use crate::member::Tags;

/// Settings of a member. Times are Lifeguard's and Serf's; see [`Config::lan`] and [`Config::wan`].
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
    /// ... and this many times as long while nobody else has confirmed the suspicion (Lifeguard §IV-B).
    pub suspicion_max_timeout_mult: u32,
    /// The worst local health: intervals are stretched by at most this plus one (Lifeguard §IV-A).
    pub awareness_max: u32,
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
    /// Join by itself who is remembered, also after this member left in good order.
    pub rejoin_after_leave: bool,
}
