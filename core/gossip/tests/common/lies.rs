//! Packets that nobody's machine has made: what members say of each other, whether it is true or not.

use bytes::Bytes;
use lictor_gossip::wire::{PacketBuilder, Part, PoolTag, Profile, Statement};
use lictor_gossip::{Incarnation, Refusal, Tags};

use super::{Net, address, id};

pub fn packet(parts: &[Part]) -> Bytes {
    packet_of("dc1", parts)
}

pub fn packet_of(pool: &str, parts: &[Part]) -> Bytes {
    let mut packet = PacketBuilder::packet(PoolTag::new(pool), 1150);
    for part in parts {
        assert!(packet.push_part(part));
    }
    packet.finish()
}

pub fn alive(n: usize, incarnation: u64) -> Part {
    Part::Statement(Statement::Alive(profile(n, incarnation)))
}

pub fn profile(n: usize, incarnation: u64) -> Profile {
    Profile {
        id: id(n),
        incarnation: Incarnation(incarnation),
        name: format!("n{n}"),
        address: address(n),
        tags: Tags::new(),
    }
}

pub fn suspect(n: usize, incarnation: u64, accuser: usize) -> Part {
    Part::Statement(Statement::Suspect {
        id: id(n),
        incarnation: Incarnation(incarnation),
        from: id(accuser),
    })
}

pub fn dead(n: usize, incarnation: u64, accuser: usize) -> Part {
    Part::Statement(Statement::Dead {
        id: id(n),
        incarnation: Incarnation(incarnation),
        from: id(accuser),
    })
}

/// Has member `from` say something to member `to`.
pub fn say(net: &mut Net, from: usize, to: usize, parts: &[Part]) {
    let sender = net.sender(from);
    net.forge(sender, to, packet(parts));
}

pub fn incarnation(net: &Net, at: usize, n: usize) -> u64 {
    net.hosts[at]
        .gossip()
        .member(id(n))
        .expect("it is known")
        .incarnation
        .0
}

pub fn refused(net: &Net, at: usize, reason: Refusal) -> u64 {
    net.hosts[at]
        .gossip()
        .stats()
        .refused
        .get(&reason)
        .copied()
        .unwrap_or(0)
}
