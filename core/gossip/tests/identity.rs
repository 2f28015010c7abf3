//! Who is who: ids, names, addresses and tags, each of which somebody else may claim, or the same member have anew.

mod common;

use std::time::Duration;

use common::lies::{profile, say};
use common::{Net, address, all_see, config, id, is_failed, is_joined, is_left, whole};
use lictor_gossip::wire::{Part, Statement};
use lictor_gossip::{Event, Input, MemberEvent, MemberState, Tags};
use lictor_machine::Token;

const SECOND: Duration = Duration::from_secs(1);

/// G-06: two members behind one address. Everything goes by id, so one's failure is not the other's.
#[test]
fn g06_members_that_share_an_address_are_not_taken_for_each_other() {
    let mut net = Net::pool(3, 8);
    let mut twin = profile(7, 1);
    twin.address = address(2);
    say(&mut net, 1, 0, &[Part::Statement(Statement::Alive(twin))]);
    assert_eq!(net.hosts[0].sees(8), Some(MemberState::Alive));
    net.until(40, "who is not there fails", |net| {
        net.hosts[0].sees(8) == Some(MemberState::Failed)
    });
    assert_eq!(net.hosts[0].sees(3), Some(MemberState::Alive));
    assert_eq!(net.hosts[2].gossip().stats().refutations, 0);
}

/// G-10: a member that starts again with nothing is one that is well with what it says now, not with what it said before.
#[test]
fn g10_a_member_that_lost_its_memory_replaces_what_it_was() {
    let mut net = Net::pool_with(4, 10, |config| {
        config.tags.insert("generation".to_owned(), "1".to_owned());
    });
    net.run(SECOND * 15);
    net.kill(3);
    net.hosts[3].memory = lictor_gossip::Memory::default();
    net.hosts[3].config.tags = [("other".to_owned(), "2".to_owned())].into();
    // Before the others notice that it was gone.
    net.start(3);
    net.join(3, 0);
    net.until(10, "all know what it says now", |net| {
        let tags_at = |at: usize| net.hosts[at].gossip().member(id(3)).unwrap().tags.clone();
        (0..4).all(|at| tags_at(at) == net.hosts[3].config.tags)
    });
    assert!(whole(&net));
}

/// G-16: a change of the tags alone is announced.
#[test]
fn g16_a_change_of_tags_reaches_also_those_who_missed_it() {
    let mut net = Net::pool(4, 11);
    net.split(&[3], &[0, 1, 2]);
    let tags: Tags = [("version".to_owned(), "2".to_owned())].into();
    net.input(0, Input::SetTags(tags.clone()));
    net.run(SECOND);
    net.cut.clear();
    net.until(60, "it reaches the last", |net| {
        net.hosts[3].gossip().member(id(0)).unwrap().tags == tags && whole(net)
    });
}

/// The name of a member that is well is its own; of one that is gone it is free.
#[test]
fn a_name_belongs_to_who_was_there_first_while_it_is_there() {
    let mut net = Net::pool(4, 16);
    let mut twin = config(4);
    twin.name = "n2".to_owned();
    let twin = net.add(twin);
    net.join(twin, 0);
    net.until(30, "the join is answered", |net| {
        !net.hosts[twin].answers.is_empty()
    });
    let lictor_gossip::Answer::Joined { joined: 0, failed } = &net.hosts[twin].answers[&Token(900)] else {
        panic!("{:?}", net.hosts[twin].answers)
    };
    assert!(failed[0].1.contains("belongs to the member"), "{failed:?}");
    net.run(SECOND * 20);
    for at in 0..4 {
        assert_eq!(
            net.hosts[at].gossip().member_by_name("n2").unwrap().id,
            id(2),
            "{}",
            net.views()
        );
        assert_eq!(net.hosts[at].sees(5), None);
        assert_eq!(net.hosts[at].saw(is_left) + net.hosts[at].saw(is_failed), 0);
    }
    let conflict = |note: &Event| matches!(note, Event::NameConflict { holder, other, .. } if holder.id == id(2) && *other == id(4));
    assert!(net.hosts[0].notes.iter().any(conflict));
    assert!(!net.hosts[2].left, "the original is never shut down");
    // Once the first is gone the name is free.
    net.kill(2);
    net.until(30, "it is gone", |net| {
        all_see_among(net, &[0, 1, 3], 2, MemberState::Failed)
    });
    net.until(90, "the other has the name", |net| {
        [0, 1, 3].iter().all(|at| {
            let holder = net.hosts[*at].gossip().member_by_name("n2");
            holder.is_some_and(|holder| holder.id == id(4) && holder.state == MemberState::Alive)
        })
    });
    for at in [0, 1, 3] {
        assert_eq!(net.hosts[at].sees(3), None, "the old holder is forgotten");
        assert_eq!(
            net.hosts[at].saw(|event| matches!(event, MemberEvent::Reaped(old) if old.id == id(2))),
            1
        );
    }
}

/// One that fails may only have been out of reach: who claims its name meanwhile has to wait, and in vain if it comes back.
#[test]
fn a_failed_member_keeps_its_name_for_a_while() {
    let mut net = Net::pool(4, 18);
    net.split(&[2], &[0, 1, 3]);
    net.until(30, "it has failed", |net| {
        all_see_among(net, &[0, 1, 3], 2, MemberState::Failed)
    });
    let mut twin = config(4);
    twin.name = "n2".to_owned();
    let waits = twin.gossip_to_the_dead;
    let twin = net.add(twin);
    net.split(&[2], &[twin]);
    net.join(twin, 0);
    net.run(waits / 2);
    assert!(
        net.hosts[..4].iter().all(|host| host.sees(5).is_none()),
        "{}",
        net.views()
    );
    net.cut.clear();
    net.until(60, "the first is back", |net| {
        (0..4).all(|at| net.hosts[at].sees(3) == Some(MemberState::Alive))
    });
    net.run(waits * 2);
    let reaped = |event: &MemberEvent| matches!(event, MemberEvent::Reaped(_));
    for host in &net.hosts[..4] {
        assert_eq!(host.gossip().member_by_name("n2").unwrap().id, id(2));
        assert_eq!(host.saw(reaped), 0);
    }
}

/// A machine that lost its disk is one that nobody else can be on.
#[test]
fn who_comes_from_the_same_machine_has_the_name_of_who_failed_there_at_once() {
    let mut net = Net::pool(3, 19);
    net.kill(2);
    net.until(30, "it has failed", |net| {
        all_see_among(net, &[0, 1], 2, MemberState::Failed)
    });
    let mut again = config(3);
    again.name = "n2".to_owned();
    again.address = (address(2).ip(), 9301).into();
    let waits = again.gossip_to_the_dead;
    let again = net.add(again);
    net.join(again, 0);
    net.run(waits / 3);
    for at in 0..2 {
        let holder = net.hosts[at].gossip().member_by_name("n2").unwrap();
        assert_eq!((holder.id, holder.state), (id(3), MemberState::Alive));
    }
}

fn all_see_among(net: &Net, observers: &[usize], subject: usize, state: MemberState) -> bool {
    observers
        .iter()
        .all(|at| net.hosts[*at].sees(subject as u128 + 1) == Some(state))
}

/// A data directory was copied: two agents with one id. The first keeps it.
#[test]
fn an_id_belongs_to_who_was_there_first_while_it_answers() {
    let mut net = Net::pool(4, 17);
    net.run(SECOND * 15);
    let mut double = net.hosts[2].config.clone();
    double.address = address(50);
    let at = net.add(double);
    net.kill(at);
    net.hosts[at].memory = net.hosts[2].memory.clone();
    net.start(at);
    net.join(at, 0);
    net.run(SECOND * 30);
    for observer in [0, 1, 3] {
        let member = net.hosts[observer].gossip().member(id(2)).unwrap();
        assert_eq!(
            (member.address, member.state),
            (address(2), MemberState::Alive),
            "{}",
            net.views()
        );
    }
    let conflict = |note: &Event| matches!(note, Event::IdConflict { other_address, .. } if *other_address == address(50));
    assert!(net.hosts.iter().any(|host| host.notes.iter().any(conflict)));
    assert!(net.hosts[2].machine.is_some() && !net.hosts[2].left);
}

/// A restart at another address is no conflict, whether or not its end was noticed before, with memory or without.
#[test]
fn a_member_may_move() {
    for (noticed, memory) in [(false, true), (true, true), (false, false), (true, false)] {
        let mut net = Net::pool(4, 18);
        net.run(SECOND * 15);
        net.kill(2);
        if noticed {
            net.until(15, "the crash is known", |net| {
                all_see(net, 2, MemberState::Failed)
            });
        }
        net.move_to(2, address(60));
        if !memory {
            net.hosts[2].memory = lictor_gossip::Memory::default();
        }
        net.start(2);
        net.join(2, 1);
        net.until(30, "all know the new address", |net| {
            (0..4).all(|at| {
                net.hosts[at]
                    .gossip()
                    .member(id(2))
                    .is_some_and(|member| member.address == address(60))
            }) && whole(net)
        });
        let conflict = |note: &Event| matches!(note, Event::IdConflict { .. });
        assert!(
            !net.hosts.iter().any(|host| host.notes.iter().any(conflict)),
            "{noticed} {memory}"
        );
    }
}

/// All are stopped, all get other addresses, and all but one know where to find one.
#[test]
fn a_pool_survives_that_all_addresses_change() {
    let mut net = Net::pool(5, 19);
    net.run(SECOND * 15);
    for at in 0..5 {
        net.kill(at);
        net.move_to(at, address(100 + at));
    }
    for at in 0..5 {
        net.start(at);
    }
    for at in 1..5 {
        net.join(at, 0);
    }
    let time = net.until(15, "the pool is whole", whole);
    assert!(time < SECOND * 5, "{time:?}");
    assert_eq!(net.hosts[0].saw(is_joined), 8);
}
