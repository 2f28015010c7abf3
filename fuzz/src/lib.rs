//! What the fuzz targets share: machines on disks that never fail, and the cutting of one input into several messages.

#![forbid(unsafe_code)]

use std::net::SocketAddr;

use lictor_catalog::State;
use lictor_gossip::wire::{PacketBuilder, Part, PoolTag, Profile, Statement};
use lictor_gossip::{Gossip, Incarnation, Memory, Sender, Tags};
use lictor_machine::{Index, Instant, Machine, NodeId, Now};
use lictor_node::store::{LogBoot, StateMark};
use lictor_node::{CallId, Config, Effect, Input, Node};
use lictor_raft::{
    Boot, Configuration, Effect as RaftEffect, Entry, Fetched, HardState, Input as RaftInput, LogId, Payload,
    Raft, Term,
};

/// The parts of an input: each begins with its length in two bytes, and the last takes what is left.
pub fn parts(mut data: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk::<2>() {
        let end = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (part, behind) = rest.split_at(end);
        parts.push(part);
        data = behind;
    }
    parts
}

/// Server 1 of a cluster of three.
pub fn raft() -> Raft {
    let members = Configuration::of((1..=3).map(NodeId));
    let first = Entry {
        id: LogId::new(1, 1),
        payload: Payload::Members(members.clone()),
    };
    let boot = Boot {
        boot: 1,
        hard_state: HardState {
            term: Term(1),
            vote: None,
            commit: Index(1),
        },
        term_starts: vec![first.id],
        last_index: Index(1),
        members: vec![(first.id, members)],
        tail: vec![first],
        ..Boot::default()
    };
    Raft::start(
        lictor_raft::Config::lan(NodeId(1), 1),
        &boot,
        Now::at(Instant::ZERO),
    )
    .expect("a good past")
}

/// Carries out everything that the node wants done. `applied` is how far its state machine has come, and must only ever go on.
pub fn carry_out(raft: &mut Raft, now: Now, applied: &mut Index) {
    while let Some(effect) = raft.poll_effect() {
        let input = match effect {
            RaftEffect::Persist(batch) => RaftInput::Persisted { through: batch.id },
            RaftEffect::Apply(entries) => {
                for committed in &entries {
                    assert_eq!(committed.entry.id.index, applied.next(), "applied out of order");
                    *applied = committed.entry.id.index;
                }
                RaftInput::Applied { through: *applied }
            }
            RaftEffect::Restore(meta) => {
                assert!(meta.last.index > *applied, "restored to the past");
                *applied = meta.last.index;
                RaftInput::Applied { through: *applied }
            }
            RaftEffect::Fetch { id, .. } => RaftInput::Fetched {
                id,
                data: Fetched::Gone,
            },
            RaftEffect::Send { message, .. } => {
                assert_eq!(message.check(), Ok(()), "it sends what others refuse");
                continue;
            }
            RaftEffect::Resolve { .. } | RaftEffect::Event(_) => continue,
        };
        let _ = raft.handle(now, input);
    }
}

/// A server that expects three and is in no cluster yet.
pub fn node() -> Node {
    let address = SocketAddr::from(([127, 0, 0, 1], 8300));
    let mut config = Config::new(NodeId(1), "fuzzed", address, 1);
    config.expect = 3;
    let stored = (State::new(), StateMark::default());
    Node::start(config, LogBoot::default(), stored, Now::at(Instant::ZERO)).expect("an empty past")
}

/// Carries out everything that the node wants done, and returns the calls that it made.
pub fn serve(node: &mut Node, now: Now) -> Vec<CallId> {
    let mut calls = Vec::new();
    while let Some(effect) = node.poll_effect() {
        let input = match effect {
            Effect::Persist(batch) => Input::Persisted { through: batch.id },
            Effect::SaveNotes(_) => Input::NotesSaved,
            Effect::Fetch { id, .. } => Input::Fetched {
                id,
                data: Fetched::Gone,
            },
            Effect::Store(batch) => Input::StateStored {
                applied: batch.applied.index,
            },
            Effect::StoreWhole { applied, .. } => Input::StateStored {
                applied: applied.index,
            },
            Effect::ReplaceState(meta) => Input::StateStored {
                applied: meta.last.index,
            },
            Effect::Call { id, .. } => {
                calls.push(id);
                continue;
            }
            Effect::Send { .. }
            | Effect::Publish(_)
            | Effect::Standing(_)
            | Effect::Reply { .. }
            | Effect::Answer { .. }
            | Effect::Address(_)
            | Effect::Event(_)
            | Effect::Expel(_)
            | Effect::Removed
            | Effect::Stopped => continue,
        };
        let _ = node.handle(now, input);
    }
    calls
}

/// Member 1 of a pool of three, and the others; the last sender is a stranger.
pub fn gossip() -> (Gossip, Vec<Sender>) {
    let senders: Vec<Sender> = (1..=4_u8)
        .map(|n| Sender {
            id: NodeId(n.into()),
            name: format!("n{n}"),
            server: n == 2,
            address: SocketAddr::from(([127, 0, 0, n], 8301)),
        })
        .collect();
    let me = &senders[0];
    let config = lictor_gossip::Config::lan(me.id, me.name.clone(), me.address, 1);
    let now = Now::at(Instant::ZERO);
    let mut gossip = Gossip::start(config, Memory::default(), now).expect("good settings");
    for from in &senders[1..3] {
        let alive = Statement::Alive(Profile {
            id: from.id,
            incarnation: Incarnation(1),
            name: from.name.clone(),
            address: from.address,
            tags: Tags::new(),
        });
        let mut packet = PacketBuilder::packet(PoolTag::new("dc1"), 1150);
        assert!(packet.push_part(&Part::Statement(alive)), "it is small");
        let (from, packet) = (from.clone(), packet.finish());
        let _ = gossip.handle(now, lictor_gossip::Input::Packet { from, packet });
    }
    settle(&mut gossip, now);
    (gossip, senders)
}

/// Takes everything that the member wants done, and returns the calls that it made.
pub fn settle(gossip: &mut Gossip, now: Now) -> Vec<lictor_gossip::CallId> {
    use lictor_gossip::Effect;
    let mut calls = Vec::new();
    while let Some(effect) = gossip.poll_effect() {
        match effect {
            Effect::Packet { packet, .. } => assert!(packet.len() <= 1150, "a packet is too long"),
            Effect::Call { id, .. } => calls.push(id),
            Effect::Query(query) => {
                let (query, payload) = (query.id, query.payload);
                let _ = gossip.handle(now, lictor_gossip::Input::Respond { query, payload });
            }
            Effect::Reply { .. }
            | Effect::Address { .. }
            | Effect::Forget(_)
            | Effect::Member(_)
            | Effect::UserEvent(_)
            | Effect::QueryResponse { .. }
            | Effect::QueryAck { .. }
            | Effect::Answer { .. }
            | Effect::Remember(_)
            | Effect::Event(_)
            | Effect::Left => {}
        }
    }
    calls
}
