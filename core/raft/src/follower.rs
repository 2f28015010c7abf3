//! The follower's side of log replication (Raft §5.3).

use lictor_machine::{Index, NodeId};

use crate::io::{Fault, Role};
use crate::message::{AppendReply, Body};
use crate::raft::Raft;
use crate::types::{Configuration, Entry, HardState, LogId, Payload};

impl Raft {
    pub(crate) fn handle_append(&mut self, prev: LogId, mut entries: Vec<Entry>, commit: Index) {
        let Some(leader) = self.leader_id else { return };
        let mut prev = prev;
        // Everything committed here is in the leader's log too (Leader Completeness, §5.4.3), and may be compacted away.
        let settled = self.hard.commit.max(self.log.base().index);
        if prev.index < settled {
            let known = entries.partition_point(|entry| entry.id.index <= settled);
            if let Some(entry) = known.checked_sub(1).and_then(|at| entries.get(at)) {
                if self
                    .log
                    .term_at(entry.id.index)
                    .is_some_and(|term| term != entry.id.term)
                {
                    self.fail(Fault::Safety(
                        "the leader holds another entry where one was committed",
                    ));
                    return;
                }
                prev = entry.id;
                entries.drain(..known);
            }
            if prev.index < settled {
                // Old news.
                self.note_matched(settled, commit);
                return;
            }
        }
        if !self.log.contains(prev) {
            let hint = self.log.last_at_or_below(prev.index.prev(), prev.term);
            let last = self.log.last().index;
            self.send(
                leader,
                Body::AppendReply(AppendReply::Rejected {
                    prev: prev.index,
                    hint,
                    last,
                }),
            );
            return;
        }
        let through = entries.last().map_or(prev.index, |entry| entry.id.index);
        let known = entries.partition_point(|entry| self.log.contains(entry.id));
        let fresh = entries.split_off(known);
        if let Some(first) = fresh.first().map(|entry| entry.id.index) {
            if first <= self.log.last().index {
                if first <= self.hard.commit {
                    self.fail(Fault::Safety("the leader overwrites what was committed"));
                    return;
                }
                self.truncate_from(first);
            }
            for entry in fresh {
                let members = matches!(entry.payload, Payload::Members(_));
                self.writes.append(entry.clone());
                self.log.append(entry);
                if members {
                    self.members_changed();
                }
            }
        }
        self.note_matched(through, commit);
    }

    fn truncate_from(&mut self, index: Index) {
        #[cfg(feature = "sabotage")]
        if self.sabotaged(crate::Sabotage::ForgetTruncate) {
            self.log.truncate_from(index);
            return;
        }
        self.writes.truncate_from(index);
        if self.log.truncate_from(index) {
            self.members_changed();
        }
    }

    /// The log equals the leader's up to `through`, and the leader has committed up to `commit`.
    fn note_matched(&mut self, through: Index, commit: Index) {
        self.matched = self.matched.max(through);
        self.ack_due = true;
        self.commit_to(commit.min(self.matched));
    }

    /// Tells the leader how far the log is equal *and durable*. One reply covers all appends since the last.
    pub(crate) fn acknowledge(&mut self) {
        let Some(leader) = self.leader_id else { return };
        #[allow(unused_mut, reason = "changed only by sabotage")]
        let mut through = self.matched.min(self.log.durable);
        #[allow(unused_mut, reason = "changed only by sabotage")]
        let mut may_answer = self.writes.is_term_durable(self.hard.term);
        #[cfg(feature = "sabotage")]
        if self.sabotaged(crate::Sabotage::AckBeforePersist) {
            through = self.matched;
            may_answer = true;
        }
        if !may_answer {
            // After a crash this node would follow an earlier leader again, which might take back what is acknowledged here.
            return;
        }
        if through > self.acked || (self.ack_due && through == self.matched) {
            self.acked = through;
            self.ack_due = through < self.matched;
            self.send(leader, Body::AppendReply(AppendReply::Accepted { through }));
        }
    }

    pub(crate) fn handle_heartbeat(&mut self, from: NodeId, commit: Index, round: u64) {
        // An entry that this leader made is in its log, and everything before it is equal (Log Matching, §5.3). That is how a node that was
        // restarted learns of commits when nothing new is appended: the leader knows it to be up to date and sends it nothing else.
        let last = self.log.last();
        if last.term == self.hard.term {
            self.matched = self.matched.max(last.index);
        }
        self.commit_to(commit.min(self.matched));
        self.send(from, Body::HeartbeatReply { round });
    }

    /// Makes this node the first of a new cluster: its log begins with the members.
    pub(crate) fn found(&mut self, members: Configuration) -> Result<(), crate::Reject> {
        if self.log.last() != LogId::ZERO || self.hard != HardState::default() {
            return Err(crate::Reject::Invalid("this node has been in a cluster before"));
        }
        if !members.voters.contains(&self.config.id)
            || !members.outgoing.is_empty()
            || !members.learners.is_empty()
        {
            return Err(crate::Reject::Invalid(
                "a new cluster begins with plain voters, this node among them",
            ));
        }
        if self.role != Role::Follower || self.leader_id.is_some() {
            return Err(crate::Reject::Invalid("this node follows a leader already"));
        }
        self.hard.term = crate::Term(1);
        self.writes.hard_state();
        let entry = Entry {
            id: LogId::new(1, 1),
            payload: Payload::Members(members),
        };
        self.writes.append(entry.clone());
        self.log.append(entry);
        self.members_changed();
        self.election_at = self.now();
        Ok(())
    }
}
