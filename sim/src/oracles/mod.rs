//! The oracles: what must be true of every run, each property in a file of its own, named as the Raft paper names it
//! where it does (Figure 3).
//!
//! They are fed with every write, every message, every turn and every answer, never with samples. What they
//! share is the `chronicle`: what each server's log holds, which entries were ever made, and what is committed.
//!
//! To add one: a new file with a struct that has the state it needs and a method for each kind of fact it wants to
//! see, returning a [`Check`]; a field in [`Oracles`]; a call where the fact is reported below. A variant in
//! `tests/sabotage.rs` must show that it sees.

mod apply_order;
mod bounded_queues;
mod chronicle;
mod configurations;
mod durability;
mod durability_gate;
mod election_safety;
mod founding;
mod leader_append_only;
mod leader_completeness;
mod log_matching;
mod monotone_commit;
mod own_term;
mod reads;
mod reference;
mod requests;
mod state_machine_safety;
mod watches;

use core::fmt;

use lictor_catalog::{State, Touched};
use lictor_machine::{Index, NodeId, Token};
use lictor_node::ClusterId;
use lictor_raft::{Committed, Message, Status, Term, WriteBatch};

use crate::disk::LogImage;
use crate::workload::{Answer, Op};

pub use bounded_queues::Bounds;
pub use chronicle::Chronicle;

/// A property that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub property: &'static str,
    /// What was seen.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.detail)
    }
}

/// Whether a property holds.
pub type Check = Result<(), Violation>;

/// Fails with `detail` unless `holds`. The detail is only worded when it is needed.
pub(crate) fn ensure(property: &'static str, holds: bool, detail: impl FnOnce() -> String) -> Check {
    if holds {
        Ok(())
    } else {
        Err(Violation {
            property,
            detail: detail(),
        })
    }
}

/// All oracles of one run. Servers are numbered from 0.
pub struct Oracles {
    chronicle: Chronicle,
    apply_order: apply_order::ApplyOrder,
    bounded_queues: bounded_queues::BoundedQueues,
    configurations: configurations::Configurations,
    durability: durability::Durability,
    election_safety: election_safety::ElectionSafety,
    founding: founding::Founding,
    leader_append_only: leader_append_only::LeaderAppendOnly,
    leader_completeness: leader_completeness::LeaderCompleteness,
    monotone_commit: monotone_commit::MonotoneCommit,
    own_term: own_term::OwnTerm,
    reads: reads::Reads,
    requests: requests::Requests,
    state_machine_safety: state_machine_safety::StateMachineSafety,
    watches: watches::AllWatches,
}

impl Oracles {
    /// Oracles for servers with empty disks, the first `keys` keys being watched on each of them.
    pub fn new(servers: Vec<NodeId>, bounds: Bounds, keys: u8) -> Self {
        let count = servers.len();
        Self {
            chronicle: Chronicle::new(servers),
            apply_order: apply_order::ApplyOrder::new(count),
            bounded_queues: bounded_queues::BoundedQueues::new(bounds),
            configurations: configurations::Configurations::new(count),
            durability: durability::Durability::new(count),
            election_safety: election_safety::ElectionSafety::default(),
            founding: founding::Founding::default(),
            leader_append_only: leader_append_only::LeaderAppendOnly::new(count),
            leader_completeness: leader_completeness::LeaderCompleteness::new(count),
            monotone_commit: monotone_commit::MonotoneCommit::new(count),
            own_term: own_term::OwnTerm::new(count),
            reads: reads::Reads::default(),
            requests: requests::Requests::default(),
            state_machine_safety: state_machine_safety::StateMachineSafety::default(),
            watches: watches::AllWatches::new(count, keys),
        }
    }

    /// What is known of the run.
    pub const fn chronicle(&self) -> &Chronicle {
        &self.chronicle
    }

    /// A server has started from `image`, with `state` loaded from its rows.
    pub fn booted(&mut self, at: usize, image: &LogImage, state: &State) -> Check {
        log_matching::on_disk(&self.chronicle, at, image)?;
        self.chronicle.booted(at, image);
        self.configurations.booted(at, image);
        self.apply_order.booted(at, state.index());
        self.leader_append_only.booted(at);
        self.leader_completeness.booted(at);
        self.monotone_commit.booted(at);
        self.own_term.booted(at);
        self.watches.booted(at, state)
    }

    /// A server is no more; `durable` became durable by its end.
    pub fn crashed(&mut self, at: usize, durable: &[WriteBatch]) -> Check {
        self.durable(at, durable)?;
        self.requests.crashed(at);
        Ok(())
    }

    /// A server has issued a write.
    pub fn issued(&mut self, at: usize, batch: &WriteBatch) -> Check {
        self.leader_append_only.issued(at, batch)?;
        self.chronicle.issued(at, batch)?;
        self.configurations.issued(at, batch)?;
        monotone_commit::commit_within_log(&self.chronicle, at, batch)
    }

    /// Writes of a server are durable.
    pub fn durable(&mut self, at: usize, batches: &[WriteBatch]) -> Check {
        batches
            .iter()
            .try_for_each(|batch| self.chronicle.durable(at, batch))
    }

    /// A server has sent a message.
    pub fn sent(&mut self, at: usize, to: NodeId, message: &Message) -> Check {
        durability_gate::sent(&self.chronicle, at, to, message)?;
        self.election_safety.sent(self.chronicle.id(at), to, message)
    }

    /// A server speaks as a member of a cluster.
    pub fn member(&mut self, at: usize, cluster: ClusterId) -> Check {
        self.founding.member(at, cluster)
    }

    /// A server has applied entries.
    pub fn applied(&mut self, at: usize, entries: &[Committed]) -> Check {
        self.apply_order.applied(at, entries)?;
        state_machine_safety::applied(&self.chronicle, at, entries)
    }

    /// A server's readers see this state from now on.
    pub fn published(&mut self, at: usize, state: &State, touched: &Touched) -> Check {
        self.apply_order.published(at, state.index())?;
        self.state_machine_safety.published(at, state)?;
        self.watches.published(&self.chronicle, at, state, touched)
    }

    /// A server has finished a turn.
    pub fn turned(&mut self, at: usize, status: &Status) -> Check {
        self.monotone_commit.turned(at, status)?;
        self.own_term.turned(&self.chronicle, at, status)?;
        self.election_safety.turned(status)?;
        self.leader_append_only.turned(at, status);
        let news = self.chronicle.committed(at, status)?;
        self.durability
            .committed(&self.chronicle, at, status, news.clone())?;
        self.configurations.turned(&self.chronicle, at, status, news)?;
        self.leader_completeness.turned(&self.chronicle, at, status)?;
        self.bounded_queues.turned(status)
    }

    /// A client has asked.
    pub fn asked(&mut self, at: usize, token: Token, op: Op) {
        self.requests.asked(at, token);
        self.reads.asked(token, op);
    }

    /// A server has answered.
    pub fn answered(&mut self, at: usize, token: Token, answer: &Answer) -> Check {
        let op = self
            .requests
            .answered(at, token)
            .and_then(|()| self.reads.answered(&self.chronicle, token, answer))?;
        self.configurations.answered(self.chronicle.ids(), op, answer)?;
        self.durability.answered(&self.chronicle, op, answer)
    }

    /// Nothing happens any more: everything must be answered, and what servers hold must be equal.
    pub fn at_rest(&self, statuses: &[Status]) -> Check {
        self.requests.at_rest()?;
        statuses.iter().try_for_each(bounded_queues::at_rest)
    }

    /// The last look at a server's disk.
    pub fn final_scan(&self, at: usize, image: &LogImage) -> Check {
        log_matching::on_disk(&self.chronicle, at, image)?;
        self.durability.on_disk(&self.chronicle, at, image)
    }

    /// The term of the committed entry at an index.
    pub fn committed_term(&self, index: Index) -> Option<Term> {
        self.chronicle.ledger(index).map(|record| record.term)
    }
}
