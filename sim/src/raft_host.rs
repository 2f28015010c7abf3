//! A server that is a bare Raft machine with the catalog behind it: no founding, no forwarding, no sessions. It shows each entry as it is
//! applied, which a whole node does not.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use lictor_catalog::{Builder, Changes, Command, Cursor, Outcome, Row, State, Touched};
use lictor_machine::{Index, Instant, Machine, NodeId, Now, Token};
use lictor_node::ClusterId;
use lictor_node::store::{StateBatch, decode_rows, encode_rows};
use lictor_node::wire::{decode_raft, encode_raft};
use lictor_raft::{
    Committed, Config, Configuration, Effect, Event, Fetch, FetchId, Fetched, Input, LogId, Payload, Raft,
    ReadMode, Reject, SnapshotMeta, Status,
};

use crate::disk::{DecodeRows, Disk};
use crate::host::{Act, Host, Mark, Setup, Stimulus};
use crate::workload::{Answer, Change, Freshness, Op, held};

/// What the cluster is called on the wire.
pub(crate) const CLUSTER: ClusterId = ClusterId(1);

/// How many snapshots are kept for peers that are receiving them.
const SNAPSHOTS_MAX: usize = 3;

/// See the module.
pub struct RaftHost {
    raft: Raft,
    state: State,
    applied: LogId,
    members: Configuration,
    servers: Vec<NodeId>,
    reads: BTreeMap<Token, u8>,
    snapshots: VecDeque<(SnapshotMeta, Vec<Bytes>)>,
    dirty: Vec<Row>,
    stored: Index,
    storing: bool,
    store_every: u64,
    trailing: u64,
    chunk_bytes: usize,
    acts: VecDeque<Act>,
}

impl Host for RaftHost {
    const KIND: &'static str = "raft";
    const CHANGES_MEMBERS: bool = true;

    fn boot(setup: &Setup, id: NodeId, seed: u64, disk: &mut Disk, now: Now) -> Result<Self, String> {
        disk.recover(Self::decoder())?;
        let config = Config {
            id,
            seed,
            ..setup.raft.clone()
        };
        let mut boot = disk.load(config.tail_bytes).raft;
        let applied = disk.rows().applied;
        boot.applied = applied.index;
        let mut builder = Builder::new();
        for row in disk.rows().iter() {
            builder.add(row).map_err(|error| error.to_string())?;
        }
        Ok(Self {
            raft: Raft::start(config, &boot, now).map_err(|error| error.to_string())?,
            state: builder.finish(applied.index).map_err(|error| error.to_string())?,
            applied,
            members: disk.members_at(applied.index),
            servers: setup.servers.clone(),
            reads: BTreeMap::new(),
            snapshots: VecDeque::new(),
            dirty: Vec::new(),
            stored: applied.index,
            storing: false,
            store_every: setup.store_every,
            trailing: setup.trailing,
            chunk_bytes: setup.chunk_bytes,
            acts: VecDeque::new(),
        })
    }

    fn found(&mut self, setup: &Setup, now: Now) -> Result<(), String> {
        let fresh = self.raft.members().is_empty();
        if fresh && setup.servers.first() == Some(&self.raft.id()) {
            let members = Configuration::of(setup.founders().iter().copied());
            return self.input(now, Input::Found { members });
        }
        Ok(())
    }

    fn handle(&mut self, now: Now, stimulus: Stimulus) -> Result<(), String> {
        match stimulus {
            Stimulus::Message { from, bytes } => {
                let (_, message) = decode_raft(&bytes).map_err(|error| error.to_string())?;
                self.input(now, Input::Message { from, message })
            }
            Stimulus::Unreachable(peer) => self.input(now, Input::Unreachable { peer }),
            Stimulus::Persisted(through) => self.input(now, Input::Persisted { through }),
            Stimulus::PersistFailed(id) => self.input(
                now,
                Input::PersistFailed {
                    id,
                    detail: "the simulated disk failed".into(),
                },
            ),
            Stimulus::Fetched(id, Ok(entries)) => self.input(
                now,
                Input::Fetched {
                    id,
                    data: Fetched::Entries(entries),
                },
            ),
            Stimulus::Fetched(id, Err(detail)) => self.input(
                now,
                Input::Fetched {
                    id,
                    data: Fetched::Failed(detail),
                },
            ),
            Stimulus::StateStored(index) => self.state_stored(now, index),
            Stimulus::Request(token, op) => {
                self.request(now, token, op);
                Ok(())
            }
            Stimulus::NotesSaved(_) | Stimulus::Call { .. } | Stimulus::CallDone { .. } => {
                Err("a bare Raft server keeps no notes and makes no calls".into())
            }
        }
    }

    fn wake(&mut self, now: Now) {
        self.raft.handle_timeout(now);
    }

    fn poll(&mut self, now: Now, disk: &Disk) -> Result<Option<Act>, String> {
        loop {
            if let Some(act) = self.acts.pop_front() {
                return Ok(Some(act));
            }
            let Some(effect) = self.raft.poll_effect() else {
                return Ok(None);
            };
            match effect {
                Effect::Persist(batch) => return Ok(Some(Act::Persist(batch))),
                Effect::Send { to, message } => {
                    let bytes = Bytes::from(encode_raft(CLUSTER, &message));
                    return Ok(Some(Act::Send { to, message, bytes }));
                }
                Effect::Fetch {
                    id,
                    what:
                        Fetch::Entries {
                            first,
                            last,
                            max_bytes,
                        },
                } => {
                    return Ok(Some(Act::Fetch {
                        id,
                        first,
                        last,
                        max_bytes,
                    }));
                }
                Effect::Fetch {
                    id,
                    what: Fetch::Chunk { snapshot, chunk },
                } => self.fetch_chunk(now, id, snapshot, chunk)?,
                Effect::Apply(entries) => self.apply(now, entries)?,
                Effect::Restore(meta) => self.restore(now, disk, meta)?,
                Effect::Resolve { token, outcome } => self.resolve(token, outcome),
                Effect::Event(event) => self.acts.extend(mark(&event)),
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.raft.poll_timeout().map(|deadline| deadline.at)
    }

    fn fault(&self) -> Option<String> {
        self.raft.fault().map(ToString::to_string)
    }

    fn status(&self) -> Status {
        self.raft.status()
    }

    fn state(&self) -> &State {
        &self.state
    }

    fn decoder() -> DecodeRows {
        |chunk| decode_rows(chunk).map_err(|error| error.to_string())
    }
}

impl RaftHost {
    fn input(&mut self, now: Now, input: Input) -> Result<(), String> {
        self.raft.handle(now, input).map_err(|reject| reject.to_string())
    }

    fn request(&mut self, now: Now, token: Token, op: Op) {
        let input = match op {
            Op::Write(change) => Input::Propose {
                token,
                data: encode_change(now, change),
            },
            Op::Get {
                key,
                freshness: Freshness::Stale,
            } => return self.answer_read(token, key),
            Op::Get { key, freshness } => {
                self.reads.insert(token, key);
                let mode = if freshness == Freshness::Default {
                    ReadMode::Lease
                } else {
                    ReadMode::Quorum
                };
                Input::Read { token, mode }
            }
            Op::Transfer => Input::Transfer { token, to: None },
            Op::Reconfigure(target) => {
                let (voters, learners) = target.of(&self.servers);
                Input::Reconfigure {
                    token,
                    voters,
                    learners,
                }
            }
        };
        let refused: Result<(), Reject> = self.raft.handle(now, input);
        if refused.is_err() {
            self.reads.remove(&token);
            self.acts.push_back(Act::Answer(token, Answer::Refused));
        }
    }

    fn answer_read(&mut self, token: Token, key: u8) {
        let answer = Answer::Value {
            index: self.state.index(),
            held: held(&self.state, key),
        };
        self.acts.push_back(Act::Answer(token, answer));
    }

    fn resolve(&mut self, token: Token, outcome: lictor_raft::Outcome) {
        let read = self.reads.remove(&token);
        let answer = match (outcome, read) {
            (lictor_raft::Outcome::Read { .. }, Some(key)) => return self.answer_read(token, key),
            (
                lictor_raft::Outcome::Read { .. }
                | lictor_raft::Outcome::ReadFailed
                | lictor_raft::Outcome::Lost,
                _,
            ) => Answer::Refused,
            (lictor_raft::Outcome::Reconfigured { index }, _) => Answer::Reconfigured { index },
            (lictor_raft::Outcome::Unknown, _) => Answer::Unknown,
            (lictor_raft::Outcome::Transferred, _) => Answer::Transferred(true),
            (lictor_raft::Outcome::TransferFailed, _) => Answer::Transferred(false),
        };
        self.acts.push_back(Act::Answer(token, answer));
    }

    fn apply(&mut self, now: Now, entries: Vec<Committed>) -> Result<(), String> {
        let mut answers = Vec::new();
        let mut changes = Changes::default();
        for Committed { entry, token } in &entries {
            self.applied = entry.id;
            let index = entry.id.index;
            let outcome = match &entry.payload {
                Payload::Noop => {
                    self.state.advance(index).map_err(|error| error.to_string())?;
                    continue;
                }
                Payload::Members(members) => {
                    self.members = members.clone();
                    self.state.advance(index).map_err(|error| error.to_string())?;
                    continue;
                }
                Payload::Command(data) => {
                    let command = Command::decode(data).map_err(|error| error.to_string())?;
                    self.state
                        .apply(index, &command, &mut changes)
                        .map_err(|error| error.to_string())?
                }
            };
            if let Some(token) = token {
                let Outcome::Done(done) = outcome else {
                    return Err(format!("a plain write brought {outcome:?}"));
                };
                answers.push(Act::Answer(*token, Answer::Written { index, done }));
            }
        }
        self.dirty.append(&mut changes.rows);
        self.acts.push_back(Act::Applied(entries));
        self.acts.push_back(Act::Publish {
            state: self.state.clone(),
            touched: changes.touched,
        });
        self.acts.extend(answers);
        self.store_if_due();
        self.input(
            now,
            Input::Applied {
                through: self.applied.index,
            },
        )
    }

    fn restore(&mut self, now: Now, disk: &Disk, meta: SnapshotMeta) -> Result<(), String> {
        let image = disk.written()?;
        let mut builder = Builder::new();
        for chunk in image.staged_chunks(meta.last)? {
            for row in Self::decoder()(chunk)? {
                builder.add(row).map_err(|error| error.to_string())?;
            }
        }
        self.state = builder
            .finish(meta.last.index)
            .map_err(|error| error.to_string())?;
        self.applied = meta.last;
        self.members = meta.members.clone();
        self.dirty.clear();
        self.storing = true;
        self.acts.push_back(Act::ReplaceState(meta));
        self.acts.push_back(Act::Publish {
            state: self.state.clone(),
            touched: Touched::All,
        });
        self.acts.push_back(Act::Mark(Mark::Restored));
        self.input(
            now,
            Input::Applied {
                through: self.applied.index,
            },
        )
    }

    /// The rows may come to the disk out of turn only by a replacement, which is behind everything that was written before it.
    fn state_stored(&mut self, now: Now, index: Index) -> Result<(), String> {
        self.stored = self.stored.max(index);
        self.storing = false;
        self.store_if_due();
        self.input(
            now,
            Input::Compact {
                through: Index(self.stored.0.saturating_sub(self.trailing)),
            },
        )
    }

    fn store_if_due(&mut self) {
        if !self.storing && self.applied.index.0 - self.stored.0 >= self.store_every {
            self.storing = true;
            self.acts.push_back(Act::Store(StateBatch {
                applied: self.applied,
                rows: core::mem::take(&mut self.dirty),
            }));
        }
    }

    fn fetch_chunk(
        &mut self,
        now: Now,
        id: FetchId,
        snapshot: Option<LogId>,
        chunk: u64,
    ) -> Result<(), String> {
        let wanted = snapshot.unwrap_or(self.applied);
        if snapshot.is_none() && !self.snapshots.iter().any(|(meta, _)| meta.last == wanted) {
            if self.snapshots.len() == SNAPSHOTS_MAX {
                self.snapshots.pop_front();
            }
            let meta = SnapshotMeta {
                last: self.applied,
                members: self.members.clone(),
            };
            let chunks = self.export()?;
            self.snapshots.push_back((meta, chunks));
        }
        let held = self.snapshots.iter().find(|(meta, _)| meta.last == wanted);
        let data = held.and_then(|(meta, chunks)| {
            let data = chunks.get(usize::try_from(chunk).ok()?)?.clone();
            Some(Fetched::Chunk {
                meta: meta.clone(),
                chunk,
                data,
                done: chunk + 1 == chunks.len() as u64,
            })
        });
        self.input(
            now,
            Input::Fetched {
                id,
                data: data.unwrap_or(Fetched::Gone),
            },
        )
    }

    fn export(&self) -> Result<Vec<Bytes>, String> {
        let export = self.state.export();
        let mut chunks = Vec::new();
        let mut cursor = Some(Cursor::start());
        while let Some(from) = cursor {
            let (rows, next) = export.chunk(&from, self.chunk_bytes);
            chunks.push(encode_rows(&rows).map_err(|error| error.to_string())?);
            cursor = next;
        }
        Ok(chunks)
    }
}

fn encode_change(now: Now, change: Change) -> Bytes {
    Command {
        stamp: now.wall,
        action: change.action(),
    }
    .encode()
}

/// What of Raft's news is counted.
pub(crate) fn mark(event: &Event) -> Option<Act> {
    let marks = [
        (matches!(event, Event::DiskStalled { .. }), Mark::DiskStalled),
        (matches!(event, Event::QuorumLost), Mark::QuorumLost),
        (matches!(event, Event::Removed), Mark::Removed),
    ];
    let found = marks.into_iter().find(|(is, _)| *is);
    found.map(|(_, mark)| Act::Mark(mark))
}
