//! The protocol on good days: elections, replication, reads, transfer, snapshots.

mod common;

use std::time::Duration;

use common::{Cluster, Disk, n};
use lictor_machine::Index;
use lictor_raft::{Configuration, Input, Outcome, ReadMode, Reject, Role};

#[test]
fn a_leader_is_elected_and_commits() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    let tokens: Vec<_> = (0..20)
        .map(|i| cluster.propose(leader, &format!("c{i}")))
        .collect();
    cluster.run(Duration::from_millis(300));
    let expected: Vec<String> = (0..20).map(|i| format!("c{i}")).collect();
    for id in cluster.ids() {
        assert_eq!(cluster.state(id), expected);
    }
    for token in tokens {
        assert!(cluster.server(leader).committed.contains_key(&token));
    }
}

#[test]
fn a_single_node_commits_alone() {
    let mut cluster = Cluster::new(1);
    let leader = cluster.elect();
    cluster.propose(leader, "a");
    cluster.settle();
    assert_eq!(cluster.state(leader), ["a"]);
    let token = cluster.token();
    cluster
        .input(
            leader,
            Input::Read {
                token,
                mode: ReadMode::Quorum,
            },
        )
        .unwrap();
    assert!(matches!(
        cluster.server(leader).resolved[&token],
        Outcome::Read { .. }
    ));
}

#[test]
fn a_cluster_is_founded_by_one_of_its_voters() {
    let mut cluster = Cluster::empty(|_| {});
    for id in 1..=3 {
        cluster.add(n(id), Disk::default());
    }
    cluster.run(Duration::from_secs(5));
    assert_eq!(cluster.leader(), None, "nobody campaigns without being a member");
    let members = Configuration::of((1..=3).map(n));
    cluster
        .input(
            n(2),
            Input::Found {
                members: members.clone(),
            },
        )
        .unwrap();
    assert!(matches!(
        cluster.input(
            n(2),
            Input::Found {
                members: members.clone()
            }
        ),
        Err(Reject::Invalid(_))
    ));
    assert_eq!(cluster.elect(), n(2));
    cluster.propose(n(2), "a");
    cluster.run(Duration::from_millis(300));
    for id in 1..=3 {
        assert_eq!(cluster.state(n(id)), ["a"]);
        assert_eq!(cluster.raft(n(id)).members(), &members);
    }
}

#[test]
fn a_lost_leader_is_replaced_and_catches_up_when_back() {
    let mut cluster = Cluster::new(3);
    let first = cluster.elect();
    cluster.propose(first, "a");
    cluster.run(Duration::from_millis(200));
    cluster.crash(first);
    cluster.run(Duration::from_millis(100));
    let second = cluster.elect();
    assert_ne!(first, second);
    cluster.propose(second, "b");
    cluster.run(Duration::from_millis(200));
    cluster.restart(first);
    cluster.run(Duration::from_secs(2));
    assert_eq!(cluster.state(first), ["a", "b"]);
    assert_eq!(cluster.leader(), Some(second), "a returning node disturbs nobody");
}

#[test]
fn reads_are_confirmed_by_lease_and_by_quorum_on_any_member() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    cluster.propose(leader, "a");
    cluster.run(Duration::from_millis(500));
    let commit = cluster.raft(leader).commit();
    for id in cluster.ids() {
        for mode in [ReadMode::Lease, ReadMode::Quorum] {
            let token = cluster.token();
            cluster.input(id, Input::Read { token, mode }).unwrap();
            cluster.settle();
            assert_eq!(
                cluster.server(id).resolved[&token],
                Outcome::Read { index: commit }
            );
        }
    }
    assert!(cluster.raft(leader).lease_until().is_some());
}

#[test]
fn a_read_waits_for_the_state_machine() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    cluster.run(Duration::from_millis(300));
    let follower = *cluster.ids().iter().find(|id| **id != leader).unwrap();
    cluster.server(follower).auto_persist = false;
    cluster.propose(leader, "a");
    cluster.run(Duration::from_millis(200));
    let token = cluster.token();
    cluster
        .input(
            follower,
            Input::Read {
                token,
                mode: ReadMode::Lease,
            },
        )
        .unwrap();
    cluster.settle();
    assert!(!cluster.server(follower).resolved.contains_key(&token));
    cluster.persist(follower);
    cluster.run(Duration::from_millis(200));
    assert!(matches!(
        cluster.server(follower).resolved[&token],
        Outcome::Read { .. }
    ));
    assert_eq!(cluster.state(follower), ["a"]);
}

#[test]
fn leadership_moves_where_it_is_sent() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    cluster.run(Duration::from_millis(300));
    let to = *cluster.ids().iter().find(|id| **id != leader).unwrap();
    let token = cluster.token();
    cluster
        .input(leader, Input::Transfer { token, to: Some(to) })
        .unwrap();
    cluster.settle();
    assert_eq!(cluster.leader(), Some(to));
    assert_eq!(cluster.server(leader).resolved[&token], Outcome::Transferred);
    cluster.propose(to, "a");
    cluster.run(Duration::from_millis(200));
    assert_eq!(cluster.state(leader), ["a"]);
}

#[test]
fn a_transfer_to_a_dead_voter_ends_and_the_leader_goes_on() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    cluster.run(Duration::from_millis(300));
    let to = *cluster.ids().iter().find(|id| **id != leader).unwrap();
    cluster.crash(to);
    cluster.propose(leader, "a");
    let token = cluster.token();
    cluster
        .input(leader, Input::Transfer { token, to: Some(to) })
        .unwrap();
    let busy = cluster.token();
    assert_eq!(
        cluster.input(
            leader,
            Input::Propose {
                token: busy,
                data: "x".into()
            }
        ),
        Err(Reject::Transferring)
    );
    cluster.run(Duration::from_secs(1));
    assert_eq!(cluster.server(leader).resolved[&token], Outcome::TransferFailed);
    assert_eq!(cluster.leader(), Some(leader));
    cluster.propose(leader, "b");
    cluster.run(Duration::from_millis(200));
    assert_eq!(cluster.state(leader), ["a", "b"]);
}

#[test]
fn a_follower_that_lags_is_served_from_storage_and_then_by_a_snapshot() {
    let mut cluster = Cluster::with(3, |config| config.tail_bytes = 200);
    let leader = cluster.elect();
    let lagging = *cluster.ids().iter().find(|id| **id != leader).unwrap();
    cluster.crash(lagging);
    let expected: Vec<String> = (0..50).map(|i| format!("c{i}")).collect();
    for data in &expected {
        cluster.propose(leader, data);
    }
    cluster.run(Duration::from_millis(300));
    cluster.restart(lagging);
    cluster.run(Duration::from_secs(2));
    assert_eq!(cluster.state(lagging), expected, "from the log");

    cluster.crash(lagging);
    cluster.propose(leader, "after");
    cluster.run(Duration::from_millis(300));
    let applied = cluster.server(leader).disk.applied;
    cluster
        .input(leader, Input::Compact { through: applied })
        .unwrap();
    cluster.settle();
    assert!(cluster.server(leader).disk.entries.is_empty());
    cluster.restart(lagging);
    cluster.run(Duration::from_secs(4));
    assert_eq!(cluster.state(lagging), cluster.state(leader), "from a snapshot");
    assert!(cluster.server(lagging).disk.base.last.index >= applied);
    cluster.propose(leader, "more");
    cluster.run(Duration::from_millis(300));
    assert_eq!(cluster.state(lagging).last().unwrap(), "more");
}

#[test]
fn a_leader_without_a_quorum_steps_down_and_accepts_nothing() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    cluster.cut_off(leader);
    cluster.run(Duration::from_secs(2));
    assert_ne!(cluster.raft(leader).role(), Role::Leader);
    let token = cluster.token();
    let refused = cluster.input(
        leader,
        Input::Propose {
            token,
            data: "x".into(),
        },
    );
    assert_eq!(refused, Err(Reject::NotLeader { leader: None }));
    cluster.heal();
    cluster.run(Duration::from_secs(2));
    assert!(cluster.leader().is_some());
}

#[test]
fn everybody_restarts_and_nothing_is_lost() {
    let mut cluster = Cluster::new(5);
    let leader = cluster.elect();
    let expected: Vec<String> = (0..30).map(|i| format!("c{i}")).collect();
    for data in &expected {
        cluster.propose(leader, data);
    }
    cluster.run(Duration::from_millis(500));
    for id in cluster.ids() {
        cluster.crash(id);
        // The state machine is not durable in this test; the log replays it.
        let disk = &mut cluster.server(id).disk;
        disk.applied = Index::ZERO;
        disk.state.clear();
    }
    for id in cluster.ids() {
        cluster.restart(id);
    }
    cluster.elect();
    cluster.run(Duration::from_secs(1));
    for id in cluster.ids() {
        assert_eq!(cluster.state(id), expected);
    }
}

#[test]
fn proposals_beyond_the_bound_are_refused_as_busy() {
    let mut cluster = Cluster::with(3, |config| config.uncommitted_bytes_max = 100.try_into().unwrap());
    let leader = cluster.elect();
    cluster.run(Duration::from_millis(300));
    for id in cluster.ids() {
        cluster.server(id).auto_persist = false;
    }
    let mut refused = 0;
    for _ in 0..10 {
        let token = cluster.token();
        if cluster.input(
            leader,
            Input::Propose {
                token,
                data: "12345678".into(),
            },
        ) == Err(Reject::Busy)
        {
            refused += 1;
        }
    }
    assert_eq!(refused, 7);
    for id in cluster.ids() {
        cluster.persist(id);
        cluster.server(id).auto_persist = true;
    }
    cluster.run(Duration::from_millis(300));
    cluster.propose(leader, "again");
}
