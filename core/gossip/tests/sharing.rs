//! User events, between members in a network of virtual time.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use common::{Net, id};
use lictor_gossip::wire::{PacketBuilder, Part, PoolTag};
use lictor_gossip::{Answer, Input, LamportTime, MAX_USER_EVENT_BYTES, Refusal, UserEvent};
use lictor_machine::Token;

const SECOND: Duration = Duration::from_secs(1);

fn fire(net: &mut Net, at: usize, token: u64, name: &str, payload: impl Into<Bytes>) {
    net.input(
        at,
        Input::UserEvent {
            token: Token(token),
            name: name.to_owned(),
            payload: payload.into(),
            coalesce: false,
        },
    );
}

/// All of them, once each, with times that never go back.
fn assert_in_order(net: &Net, expected: usize) {
    for host in &net.hosts {
        let events = &host.user_events;
        let payloads: BTreeSet<&Bytes> = events.iter().map(|event| &event.payload).collect();
        assert_eq!(
            (events.len(), payloads.len()),
            (expected, expected),
            "{}",
            host.config.name
        );
        assert!(
            events.is_sorted_by_key(|event| event.time),
            "{}",
            host.config.name
        );
        assert_eq!(host.gossip().stats().user_events_late, 0);
    }
    let first: Vec<&UserEvent> = net.hosts[0].user_events.iter().collect();
    let first: BTreeSet<&Bytes> = first.iter().map(|event| &event.payload).collect();
    for host in &net.hosts {
        assert!(
            host.user_events
                .iter()
                .all(|event| first.contains(&event.payload))
        );
    }
}

fn everybody_has(net: &Net, count: usize) -> bool {
    net.hosts.iter().all(|host| host.user_events.len() >= count)
}

#[test]
fn an_event_reaches_everybody_once_and_its_speaker_too() {
    let mut net = Net::pool(10, 1);
    fire(&mut net, 3, 1, "deploy", "v2");
    assert_eq!(net.hosts[3].answers[&Token(1)], Answer::Done);
    let took = net.until(5, "everybody has heard", |net| everybody_has(net, 1));
    assert!(took <= SECOND, "{took:?}");
    net.run(SECOND * 120);
    assert_in_order(&net, 1);
    let event = &net.hosts[7].user_events[0];
    assert_eq!((event.origin, event.name.as_str()), (id(3), "deploy"));
    for host in &net.hosts {
        let stats = host.gossip().stats();
        assert_eq!(stats.event_pulls, 0, "gossip was enough");
        assert_eq!(stats.payload_queued, 0);
    }
}

#[test]
fn a_storm_of_one_member_reaches_everybody_in_order_though_packets_get_lost() {
    let mut net = Net::pool(10, 2);
    net.loss = 5;
    for n in 0..1000 {
        fire(&mut net, 0, n, "storm", format!("event {n}"));
        assert_eq!(net.hosts[0].answers[&Token(n)], Answer::Done);
    }
    let took = net.until(60, "everybody has all", |net| everybody_has(net, 1000));
    assert!(took < SECOND * 10, "{took:?}");
    net.run(SECOND * 60);
    assert_in_order(&net, 1000);
    assert!(
        net.hosts[9]
            .user_events
            .iter()
            .map(|event| event.time.0)
            .eq(1..=1000)
    );
}

#[test]
fn a_storm_of_all_members_at_once_reaches_everybody_in_order_though_packets_get_lost() {
    let mut net = Net::pool(10, 3);
    net.loss = 5;
    for n in 0..100 {
        for at in 0..10 {
            fire(&mut net, at, n, "storm", format!("{n} of {at}"));
        }
    }
    let took = net.until(60, "everybody has all", |net| everybody_has(net, 1000));
    assert!(took < SECOND * 10, "{took:?}");
    net.run(SECOND * 60);
    assert_in_order(&net, 1000);
}

/// Members go on speaking while they hear.
#[test]
fn a_long_storm_stays_in_order() {
    let mut net = Net::pool(10, 4);
    net.loss = 5;
    for n in 0..100 {
        for at in 0..10 {
            fire(&mut net, at, n, "storm", format!("{n} of {at}"));
        }
        net.run(Duration::from_millis(50));
    }
    net.until(60, "everybody has all", |net| everybody_has(net, 1000));
    net.run(SECOND * 60);
    assert_in_order(&net, 1000);
}

/// G-05: what was said once is not said for ever.
#[test]
fn g05_each_event_is_transmitted_a_bounded_number_of_times() {
    let mut net = Net::pool(10, 5);
    // Two at the same Lamport time, which is where others went round in circles.
    fire(&mut net, 0, 1, "a", "of 0");
    fire(&mut net, 1, 1, "a", "of 1");
    net.until(10, "everybody has both", |net| everybody_has(net, 2));
    net.run(SECOND * 60);
    for host in &net.hosts {
        let stats = host.gossip().stats();
        assert_eq!(stats.payload_queued, 0);
        assert!((1..=12).contains(&stats.payload_transmissions_max), "{stats:?}");
    }
    assert_in_order(&net, 2);
    let before: u64 = net
        .hosts
        .iter()
        .map(|host| host.gossip().stats().user_events_known)
        .sum();
    net.run(SECOND * 300);
    let after: u64 = net
        .hosts
        .iter()
        .map(|host| host.gossip().stats().user_events_known)
        .sum();
    assert_eq!(before, after, "nobody says it again");
}

/// Payload takes what room membership leaves, and never the other way round.
#[test]
fn a_storm_does_not_delay_the_news_of_a_death() {
    let mut net = Net::pool(10, 6);
    net.run(SECOND * 5);
    for n in 0..500 {
        for at in 0..2 {
            fire(&mut net, at, n, "storm", vec![b'x'; 400]);
        }
    }
    net.kill(9);
    net.until(8, "its death is known", |net| {
        common::all_see(net, 9, lictor_gossip::MemberState::Failed)
    });
}

#[test]
fn both_halves_of_a_pool_get_what_the_other_half_said_when_they_meet_again() {
    let mut net = Net::pool(8, 7);
    net.split(&[0, 1, 2, 3], &[4, 5, 6, 7]);
    net.run(SECOND * 30);
    for n in 0..20 {
        fire(&mut net, 0, n, "left", format!("left {n}"));
        fire(&mut net, 7, n, "right", format!("right {n}"));
        net.run(SECOND);
    }
    net.cut.clear();
    net.until(120, "everybody has all", |net| everybody_has(net, 40));
    net.run(SECOND * 60);
    for host in &net.hosts {
        let payloads: BTreeSet<&Bytes> = host.user_events.iter().map(|event| &event.payload).collect();
        assert_eq!((host.user_events.len(), payloads.len()), (40, 40));
    }
}

#[test]
fn who_joins_late_hears_what_is_said_from_then_on() {
    let mut net = Net::pool(5, 8);
    for n in 0..30 {
        fire(&mut net, 0, n, "old", format!("{n}"));
    }
    net.until(20, "they have all", |net| everybody_has(net, 30));
    let late = net.add(common::config(5));
    net.join(late, 2);
    net.until(10, "it is in", common::whole);
    net.run(SECOND * 60);
    assert_eq!(net.hosts[late].user_events, []);
    fire(&mut net, 3, 99, "new", "now");
    net.until(10, "it hears", |net| !net.hosts[5].user_events.is_empty());
    assert_eq!(net.hosts[late].user_events[0].time, LamportTime(31));
    // And what it says itself comes after all of that.
    fire(&mut net, late, 1, "own", "me");
    net.until(10, "all hear it", |net| {
        net.hosts.iter().all(|host| {
            host.user_events
                .last()
                .is_some_and(|event| event.time == LamportTime(32))
        })
    });
}

#[test]
fn who_was_away_for_a_while_is_told_what_it_missed() {
    let mut net = Net::pool(5, 9);
    fire(&mut net, 0, 0, "before", "0");
    net.run(SECOND * 30);
    assert_eq!(net.hosts[4].memory.clocks[1], 1);
    net.kill(4);
    for n in 1..=20 {
        fire(&mut net, 1, n, "meanwhile", format!("{n}"));
    }
    net.run(SECOND * 20);
    net.start(4);
    net.until(60, "it has all", |net| net.hosts[4].user_events.len() == 21);
    net.run(SECOND * 30);
    assert!(
        net.hosts[4]
            .user_events
            .iter()
            .map(|event| event.time.0)
            .eq(1..=21)
    );
}

#[test]
fn an_event_that_cannot_be_said_is_refused_with_its_reason() {
    let mut net = Net::pool(2, 10);
    let cases: [(&str, usize, &str); 2] = [
        ("", 1, "must have a name"),
        ("big", MAX_USER_EVENT_BYTES, "512 bytes"),
    ];
    for (name, bytes, why) in cases {
        fire(&mut net, 0, 1, name, vec![0; bytes]);
        let Answer::Failed(said) = &net.hosts[0].answers[&Token(1)] else {
            panic!("{name}")
        };
        assert!(said.contains(why), "{said}");
    }
    // Nobody takes more than it can pass on.
    let mut answers = Vec::new();
    for n in 0..4000 {
        fire(&mut net, 0, n, "storm", vec![0; 500]);
        answers.push(net.hosts[0].answers[&Token(n)].clone());
    }
    let done = answers.iter().filter(|answer| **answer == Answer::Done).count();
    assert!((1000..3000).contains(&done), "{done}");
    let Some(Answer::Failed(why)) = answers.last() else {
        panic!("it takes everything")
    };
    assert!(why.contains("wait a while"), "{why}");
    let mut net = Net::pool(2, 10);
    net.input(0, Input::Leave);
    net.until(20, "it has left", |net| net.hosts[0].left);
    fire(&mut net, 0, 1, "late", "");
    assert!(matches!(&net.hosts[0].answers[&Token(1)], Answer::Failed(why) if why.contains("left")));
}

/// From a third party; nobody's clock is moved by it, and nothing grows.
#[test]
fn an_event_from_the_far_future_is_refused() {
    let mut net = Net::pool(3, 11);
    let event = |time| UserEvent {
        time: LamportTime(time),
        origin: id(2),
        name: "poison".to_owned(),
        payload: Bytes::new(),
        coalesce: false,
    };
    for time in [1 << 33, u64::MAX] {
        let mut packet = PacketBuilder::packet(PoolTag::new("dc1"), 1150);
        assert!(packet.push_part(&Part::UserEvent(event(time))));
        let sender = net.sender(1);
        net.forge(sender, 0, packet.finish());
    }
    assert_eq!(net.hosts[0].gossip().stats().refused[&Refusal::Jump], 2);
    assert_eq!(net.hosts[0].gossip().clock_times()[1], 0);
    assert_eq!(net.hosts[0].user_events, []);
}

#[test]
fn what_was_handed_out_is_not_handed_out_again_after_a_crash() {
    let mut net = Net::pool(4, 21);
    fire(&mut net, 0, 1, "deploy", "v1");
    // Long enough that nothing else gives reason to remember anything.
    net.run(SECOND * 120);
    fire(&mut net, 0, 2, "deploy", "v2");
    net.until(5, "everybody has heard", |net| everybody_has(net, 2));
    for at in [0, 3] {
        net.kill(at);
    }
    net.run(SECOND * 60);
    fire(&mut net, 1, 3, "deploy", "v3");
    net.run(SECOND * 10);
    for at in [0, 3] {
        net.start(at);
    }
    net.until(60, "they are back, and have what they missed", |net| {
        everybody_has(net, 3)
    });
    net.run(SECOND * 120);
    assert_in_order(&net, 3);
}

#[test]
fn what_waited_in_a_crash_is_handed_out_later() {
    let mut net = Net::pool(3, 22);
    net.run(SECOND * 120);
    fire(&mut net, 0, 1, "a", "1");
    net.until(5, "everybody has heard", |net| everybody_has(net, 1));
    // In a crowd events wait for those that may precede them.
    fire(&mut net, 0, 2, "b", "2");
    net.until(5, "it has come, and waits", |net| {
        net.hosts[2].gossip().clock_times()[1] == 2
    });
    assert_eq!(net.hosts[2].user_events.len(), 1);
    net.kill(2);
    net.run(SECOND * 10);
    net.start(2);
    net.until(60, "it gets it in its next life", |net| everybody_has(net, 2));
    net.run(SECOND * 120);
    assert_in_order(&net, 2);
}
