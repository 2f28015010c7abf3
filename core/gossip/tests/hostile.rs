//! What others say that is not true: by mistake, by age, or on purpose.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::lies::{alive, dead, incarnation, packet, packet_of, profile, refused, say, suspect};
use common::{Net, address, all_see, config, id, is_failed, whole};
use lictor_gossip::wire::{Part, Profile, Statement};
use lictor_gossip::{Event, Incarnation, Input, LamportTime, MemberState, Refusal, Tags};
use lictor_machine::{NodeId, Token};

const SECOND: Duration = Duration::from_secs(1);

/// G-01: an old `Alive` after a death at a higher incarnation brings nobody back, also not through what is remembered of the dead.
#[test]
fn g01_old_news_raise_nobody_from_the_dead() {
    let mut net = Net::pool(3, 1);
    net.kill(2);
    net.until(15, "the crash is known", |net| {
        all_see(net, 2, MemberState::Failed)
    });
    say(&mut net, 1, 0, &[dead(2, 9, 1)]);
    assert_eq!(
        incarnation(&net, 0, 2),
        9,
        "of the dead, too, the highest incarnation is kept"
    );
    for old in 1..=9 {
        say(&mut net, 1, 0, &[alive(2, old)]);
    }
    net.run(SECOND * 5);
    assert_eq!(net.hosts[0].sees(3), Some(MemberState::Failed));
    let prune = Input::ForceLeave {
        token: Token(1),
        name: "n2".to_owned(),
        prune: true,
    };
    net.input(0, prune);
    assert_eq!(net.hosts[0].sees(3), None);
    say(&mut net, 1, 0, &[alive(2, 9)]);
    assert_eq!(net.hosts[0].sees(3), None, "also who is forgotten stays dead");
    say(&mut net, 1, 0, &[alive(2, 10)]);
    assert_eq!(
        net.hosts[0].sees(3),
        Some(MemberState::Alive),
        "a new life is news"
    );
}

/// G-02: everybody restarts, and everybody holds everybody for dead at an incarnation that is higher than what they start with.
#[test]
fn g02_after_a_mass_restart_without_memory_all_find_together() {
    let mut net = Net::pool(6, 2);
    for round in 0..4 {
        for victim in 1..6 {
            say(&mut net, 0, victim, &[suspect(victim, 1 + round, 0)]);
        }
        net.run(SECOND * 2);
    }
    assert!(incarnation(&net, 0, 3) > 3);
    for at in 1..6 {
        net.kill(at);
    }
    net.until(60, "one is left", |net| net.hosts[0].gossip().size() == 1);
    for at in 1..6 {
        net.hosts[at].memory = lictor_gossip::Memory::default();
        net.start(at);
        net.join(at, (at + 1) % 6);
    }
    net.until(30, "the pool is whole", whole);
}

/// G-03: a huge incarnation from a third party is refused; within the bound the member contradicts; nothing overflows or is stuck.
#[test]
fn g03_incarnations_that_jump_are_refused_and_nobody_is_stuck() {
    let mut net = Net::pool(4, 3);
    for absurd in [2 + (1 << 20), 1 << 40, 1 << 62, u64::MAX] {
        say(&mut net, 1, 0, &[alive(2, absurd)]);
        say(&mut net, 1, 0, &[suspect(2, absurd, 1)]);
        say(&mut net, 1, 0, &[dead(2, absurd, 1)]);
        say(&mut net, 1, 2, &[suspect(2, absurd, 1)]);
        say(&mut net, 1, 2, &[dead(2, absurd, 1)]);
        say(&mut net, 2, 0, &[alive(2, absurd.max((1 << 62) + 1))]);
    }
    assert_eq!(refused(&net, 0, Refusal::Jump), 16);
    assert_eq!(refused(&net, 2, Refusal::Jump), 8);
    net.run(SECOND * 10);
    assert!(whole(&net));
    assert_eq!(incarnation(&net, 0, 2), 1);
    // Within the bound.
    say(&mut net, 1, 2, &[dead(2, 1 << 20, 1)]);
    net.until(5, "it contradicts", |net| incarnation(net, 3, 2) == (1 << 20) + 1);
    let refused: Vec<_> = net.hosts[0]
        .notes
        .iter()
        .filter(|note| {
            matches!(
                note,
                Event::Refused {
                    reason: Refusal::Jump,
                    ..
                }
            )
        })
        .collect();
    assert_eq!(
        refused.len(),
        2,
        "one line for each sender, not for each packet: {refused:?}"
    );
}

/// G-03, continued: a newcomer is told a lie about a member that it does not know. The member itself puts that right.
#[test]
fn g03_a_newcomer_that_believed_a_lie_learns_the_truth() {
    let mut net = Net::new(4);
    for n in 0..3 {
        net.add(config(n));
    }
    say(&mut net, 1, 0, &[alive(2, 1 << 39)]);
    assert_eq!(
        net.hosts[0].sees(3),
        Some(MemberState::Alive),
        "first sight has nothing to compare with"
    );
    net.join(1, 0);
    net.join(2, 1);
    net.until(30, "the truth is known", |net| {
        let settled = incarnation(net, 2, 2);
        whole(net) && (0..3).all(|at| net.hosts[at].sees(3).is_some() && incarnation(net, at, 2) == settled)
    });
}

/// G-07: a suspicion, or a death, of an older incarnation does nothing to the new one.
#[test]
fn g07_old_suspicions_do_not_harm_the_new_life() {
    let mut net = Net::pool(3, 5);
    say(&mut net, 2, 0, &[alive(1, 8)]);
    assert_eq!(incarnation(&net, 0, 1), 8);
    for old in 0..8 {
        say(&mut net, 2, 0, &[suspect(1, old, 2), dead(1, old, 2)]);
        assert_eq!(net.hosts[0].sees(2), Some(MemberState::Alive));
    }
    // And a suspicion that is open when the member contradicts does not run on.
    say(&mut net, 2, 0, &[suspect(1, 8, 2)]);
    assert_eq!(net.hosts[0].sees(2), Some(MemberState::Suspect));
    say(&mut net, 2, 0, &[alive(1, 9)]);
    assert_eq!(net.hosts[0].sees(2), Some(MemberState::Alive));
    net.run(SECOND * 30);
    assert!(net.hosts[0].saw(is_failed) == 0);
}

/// A suspect contradicts in the answer to the packet that tells it.
#[test]
fn a_suspect_learns_it_at_once_and_contradicts_at_once() {
    let mut net = Net::pool(5, 6);
    net.run(SECOND);
    say(&mut net, 1, 0, &[suspect(3, 1, 1)]);
    let time = net.until(5, "it is cleared", |net| {
        net.hosts[0].sees(4) == Some(MemberState::Alive)
    });
    assert!(time < SECOND, "{time:?}");
    net.until(5, "all know the new incarnation", |net| {
        (0..5).all(|at| incarnation(net, at, 3) == 2)
    });
    assert!(net.hosts[3].notes.contains(&Event::Refuted {
        incarnation: Incarnation(2)
    }));
}

/// G-05: an intent goes round once. Equal Lamport times are never passed on again.
#[test]
fn g05_each_statement_is_sent_a_bounded_number_of_times() {
    let mut net = Net::pool(10, 7);
    net.run(SECOND * 5);
    net.kill(9);
    net.until(15, "the crash is known", |net| {
        all_see(net, 9, MemberState::Failed)
    });
    let force = Input::ForceLeave {
        token: Token(1),
        name: "n9".to_owned(),
        prune: false,
    };
    net.input(0, force);
    net.run(SECOND * 10);
    let limit = 4 * 3;
    for host in &net.hosts[..9] {
        let stats = host.gossip().stats();
        assert_eq!(stats.broadcasts_queued, 0, "all is calm");
        assert!(stats.transmissions_max <= limit, "{stats:?}");
    }
    // The same again and again, from everybody: nobody passes it on any more.
    let leave = Part::Statement(Statement::Leave {
        id: id(9),
        incarnation: Incarnation(1),
        time: LamportTime(1),
        prune: false,
    });
    for at in 0..9 {
        say(
            &mut net,
            (at + 1) % 9,
            at,
            &[leave.clone(), dead(9, 1, 3), alive(4, 1)],
        );
        assert_eq!(net.hosts[at].gossip().stats().broadcasts_queued, 0);
    }
}

/// G-04: news of a leave may go round for longer than it takes to come back, and reach those who know of nothing else.
#[test]
fn g04_a_leave_of_an_earlier_life_is_not_one_of_the_next() {
    let mut net = Net::pool(4, 21);
    let leave = |n: usize, time| {
        Part::Statement(Statement::Leave {
            id: id(n),
            incarnation: Incarnation(2),
            time: LamportTime(time),
            prune: true,
        })
    };
    say(&mut net, 1, 0, &[alive(3, 3)]);
    say(&mut net, 1, 0, &[leave(3, 40)]);
    assert_eq!(net.hosts[0].sees(4), Some(MemberState::Alive));
    // Also if the leave is heard of first.
    say(&mut net, 1, 0, &[leave(50, 41), alive(50, 3)]);
    assert_eq!(net.hosts[0].sees(51), Some(MemberState::Alive));
    say(&mut net, 1, 0, &[leave(51, 42), alive(51, 2)]);
    assert_eq!(net.hosts[0].sees(52), Some(MemberState::Leaving));
    // It is there again, whether the word that it wants to be has come by or not.
    say(&mut net, 1, 0, &[alive(51, 3)]);
    assert_eq!(net.hosts[0].sees(52), Some(MemberState::Alive));
}

/// G-04: who has missed that a member wants to stay hears of it when all is exchanged.
#[test]
fn g04_an_exchange_brings_a_join_that_was_missed() {
    let mut net = Net::pool(3, 22);
    let leave = Part::Statement(Statement::Leave {
        id: id(2),
        incarnation: Incarnation(100),
        time: LamportTime(30),
        prune: false,
    });
    net.split(&[0], &[1, 2]);
    say(&mut net, 1, 0, core::slice::from_ref(&leave));
    assert_eq!(net.hosts[0].sees(3), Some(MemberState::Leaving));
    net.split(&[1], &[2]);
    say(&mut net, 0, 1, &[leave]);
    say(
        &mut net,
        2,
        1,
        &[Part::Statement(Statement::Join {
            id: id(2),
            time: LamportTime(31),
        })],
    );
    assert_eq!(net.hosts[1].sees(3), Some(MemberState::Alive));
    // Everything that is still to be told is told to nobody.
    net.kill(2);
    net.run(SECOND / 2);
    net.cut.clear();
    net.join(0, 1);
    net.until(2, "the join is known", |net| {
        net.hosts[0].sees(3) == Some(MemberState::Alive)
    });
}

/// G-09: members come and go with new ids, for ever; nothing grows.
#[test]
fn g09_churn_with_new_ids_does_not_grow_anything() {
    let mut net = Net::pool_with(2, 9, |config| config.members_max = 64);
    for n in 0..5000_u64 {
        let stranger = Profile {
            id: NodeId(1000 + u128::from(n)),
            incarnation: Incarnation(1),
            name: format!("x{n}"),
            address: address(500),
            tags: Tags::new(),
        };
        let gone = Part::Statement(Statement::Left {
            id: stranger.id,
            incarnation: Incarnation(1),
        });
        let early = Part::Statement(Statement::Leave {
            id: NodeId(1_000_000 + u128::from(n)),
            incarnation: Incarnation(1),
            time: LamportTime(n + 10),
            prune: false,
        });
        let here = Part::Statement(Statement::Alive(stranger));
        say(&mut net, 1, 0, &[early, here, gone]);
    }
    let stats = net.hosts[0].gossip().stats();
    assert!(stats.members <= 64, "{stats:?}");
    assert!(stats.tombstones <= 64, "{stats:?}");
    let known = net.hosts[0].gossip().members().count();
    assert_eq!(known, stats.members);
    assert!(stats.broadcasts_queued <= 8192, "{stats:?}");
    net.until(600, "all is said", |net| {
        net.hosts[0].gossip().stats().broadcasts_queued == 0
    });
    // Full of members that are here: one more is refused.
    for n in 0..100 {
        say(&mut net, 1, 0, &[alive(200 + n, 1)]);
    }
    assert!(refused(&net, 0, Refusal::TooLarge) >= 38);
    assert!(net.hosts[0].gossip().stats().members <= 64);
}

#[test]
fn who_speaks_in_anothers_name_is_refused() {
    let mut net = Net::pool(3, 12);
    // Its certificate has another name than the packet.
    let mut forged = profile(1, 5);
    forged.name = "n0".to_owned();
    say(&mut net, 1, 2, &[Part::Statement(Statement::Alive(forged))]);
    assert_eq!(refused(&net, 2, Refusal::Forged), 1);
    // It says that it is a server; its certificate does not.
    let mut forged = profile(1, 5);
    forged.tags.insert("role".to_owned(), "consul".to_owned());
    say(&mut net, 1, 2, &[Part::Statement(Statement::Alive(forged))]);
    assert_eq!(refused(&net, 2, Refusal::Forged), 2);
    assert_eq!(incarnation(&net, 2, 1), 1);
    let note = Event::Refused {
        from: id(1),
        reason: Refusal::Forged,
    };
    assert_eq!(
        net.hosts[2].notes.iter().filter(|other| **other == note).count(),
        1
    );
    net.run(SECOND * 61);
    say(
        &mut net,
        1,
        2,
        &[Part::Statement(Statement::Alive({
            let mut forged = profile(1, 6);
            forged.name = "n2".to_owned();
            forged
        }))],
    );
    assert_eq!(
        net.hosts[2].notes.iter().filter(|other| **other == note).count(),
        2,
        "once a minute"
    );
}

#[test]
fn other_pools_other_versions_and_rubbish_are_refused() {
    let mut net = Net::pool(2, 13);
    let sender = net.sender(1);
    let good = packet(&[alive(7, 1)]);
    let mut version = good.to_vec();
    version[0] = 77;
    let mut cut = good.to_vec();
    cut.truncate(good.len() - 1);
    let cases = [
        (packet_of("dc2", &[alive(7, 1)]), Refusal::ForeignPool),
        (Bytes::from(version), Refusal::Version),
        (Bytes::from(cut), Refusal::Malformed),
        (Bytes::new(), Refusal::Malformed),
        (Bytes::from(vec![1; 5000]), Refusal::TooLarge),
    ];
    for (packet, reason) in cases {
        let before = refused(&net, 0, reason);
        net.forge(sender.clone(), 0, packet.clone());
        assert_eq!(refused(&net, 0, reason), before + 1, "{reason}");
        let call = Input::Call {
            id: lictor_gossip::InboundId(1),
            from: sender.clone(),
            request: packet,
        };
        net.input(0, call);
    }
    assert!(net.hosts[0].sees(8).is_none());
    net.run(SECOND * 5);
    assert!(whole(&net));
}

#[test]
fn a_member_of_another_pool_cannot_be_joined() {
    let mut net = Net::pool(2, 14);
    let mut other = config(2);
    other.pool = "dc2".to_owned();
    net.add(other);
    net.join(2, 0);
    net.until(60, "the join is answered", |net| !net.hosts[2].answers.is_empty());
    assert!(matches!(
        &net.hosts[2].answers[&Token(900)],
        lictor_gossip::Answer::Joined { joined: 0, failed } if failed.len() == 1
    ));
    assert_eq!(net.hosts[0].gossip().size(), 2);
    assert!(refused(&net, 0, Refusal::ForeignPool) > 0);
}

#[test]
fn lamport_times_that_jump_are_refused() {
    let mut net = Net::pool(3, 15);
    let far = LamportTime(1 << 40);
    let leave = Statement::Leave {
        id: id(2),
        incarnation: Incarnation(1),
        time: far,
        prune: true,
    };
    say(
        &mut net,
        1,
        0,
        &[
            Part::Statement(leave),
            Part::Statement(Statement::Join { id: id(2), time: far }),
        ],
    );
    assert_eq!(refused(&net, 0, Refusal::Jump), 2);
    assert_eq!(net.hosts[0].sees(3), Some(MemberState::Alive));
}
