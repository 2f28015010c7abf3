//! Clusters whose members change, and what is asked of them.

use std::collections::BTreeSet;
use std::time::Duration;

use lictor_machine::NodeId;
use lictor_raft::{Configuration, Entry, Event, LogId, Payload};

use super::{Cluster, Disk, hard, n};

pub const SECOND: Duration = Duration::from_secs(1);

pub fn ids(of: &[u128]) -> BTreeSet<NodeId> {
    of.iter().copied().map(NodeId).collect()
}

pub fn joint(voters: &[u128], outgoing: &[u128]) -> Configuration {
    Configuration {
        voters: ids(voters),
        outgoing: ids(outgoing),
        learners: BTreeSet::new(),
    }
}

/// A cluster of `size` servers, led by the first, with `spares` more that are learners and have caught up.
pub fn with_learners(size: u128, spares: u128) -> Cluster {
    let mut cluster = Cluster::new(size);
    cluster.elect_this(n(1));
    if spares == 0 {
        return cluster;
    }
    let learners = size + 1..=size + spares;
    for id in learners.clone() {
        cluster.add(n(id), Disk::default());
    }
    let token = cluster.reconfigure(n(1), 1..=size, learners).unwrap();
    cluster.run(SECOND);
    assert!(cluster.is_reconfigured(n(1), token));
    cluster
}

/// The log of server 1, with these configurations behind each other in it, all of term 1.
pub fn log_of(members: &[Configuration]) -> Disk {
    let entries = members.iter().zip(1..).map(|(members, index)| {
        let id = LogId::new(1, index);
        let payload = Payload::Members(members.clone());
        (id.index, Entry { id, payload })
    });
    Disk {
        hard: hard(1, 0),
        entries: entries.collect(),
        ..Disk::default()
    }
}

pub fn voters(cluster: &Cluster, id: u128) -> BTreeSet<NodeId> {
    let members = cluster.raft(n(id)).members();
    assert!(!members.is_joint(), "{members:?}");
    members.voters.clone()
}

pub fn learned_removal(cluster: &Cluster, id: u128) -> bool {
    cluster.servers[&n(id)].events.contains(&Event::Removed)
}
