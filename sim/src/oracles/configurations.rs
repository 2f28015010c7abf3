//! Configurations (§6): each server goes by the latest in its log; one is made only when the one before it is settled, by a leader that has
//! committed something of its own, and so that no majority of the one can decide without a server of the other; and only
//! who has a vote stands for election.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lictor_machine::{Index, NodeId};
use lictor_raft::{Configuration, LogId, Payload, Role, Status, WriteBatch};

use super::{Check, Chronicle, Violation, ensure};
use crate::disk::LogImage;
use crate::workload::{Answer, Op};

const IN_FORCE: &str = "the latest configuration is in force";
const ONE_AT_A_TIME: &str = "one change of members at a time";

/// Those in a server's log, in order; the first is that of its base.
type InLog = Vec<(LogId, Configuration)>;

#[derive(Debug)]
pub(super) struct Configurations {
    logs: Vec<InLog>,
    made: HashMap<LogId, Configuration>,
    committed: BTreeMap<Index, Configuration>,
    /// Made in the present turn, each with the one before it.
    fresh: Vec<(LogId, LogId)>,
}

impl Configurations {
    pub(super) fn new(servers: usize) -> Self {
        Self {
            logs: vec![vec![(LogId::ZERO, Configuration::default())]; servers],
            made: HashMap::new(),
            committed: BTreeMap::new(),
            fresh: Vec::new(),
        }
    }

    pub(super) fn booted(&mut self, at: usize, image: &LogImage) {
        let base = (image.base.last, image.base.members.clone());
        self.logs[at] = [base].into_iter().chain(image.members()).collect();
    }

    pub(super) fn issued(&mut self, at: usize, batch: &WriteBatch) -> Check {
        let log = &mut self.logs[at];
        if let Some(meta) = &batch.install {
            let right = self.committed.range(..=meta.last.index).next_back();
            ensure(
                IN_FORCE,
                right.is_some_and(|(_, right)| *right == meta.members),
                || {
                    format!(
                        "server {} installs snapshot {} with {:?}, and in force there is {right:?}",
                        at + 1,
                        meta.last,
                        meta.members
                    )
                },
            )?;
            *log = vec![(meta.last, meta.members.clone())];
        }
        if let Some(from) = batch.truncate_from {
            let kept = log.iter().skip(1).take_while(|(id, _)| id.index < from).count();
            log.truncate(1 + kept);
        }
        for entry in &batch.append {
            let Payload::Members(members) = &entry.payload else {
                continue;
            };
            if let Some((before, old)) = log.last() {
                if !old.is_empty() {
                    meet(old, members)?;
                }
                if self.made.insert(entry.id, members.clone()).is_none() && !old.is_empty() {
                    self.fresh.push((entry.id, *before));
                }
            }
            log.push((entry.id, members.clone()));
        }
        if let Some(meta) = &batch.compact_to {
            let gone = log
                .iter()
                .take_while(|(id, _)| id.index <= meta.last.index)
                .count();
            if let Some((_, right)) = gone.checked_sub(1).map(|last| &log[last]) {
                ensure(IN_FORCE, *right == meta.members, || {
                    format!(
                        "server {} compacts to {} with {:?}, and in force there is {right:?}",
                        at + 1,
                        meta.last,
                        meta.members
                    )
                })?;
            }
            log.splice(..gone, [(meta.last, meta.members.clone())]);
        }
        Ok(())
    }

    /// A server has finished a turn, in which the entries `news` were found committed.
    pub(super) fn turned(
        &mut self,
        chronicle: &Chronicle,
        at: usize,
        status: &Status,
        news: core::ops::Range<u64>,
    ) -> Check {
        for index in news.map(Index) {
            let term = chronicle.ledger(index).map(|record| record.term);
            let made = term.and_then(|term| self.made.get(&LogId { term, index }));
            if let Some(members) = made {
                self.committed.insert(index, members.clone());
            }
        }
        let latest = self.logs[at].last().map(|(_, members)| members);
        ensure(IN_FORCE, latest == Some(&status.members), || {
            format!(
                "{:?} goes by {:?}, and the latest in its log is {latest:?}",
                status.id, status.members
            )
        })?;
        for (id, before) in core::mem::take(&mut self.fresh) {
            settled(chronicle, id, before)?;
        }
        self.stands(at, status)
    }

    /// Who has just lost its vote, and does not know this to be committed, may have to stand once more.
    fn stands(&self, at: usize, status: &Status) -> Check {
        let voted_before = self.logs[at]
            .iter()
            .rev()
            .nth(1)
            .is_some_and(|(_, members)| members.is_voter(status.id));
        let unsettled = status.members_id.index > status.commit;
        let may =
            status.members.is_voter(status.id) || unsettled && voted_before || status.role == Role::Leader;
        ensure("only voters stand", status.role == Role::Follower || may, || {
            format!(
                "{:?} is a {:?} and has no vote in {:?}",
                status.id, status.role, status.members
            )
        })
    }

    /// A client was answered.
    pub(super) fn answered(&self, servers: &[NodeId], op: Op, answer: &Answer) -> Check {
        let (Op::Reconfigure(target), Answer::Reconfigured { index }) = (op, answer) else {
            return Ok(());
        };
        let (voters, learners) = target.of(servers);
        let wanted = Configuration {
            voters,
            outgoing: BTreeSet::new(),
            learners,
        };
        let found = self.committed.get(index);
        ensure("changes of members are made", found == Some(&wanted), || {
            format!("'{op}' was answered to be done at {index}, and what is committed there is {found:?}")
        })
    }
}

/// `id` was made when `before`, which it follows, and something of its own term were committed.
fn settled(chronicle: &Chronicle, id: LogId, before: LogId) -> Check {
    let is_committed = |entry: LogId| {
        let record = chronicle.ledger(entry.index);
        record.is_some_and(|record| record.term == entry.term)
    };
    ensure(ONE_AT_A_TIME, is_committed(before), || {
        format!("configuration {id} was made while {before} was not committed")
    })?;
    // Others may have gone on in a later term behind the leader's back: terms only grow along the ledger, so the search has an end.
    let earlier = (1..id.index.0)
        .rev()
        .filter_map(|index| chronicle.ledger(Index(index)));
    let own = earlier.map(|record| record.term).find(|term| *term <= id.term);
    ensure(ONE_AT_A_TIME, own == Some(id.term), || {
        format!("configuration {id} was made before anything of its term was committed")
    })
}

/// No quorum of the one is without a server of some quorum of the other.
fn meet(old: &Configuration, new: &Configuration) -> Check {
    let servers: Vec<NodeId> = old.members().union(&new.members()).copied().collect();
    for chosen in 0..1_u32 << servers.len() {
        let with = |wanted: bool| -> BTreeSet<NodeId> {
            let numbered = servers.iter().enumerate();
            let picked = numbered.filter(|(at, _)| (chosen >> at & 1 == 1) == wanted);
            picked.map(|(_, id)| *id).collect()
        };
        let (some, others) = (with(true), with(false));
        if is_quorum(old, &some) && is_quorum(new, &others) {
            return Err(Violation {
                property: "quorums of successive configurations meet",
                detail: format!("{some:?} decide by {old:?}, and {others:?} by {new:?}, which follows it"),
            });
        }
    }
    Ok(())
}

/// Whether these are a quorum of the configuration, by the definition of joint consensus.
pub(super) fn is_quorum(members: &Configuration, some: &BTreeSet<NodeId>) -> bool {
    let most = |group: &BTreeSet<NodeId>| group.intersection(some).count() * 2 > group.len();
    most(&members.voters) && (members.outgoing.is_empty() || most(&members.outgoing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successive_quorums_meet_by_joint_consensus_and_not_without() {
        let of = |ids: &[u128]| Configuration::of(ids.iter().copied().map(NodeId));
        let (old, new) = (of(&[1, 2, 3]), of(&[3, 4, 5]));
        let joint = Configuration {
            outgoing: old.voters.clone(),
            ..new.clone()
        };
        assert_eq!(meet(&old, &joint), Ok(()));
        assert_eq!(meet(&joint, &new), Ok(()));
        assert!(meet(&old, &new).is_err());
        assert_eq!(
            meet(&old, &of(&[1, 2, 3, 4])),
            Ok(()),
            "one more is safe by itself"
        );
        assert!(meet(&of(&[1, 2]), &of(&[3])).is_err());
    }
}
