//! Survivors of a cluster that has lost its quorum go on with other members.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{Cluster, Disk, hard, message, n};
use lictor_machine::{Index, Machine as _, NodeId};
use lictor_raft::{Body, Fault, MembersError, RecoveryError, Role, Term, recover};

fn ids(of: &[u128]) -> BTreeSet<NodeId> {
    of.iter().copied().map(NodeId).collect()
}

/// What whoever operates a stopped server does to its disk.
fn recovered(mut disk: Disk, id: u128, voters: &[u128]) -> Disk {
    let recovery = recover(n(id), &disk.boot(), ids(voters), BTreeSet::new()).unwrap();
    assert_eq!(recovery.after.voters, ids(voters));
    disk.write(&recovery.batch);
    disk
}

#[test]
fn survivors_keep_what_they_hold_and_the_most_complete_log_wins() {
    let mut cluster = Cluster::new(5);
    cluster.elect_this(n(1));
    let kept = cluster.propose(n(1), "kept");
    cluster.run(Duration::from_secs(1));
    assert!(cluster.server(n(1)).committed.contains_key(&kept));
    // The last entry reaches server 4 alone, which is less than a quorum.
    for id in [2, 3, 5] {
        cluster.cut_off(n(id));
    }
    cluster.propose(n(1), "late");
    cluster.settle();
    let disks = [4, 5].map(|id| cluster.servers[&n(id)].disk.clone());
    for id in 1..=5 {
        cluster.servers.remove(&n(id));
    }
    cluster.heal();
    for (id, disk) in [4, 5].into_iter().zip(disks) {
        let before = disk.log();
        let disk = recovered(disk, id, &[4, 5]);
        assert_eq!(
            disk.log()[..before.len()],
            before,
            "nothing that was there is touched"
        );
        cluster.add(n(id), disk);
    }
    let leader = cluster.elect();
    assert_eq!(leader, n(4), "it holds more");
    cluster.propose(leader, "new");
    cluster.run(Duration::from_secs(1));
    for id in [4, 5] {
        assert_eq!(cluster.state(n(id)), ["kept", "late", "new"]);
        assert_eq!(cluster.raft(n(id)).members().voters, ids(&[4, 5]));
        assert!(!cluster.raft(n(id)).status().is_changing_members());
    }
}

/// Logs of equal length whose ends were made by different leaders: the later term has the say, and the other's end is replaced, although
/// both survivors were in the same term and wrote their entry to the same place.
#[test]
fn logs_that_differ_are_told_apart() {
    let mut cluster = Cluster::empty(|_| {});
    let logs = [(1, &[1, 1, 2][..]), (2, &[1, 1, 3])];
    for (id, terms) in logs {
        let disk = Disk::with_log(5, terms, hard(4, 2));
        cluster.add(n(id), recovered(disk, id, &[1, 2]));
    }
    let leader = cluster.elect();
    cluster.run(Duration::from_secs(1));
    assert_eq!(leader, n(2));
    let log = |id| cluster.servers[&n(id)].disk.log();
    assert_eq!(log(1), log(2));
    assert_eq!(log(1)[2].term, Term(3));
}

#[test]
fn a_lone_survivor_leads_and_can_be_recovered_again() {
    let mut disk = Disk::with_log(3, &[1, 2], hard(9, 1));
    for times in 1..=20_u32 {
        let term = disk.hard.term;
        disk = recovered(disk, 1, &[1]);
        let last = disk.log().last().unwrap().term;
        assert!(last > term && disk.hard.term > last, "{times}: {term} {last}");
    }
    let mut cluster = Cluster::lone(disk);
    cluster.run(Duration::from_secs(2));
    assert_eq!(cluster.raft(n(1)).role(), Role::Leader);
    let done = cluster.propose(n(1), "a");
    cluster.settle();
    assert!(cluster.server(n(1)).committed.contains_key(&done));
}

/// One that was counted as lost comes back with its old disk, behind the survivor's back. It alone elects nobody, so it may be taken in again:
/// what only it had, uncommitted, is replaced.
#[test]
fn one_of_the_lost_that_comes_back_alone_is_brought_into_line() {
    let mut cluster = Cluster::empty(|_| {});
    cluster.add(n(1), recovered(Disk::with_log(3, &[1, 1], hard(1, 2)), 1, &[1]));
    cluster.add(n(2), Disk::with_log(3, &[1, 1, 1, 1], hard(1, 2)));
    let leader = cluster.elect();
    assert_eq!(leader, n(1));
    cluster.run(Duration::from_secs(5));
    assert_eq!(cluster.leader(), Some(n(1)), "it does not disturb");
    for learners in [vec![2], vec![]] {
        let voters = if learners.is_empty() { vec![1, 2] } else { vec![1] };
        let token = cluster.reconfigure(n(1), voters, learners).unwrap();
        cluster.run(Duration::from_secs(5));
        assert!(cluster.is_reconfigured(n(1), token));
    }
    let log = |id| cluster.servers[&n(id)].disk.log();
    assert_eq!(log(1), log(2));
    assert_eq!(cluster.raft(n(2)).fault(), None);
}

/// One that had been told more than any survivor holds to be committed may have told others. It is not made to forget that.
#[test]
fn one_of_the_lost_that_had_committed_more_stops() {
    let survivor = Disk::with_log(3, &[1, 1], hard(1, 2)).boot();
    let recovery = recover(n(2), &survivor, ids(&[2]), BTreeSet::new()).unwrap();
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1, 1, 1, 1], hard(1, 4)));
    let before = cluster.servers[&n(1)].disk.log();
    let append = Body::Append {
        prev: recovery.last,
        entries: recovery.batch.append,
        commit: Index(3),
    };
    cluster.deliver(
        n(2),
        n(1),
        message(recovery.batch.hard_state.unwrap().term.0, append),
    );
    cluster.settle();
    let fault = cluster.raft(n(1)).fault();
    assert!(matches!(fault, Some(Fault::Safety(_))), "{fault:?}");
    assert_eq!(cluster.servers[&n(1)].disk.log(), before);
}

#[test]
fn a_recovery_without_sense_is_refused() {
    let mut disk = Disk::with_log(3, &[1, 2], hard(3, 2));
    let boot = disk.boot();
    let none = BTreeSet::new;
    assert_eq!(
        recover(n(1), &boot, none(), none()),
        Err(MembersError::NoVoters.into())
    );
    assert_eq!(
        recover(n(1), &boot, ids(&[1]), ids(&[1])),
        Err(MembersError::VoterAndLearner(n(1)).into())
    );
    assert_eq!(
        recover(n(1), &boot, ids(&[2]), none()),
        Err(RecoveryError::NotIncluded(n(1)))
    );
    let empty = Disk::default().boot();
    assert_eq!(
        recover(n(1), &empty, ids(&[1]), none()),
        Err(RecoveryError::Empty)
    );
    disk.hard.term = Term(u64::MAX >> 9);
    let worn = recover(n(1), &disk.boot(), ids(&[1]), none());
    assert_eq!(worn, Err(RecoveryError::TooOften(disk.hard.term)));
}

#[test]
fn a_recovery_says_what_it_would_do() {
    let mut disk = Disk::with_log(3, &[1, 2, 2], hard(3, 2));
    disk.applied = Index(1);
    let recovery = recover(n(1), &disk.boot(), ids(&[1]), ids(&[2])).unwrap();
    assert_eq!(recovery.before.voters, ids(&[1, 2, 3]));
    assert_eq!(
        (recovery.after.voters.clone(), recovery.after.learners.clone()),
        (ids(&[1]), ids(&[2]))
    );
    assert_eq!((recovery.last.index, recovery.commit), (Index(3), Index(2)));
    disk.write(&recovery.batch);
    let boot = disk.boot();
    assert_eq!(
        boot.hard_state.commit,
        Index(2),
        "the new entry is not taken for committed"
    );
    assert_eq!(boot.members.last().unwrap().1, recovery.after);
}
