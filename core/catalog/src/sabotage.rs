//! Deliberate mistakes, each the breach of one rule. The simulator must notice every one of them: that is how we know that its
//! oracles see. Never compiled into a program that serves anybody.

use crate::state::State;

/// A mistake to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Let a fence through that was given to somebody before.
    PassOldFences,
    /// Give a lock that somebody else holds.
    GiveHeldLocks,
    /// Begin to count fences anew with each key.
    ReuseFences,
    /// Let the locks of a session that has ended be taken at once.
    SkipLockDelays,
    /// Leave the locks of a session that has ended where they are.
    KeepLocksOfTheDead,
    /// Carry a change out again that has been carried out under the same idempotency key.
    CarryOutAgain,
    /// Lose the answers under idempotency keys when a server starts again, or gets a snapshot.
    LoseReceipts,
}

impl State {
    /// Has a state that was just made make this mistake.
    pub fn sabotage(&mut self, mistake: Option<Sabotage>) {
        self.kv.locks.sabotage = mistake;
        if mistake == Some(Sabotage::LoseReceipts) {
            self.receipts = crate::once::Receipts::default();
        }
    }

    /// The mistake that it makes.
    pub const fn mistake(&self) -> Option<Sabotage> {
        self.kv.locks.sabotage
    }
}

impl crate::locks::Locks {
    /// Whether this mistake is to be made.
    pub(crate) fn sabotaged(&self, mistake: Sabotage) -> bool {
        self.sabotage == Some(mistake)
    }
}
