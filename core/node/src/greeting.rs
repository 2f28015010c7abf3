//! Servers greet each other, and remember who was there: whom gossip tells of or, without gossip, whom they were told of, and whom they
//! hear of there.

use core::time::Duration;
use std::collections::BTreeSet;
use std::net::SocketAddr;

use lictor_machine::{Instant, NodeId};

use crate::ClusterId;
use crate::founding::{Errand, HELLO_TIMEOUT, Then};
use crate::io::{Call, Effect, Event, HELLO_PEERS_MAX, Hello, Target};
use crate::node::Node;
use crate::store::PeerAddress;

/// The most servers that a node remembers.
const PEERS_MAX: usize = 256;

/// The longest name that a server may give itself, in bytes.
const NAME_MAX: usize = 255;

/// The most addresses that a node greets.
const CONTACTS_MAX: usize = 256;

/// What another server said of itself.
#[derive(Debug)]
pub(crate) struct Acquaintance {
    pub(crate) expect: u32,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) heard: Instant,
}

impl Node {
    /// At start: tells the driver where other servers were last reached.
    pub(crate) fn introduce_peers(&mut self) {
        for peer in self.society.notes.peers.clone() {
            self.emit(Effect::Address(peer));
        }
    }

    pub(crate) fn set_contacts(&mut self, contacts: Vec<SocketAddr>) {
        let contacts: BTreeSet<SocketAddr> = contacts.into_iter().take(CONTACTS_MAX).collect();
        if contacts != self.society.contacts {
            self.society.contacts = contacts;
            self.society.hello_at = self.now();
        }
    }

    /// Greets every server that is known, by id or by address, and sees whether a cluster can be founded.
    pub(crate) fn greet(&mut self) {
        let settled = self.society.notes.cluster.is_some() && self.raft.leader().is_some();
        let interval = if settled {
            self.config.hello_interval_settled
        } else {
            self.config.hello_interval
        };
        // A little jitter keeps servers that were started together from calling each other in step.
        let jitter = self.society.rng.between(Duration::ZERO, interval / 4);
        self.society.hello_at = self.now() + interval + jitter;

        let peers: Vec<PeerAddress> = self.society.notes.peers.clone();
        let at_known: BTreeSet<SocketAddr> = peers.iter().map(|peer| peer.address).collect();
        let strangers = self
            .society
            .contacts
            .iter()
            .filter(|at| !at_known.contains(at) && !self.society.own.contains(at));
        let mut targets: Vec<Target> = strangers
            .copied()
            .filter(|at| *at != self.config.address)
            .map(Target::Address)
            .collect();
        targets.extend(peers.iter().map(|peer| Target::Node(peer.id)));
        for target in targets {
            let waiting = self
                .society
                .errands
                .values()
                .any(|errand| matches!(errand, Errand::Greet(to) if *to == target));
            if !waiting {
                let hello = self.hello();
                self.call(target, Call::Hello(hello), Errand::Greet(target));
            }
        }
        self.give_up_on_the_dead();
        self.try_founding();
        self.ask_voters();
        self.say_what_is_awaited();
    }

    pub(crate) fn hello(&self) -> Hello {
        let notes = &self.society.notes;
        Hello {
            me: PeerAddress {
                id: self.config.id,
                name: self.config.name.clone(),
                address: self.config.address,
            },
            expect: self.config.expect,
            cluster: notes.cluster,
            given_up: self.society.given_up,
            peers: notes.peers.iter().take(HELLO_PEERS_MAX).cloned().collect(),
        }
    }

    /// Another server has said who it is.
    pub(crate) fn hear(&mut self, hello: &Hello) {
        let who = hello.me.id;
        if hello.me.name.len() > NAME_MAX {
            return;
        }
        self.make_room_for(who);
        let acquaintance = Acquaintance {
            expect: hello.expect,
            cluster: hello.cluster,
            heard: self.now(),
        };
        let new = self.society.known.insert(who, acquaintance).is_none();
        let mut moved = self.learn_address(&hello.me);
        // Gossip knows better who is there: by hearsay servers that are gone would come back for ever, first here and then there.
        let hearsay = !self.autopilot.hears_gossip();
        for peer in hello.peers.iter().take(HELLO_PEERS_MAX).filter(|_| hearsay) {
            // It never overrides what a server said of itself.
            if peer.id != self.config.id && self.society.peer(peer.id).is_none() {
                moved |= self.learn_address(peer);
            }
        }
        if moved {
            self.save_notes(Then::Rest);
        }
        if new {
            self.event(Event::PeerFound(hello.me.clone()));
        }
        self.heed_founder(hello);
        self.try_founding();
    }

    /// Forgets whom it has not heard from for the longest time, if it knows too many to take up another.
    fn make_room_for(&mut self, who: NodeId) {
        let known = &mut self.society.known;
        if known.len() < PEERS_MAX || known.contains_key(&who) {
            return;
        }
        let stalest = known
            .iter()
            .min_by_key(|(_, other)| other.heard)
            .map(|(id, _)| *id);
        stalest.and_then(|id| known.remove(&id));
    }

    pub(crate) fn learn_address(&mut self, peer: &PeerAddress) -> bool {
        if peer.name.len() > NAME_MAX {
            return false;
        }
        let peers = &mut self.society.notes.peers;
        match peers.iter().position(|known| known.id == peer.id) {
            Some(at) if peers[at] == *peer => return false,
            Some(at) => peers[at] = peer.clone(),
            None if peers.len() < PEERS_MAX => peers.push(peer.clone()),
            None => return false,
        }
        self.emit(Effect::Address(peer.clone()));
        true
    }

    /// Who was heard lately.
    pub(crate) fn lively(&self) -> impl Iterator<Item = (NodeId, &Acquaintance)> {
        let (now, silence) = (self.now(), self.silence());
        let lively = move |other: &Acquaintance| now.since(other.heard) <= silence;
        let known = self.society.known.iter();
        known.filter_map(move |(id, other)| lively(other).then_some((*id, other)))
    }

    /// Who was not heard from for so long is not there.
    pub(crate) fn silence(&self) -> Duration {
        self.config.hello_interval * 8 + HELLO_TIMEOUT
    }
}
