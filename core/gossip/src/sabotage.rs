//! Deliberate mistakes, each the breach of one rule. The simulator must notice every one of them: that is how we know that its
//! oracles see. Never compiled into a program that serves anybody.

/// A mistake to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Believe that a member is alive though the statement is no newer than its death.
    ResurrectTheDead,
    /// Believe a suspicion that is older than what is known of the suspect.
    SuspectOldIncarnation,
    /// Take a member that left in good order for failed when somebody says so.
    FailWhoLeft,
    /// Pass statements on without end.
    RetransmitForEver,
    /// Never contradict.
    NeverRefute,
}
