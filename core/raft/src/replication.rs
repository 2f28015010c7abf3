//! The leader's side of log replication (Raft §5.3), with a window of pipelined appends per peer.

use lictor_machine::{Index, NodeId};

use crate::io::{Effect, Fault, Fetch, FetchId, Fetched, Role};
use crate::message::{AppendReply, Body};
use crate::progress::Mode;
use crate::raft::Raft;
use crate::types::{Entry, LogId};

impl Raft {
    /// Sends every peer what it lacks and the window allows. Called once per turn, so that all proposals of a turn share one append.
    pub(crate) fn replicate(&mut self) {
        self.advance_transfer();
        let Some(leader) = &self.leader else { return };
        let peers: Vec<NodeId> = leader.peers.keys().copied().collect();
        for peer in peers {
            self.replicate_to(peer);
        }
    }

    fn replicate_to(&mut self, to: NodeId) {
        let last = self.log.last().index;
        loop {
            let Some(peer) = self.leader.as_mut().and_then(|leader| leader.peers.get_mut(&to)) else {
                return;
            };
            if matches!(peer.mode, Mode::Snapshot(_)) {
                self.continue_snapshot(to);
                return;
            }
            let probing = matches!(peer.mode, Mode::Probe { .. });
            if !peer.has_room(&self.config) || (peer.next > last && !probing) {
                break;
            }
            let Some(prev) = self.log.id_at(peer.next.prev()) else {
                // What the peer needs next has been compacted away.
                peer.start_snapshot();
                continue;
            };
            let first = peer.next;
            let max_bytes = self.config.append_bytes_max.get();
            let (entries, bytes) = if first > last {
                (Vec::new(), 0)
            } else if let Some(slice) = self.log.slice(first, last, max_bytes) {
                slice
            } else {
                let id = self.new_fetch();
                if let Some(peer) = self.leader.as_mut().and_then(|leader| leader.peers.get_mut(&to)) {
                    peer.fetch = Some(id);
                }
                self.emit(Effect::Fetch {
                    id,
                    what: Fetch::Entries {
                        first,
                        last,
                        max_bytes,
                    },
                });
                return;
            };
            self.send_append(to, prev, entries, bytes);
        }
        // A peer that is up to date learns of a commit at once, not only with the next round.
        let commit = self.hard.commit;
        let round = self.leader.as_ref().map_or(0, |leader| leader.round);
        if let Some(peer) = self.leader.as_mut().and_then(|leader| leader.peers.get_mut(&to)) {
            let told = commit.min(peer.matched);
            if told > peer.commit_told && peer.next > last {
                peer.commit_told = told;
                self.send(to, Body::Heartbeat { commit: told, round });
            }
        }
    }

    fn send_append(&mut self, to: NodeId, prev: LogId, entries: Vec<Entry>, bytes: usize) {
        let now = self.now();
        let commit = self.hard.commit;
        let Some(peer) = self.leader.as_mut().and_then(|leader| leader.peers.get_mut(&to)) else {
            return;
        };
        let last = entries.last().map_or(prev.index, |entry| entry.id.index);
        peer.sent(last, bytes, now);
        peer.commit_told = peer.commit_told.max(commit.min(last));
        self.send(
            to,
            Body::Append {
                prev,
                entries,
                commit,
            },
        );
    }

    pub(crate) fn handle_append_reply(&mut self, from: NodeId, reply: AppendReply) {
        let now = self.now();
        let last = self.log.last().index;
        let Some(peer) = self
            .leader
            .as_mut()
            .and_then(|leader| leader.peers.get_mut(&from))
        else {
            return;
        };
        match reply {
            AppendReply::Accepted { through } => {
                if through > last {
                    return;
                }
                peer.accepted(through, now, &self.config);
                self.advance_commit();
            }
            AppendReply::Rejected { prev, hint, last: _ } => {
                // A refusal of something at or below what has been accepted since is an old one; believing it would send
                // `next` below `matched`, and from there in circles.
                if prev <= peer.matched || prev >= peer.next || peer.is_receiving_snapshot() {
                    return;
                }
                let meet = self.log.last_at_or_below(hint.index.min(prev.prev()), hint.term);
                let next = meet.index.next();
                // `last_at_or_below` stops at our base. If the peer's hint lies before it, only a snapshot helps.
                let next = if hint.index < self.log.base().index {
                    hint.index.next()
                } else {
                    next
                };
                peer.probe_from(next);
                peer.moved = now;
            }
        }
    }

    pub(crate) fn handle_unreachable(&mut self, from: NodeId) {
        if let Some(peer) = self
            .leader
            .as_mut()
            .and_then(|leader| leader.peers.get_mut(&from))
        {
            peer.suspect();
        }
        if self.leader_id == Some(from) {
            self.fail_follower_reads();
        }
    }

    /// A read from storage on a peer's behalf is there.
    pub(crate) fn replicate_fetched(&mut self, id: FetchId, data: Fetched) {
        if self.role != Role::Leader {
            return;
        }
        let Some(leader) = &mut self.leader else { return };
        let Some((to, peer)) = leader.peers.iter_mut().find(|(_, peer)| peer.fetch == Some(id)) else {
            return;
        };
        let to = *to;
        peer.fetch = None;
        match data {
            Fetched::Entries(entries) => {
                let Some(first) = entries.first().map(|entry| entry.id.index) else {
                    // Compacted away between question and answer, which the next look finds out; or the store fails us.
                    if self.log.id_at(peer.next.prev()).is_some() {
                        self.fail(Fault::Read(
                            "the store does not return entries that the log holds".into(),
                        ));
                    }
                    return;
                };
                if peer.next != first {
                    return;
                }
                let Some(prev) = self.log.id_at(first.prev()) else {
                    return;
                };
                let fits = entries
                    .iter()
                    .zip(first.0..)
                    .all(|(entry, index)| entry.id.index == Index(index) && self.log.contains(entry.id));
                if !fits {
                    self.fail(Fault::Read(
                        "the store returned entries that are not in the log".into(),
                    ));
                    return;
                }
                let bytes = entries.iter().map(Entry::size).sum();
                self.send_append(to, prev, entries, bytes);
            }
            Fetched::Chunk {
                meta,
                chunk,
                data,
                done,
            } => self.send_chunk(to, meta, chunk, data, done),
            Fetched::Gone => {
                if peer.is_receiving_snapshot() {
                    peer.start_snapshot();
                }
            }
            Fetched::Failed(detail) => self.fail(Fault::Read(detail)),
        }
    }
}
