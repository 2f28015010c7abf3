//! Durability of acknowledged writes: an entry counts as committed only when a quorum has it on disk, and a write is
//! acknowledged only when it is committed. That every later leader has it is leader completeness.

use core::ops::Range;
use std::collections::BTreeSet;

use lictor_machine::{Index, NodeId};
use lictor_raft::{Configuration, Status};

use super::configurations::is_quorum;
use super::{Check, Chronicle, Violation, ensure};
use crate::disk::LogImage;
use crate::workload::{Answer, Op};

const PROPERTY: &str = "durability of acknowledged writes";

#[derive(Debug)]
pub(super) struct Durability {
    acknowledged: Index,
    /// By which configuration each server went at the end of its last turn.
    members: Vec<Configuration>,
}

impl Durability {
    pub(super) fn new(servers: usize) -> Self {
        Self {
            acknowledged: Index::ZERO,
            members: vec![Configuration::default(); servers],
        }
    }

    /// The entries `news` are newly known committed, by the server at `at`. It may have counted by the configuration that it began the turn with,
    /// or by one that it made in it.
    pub(super) fn committed(
        &mut self,
        chronicle: &Chronicle,
        at: usize,
        status: &Status,
        news: Range<u64>,
    ) -> Check {
        let before = core::mem::replace(&mut self.members[at], status.members.clone());
        for index in news {
            let index = Index(index);
            let term = chronicle.issued_log(at).term_at(index);
            let holders: BTreeSet<NodeId> = (0..chronicle.servers())
                .filter(|server| {
                    let log = chronicle.durable_log(*server);
                    log.base.index >= index || log.term_at(index) == term
                })
                .map(|server| chronicle.id(server))
                .collect();
            let counted = [&before, &status.members].map(|members| is_quorum(members, &holders));
            if counted == [false, false] {
                return Err(Violation {
                    property: PROPERTY,
                    detail: format!(
                        "{:?} in term {} takes {index} (made in term {term:?}) for committed, and only {holders:?} have it on disk",
                        status.id, status.term
                    ),
                });
            }
        }
        Ok(())
    }

    /// A client was answered.
    pub(super) fn answered(&mut self, chronicle: &Chronicle, op: Op, answer: &Answer) -> Check {
        let Answer::Written { index, done } = *answer else {
            return Ok(());
        };
        let Op::Write(change) = op else {
            return Err(Violation {
                property: PROPERTY,
                detail: format!("'{op}' was answered as a write"),
            });
        };
        self.acknowledged = self.acknowledged.max(index);
        let found = chronicle.reference().outcome(index);
        ensure(PROPERTY, found == Some((change, done)), || {
            format!(
                "'{op}' was acknowledged at {index} as done = {done}, and what is committed there is {found:?}"
            )
        })
    }

    /// A disk holds what is committed, as far as it goes.
    pub(super) fn on_disk(&self, chronicle: &Chronicle, at: usize, image: &LogImage) -> Check {
        ensure(PROPERTY, image.last().index >= self.acknowledged, || {
            format!(
                "at rest, the log of server {} ends at {}, before the acknowledged {}",
                at + 1,
                image.last(),
                self.acknowledged
            )
        })?;
        for entry in &image.entries {
            let Some(record) = chronicle.ledger(entry.id.index) else {
                continue;
            };
            ensure(PROPERTY, record.term == entry.id.term, || {
                format!(
                    "at rest, server {} holds {}, and an entry of term {} is committed there",
                    at + 1,
                    entry.id,
                    record.term
                )
            })?;
        }
        Ok(())
    }
}
