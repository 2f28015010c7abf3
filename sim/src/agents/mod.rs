//! Whole agents in virtual time: gossip, Raft and the node within, on one network, with their disks.
//!
//! A run has a few servers and clients of one data center. What the [oracles of Raft](crate::oracles) and those [of
//! gossip](crate::gossip::oracles) want to see they are shown as it happens; and in the calm that follows the faults there must be a leader,
//! everybody must know of everybody, and those who vote must be the servers that are well, no more and no fewer.

mod lives;
mod network;
pub mod run;
mod seat;
mod server;
pub mod swarm;
pub mod world;
