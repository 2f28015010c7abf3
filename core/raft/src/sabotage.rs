//! Deliberate mistakes, each the breach of one rule. The simulator must notice every one of them: that is how we know that its
//! oracles see. Never compiled into a program that serves anybody.

/// A mistake to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Vote for a second candidate in the same term.
    VoteTwice,
    /// Send what depends on a write before the write is durable.
    AckBeforePersist,
    /// Commit an entry of an older term by counting replicas (Figure 8 of the paper).
    CommitOldTerm,
    /// Commit what only the leader itself holds.
    CountWithoutQuorum,
    /// Take the lease for granted without hearing from a quorum.
    LeaseWithoutQuorum,
    /// Apply entries before they are committed.
    ApplyUncommitted,
    /// Drop a conflicting tail in memory but not on disk.
    ForgetTruncate,
}
