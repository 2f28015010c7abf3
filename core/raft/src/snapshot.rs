//! Snapshots for peers whose next entry the log no longer holds (Raft §7): sent in chunks, one at a time, each durable at the
//! receiver before the next one is asked for, so that a lost connection resumes where it broke.

use bytes::Bytes;
use lictor_machine::NodeId;

use crate::io::{Effect, Event, Fetch};
use crate::message::Body;
use crate::progress::{Mode, Sending};
use crate::raft::Raft;
use crate::types::{LogId, SnapshotMeta, StagedChunk, Term, WriteId};

/// A snapshot that this node is receiving.
#[derive(Debug)]
pub(crate) struct Incoming {
    meta: SnapshotMeta,
    /// Who sends it, in which term. Another sender, or this one after a restart, may cut the same snapshot into other chunks.
    from: (NodeId, Term),
    next_chunk: u64,
    /// All chunks are there: the write that installs it, until that is durable.
    installing: Option<WriteId>,
}

impl Raft {
    /// Whether a received snapshot is about to take the place of the log.
    pub(crate) fn is_installing(&self) -> bool {
        self.incoming
            .as_ref()
            .is_some_and(|incoming| incoming.installing.is_some())
    }

    /// Whether the state machine has yet to load the snapshot that has taken the place of the log: nothing else ever moves the base of the
    /// log beyond what is applied.
    fn is_restoring(&self) -> bool {
        self.applying.applied < self.log.base().index
    }

    /// Leader: moves a peer's snapshot on.
    pub(crate) fn continue_snapshot(&mut self, to: NodeId) {
        let Some(peer) = self.leader.as_ref().and_then(|leader| leader.peers.get(&to)) else {
            return;
        };
        let Mode::Snapshot(sending) = peer.mode else {
            return;
        };
        if sending.waiting || peer.fetch.is_some() {
            return;
        }
        let id = self.new_fetch();
        if let Some(peer) = self.leader.as_mut().and_then(|leader| leader.peers.get_mut(&to)) {
            peer.fetch = Some(id);
        }
        self.emit(Effect::Fetch {
            id,
            what: Fetch::Chunk {
                snapshot: sending.snapshot,
                chunk: sending.chunk,
            },
        });
    }

    /// Leader: a chunk has been read.
    pub(crate) fn send_chunk(&mut self, to: NodeId, meta: SnapshotMeta, chunk: u64, data: Bytes, done: bool) {
        let now = self.now();
        let Some(peer) = self.leader.as_mut().and_then(|leader| leader.peers.get_mut(&to)) else {
            return;
        };
        let Mode::Snapshot(sending) = &mut peer.mode else {
            return;
        };
        if sending.chunk != chunk || sending.snapshot.is_some_and(|snapshot| snapshot != meta.last) {
            return;
        }
        let begins = sending.snapshot.is_none();
        *sending = Sending {
            snapshot: Some(meta.last),
            chunk,
            waiting: true,
        };
        peer.moved = now;
        if begins {
            self.emit(Effect::Event(Event::SendingSnapshot {
                peer: to,
                last: meta.last,
            }));
        }
        self.send(
            to,
            Body::Snapshot {
                meta: Box::new(meta),
                chunk,
                data,
                done,
            },
        );
    }

    pub(crate) fn handle_snapshot_reply(
        &mut self,
        from: NodeId,
        snapshot: LogId,
        next_chunk: u64,
        done: bool,
    ) {
        let now = self.now();
        let Some(peer) = self
            .leader
            .as_mut()
            .and_then(|leader| leader.peers.get_mut(&from))
        else {
            return;
        };
        let Mode::Snapshot(sending) = &mut peer.mode else {
            return;
        };
        if sending.snapshot != Some(snapshot) {
            return;
        }
        if done {
            peer.accepted(snapshot.index, now, &self.config);
            self.advance_commit();
        } else if next_chunk != sending.chunk {
            // Also backwards: the receiver knows best what it holds. A repeated wish is answered when its patience ends.
            *sending = Sending {
                snapshot: Some(snapshot),
                chunk: next_chunk,
                waiting: false,
            };
            peer.moved = now;
        }
    }

    /// Follower: a chunk has arrived.
    pub(crate) fn handle_snapshot(
        &mut self,
        from: NodeId,
        meta: SnapshotMeta,
        chunk: u64,
        data: Bytes,
        done: bool,
    ) {
        let snapshot = meta.last;
        if self.is_installing() || self.is_restoring() {
            // The chunks that are staged are still needed, and a first chunk would discard them. The reply comes when the
            // installation is durable; whatever else is dropped here is sent again.
            return;
        }
        if snapshot.index <= self.hard.commit || self.log.contains(snapshot) {
            // It holds nothing that is not in the log already; above all, no acknowledged tail may be dropped for it.
            self.incoming = None;
            self.commit_to(snapshot.index);
            self.matched = self.matched.max(snapshot.index);
            self.send_when_durable(
                from,
                Body::SnapshotReply {
                    snapshot,
                    next_chunk: chunk,
                    done: true,
                },
            );
            return;
        }
        let source = (from, self.hard.term);
        let expected = match &self.incoming {
            Some(incoming) if incoming.from != source => 0,
            Some(incoming) if incoming.meta == meta => incoming.next_chunk,
            // A late chunk of one that the leader has given up for a newer one.
            Some(incoming) if incoming.meta.last > snapshot => return,
            Some(_) | None => 0,
        };
        if chunk != expected {
            // A repetition, or one of us has been restarted: go on where this node is.
            self.send_when_durable(
                from,
                Body::SnapshotReply {
                    snapshot,
                    next_chunk: expected,
                    done: false,
                },
            );
            return;
        }
        let staged = StagedChunk {
            snapshot,
            chunk,
            data,
        };
        if let Some(batch) = self.writes.stage(staged, self.now(), self.hard) {
            self.emit(Effect::Persist(Box::new(batch)));
        }
        let mut incoming = Incoming {
            meta,
            from: source,
            next_chunk: chunk + 1,
            installing: None,
        };
        if done {
            self.install(&mut incoming);
        }
        let next_chunk = incoming.next_chunk;
        self.incoming = Some(incoming);
        self.send_when_durable(
            from,
            Body::SnapshotReply {
                snapshot,
                next_chunk,
                done,
            },
        );
    }

    /// Puts the snapshot in the place of the log: log, configuration and hard state change in one write.
    fn install(&mut self, incoming: &mut Incoming) {
        let meta = incoming.meta.clone();
        let last = meta.last.index;
        // Entries handed out already are applied before the snapshot is loaded; nothing more is handed out until then.
        if let Some(batch) = self.writes.install(meta.clone(), self.now(), self.hard) {
            self.emit(Effect::Persist(Box::new(batch)));
        }
        incoming.installing = Some(self.writes.latest());
        // Entries that are being read to be applied are of the old log; what they would do, the snapshot has done.
        self.applying.fetch = None;
        self.log.reset(meta);
        self.hard.commit = self.hard.commit.max(last);
        self.matched = last;
        self.members_changed();
    }

    /// Follower: writes became durable. A snapshot that is installed now can be loaded.
    pub(crate) fn snapshot_durable(&mut self) {
        let Some(incoming) = &self.incoming else { return };
        if incoming.installing.is_some_and(|id| self.writes.is_durable(id)) {
            let meta = incoming.meta.clone();
            self.incoming = None;
            self.apply_from_snapshot(meta.last);
            self.emit(Effect::Restore(meta));
        }
    }
}
