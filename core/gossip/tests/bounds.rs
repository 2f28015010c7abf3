//! What one member can make another keep, send or write down.

mod common;

use std::time::Duration;

use common::{Net, address, config, id, whole};
use lictor_gossip::wire::{PacketBuilder, Part, PoolTag, Profile, Statement};
use lictor_gossip::{Answer, Effect, Gossip, Incarnation, Input, Memory, Sender, Tags};
use lictor_machine::{Instant, Machine, NodeId, Now, Token};

const SECOND: Duration = Duration::from_secs(1);

fn packet(part: &Part) -> bytes::Bytes {
    let mut packet = PacketBuilder::packet(PoolTag::new("dc1"), 1150);
    assert!(packet.push_part(part));
    packet.finish()
}

fn stranger(n: u128) -> Sender {
    Sender {
        id: NodeId(10_000 + n),
        name: format!("stranger-{n}"),
        server: false,
        address: address(n as usize % 200),
    }
}

fn ping(target: NodeId) -> Part {
    Part::Ping {
        seq: 1,
        target,
        incarnation: Incarnation(1),
    }
}

/// G-18: each packet is answered by at most a few, never by more than it is worth, and strangers are not kept.
#[test]
fn g18_a_flood_of_strangers_is_answered_and_forgotten() {
    let mut machine = Gossip::start(config(0), Memory::default(), Now::at(Instant::from_millis(1))).unwrap();
    let (mut known, mut calls, mut packets, mut others) = (0_i64, 0, 0, 0);
    for n in 0..5000 {
        let now = Now::at(Instant::from_millis(2 + n as u64));
        let input = Input::Packet {
            from: stranger(n),
            packet: packet(&ping(id(0))),
        };
        machine.handle(now, input).unwrap();
        while let Some(effect) = machine.poll_effect() {
            match effect {
                Effect::Address { .. } => known += 1,
                Effect::Forget(_) => known -= 1,
                Effect::Call { .. } => calls += 1,
                Effect::Packet { to, .. } => {
                    assert_eq!(to, stranger(n).id, "nobody else is made to suffer");
                    packets += 1;
                }
                Effect::Remember(_)
                | Effect::Reply { .. }
                | Effect::Member(_)
                | Effect::UserEvent(_)
                | Effect::Query(_)
                | Effect::QueryResponse { .. }
                | Effect::QueryAck { .. }
                | Effect::Answer { .. }
                | Effect::Event(_)
                | Effect::Left => others += 1,
            }
        }
        assert!(known <= 64, "{known}");
    }
    assert_eq!(packets, 5000, "one answer to each");
    assert_eq!(others, 1, "what is remembered at the start");
    assert!(calls <= 1024, "{calls} calls are open");
    assert_eq!(machine.stats().members, 1);
}

/// Two members that contradict each other without end do not send without end.
#[test]
fn members_that_cannot_agree_do_not_shout_at_each_other() {
    let mut net = Net::pool(2, 1);
    net.run(SECOND * 5);
    let before = net.hosts[0].gossip().stats().packets_out;
    let start = net.now;
    // One goes on saying what the other has contradicted long ago.
    while net.now.since(start) < SECOND * 10 {
        let dead = Part::Statement(Statement::Dead {
            id: id(0),
            incarnation: Incarnation(1),
            from: id(1),
        });
        let sender = net.sender(1);
        net.forge(sender, 0, packet(&dead));
        net.run(Duration::from_millis(5));
    }
    let sent = net.hosts[0].gossip().stats().packets_out - before;
    assert!(sent < 200, "two thousand packets were answered by {sent}");
    assert_eq!(net.hosts[0].gossip().stats().refutations, 1);
    assert!(whole(&net));
}

/// What is to be remembered is written down now and then, not at each change, and is enough to come back with.
#[test]
fn what_is_remembered_is_bounded_and_rare() {
    let mut machine = Gossip::start(config(0), Memory::default(), Now::at(Instant::ZERO)).unwrap();
    let mut written: Vec<(u64, Memory)> = Vec::new();
    for n in 0..300_u64 {
        let now = Now::at(Instant::from_millis(n * 100));
        let from = Sender {
            id: id(1),
            name: "n1".to_owned(),
            server: false,
            address: address(1),
        };
        let newcomer = Statement::Alive(Profile {
            id: NodeId(100 + u128::from(n)),
            incarnation: Incarnation(1),
            name: format!("x{n}"),
            address: address(2),
            tags: Tags::new(),
        });
        let packet = packet(&Part::Statement(newcomer));
        machine.handle(now, Input::Packet { from, packet }).unwrap();
        machine.handle_timeout(now);
        while let Some(effect) = machine.poll_effect() {
            if let Effect::Remember(memory) = effect {
                written.push((n * 100, memory));
            }
        }
    }
    // At the start, and every ten seconds.
    assert!((3..=4).contains(&written.len()), "{}", written.len());
    for pair in written.windows(2).skip(1) {
        assert!(pair[1].0 - pair[0].0 >= 10_000);
    }
    let (_, last) = written.last().unwrap();
    assert_eq!(last.peers.len(), lictor_gossip::MAX_REMEMBERED);
    assert!(
        last.incarnation > machine.me().incarnation,
        "a restart is above all that was used"
    );
    assert!(!last.left);
}

/// Also incarnations that are used up one after another are always below what is written down.
#[test]
fn no_incarnation_is_used_before_a_higher_one_is_remembered() {
    let mut machine = Gossip::start(config(0), Memory::default(), Now::at(Instant::ZERO)).unwrap();
    let mut remembered = Incarnation(0);
    for n in 0..1000_u64 {
        let tags: Tags = [("n".to_owned(), n.to_string())].into();
        machine
            .handle(Now::at(Instant::ZERO), Input::SetTags(tags))
            .unwrap();
        while let Some(effect) = machine.poll_effect() {
            if let Effect::Remember(memory) = effect {
                remembered = memory.incarnation;
            }
        }
        assert!(machine.me().incarnation <= remembered, "{remembered}");
    }
    assert_eq!(machine.me().incarnation, Incarnation(1001));
}

/// A driver that takes nothing away is refused at some time, and the member that has left says nothing.
#[test]
fn who_has_left_is_silent() {
    let mut net = Net::pool(3, 2);
    net.input(2, Input::Leave);
    net.until(10, "the leave is over", |net| net.hosts[2].left);
    let sent = net.hosts[2].gossip().stats().packets_out;
    net.run(SECOND * 30);
    let addresses = vec![address(0)];
    net.input(
        2,
        Input::Join {
            token: Token(7),
            addresses,
        },
    );
    assert!(matches!(net.hosts[2].answers[&Token(7)], Answer::Failed(_)));
    let name = "n0".to_owned();
    net.input(
        2,
        Input::ForceLeave {
            token: Token(8),
            name,
            prune: false,
        },
    );
    assert!(matches!(net.hosts[2].answers[&Token(8)], Answer::Failed(_)));
    assert_eq!(net.hosts[2].gossip().stats().packets_out, sent);
    assert!(net.hosts[2].gossip().poll_timeout().is_none());
}
