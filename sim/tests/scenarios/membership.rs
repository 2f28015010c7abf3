//! Servers that come and go.

use lictor_machine::NodeId;
use lictor_raft::{Body, Role};
use lictor_sim::stage::{Flight, Stage};
use lictor_sim::workload::{Answer, Target};

use super::{ELECTION, cluster};

/// A cluster of `founders`, led by server 1, with as many others as there are that are learners and have caught up.
fn with_learners(founders: u8, learners: u8) -> Stage {
    let mut setup = Stage::setup(founders + learners);
    setup.spares = usize::from(learners);
    let mut stage = Stage::with_leader(setup);
    let target = Target {
        voters: (1 << founders) - 1,
        learners: u16::MAX,
    };
    change(&mut stage, 1, target);
    stage
}

fn voters(of: &[u8]) -> Target {
    Target {
        voters: of.iter().map(|n| 1 << (n - 1)).sum(),
        learners: 0,
    }
}

/// Has `leader` change the members, to the end.
fn change(stage: &mut Stage, leader: u8, target: Target) {
    let token = stage.reconfigure(leader, target);
    stage.run(ELECTION);
    let answer = stage.answer(token);
    assert!(
        matches!(answer, Some(Answer::Reconfigured { .. })),
        "{answer:?}: {stage:?}"
    );
}

fn leaders(stage: &Stage) -> Vec<u8> {
    let up = stage.all().into_iter().filter(|n| stage.is_up(*n));
    up.filter(|n| stage.status(*n).role == Role::Leader).collect()
}

fn is_joint(stage: &Stage, n: u8) -> bool {
    stage.status(n).members.is_joint()
}

fn answers_to(leader: u8) -> impl Fn(&Flight) -> bool {
    move |flight| flight.to == leader && matches!(flight.message.body, Body::AppendReply(_))
}

/// M-01: two leaders that change members one after the other, neither having committed anything of its own (Ongaro, raft-dev, 2015).
#[test]
fn a_new_leader_changes_nothing_before_it_has_committed_something() {
    let mut stage = cluster(4);
    // The first change reaches nobody.
    stage.isolate(1);
    let first = stage.reconfigure(1, voters(&[1, 2, 3]));
    stage.take(|_| true);
    stage.pass(ELECTION * 2);
    // The second leader has the votes of the other three, and its own first entry is still under way.
    stage.elect_silently(2);
    let second = stage.reconfigure(2, voters(&[2, 3, 4]));
    assert_eq!(
        stage.answer(second),
        Some(Answer::Refused),
        "it knows of no first change, and could not"
    );
    stage.settle();
    change(&mut stage, 2, voters(&[2, 3, 4]));
    assert_eq!(stage.answer(first), None);
    stage.expect_recovery();
    assert_eq!(
        stage.answer(first),
        Some(Answer::Refused),
        "overwritten, and known to be"
    );
}

/// M-02: the one who was to end joint consensus is gone (etcd#12136); and M-03, its successor does so only once it knows the joint
/// configuration to be committed (camunda#60086).
#[test]
fn joint_consensus_that_lost_its_leader_is_ended_by_the_next() {
    let mut stage = with_learners(3, 2);
    stage.reconfigure(1, voters(&[3, 4, 5]));
    stage.settle_but(answers_to(1));
    assert!(stage.all().into_iter().all(|n| is_joint(&stage, n)));
    stage.crash(1, 9);
    stage.take(|_| true);
    stage.pass(ELECTION * 2);
    stage.elect_silently(4);
    assert!(is_joint(&stage, 4), "nothing of its own is committed yet");
    stage.settle();
    for n in [3, 4, 5] {
        let status = stage.status(n);
        assert!(!status.is_changing_members(), "{status:?}");
        assert_eq!(status.members.voters, [3, 4, 5].map(NodeId).into());
    }
    assert!(stage.status(2).is_outside());
    stage.expect_recovery();
}

/// M-05: a leader that takes itself out (etcd#10563, willemt/raft#79), first with all well, then with the entry that does so on its own
/// disk alone: the other server needs its vote, and it must stand once more to pass the entry on (thesis §4.2.2).
#[test]
fn a_leader_takes_itself_out() {
    let mut stage = cluster(3);
    change(&mut stage, 1, voters(&[2, 3]));
    assert!(stage.status(1).is_outside());
    let next = leaders(&stage);
    assert!(next.len() == 1 && next[0] != 1, "{next:?}");
    stage.run(ELECTION * 10);
    assert_eq!(leaders(&stage), next, "and comes to nothing again");
    stage.expect_recovery();

    let mut stage = cluster(2);
    stage.reconfigure(1, voters(&[2]));
    stage.settle_but(|flight| flight.to == 2 && !is_joint_append(flight));
    assert!(is_joint(&stage, 2) && !is_joint(&stage, 1));
    stage.take(|_| true);
    stage.crash(1, 9);
    stage.restart(1);
    stage.run(ELECTION * 10);
    assert_eq!(leaders(&stage), [2]);
    assert_eq!(stage.status(2).members.voters, [NodeId(2)].into());
    stage.expect_recovery();
}

fn is_joint_append(flight: &Flight) -> bool {
    let Body::Append { entries, .. } = &flight.message.body else {
        return false;
    };
    entries.iter().any(|entry| {
        let lictor_raft::Payload::Members(members) = &entry.payload else {
            return false;
        };
        members.is_joint()
    })
}

/// M-09: a snapshot, or the beginning of a log that was compacted, carries older members than the log behind it (openraft#1808,
/// scylladb#9551): after a restart the log's must be in force.
#[test]
fn members_are_as_the_log_has_them_whatever_was_compacted() {
    let mut setup = Stage::setup(4);
    (setup.store_every, setup.spares) = (1, 1);
    let mut stage = Stage::with_leader(setup);
    for _ in 0..5 {
        stage.propose(1);
        stage.settle();
    }
    // Server 4 begins with a snapshot from before it was a member, or from just after.
    change(
        &mut stage,
        1,
        Target {
            voters: 0b111,
            learners: 0b1000,
        },
    );
    stage.isolate(2);
    change(&mut stage, 1, voters(&[1, 3, 4]));
    stage.propose(1);
    stage.settle();
    for n in [1, 3, 4] {
        stage.crash(n, 9);
        stage.restart(n);
        assert_eq!(
            stage.status(n).members.voters,
            [1, 3, 4].map(NodeId).into(),
            "n{n}"
        );
    }
    stage.run(ELECTION * 5);
    // Server 2 is behind all of it, and would still count itself in.
    stage.heal();
    let leader = leaders(&stage);
    let term = stage.status(leader[0]).term;
    stage.run(ELECTION * 5);
    assert_eq!((leaders(&stage), stage.status(leader[0]).term), (leader, term));
    stage.expect_recovery();
}

/// L-10: an entry counted by the size of the cluster as it was (openraft#1802).
#[test]
fn what_was_a_majority_is_none_in_a_bigger_cluster() {
    let mut stage = with_learners(1, 4);
    for n in 2..=5 {
        stage.isolate(n);
    }
    let token = stage.reconfigure(1, Target::everybody(5));
    let write = stage.propose(1);
    stage.settle();
    assert_eq!((stage.answer(token), stage.answer(write)), (None, None));
    stage.heal();
    stage.run(ELECTION * 3);
    assert!(
        matches!(stage.answer(write), Some(Answer::Written { .. })),
        "{stage:?}"
    );
    stage.expect_recovery();
}
