//! Reads: whatever a read returns is what the key held at the index it claims (prefix consistency), and unless the client allowed a stale
//! one, that index is not before anything that was answered before the read began (lease reads never stale).

use std::collections::BTreeMap;

use lictor_machine::{Index, Token};

use super::{Check, Chronicle, Violation, ensure};
use crate::workload::{Answer, Freshness, Op};

#[derive(Debug, Default)]
pub(super) struct Reads {
    /// What was asked, and the highest index that had been answered before.
    open: BTreeMap<Token, (Op, Index)>,
    answered: Index,
}

impl Reads {
    pub(super) fn asked(&mut self, token: Token, op: Op) {
        self.open.insert(token, (op, self.answered));
    }

    /// Returns what was asked.
    pub(super) fn answered(
        &mut self,
        chronicle: &Chronicle,
        token: Token,
        answer: &Answer,
    ) -> Result<Op, Violation> {
        let Some((op, floor)) = self.open.remove(&token) else {
            return Err(Violation {
                property: "reads",
                detail: format!("request {} was never asked", token.0),
            });
        };
        match (op, answer) {
            (Op::Get { key, freshness }, Answer::Value { index, held }) => {
                if freshness != Freshness::Stale {
                    fresh(op, *index, floor)?;
                    self.answered = self.answered.max(*index);
                }
                let expected = chronicle.reference().held(key, *index);
                ensure("prefix consistency", *held == expected, || {
                    format!("'{op}' returned {held:?} as of {index}, and the key held {expected:?} then")
                })?;
            }
            (Op::Write(_), Answer::Written { index, .. }) => self.answered = self.answered.max(*index),
            (_, Answer::Refused | Answer::Unknown)
            | (Op::Transfer, Answer::Transferred(_))
            | (Op::Reconfigure(_), Answer::Reconfigured { .. }) => {}
            (
                _,
                Answer::Written { .. }
                | Answer::Value { .. }
                | Answer::Transferred(_)
                | Answer::Reconfigured { .. },
            ) => {
                return Err(Violation {
                    property: "reads",
                    detail: format!("'{op}' was answered {answer:?}"),
                });
            }
        }
        Ok(op)
    }
}

fn fresh(op: Op, index: Index, floor: Index) -> Check {
    ensure("lease reads never stale", index >= floor, || {
        format!("'{op}' was answered as of {index}, and {floor} had been answered before it was asked")
    })
}
