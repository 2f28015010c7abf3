//! Probes, and how members that are slow, frozen or hard to reach are told from dead ones.

mod common;

use std::time::Duration;

use common::{Net, id, is_failed, whole};
use lictor_gossip::wire::{PacketBuilder, Part, PoolTag};
use lictor_gossip::{Event, MemberState};
use lictor_machine::Machine;

const SECOND: Duration = Duration::from_secs(1);

/// G-14: datagrams are lost on the way to a member, streams are not. It stays well, and somebody says what is wrong.
#[test]
fn g14_who_answers_on_streams_only_is_degraded_and_not_dead() {
    let mut net = Net::pool(4, 1);
    for other in 0..3 {
        net.no_datagrams.insert((other, 3));
        net.no_datagrams.insert((3, other));
    }
    net.run(SECOND * 120);
    assert!(
        net.hosts.iter().all(|host| host.saw(is_failed) == 0),
        "{}",
        net.views()
    );
    let degraded = Event::Degraded {
        id: id(3),
        name: "n3".to_owned(),
    };
    let said = net.hosts[0]
        .notes
        .iter()
        .filter(|note| **note == degraded)
        .count();
    assert!((1..=3).contains(&said), "once a minute: {said}");
    assert!(net.hosts[0].gossip().stats().degraded > 10);
}

/// G-14: one direction between two members is lost. Others see for them.
#[test]
fn g14_a_one_way_loss_between_two_does_not_make_them_flap() {
    let mut net = Net::pool(5, 2);
    net.no_datagrams.insert((0, 1));
    net.run(SECOND * 300);
    assert!(
        net.hosts.iter().all(|host| host.saw(is_failed) == 0),
        "{}",
        net.views()
    );
    assert!(net.hosts[0].gossip().stats().indirect_probes > 0);
}

/// G-15: helpers are never the target nor the prober; two and three members work too.
#[test]
fn g15_small_pools_probe_and_detect() {
    for size in [2, 3, 4] {
        let mut net = Net::pool(size, 3);
        net.run(SECOND * 30);
        for host in &net.hosts {
            let stats = host.gossip().stats();
            assert!(stats.probes >= 60, "{stats:?}");
            assert_eq!((stats.probes_failed, stats.indirect_probes), (0, 0));
        }
        net.kill(0);
        let helpers = size as u64 - 2;
        net.until(15, "it is noticed", |net| {
            net.hosts[1..]
                .iter()
                .all(|host| host.sees(1) == Some(MemberState::Failed))
        });
        for host in &net.hosts[1..] {
            let stats = host.gossip().stats();
            // Each failed probe asked all that there were, and nobody else.
            assert!(
                stats.indirect_probes <= helpers * (stats.probes_failed + 1),
                "{size}: {stats:?}"
            );
        }
    }
}

/// Everybody is probed by everybody, in rounds.
#[test]
fn each_round_probes_each_member_once() {
    let mut net = Net::pool(6, 4);
    net.run(SECOND * 60);
    // A probe every 400 ms, and each of five others answers with its coordinate.
    for host in &net.hosts {
        let gossip = host.gossip();
        for other in 0..6 {
            assert!(gossip.coordinate_of(id(other)).is_some());
        }
        let probes = gossip.stats().probes;
        assert!((140..=160).contains(&probes), "{probes}");
    }
}

/// G-12: one member is slow. It knows, and does not accuse the others.
#[test]
fn g12_a_member_that_loses_half_its_packets_accuses_nobody_to_death() {
    let mut net = Net::pool(10, 5);
    net.run(SECOND * 5);
    for other in 0..9 {
        net.no_datagrams.insert((other, 9));
    }
    net.run(SECOND * 60);
    let health = net.hosts[9].gossip().health();
    assert!(
        health >= 1,
        "it hears nobody and knows that this is its own fault: {health}"
    );
    for host in &net.hosts[..9] {
        let healthy = |event: &lictor_gossip::MemberEvent| is_failed(event) && event.member().id != id(9);
        assert_eq!(host.saw(healthy), 0, "{}", net.views());
    }
    net.no_datagrams.clear();
    net.until(60, "the pool is whole", whole);
    net.until(60, "it is well again", |net| net.hosts[9].gossip().health() == 0);
}

/// G-20: a member is stopped for a while, and goes on with all its deadlines over and its inbox full.
#[test]
fn g20_a_member_that_was_frozen_takes_nobody_for_dead() {
    for timers_first in [false, true] {
        for seconds in [1, 5, 60] {
            let mut net = Net::pool(8, 6 + seconds);
            net.run(SECOND * 10);
            for round in 0..5 {
                net.freeze(7);
                net.run(SECOND * seconds as u32 + Duration::from_millis(73 * round));
                net.thaw(7, timers_first);
                net.until(30, "the pool is whole", whole);
            }
            assert_eq!(net.hosts[7].saw(is_failed), 0, "it was absent, not the others");
            assert!(net.hosts[7].gossip().stats().pauses > 0);
            for host in &net.hosts[..7] {
                let healthy =
                    |event: &lictor_gossip::MemberEvent| is_failed(event) && event.member().id != id(7);
                assert_eq!(host.saw(healthy), 0);
            }
        }
    }
}

/// Short stops, as a busy machine has, are not noticed by anybody.
#[test]
fn a_short_stop_is_no_failure() {
    let mut net = Net::pool(8, 7);
    net.run(SECOND * 10);
    for _ in 0..20 {
        net.freeze(3);
        net.run(Duration::from_millis(1500));
        net.thaw(3, true);
        net.run(SECOND * 2);
    }
    assert!(
        net.hosts.iter().all(|host| host.saw(is_failed) == 0),
        "{}",
        net.views()
    );
}

/// Loss alone does not kill.
#[test]
fn a_tenth_of_all_packets_lost_kills_nobody() {
    let mut net = Net::pool(10, 8);
    net.loss = 10;
    net.run(SECOND * 300);
    assert!(
        net.hosts.iter().all(|host| host.saw(is_failed) == 0),
        "{}",
        net.views()
    );
}

/// Nobody but the target, or who was asked to help, can answer a probe.
#[test]
fn answers_of_others_do_not_count() {
    let mut net = Net::pool(3, 9);
    net.run(SECOND * 5);
    net.kill(2);
    // One member claims for every probe that it was answered.
    let start = net.now;
    while net.hosts[0].sees(3) != Some(MemberState::Failed) {
        net.run(Duration::from_millis(50));
        assert!(net.now.since(start) < SECOND * 60, "the dead one is kept alive");
        for seq in 0..64 {
            let mut packet = PacketBuilder::packet(PoolTag::new("dc1"), 1150);
            let ack = Part::Ack {
                seq,
                incarnation: None,
                coordinate: None,
            };
            assert!(packet.push_part(&ack));
            let sender = net.sender(1);
            net.forge(sender, 0, packet.finish());
        }
    }
}

/// In calm the work does not grow with the pool.
#[test]
fn in_calm_each_member_sends_the_same_whatever_the_size_of_the_pool() {
    let mut rates = Vec::new();
    for size in [5, 40] {
        let mut net = Net::pool(size, 10);
        net.run(SECOND * 120);
        let before: u64 = net
            .hosts
            .iter()
            .map(|host| host.gossip().stats().packets_out)
            .sum();
        let bytes: u64 = net
            .hosts
            .iter()
            .map(|host| host.gossip().stats().call_bytes)
            .sum();
        net.run(SECOND * 60);
        let after: u64 = net
            .hosts
            .iter()
            .map(|host| host.gossip().stats().packets_out)
            .sum();
        let bytes_after: u64 = net
            .hosts
            .iter()
            .map(|host| host.gossip().stats().call_bytes)
            .sum();
        rates.push((after - before) as f64 / (60 * size) as f64);
        assert!(
            (bytes_after - bytes) / (60 * size as u64) < 200,
            "exchanges in calm are small"
        );
        let equal: u64 = net
            .hosts
            .iter()
            .map(|host| host.gossip().stats().syncs_equal)
            .sum();
        assert!(equal > 0, "they find that they agree");
    }
    // A probe and an answer to one, each 2.5 times a second, and next to nothing beside.
    assert!(rates.iter().all(|rate| (4.9..5.1).contains(rate)), "{rates:?}");
}

/// What is wanted when is said with its reason, and servicing it early does nothing.
#[test]
fn an_early_or_second_timeout_does_nothing() {
    let mut net = Net::pool(3, 11);
    net.run(SECOND * 5);
    let now = lictor_machine::Now::at(net.now);
    let machine = net.hosts[0].machine.as_mut().unwrap();
    let due = machine.poll_timeout().unwrap();
    assert!(due.at > net.now);
    machine.handle_timeout(now);
    machine.handle_timeout(now);
    assert!(machine.poll_effect().is_none());
    assert_eq!(machine.poll_timeout(), Some(due));
    assert!(machine.fault().is_none());
}
