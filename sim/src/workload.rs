//! What clients ask for, and what their requests do to the key-value store: the small vocabulary that clients, servers and
//! oracles share.

use core::fmt;
use std::collections::BTreeSet;

use bytes::Bytes;
use lictor_catalog::{Action, Command, Found, Key, KvPair, KvWrite, Query, State};
use lictor_machine::{Index, NodeId};

/// What a key holds: the value's number and the index that wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// Which value; every write of a run has a number of its own.
    pub value: u64,
    /// The entry's modify index.
    pub index: Index,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// By the leader's lease.
    Default,
    /// By a round of the quorum.
    Consistent,
    /// Whatever the server has.
    Stale,
}

/// A change of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets the key.
    Set {
        /// The key's number.
        key: u8,
        /// The value's number.
        value: u64,
    },
    /// Sets the key if what it holds was written at `index`; zero: if it holds nothing.
    Cas {
        /// The key's number.
        key: u8,
        /// The value's number.
        value: u64,
        /// The index that is compared.
        index: Index,
    },
    /// Deletes the key.
    Delete {
        /// The key's number.
        key: u8,
    },
}

/// What a client asks of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Change a key.
    Write(Change),
    /// Read a key.
    Get {
        /// The key's number.
        key: u8,
        /// How fresh.
        freshness: Freshness,
    },
    /// Hand leadership to another server.
    Transfer,
    /// Change who is a member.
    Reconfigure(Target),
}

/// The members that a change is to bring about: sets of servers, the lowest bit standing for the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Who is to vote.
    pub voters: u16,
    /// Who is to receive the log without voting. Whoever is to vote is left out.
    pub learners: u16,
}

impl Target {
    /// Everybody votes.
    pub const fn everybody(servers: usize) -> Self {
        Self {
            voters: ((1_u32 << servers) - 1) as u16,
            learners: 0,
        }
    }

    /// The voters and the learners, of these servers.
    pub fn of(self, servers: &[NodeId]) -> (BTreeSet<NodeId>, BTreeSet<NodeId>) {
        let pick = |bits: u16| {
            let numbered = servers.iter().enumerate();
            let picked = numbered.filter(|(at, _)| bits >> at & 1 == 1);
            picked.map(|(_, id)| *id).collect()
        };
        (pick(self.voters), pick(self.learners & !self.voters))
    }
}

/// What a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The change is in the log at `index`; `done`: its condition held.
    Written {
        /// Where.
        index: Index,
        /// Whether something was changed.
        done: bool,
    },
    /// What the key holds in the state after `index`.
    Value {
        /// The state that was read.
        index: Index,
        /// What was found.
        held: Option<Held>,
    },
    /// Leadership was handed over, or not.
    Transferred(bool),
    /// The members are those that were asked for, by the entry at `index`.
    Reconfigured {
        /// Where.
        index: Index,
    },
    /// Nothing was done and nothing will be; try again, perhaps elsewhere.
    Refused,
    /// It may be done already, or later, or never.
    Unknown,
}

impl Change {
    /// The key that it changes.
    pub const fn key(self) -> u8 {
        match self {
            Self::Set { key, .. } | Self::Cas { key, .. } | Self::Delete { key } => key,
        }
    }

    /// The change as the catalog has it.
    pub fn action(self) -> Action {
        let pair = |key, value| KvPair {
            key: key_name(key),
            value: value_bytes(value),
            flags: 0,
        };
        Action::Kv(match self {
            Self::Set { key, value } => KvWrite::Set(pair(key, value)),
            Self::Cas { key, value, index } => KvWrite::Cas(pair(key, value), index),
            Self::Delete { key } => KvWrite::Delete(key_name(key)),
        })
    }

    /// The change in a command of the log; `None` for commands that clients of the simulator do not make.
    pub fn of_command(data: &[u8]) -> Option<Self> {
        let Action::Kv(write) = Command::decode(data).ok()?.action else {
            return None;
        };
        match write {
            KvWrite::Set(pair) => Some(Self::Set {
                key: key_number(&pair.key)?,
                value: value_number(&pair.value)?,
            }),
            KvWrite::Cas(pair, index) => Some(Self::Cas {
                key: key_number(&pair.key)?,
                value: value_number(&pair.value)?,
                index,
            }),
            KvWrite::Delete(key) => Some(Self::Delete {
                key: key_number(&key)?,
            }),
            KvWrite::Lock(..) | KvWrite::Unlock(..) | KvWrite::DeleteCas(..) | KvWrite::DeleteTree(_) => None,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(Change::Set { key, value }) => write!(f, "set k{key} = {value}"),
            Self::Write(Change::Cas { key, value, index }) => write!(f, "cas k{key} = {value} if at {index}"),
            Self::Write(Change::Delete { key }) => write!(f, "delete k{key}"),
            Self::Get { key, freshness } => write!(f, "get k{key} {freshness:?}"),
            Self::Transfer => f.write_str("transfer leadership"),
            Self::Reconfigure(target) => {
                write!(f, "voters {:b}, learners {:b}", target.voters, target.learners)
            }
        }
    }
}

/// The question for one key.
pub fn question(key: u8) -> Query {
    Query::KvGet(key_name(key))
}

/// What a key holds in a state.
pub fn held(state: &State, key: u8) -> Option<Held> {
    let Found::Entry(entry) = state.query(&question(key)).1 else {
        return None;
    };
    let entry = entry?;
    Some(Held {
        value: value_number(&entry.value)?,
        index: entry.modify_index,
    })
}

fn key_name(key: u8) -> Key {
    Bytes::from(vec![b'k', b'0' + key / 10, b'0' + key % 10])
}

fn key_number(key: &[u8]) -> Option<u8> {
    match key {
        [b'k', tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => Some((tens - b'0') * 10 + ones - b'0'),
        _ => None,
    }
}

/// A value's number and some padding, so that entries differ in size.
fn value_bytes(value: u64) -> Bytes {
    let mut bytes = vec![0; 8 + (value % 97) as usize];
    bytes[..8].copy_from_slice(&value.to_le_bytes());
    Bytes::from(bytes)
}

fn value_number(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|number| u64::from_le_bytes(*number))
}

#[cfg(test)]
mod tests {
    use lictor_machine::UnixMillis;

    use super::*;

    #[test]
    fn changes_are_recognised_in_the_log_and_seen_in_the_state() {
        let mut state = State::new();
        let changes = [
            Change::Set { key: 3, value: 77 },
            Change::Cas {
                key: 3,
                value: 78,
                index: Index(1),
            },
            Change::Cas {
                key: 42,
                value: 79,
                index: Index::ZERO,
            },
            Change::Delete { key: 42 },
        ];
        for (index, change) in (1..).zip(changes) {
            let command = Command {
                stamp: UnixMillis(0),
                action: change.action(),
            };
            assert_eq!(Change::of_command(&command.encode()), Some(change));
            state
                .apply(Index(index), &command, &mut lictor_catalog::Changes::default())
                .unwrap();
        }
        assert_eq!(
            held(&state, 3),
            Some(Held {
                value: 78,
                index: Index(2)
            })
        );
        assert_eq!(held(&state, 42), None);
        assert_eq!(Change::of_command(b"junk"), None);
    }
}
