//! Replication, the log, snapshots.

use core::num::{NonZeroU32, NonZeroUsize};

use lictor_machine::Index;
use lictor_raft::{AppendReply, Body, Entry, Message, Role, SnapshotMeta};
use lictor_sim::host::Stimulus;
use lictor_sim::stage::{Flight, Stage, is_append};
use lictor_sim::workload::Answer;

use super::{ELECTION, cluster, compacting_cluster};

fn is_snapshot(flight: &Flight) -> bool {
    matches!(flight.message.body, Body::Snapshot { .. })
}

fn entries(stage: &Stage, n: u8) -> Vec<Entry> {
    stage.disk(n).durable().entries.iter().cloned().collect()
}

fn matched(stage: &Stage, leader: u8, peer: u8) -> Index {
    let id = lictor_machine::NodeId(u128::from(peer));
    let peers = stage.status(leader).peers;
    peers
        .iter()
        .find(|status| status.id == id)
        .expect("every other server is a peer")
        .matched
}

/// L-01, Figure 8 of the paper (§5.4.2): an entry of an older term is on a majority, and may still be overwritten.
#[test]
fn figure_8_an_old_entry_on_a_majority_is_not_committed() {
    let mut setup = Stage::setup(5);
    setup.raft.append_bytes_max = NonZeroUsize::MIN;
    setup.raft.window_messages = NonZeroU32::MIN;
    let mut stage = Stage::with_leader(setup);
    // (a) S1 leads and puts an entry on itself and S2.
    for other in [3, 4, 5] {
        stage.cut(1, other);
    }
    stage.propose(1);
    stage.settle();
    let old = stage.status(1).last;
    assert_eq!(stage.status(2).last, old);
    // (b) S1 crashes; S5 is elected by S3 and S4, and writes another entry to the same place, for itself alone.
    stage.crash(1, 0);
    stage.heal();
    stage.isolate(2);
    stage.pass(ELECTION * 2);
    stage.elect_silently(5);
    assert_eq!(stage.status(5).last.index, old.index);
    assert!(stage.status(5).last.term > old.term);
    stage.crash(5, 9);
    stage.take(|_| true);
    // (c) S1 is elected again and brings its old entry to S3 and S4, but nothing of its new term.
    stage.heal();
    stage.restart(1);
    stage.pass(ELECTION * 2);
    stage.elect_silently(1);
    let term = stage.status(1).term;
    assert!(term > stage.disk(5).durable().last().term);
    let of_new_term = move |flight: &Flight| matches!(&flight.message.body, Body::Append { entries, .. } if entries.iter().any(|entry| entry.id.term == term));
    // S2 holds the old entry, and so is offered the new one only. S3 and S4 refuse that, and are brought up to the old one first.
    for probe in stage.take(move |flight| of_new_term(flight) && [3, 4].contains(&flight.to)) {
        stage.deliver(probe);
    }
    stage.settle_but(of_new_term);
    stage.run_but(ELECTION / 2, of_new_term);
    assert!(
        matched(&stage, 1, 3) >= old.index && matched(&stage, 1, 4) >= old.index,
        "{stage:?}"
    );
    assert_eq!(stage.disk(3).durable().last(), old);
    assert!(
        stage.status(1).commit < old.index,
        "an entry of an older term was committed by counting"
    );
    // (d) S1 crashes, and S5 overwrites the entry everywhere.
    stage.crash(1, 9);
    stage.take(|_| true);
    stage.restart(5);
    stage.isolate(2);
    stage.pass(ELECTION * 2);
    stage.elect(5);
    assert_ne!(stage.disk(3).durable().term_at(old.index), Some(old.term));
    stage.expect_recovery();
}

/// L-02: a refusal that arrives again makes the leader send from below what it knows acknowledged (al8n/sailing 01b50a4).
#[test]
fn a_refusal_that_comes_again_changes_nothing() {
    let mut stage = cluster(3);
    stage.isolate(3);
    for _ in 0..5 {
        stage.propose(1);
    }
    stage.run(ELECTION * 2);
    stage.heal();
    stage.pass(ELECTION * 2);
    stage.elect_silently(2);
    let is_refusal = |flight: &Flight| {
        matches!(
            flight.message.body,
            Body::AppendReply(AppendReply::Rejected { .. })
        )
    };
    let mut refusals = Vec::new();
    for _ in 0..50 {
        stage.run_but(ELECTION / 10, is_refusal);
        let found = stage.take(is_refusal);
        refusals.extend(found.iter().cloned());
        for flight in found {
            stage.deliver(flight);
        }
    }
    assert!(!refusals.is_empty(), "there was nothing to refuse");
    let last = stage.status(2).last.index;
    assert_eq!(matched(&stage, 2, 3), last);
    for flight in refusals.iter().chain(&refusals) {
        stage.deliver(flight.clone());
        assert!(stage.flights.is_empty(), "{:?}", stage.flights);
    }
    stage.expect_recovery();
}

/// L-03: an append arrives whose entries have been compacted away (etcd-io/raft 76f1249, al8n/sailing df43a4e).
#[test]
fn an_append_from_below_the_base_is_old_news() {
    let mut stage = compacting_cluster(3);
    let mut copies = Vec::new();
    for _ in 0..5 {
        stage.propose(1);
        copies.extend(
            stage
                .flights
                .iter()
                .filter(|flight| is_append(flight) && flight.to == 2)
                .cloned(),
        );
        stage.settle();
    }
    stage.run(ELECTION);
    let before = stage.status(2);
    assert_eq!(before.base, before.last, "nothing was compacted");
    assert!(copies.len() >= 5);
    for copy in copies {
        stage.deliver(copy);
    }
    stage.settle();
    assert_eq!(
        (stage.status(2).last, stage.status(2).commit),
        (before.last, before.commit)
    );
    stage.expect_recovery();
}

/// L-04: a snapshot is installed, and a conflicting tail stays (hashicorp/raft#697).
#[test]
fn a_snapshot_replaces_a_conflicting_tail() {
    let mut stage = compacting_cluster(3);
    stage.isolate(1);
    for _ in 0..9 {
        stage.propose(1);
    }
    stage.settle();
    let conflicting = stage.status(1).last;
    stage.pass(ELECTION * 2);
    stage.elect(2);
    for _ in 0..3 {
        stage.propose(2);
        stage.settle();
    }
    stage.run(ELECTION);
    assert!(
        stage.status(2).base.index < conflicting.index,
        "the tail must reach beyond the snapshot"
    );
    assert!(stage.status(2).base.index >= stage.disk(1).durable().base.last.index);
    stage.expect_recovery();
    assert_eq!(stage.status(1).last, stage.status(2).last);
    assert_ne!(
        stage.disk(1).durable().term_at(conflicting.index),
        Some(conflicting.term)
    );
}

/// L-05: a snapshot of what the log holds already truncates what was acknowledged behind it (al8n/sailing b566351).
#[test]
fn a_snapshot_that_is_not_needed_takes_nothing() {
    let mut stage = cluster(3);
    stage.propose(1);
    stage.settle();
    let (last, members) = (stage.status(1).last, stage.status(1).members);
    for _ in 0..5 {
        stage.propose(1);
    }
    stage.settle();
    let acknowledged = entries(&stage, 2);
    let meta = SnapshotMeta { last, members };
    let body = Body::Snapshot {
        meta: Box::new(meta),
        chunk: 0,
        data: bytes::Bytes::new(),
        done: true,
    };
    let redundant = stage.forge(
        1,
        2,
        Message {
            term: stage.status(1).term,
            body,
        },
    );
    stage.deliver(redundant);
    let replies = stage.take(|flight| flight.from == 2);
    assert!(
        replies
            .iter()
            .any(|flight| matches!(flight.message.body, Body::SnapshotReply { done: true, .. })),
        "{replies:?}"
    );
    stage.settle();
    assert_eq!(entries(&stage, 2), acknowledged);
    stage.expect_recovery();
}

/// L-06: a peer that has caught up is still being sent a snapshot (al8n/sailing 750534c).
#[test]
fn a_late_acknowledgement_ends_a_snapshot() {
    let mut stage = compacting_cluster(3);
    stage.propose(1);
    let is_ack = |flight: &Flight| flight.from == 3 && matches!(flight.message.body, Body::AppendReply(_));
    stage.settle_but(is_ack);
    let late = stage.take(is_ack);
    stage.give(1, Stimulus::Unreachable(lictor_machine::NodeId(3)));
    for _ in 0..20 {
        stage.run_but(ELECTION / 10, |flight| is_snapshot(flight) || is_ack(flight));
    }
    assert!(
        stage.status(1).peers.iter().any(|peer| peer.snapshot),
        "no snapshot was begun: {stage:?}"
    );
    stage.take(is_snapshot);
    for flight in late {
        stage.deliver(flight);
    }
    assert!(
        stage.status(1).peers.iter().all(|peer| !peer.snapshot),
        "{stage:?}"
    );
    let token = stage.propose(1);
    stage.settle();
    assert!(stage.answer(token).is_some());
    assert_eq!(stage.status(3).last, stage.status(1).last);
    stage.expect_recovery();
}

/// L-07: a follower is behind a log of which nothing but a snapshot is left (openraft#1828).
#[test]
fn a_follower_behind_an_empty_log_is_sent_a_snapshot() {
    let mut stage = compacting_cluster(3);
    stage.crash(3, 0);
    for _ in 0..20 {
        stage.propose(1);
        stage.settle();
    }
    stage.run(ELECTION);
    let leader = stage.status(1);
    assert_eq!(leader.base, leader.last);
    stage.restart(3);
    stage.expect_recovery();
    assert!(stage.status(3).base.index >= leader.base.index);
}

/// L-08: a leader cannot read its log, and must not take that for an empty one (openraft#1795).
#[test]
fn a_leader_that_cannot_read_its_log_stops() {
    let mut setup = Stage::setup(3);
    setup.raft.tail_bytes = 0;
    let mut stage = Stage::with_leader(setup);
    stage.isolate(3);
    for _ in 0..5 {
        stage.propose(1);
        stage.settle();
    }
    stage.fail_reads(1);
    stage.heal();
    for _ in 0..30 {
        stage.run(ELECTION / 10);
    }
    assert!(!stage.is_up(1), "{stage:?}");
    stage.expect_recovery();
}

/// L-11: a write completes whose entries have been replaced by others since (etcd-io/raft, async_storage_writes_append_aba_race).
#[test]
fn a_completed_write_vouches_only_for_what_is_still_there() {
    let mut stage = cluster(3);
    // S3 begins to write an entry of S1, which nobody else hears of.
    stage.cut(1, 2);
    stage.hold_disk(3);
    stage.propose(1);
    stage.settle();
    assert!(stage.begin_write(3));
    let replaced = stage.status(3).last;
    // S2 is elected without it and has S3 replace it.
    stage.heal();
    stage.isolate(1);
    stage.pass(ELECTION * 2);
    stage.time_out(2);
    stage.settle();
    assert_ne!(
        stage.status(2).role,
        Role::Leader,
        "S3 cannot vote before its disk answers"
    );
    stage.crash(1, 9);
    let term = stage.status(2).term.max(stage.status(3).term).next();
    let prev = stage.status(2).last;
    let entry = Entry {
        id: lictor_raft::LogId {
            term,
            index: prev.index.next(),
        },
        payload: lictor_raft::Payload::Noop,
    };
    let rewrite = stage.forge(
        2,
        3,
        Message {
            term,
            body: Body::Append {
                prev,
                entries: vec![entry],
                commit: Index::ZERO,
            },
        },
    );
    stage.take(|_| true);
    stage.deliver(rewrite);
    assert_eq!(stage.status(3).last.index, replaced.index);
    // The first write completes: S3 holds the old entry on disk, not the new one.
    stage.finish_write(3);
    let acks = stage.take(|flight| matches!(flight.message.body, Body::AppendReply(AppendReply::Accepted { through }) if through >= replaced.index));
    assert!(acks.is_empty(), "acknowledged before it was written: {acks:?}");
    assert!(stage.status(3).durable < replaced.index);
    stage.release_disk(3);
    while stage.write(3) {}
    assert_eq!(stage.status(3).durable, replaced.index);
}

/// L-12: completions are reported out of order, twice, or for writes that nobody issued (openraft#1960).
#[test]
fn completions_count_once_and_only_for_what_was_issued() {
    let mut stage = cluster(3);
    stage.propose(1);
    stage.settle();
    let durable = stage.status(2).durable;
    for seq in [1, 2, 1] {
        let old = lictor_raft::WriteId { boot: 1, seq };
        stage.give(2, Stimulus::Persisted(old));
        assert_eq!(stage.status(2).durable, durable);
    }
    let never = lictor_raft::WriteId { boot: 1, seq: 1000 };
    assert!(stage.try_give(2, Stimulus::Persisted(never)).is_err());
    stage.expect_recovery();
}

/// L-14: bytes in flight are not given back, and the window never opens again (etcd-io/raft e419ba5).
#[test]
fn a_window_opens_again_after_losses() {
    let mut setup = Stage::setup(3);
    setup.raft.window_messages = NonZeroU32::MIN.saturating_add(1);
    setup.raft.window_bytes = NonZeroUsize::MIN.saturating_add(199);
    let mut stage = Stage::with_leader(setup);
    for round in 0..6 {
        for _ in 0..10 {
            stage.propose(1);
        }
        stage.take(|flight| is_append(flight) && flight.to == 3);
        if round % 2 == 0 {
            stage.give(1, Stimulus::Unreachable(lictor_machine::NodeId(3)));
        }
        stage.run(ELECTION / 2);
    }
    stage.run(ELECTION * 4);
    let peers = stage.status(1).peers;
    assert!(
        peers
            .iter()
            .all(|peer| peer.bytes_in_flight == 0 && peer.matched == stage.status(1).last.index),
        "{peers:?}"
    );
    stage.expect_recovery();
}

/// L-17: a leader steps down while what it proposed is being written; whoever waits must hear of it, once (al8n/sailing 203db70).
#[test]
fn proposals_of_a_deposed_leader_are_answered() {
    for compacting in [false, true] {
        let mut stage = if compacting {
            compacting_cluster(3)
        } else {
            cluster(3)
        };
        stage.isolate(1);
        stage.hold_disk(1);
        let tokens: Vec<_> = (0..4).map(|_| stage.propose(1)).collect();
        stage.pass(ELECTION * 2);
        stage.elect(2);
        for _ in 0..9 {
            stage.propose(2);
            stage.settle();
        }
        stage.run(ELECTION);
        stage.expect_recovery();
        let answers: Vec<_> = tokens.iter().map(|token| stage.answer(*token)).collect();
        let fine = |answer: &Option<Answer>| {
            matches!(answer, Some(Answer::Refused)) || compacting && matches!(answer, Some(Answer::Unknown))
        };
        assert!(answers.iter().all(fine), "{answers:?}");
    }
}

/// L-19: more is committed than is handed out at once, and the rest never follows (al8n/sailing 532ca27).
#[test]
fn everything_committed_is_applied_however_little_at_a_time() {
    let mut setup = Stage::setup(3);
    setup.raft.apply_bytes_max = NonZeroUsize::MIN;
    setup.raft.tail_bytes = 0;
    let mut stage = Stage::with_leader(setup);
    stage.isolate(3);
    let tokens: Vec<_> = (0..30).map(|_| stage.propose(1)).collect();
    stage.settle();
    assert!(tokens.iter().all(|token| stage.answer(*token).is_some()));
    stage.expect_recovery();
    assert_eq!(stage.status(3).applied, stage.status(1).last.index);
}
