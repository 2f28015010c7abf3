//! Whole agents in virtual time: gossip, Raft and the node within, on one network, with their disks.
//!
//! A run has a few servers and clients of one data center, with services that run on them: processes whose health only the world knows,
//! probed and told of by checks, registered by requests and by files. What the [oracles of Raft](crate::oracles) and those [of
//! gossip](crate::gossip::oracles) want to see they are shown as it happens; and in the calm that follows the faults there must be a leader,
//! everybody must know of everybody, those who vote must be the servers that are well, no more and no fewer, and the catalog must be what
//! is true: on every server every node, every service and every status, no ghost, and nothing missing.
//!
//! Four kinds of runs are made of this: minutes of [faults](swarm::Options::of_seed), a month of [churn](swarm::Options::churn), a
//! [rolling restart](rolling) that no reader may notice, and processes that contend for [locks].

mod agreement;
mod asks;
mod deeds;
mod lives;
pub mod locks;
mod network;
mod outside;
pub mod pace;
mod pools;
pub mod post;
mod processes;
mod readers;
mod records;
mod roll;
pub mod rolling;
pub mod run;
mod seat;
mod server;
pub mod swarm;
pub mod world;
