//! What happened in the logs of runs: a band of seeds in which something never happened has not tested it.

/// How often what it looks for happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Locks taken.
    pub taken: u64,
    /// Sessions that ran out.
    pub expired: u64,
    /// Sessions that ended with a node or a check.
    pub lost: u64,
    /// Sessions that somebody ended.
    pub ended: u64,
    /// Lock delays that were over.
    pub delays: u64,
    /// Writes that a fence let through.
    pub fenced: u64,
    /// Writes that a fence kept out.
    pub kept_out: u64,
    /// Repetitions under an idempotency key.
    pub repeated: u64,
    /// Answers forgotten.
    pub forgotten: u64,
    /// Archives that took the place of everything.
    pub restored: u64,
    /// States of servers that were held against what the log says.
    pub compared: u64,
}

impl Seen {
    /// Adds those of another run.
    pub const fn add(&mut self, other: &Self) {
        self.taken += other.taken;
        self.expired += other.expired;
        self.lost += other.lost;
        self.ended += other.ended;
        self.delays += other.delays;
        self.fenced += other.fenced;
        self.kept_out += other.kept_out;
        self.repeated += other.repeated;
        self.forgotten += other.forgotten;
        self.restored += other.restored;
        self.compared += other.compared;
    }
}
