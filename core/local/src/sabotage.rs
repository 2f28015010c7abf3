//! Deliberate mistakes, each the breach of one rule. The simulator must notice every one of them: that is how we know that its
//! oracles see. Never compiled into a program that serves anybody.

use super::Local;

/// A mistake to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Leave in the catalog what is not, or no longer, here.
    KeepGhosts,
    /// Compare with the catalog once, and never again.
    NeverCompare,
    /// Ask the catalog something while another question is open.
    AskTwice,
    /// Begin after a restart as if nothing were known of any check.
    ForgetStatuses,
    /// Say that something is done before it is durable.
    AnswerBeforeSaved,
    /// Remove registrations, but not from the disk.
    KeepRecords,
}

impl Local {
    /// Whether this mistake is to be made.
    pub(super) fn sabotaged(&self, mistake: Sabotage) -> bool {
        self.config.sabotage == Some(mistake)
    }
}
