//! A server's disk, and the makings of messages and logs.

use std::collections::BTreeMap;

use bytes::Bytes;
use lictor_machine::{Index, NodeId};
use lictor_raft::{
    Body, Boot, Configuration, Entry, Fetch, Fetched, HardState, LogId, Message, Payload, Raft, SnapshotMeta,
    Term, WriteBatch,
};

/// What a disk holds: the effect of a prefix of the batches.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub boot: u64,
    pub hard: HardState,
    pub base: SnapshotMeta,
    pub entries: BTreeMap<Index, Entry>,
    pub staged: Vec<Bytes>,
    pub applied: Index,
    /// How many snapshots were installed.
    pub installs: u64,
    /// The state machine: every command in order.
    pub state: Vec<Bytes>,
}

impl Disk {
    pub fn write(&mut self, batch: &WriteBatch) {
        if let Some(hard) = batch.hard_state {
            self.hard = hard;
        }
        if let Some(chunk) = &batch.stage {
            self.staged.truncate(chunk.chunk as usize);
            self.staged.push(chunk.data.clone());
        }
        if let Some(meta) = &batch.install {
            self.entries.clear();
            self.base = meta.clone();
            self.installs += 1;
        }
        if let Some(from) = batch.truncate_from {
            self.entries.split_off(&from);
        }
        for entry in &batch.append {
            assert_eq!(entry.id.index, self.last().next(), "a gap in the log");
            self.entries.insert(entry.id.index, entry.clone());
        }
        if let Some(meta) = &batch.compact_to {
            self.entries = self.entries.split_off(&meta.last.index.next());
            self.base = meta.clone();
        }
        let last = self.entries.values().next_back().map(|entry| entry.id);
        let last = last.unwrap_or(self.base.last);
        assert!(
            self.hard.commit <= last.index,
            "a durable commit beyond the durable log"
        );
        assert!(self.hard.term >= last.term, "an entry is durable before its term");
    }

    /// A disk of a member of a cluster of servers 1 to `size`: its log begins with them and goes on with commands, one for each further
    /// term.
    pub fn with_log(size: u128, terms: &[u64], hard: HardState) -> Self {
        let entries = terms.iter().zip(1..).map(|(term, index)| {
            let payload = if index == 1 {
                Payload::Members(Configuration::of((1..=size).map(NodeId)))
            } else {
                Payload::Command(Bytes::from(format!("{term}.{index:<6}")))
            };
            let id = LogId::new(*term, index);
            (id.index, Entry { id, payload })
        });
        Self {
            hard,
            entries: entries.collect(),
            ..Self::default()
        }
    }

    /// The ids of the log.
    pub fn log(&self) -> Vec<LogId> {
        self.entries.values().map(|entry| entry.id).collect()
    }

    pub fn load_staged(&mut self) {
        let all: Vec<u8> = self.staged.concat();
        self.state = all.chunks(8).map(Bytes::copy_from_slice).collect();
        self.applied = self.base.last.index;
    }

    /// Whether the entry is durable here, or compacted away behind something later.
    pub fn holds(&self, id: LogId) -> bool {
        id.index <= self.base.last.index || self.entries.get(&id.index).is_some_and(|entry| entry.id == id)
    }

    pub fn last(&self) -> Index {
        self.entries
            .keys()
            .next_back()
            .copied()
            .unwrap_or(self.base.last.index)
    }

    pub fn boot(&mut self) -> Boot {
        self.boot += 1;
        if self.applied < self.base.last.index {
            // A crash came between the installation and the loading.
            self.load_staged();
        }
        let mut term = None;
        let starts = self
            .entries
            .values()
            .filter(|entry| term.replace(entry.id.term) != Some(entry.id.term));
        let members = self.entries.values().filter_map(|entry| match &entry.payload {
            Payload::Members(members) => Some((entry.id, members.clone())),
            Payload::Noop | Payload::Command(_) => None,
        });
        Boot {
            boot: self.boot,
            hard_state: self.hard,
            base: self.base.clone(),
            term_starts: starts.map(|entry| entry.id).collect(),
            members: members.collect(),
            last_index: self.last(),
            applied: self.applied,
            tail: Vec::new(),
        }
    }
}

pub fn message(term: u64, body: Body) -> Message {
    Message {
        term: Term(term),
        body,
    }
}

/// A command of eight bytes.
pub fn command(term: u64, index: u64) -> Entry {
    Entry {
        id: LogId::new(term, index),
        payload: Payload::Command(Bytes::from(format!("{term}.{index:<6}"))),
    }
}

pub fn hard(term: u64, commit: u64) -> HardState {
    HardState {
        term: Term(term),
        vote: None,
        commit: Index(commit),
    }
}

pub fn append(term: u64, prev: LogId, entries: Vec<Entry>, commit: u64) -> Message {
    let commit = Index(commit);
    message(
        term,
        Body::Append {
            prev,
            entries,
            commit,
        },
    )
}

/// What a store with this disk answers.
pub fn fetch_from(disk: &Disk, raft: &Raft, what: Fetch) -> Fetched {
    match what {
        Fetch::Entries {
            first,
            last,
            max_bytes,
        } => {
            let mut bytes = 0;
            let wanted = disk.entries.range(first..=last).map(|(_, entry)| entry.clone());
            let entries: Vec<Entry> = wanted
                .take_while(|entry| {
                    bytes += entry.size();
                    bytes == entry.size() || bytes <= max_bytes
                })
                .collect();
            let found = entries.first().is_some_and(|entry| entry.id.index == first);
            Fetched::Entries(if found { entries } else { Vec::new() })
        }
        Fetch::Chunk { snapshot, chunk } => {
            let last = raft.id_at(disk.applied).unwrap();
            if snapshot.is_some_and(|snapshot| snapshot != last) {
                return Fetched::Gone;
            }
            let meta = SnapshotMeta {
                last,
                members: raft.members_at(last.index).clone(),
            };
            // Two commands a chunk.
            let all: Vec<u8> = disk.state.concat();
            let data = Bytes::copy_from_slice(all.chunks(16).nth(chunk as usize).unwrap_or_default());
            Fetched::Chunk {
                meta,
                chunk,
                data,
                done: (chunk as usize + 1) * 16 >= all.len(),
            }
        }
    }
}
