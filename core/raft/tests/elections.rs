//! Who may lead, and who may not: conversations that broke other implementations.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test picks out what it looks for"
)]

mod common;

use std::time::Duration;

use common::{Cluster, Disk, append, command, hard, message, n};
use lictor_machine::{Index, Instant, Machine, Now};
use lictor_raft::{Body, Event, HardState, Input, LogId, Outcome, Poll, ReadMode, Reject, Role, Term};

const TERM_MAX: u64 = u64::MAX >> 8;

fn poll(count: u64) -> Poll {
    Poll { boot: 9, count }
}

fn vote(term: u64, last: LogId, transfer: bool) -> lictor_raft::Message {
    let poll = poll(1);
    message(term, Body::Vote { last, poll, transfer })
}

fn heartbeat(term: u64) -> lictor_raft::Message {
    let (commit, round) = (Index(0), 1);
    message(term, Body::Heartbeat { commit, round })
}

fn granted(cluster: &mut Cluster) -> Vec<bool> {
    let replies = cluster
        .sent()
        .into_iter()
        .filter_map(|(_, message)| match message.body {
            Body::VoteReply { granted, .. } | Body::PreVoteReply { granted, .. } => Some(granted),
            _ => None,
        });
    replies.collect()
}

/// Two of three are left: one has the higher term, the other the longer log. Neither pre-vote nor the log's length may keep
/// them apart for ever.
#[test]
fn two_voters_of_different_terms_and_logs_elect_a_leader() {
    for (terms, logs) in [([9, 1], [vec![1], vec![1, 1]]), ([1, 9], [vec![1, 1], vec![1]])] {
        let mut cluster = Cluster::empty(|_| {});
        for (id, (term, log)) in (1..).zip(terms.into_iter().zip(&logs)) {
            cluster.add(n(id), Disk::with_log(3, log, hard(term, 1)));
        }
        let leader = cluster.elect();
        let longer = if logs[0].len() > logs[1].len() { n(1) } else { n(2) };
        assert_eq!(leader, longer);
        cluster.propose(leader, "a");
        cluster.run(Duration::from_secs(1));
        assert_eq!(cluster.state(n(1)).last().unwrap(), "a");
        assert_eq!(cluster.state(n(1)), cluster.state(n(2)));
    }
}

#[test]
fn a_refused_pre_vote_brings_the_candidate_to_the_voters_term() {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1], hard(1, 0)));
    cluster.tick(Duration::from_secs(2));
    let refused = Body::PreVoteReply {
        poll: poll(1),
        granted: false,
    };
    cluster.deliver(n(2), n(1), message(7, refused));
    assert_eq!(cluster.raft(n(1)).term(), Term(7));
    assert_eq!(cluster.raft(n(1)).role(), Role::Follower);
}

#[test]
fn a_grant_counts_only_in_its_own_poll() {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1], hard(1, 0)));
    let mut polls = Vec::new();
    for _ in 0..2 {
        cluster.tick(Duration::from_secs(2));
        let (_, ask) = cluster.sent().remove(0);
        let Body::PreVote { poll, .. } = ask.body else {
            panic!("{ask:?}")
        };
        polls.push(poll);
    }
    let granted = true;
    let grant = |poll| message(2, Body::PreVoteReply { poll, granted });
    cluster.deliver(n(2), n(1), grant(polls[0]));
    assert_eq!(cluster.raft(n(1)).role(), Role::PreCandidate, "an old grant");
    cluster.deliver(n(2), n(1), grant(polls[1]));
    assert_eq!(cluster.raft(n(1)).role(), Role::Candidate);
    // The same grants again, and one of the pre-vote's poll dressed up as a vote.
    for poll in polls {
        cluster.deliver(n(3), n(1), grant(poll));
        let commit = LogId::ZERO;
        cluster.deliver(
            n(3),
            n(1),
            message(
                2,
                Body::VoteReply {
                    poll,
                    granted,
                    commit,
                },
            ),
        );
    }
    assert_eq!(cluster.raft(n(1)).role(), Role::Candidate);
}

#[test]
fn a_server_that_was_cut_off_comes_back_without_disturbing_anybody() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    cluster.run(Duration::from_secs(1));
    let other = *cluster.ids().iter().find(|id| **id != leader).unwrap();
    let term = cluster.raft(leader).term();
    cluster.cut_off(other);
    cluster.run(Duration::from_secs(10));
    assert_eq!(cluster.raft(other).term(), term, "asking changes no term");
    cluster.heal();
    cluster.run(Duration::from_secs(3));
    assert_eq!(cluster.leader(), Some(leader));
    assert_eq!(cluster.raft(leader).term(), term);
}

#[test]
fn whoever_hears_a_leader_elects_no_other() {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1], hard(1, 0)));
    cluster.deliver(n(2), n(1), heartbeat(2));
    cluster.tick(Duration::from_millis(400));
    cluster.sent();
    let pre_vote = Body::PreVote {
        last: LogId::new(2, 9),
        poll: poll(1),
    };
    cluster.deliver(n(3), n(1), message(5, pre_vote.clone()));
    assert_eq!(granted(&mut cluster), [false]);
    cluster.deliver(n(3), n(1), vote(5, LogId::new(2, 9), false));
    assert_eq!(granted(&mut cluster), []);
    assert_eq!(cluster.raft(n(1)).term(), Term(2));
    cluster.tick(Duration::from_millis(100));
    cluster.deliver(n(3), n(1), message(5, pre_vote));
    assert_eq!(granted(&mut cluster), [true]);
    cluster.deliver(n(3), n(1), vote(5, LogId::new(2, 9), false));
    assert_eq!(granted(&mut cluster), [true]);
}

/// A node that restarts has forgotten whom it heard, but not that it may have promised a lease.
#[test]
fn a_restarted_voter_waits_out_the_lease_that_it_may_have_promised() {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1], hard(1, 0)));
    cluster.tick(Duration::from_millis(499));
    cluster.deliver(n(3), n(1), vote(2, LogId::new(1, 1), false));
    assert_eq!(granted(&mut cluster), []);
    cluster.tick(Duration::from_millis(1));
    cluster.deliver(n(3), n(1), vote(2, LogId::new(1, 1), false));
    assert_eq!(granted(&mut cluster), [true]);
}

#[test]
fn campaigning_on_demand_does_not_break_a_lease() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    cluster.run(Duration::from_secs(1));
    let follower = *cluster.ids().iter().find(|id| **id != leader).unwrap();
    assert!(
        cluster
            .raft(leader)
            .lease_until()
            .is_some_and(|until| until > cluster.now)
    );
    assert!(matches!(
        cluster.input(follower, Input::Campaign),
        Err(Reject::Invalid(_))
    ));
    assert!(matches!(
        cluster.input(leader, Input::Campaign),
        Err(Reject::Invalid(_))
    ));
    cluster.crash(leader);
    cluster.tick(Duration::from_millis(500));
    // The other may have begun by itself; if not, it does now.
    let _ = cluster.input(follower, Input::Campaign);
    assert_ne!(cluster.raft(follower).role(), Role::Follower);
}

#[test]
fn a_leader_that_nobody_hears_is_replaced() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    cluster.run(Duration::from_secs(1));
    for other in cluster.ids().into_iter().filter(|id| *id != leader) {
        cluster.cut.insert((leader, other));
    }
    cluster.run(Duration::from_secs(4));
    let second = cluster.leader().unwrap();
    assert_ne!(second, leader);
    assert_eq!(
        cluster.raft(leader).role(),
        Role::Follower,
        "it hears the new one"
    );
    cluster.propose(second, "a");
    cluster.run(Duration::from_secs(1));
    assert_eq!(cluster.state(second), ["a"]);
    cluster.heal();
    cluster.run(Duration::from_secs(2));
    assert_eq!(cluster.state(leader), ["a"]);
}

#[test]
fn a_leader_that_hears_nobody_steps_down_and_another_takes_over() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    cluster.run(Duration::from_secs(1));
    for other in cluster.ids().into_iter().filter(|id| *id != leader) {
        cluster.cut.insert((other, leader));
    }
    cluster.run(Duration::from_secs(4));
    assert_ne!(cluster.raft(leader).role(), Role::Leader);
    assert!(cluster.server(leader).events.contains(&Event::QuorumLost));
    let second = cluster.leader().unwrap();
    cluster.propose(second, "a");
    cluster.run(Duration::from_secs(1));
    assert_eq!(cluster.state(second), ["a"]);
    cluster.heal();
    cluster.run(Duration::from_secs(2));
    assert_eq!(cluster.leader(), Some(second));
    assert_eq!(cluster.state(leader), ["a"]);
}

/// Being asked for votes by those whom it no longer reaches must not keep a leader in office.
#[test]
fn only_answers_in_its_own_term_keep_a_leader() {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1], hard(1, 0)));
    cluster.win();
    for count in 0..10 {
        cluster.tick(Duration::from_millis(100));
        for id in 2..=3 {
            let pre_vote = Body::PreVote {
                last: LogId::new(1, 1),
                poll: poll(count),
            };
            cluster.deliver(n(id), n(1), message(3, pre_vote));
        }
    }
    assert_eq!(cluster.raft(n(1)).role(), Role::Follower);
    assert!(cluster.server(n(1)).events.contains(&Event::QuorumLost));
}

#[test]
fn nobody_follows_a_second_leader_of_one_term() {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1], hard(1, 0)));
    cluster.deliver(n(2), n(1), heartbeat(2));
    let (from, message) = (n(3), heartbeat(2));
    let refused = cluster.input(n(1), Input::Message { from, message });
    assert!(matches!(refused, Err(Reject::Malformed(_))));
    assert_eq!(cluster.raft(n(1)).leader(), Some(n(2)));

    let mut cluster = Cluster::lone(Disk::with_log(3, &[1], hard(1, 0)));
    cluster.win();
    let (from, message) = (n(3), heartbeat(2));
    let refused = cluster.input(n(1), Input::Message { from, message });
    assert!(matches!(refused, Err(Reject::Malformed(_))));
    assert_eq!(cluster.raft(n(1)).role(), Role::Leader);
}

#[test]
fn terms_never_wrap() {
    let mut cluster = Cluster::lone(Disk::with_log(1, &[1], hard(TERM_MAX, 1)));
    assert_eq!(cluster.raft(n(1)).poll_timeout(), None);
    cluster.tick(Duration::from_mins(1));
    assert_eq!(cluster.raft(n(1)).role(), Role::Follower);
    for term in [TERM_MAX + 1, u64::MAX, 0] {
        let (from, message) = (n(2), heartbeat(term));
        let refused = cluster.input(n(1), Input::Message { from, message });
        assert!(matches!(refused, Err(Reject::Malformed(_))), "{term}");
    }
}

#[test]
fn a_node_without_a_configuration_votes_and_never_campaigns() {
    let mut cluster = Cluster::lone(Disk::default());
    cluster.tick(Duration::from_secs(5));
    assert_eq!(cluster.sent(), []);
    let pre_vote = Body::PreVote {
        last: LogId::new(1, 1),
        poll: poll(1),
    };
    cluster.deliver(n(2), n(1), message(2, pre_vote));
    assert_eq!(granted(&mut cluster), [true]);
    cluster.deliver(n(2), n(1), vote(2, LogId::new(1, 1), false));
    assert_eq!(granted(&mut cluster), [true]);
    assert_eq!(cluster.server(n(1)).disk.hard.vote, Some(n(2)));
    assert_eq!(cluster.raft(n(1)).poll_timeout(), None);
}

/// A refusal of a server that knows no term yet says so, and is heard.
#[test]
fn a_server_that_knows_no_term_refuses_audibly() {
    let mut cluster = Cluster::lone(Disk::default());
    let pre_vote = Body::PreVote {
        last: LogId::new(1, 1),
        poll: poll(1),
    };
    cluster.deliver(n(2), n(1), message(2, pre_vote));
    let (_, refusal) = cluster.sent().remove(0);
    assert_eq!(refusal.term, Term(0));
    assert_eq!(refusal.check(), Ok(()));
}

#[test]
fn a_shorter_or_older_log_gets_no_vote() {
    for (last, expected) in [
        (LogId::new(2, 3), true),
        (LogId::new(2, 4), true),
        (LogId::new(3, 1), true),
        (LogId::new(2, 2), false),
        (LogId::new(1, 99), false),
        (LogId::ZERO, false),
    ] {
        let mut cluster = Cluster::lone(Disk::with_log(3, &[1, 2, 2], hard(3, 0)));
        cluster.tick(Duration::from_millis(500));
        cluster.sent();
        cluster.deliver(n(2), n(1), vote(4, last, false));
        assert_eq!(granted(&mut cluster), [expected], "{last}");
    }
}

/// What a voter knows committed may be known to nobody else alive.
#[test]
fn a_candidate_learns_the_commit_index_with_its_votes() {
    let mut cluster = Cluster::lone(Disk::with_log(4, &[1, 1, 1], hard(1, 0)));
    cluster.tick(Duration::from_secs(2));
    let (_, ask) = cluster.sent().remove(0);
    let Body::PreVote { poll, .. } = ask.body else {
        panic!("{ask:?}")
    };
    let granted = true;
    for id in [2, 3] {
        cluster.deliver(n(id), n(1), message(2, Body::PreVoteReply { poll, granted }));
    }
    let (_, ask) = cluster.sent().remove(0);
    let Body::Vote { poll, .. } = ask.body else {
        panic!("{ask:?}")
    };
    let commit = LogId::new(1, 2);
    cluster.deliver(
        n(2),
        n(1),
        message(
            2,
            Body::VoteReply {
                poll,
                granted,
                commit,
            },
        ),
    );
    assert_eq!(cluster.raft(n(1)).commit(), Index(2));
    // An entry that this log does not hold says nothing about it.
    let commit = LogId::new(2, 3);
    cluster.deliver(
        n(4),
        n(1),
        message(
            2,
            Body::VoteReply {
                poll,
                granted: false,
                commit,
            },
        ),
    );
    assert_eq!(cluster.raft(n(1)).commit(), Index(2));
}

#[test]
fn a_leader_whose_disk_hangs_hands_over() {
    let mut cluster = Cluster::new(3);
    let first = cluster.elect();
    cluster.run(Duration::from_secs(1));
    let term = cluster.raft(first).term();
    cluster.server(first).auto_persist = false;
    let lost = cluster.propose(first, "a");
    cluster.run(Duration::from_secs(10));
    let stalled = |event: &Event| matches!(event, Event::DiskStalled { .. });
    assert!(cluster.server(first).events.iter().any(stalled));
    let second = cluster.leader().unwrap();
    assert_ne!(second, first);
    assert!(
        cluster.raft(second).term() <= Term(term.0 + 2),
        "no storm of terms"
    );
    cluster.propose(second, "b");
    cluster.run(Duration::from_secs(1));
    // The followers had it on their disks.
    assert_eq!(cluster.state(second), ["a", "b"]);
    cluster.server(first).auto_persist = true;
    cluster.persist(first);
    cluster.run(Duration::from_secs(2));
    assert_eq!(cluster.state(first), ["a", "b"]);
    assert!(cluster.server(first).committed.contains_key(&lost));
    assert_eq!(cluster.leader(), Some(second));
}

#[test]
fn leadership_goes_to_other_voters_only() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    cluster.run(Duration::from_secs(1));
    for to in [leader, n(9)] {
        let token = cluster.token();
        let refused = cluster.input(leader, Input::Transfer { token, to: Some(to) });
        assert!(matches!(refused, Err(Reject::Invalid(_))));
    }
    let follower = *cluster.ids().iter().find(|id| **id != leader).unwrap();
    let token = cluster.token();
    let refused = cluster.input(follower, Input::Transfer { token, to: None });
    assert_eq!(refused, Err(Reject::NotLeader { leader: Some(leader) }));
    let token = cluster.token();
    cluster
        .input(leader, Input::Transfer { token, to: None })
        .unwrap();
    let second = cluster.token();
    let refused = cluster.input(
        leader,
        Input::Transfer {
            token: second,
            to: None,
        },
    );
    assert_eq!(refused, Err(Reject::Transferring));
    cluster.settle();
    assert_eq!(cluster.server(leader).resolved[&token], Outcome::Transferred);
    let mut alone = Cluster::new(1);
    alone.elect();
    let token = alone.token();
    let refused = alone.input(n(1), Input::Transfer { token, to: None });
    assert!(matches!(refused, Err(Reject::Invalid(_))));
}

/// The target campaigns without waiting for the lease, so there must be none from the moment it is told.
#[test]
fn a_leader_that_hands_over_has_no_lease_any_more() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    cluster.run(Duration::from_secs(1));
    let to = *cluster.ids().iter().find(|id| **id != leader).unwrap();
    cluster.cut.insert((leader, to));
    let token = cluster.token();
    assert!(cluster.raft(leader).lease_until().is_some());
    cluster
        .input(leader, Input::Transfer { token, to: Some(to) })
        .unwrap();
    assert_eq!(cluster.raft(leader).lease_until(), None);
    assert_eq!(cluster.raft(leader).confirmed_until(), None);
    cluster.run(Duration::from_millis(700));
    assert_eq!(cluster.server(leader).resolved[&token], Outcome::TransferFailed);
    assert_eq!(
        cluster.raft(leader).lease_until(),
        None,
        "it may still be on its way"
    );
    let confirmed = cluster.raft(leader).confirmed_until();
    assert!(
        confirmed.is_some_and(|until| until > cluster.now),
        "the others follow: {confirmed:?}"
    );
    // Reads go on, by rounds, and so do proposals.
    let read = cluster.read(leader, ReadMode::Lease).unwrap();
    cluster.propose(leader, "a");
    cluster.run(Duration::from_millis(300));
    assert!(matches!(
        cluster.server(leader).resolved[&read],
        Outcome::Read { .. }
    ));
    assert_eq!(cluster.state(leader), ["a"]);
}

#[test]
fn only_the_leader_may_tell_a_follower_to_campaign() {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1], hard(1, 0)));
    cluster.deliver(n(2), n(1), heartbeat(3));
    for (from, term) in [(3, 3), (2, 2), (3, 4)] {
        cluster.deliver(n(from), n(1), message(term, Body::TimeoutNow));
        assert_eq!(cluster.raft(n(1)).role(), Role::Follower);
        assert_eq!(cluster.raft(n(1)).term(), Term(3));
    }
    cluster.deliver(n(2), n(1), message(3, Body::TimeoutNow));
    assert_eq!(cluster.raft(n(1)).role(), Role::Candidate);
    let asks = cluster.sent();
    let transfer = |body: &Body| matches!(body, Body::Vote { transfer: true, .. });
    assert_eq!(
        asks.iter().filter(|(_, message)| transfer(&message.body)).count(),
        2
    );
}

#[test]
fn a_transfer_waits_until_the_target_holds_everything() {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1], hard(1, 0)));
    cluster.win();
    cluster.accept(2, 2);
    cluster.propose(n(1), "a");
    let token = cluster.token();
    cluster.sent();
    cluster
        .input(
            n(1),
            Input::Transfer {
                token,
                to: Some(n(2)),
            },
        )
        .unwrap();
    let told = |cluster: &mut Cluster| {
        cluster
            .sent()
            .iter()
            .any(|(_, message)| message.body == Body::TimeoutNow)
    };
    assert!(!told(&mut cluster));
    cluster.accept(2, 3);
    assert!(told(&mut cluster));
    cluster.accept(2, 3);
    assert!(!told(&mut cluster), "once is enough");
}

#[test]
fn a_boot_that_contradicts_itself_does_not_start() {
    let good = Disk::with_log(3, &[1, 2], hard(2, 1));
    let start = |change: &dyn Fn(&mut lictor_raft::Boot)| {
        let mut boot = good.clone().boot();
        change(&mut boot);
        lictor_raft::Raft::start(lictor_raft::Config::lan(n(1), 1), &boot, Now::at(Instant::ZERO)).map(|_| ())
    };
    assert_eq!(start(&|_| {}), Ok(()));
    assert!(start(&|boot| boot.hard_state = HardState::default()).is_err());
    assert!(start(&|boot| boot.applied = Index(3)).is_err());
    assert!(start(&|boot| boot.base.last = LogId::new(1, 1)).is_err());
    assert!(start(&|boot| boot.term_starts.clear()).is_err());
}

#[test]
fn a_follower_of_a_newer_leader_forgets_its_candidacy() {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1], hard(1, 0)));
    cluster.server(n(1)).auto_persist = false;
    cluster.tick(Duration::from_secs(2));
    let (_, ask) = cluster.sent().remove(0);
    let Body::PreVote { poll, .. } = ask.body else {
        panic!("{ask:?}")
    };
    cluster.deliver(n(2), n(1), message(2, Body::PreVoteReply { poll, granted: true }));
    assert_eq!(cluster.raft(n(1)).role(), Role::Candidate);
    cluster.deliver(n(3), n(1), append(2, LogId::new(1, 1), vec![command(2, 2)], 0));
    cluster.persist(n(1));
    assert_eq!(
        cluster.raft(n(1)).role(),
        Role::Follower,
        "its own late vote elects nobody"
    );
    assert_eq!(cluster.raft(n(1)).leader(), Some(n(3)));
    let asked =
        |(_, sent): &(lictor_machine::NodeId, lictor_raft::Message)| matches!(sent.body, Body::Vote { .. });
    assert!(
        !cluster.sent().iter().any(asked),
        "it asks nobody any more, with a log that is another one now"
    );
}
