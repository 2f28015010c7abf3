//! Deliberate mistakes, each the breach of one rule. The simulator must notice every one of them: that is how we know that its
//! oracles see. Never compiled into a program that serves anybody.

use crate::node::Node;

/// A mistake to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Give sessions only a part of their time when another leads.
    ShortenTerms,
    /// Say that a session is renewed, and leave its time as it is.
    IgnoreRenewals,
    /// Renew sessions as a leader that may be none any more.
    RenewWithoutQuorum,
    /// Take lock delays for over when another leads.
    ForgetLockDelays,
    /// Take answers under idempotency keys for old when another leads.
    ForgetReceipts,
    /// Ask again for changes whose fate is not known, whether they have idempotency keys or not.
    RepeatEverything,
}

impl Node {
    /// Whether this mistake is to be made.
    pub(crate) fn sabotaged(&self, mistake: Sabotage) -> bool {
        self.config.sabotage == Some(mistake)
    }
}
