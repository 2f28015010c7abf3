//! A node's settings.

use core::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use core::time::Duration;

use lictor_machine::NodeId;

/// Settings of a Raft node, checked by [`Config::check`] when the node starts. Times are the same on every node of a cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub id: NodeId,
    /// Seeds the election jitter. Different on every node.
    pub seed: u64,
    /// A follower that has heard no leader for this long, and up to half as long again by a random draw, campaigns. A leader that
    /// has not heard a quorum for this long steps down.
    pub election_timeout: Duration,
    /// How often a leader makes itself heard. Well below `election_timeout`.
    pub heartbeat_interval: Duration,
    /// How much faster one node's monotonic clock may run than another's, in thousandths. The leader's lease is shorter than
    /// the election timeout by this much.
    pub max_clock_drift_permille: u32,
    /// A leader whose oldest write has not become durable for this long steps down in favour of a peer.
    pub disk_stall: Duration,
    /// The most bytes of entries in one append.
    pub append_bytes_max: NonZeroUsize,
    /// The most appends that may be unacknowledged by one follower.
    pub window_messages: NonZeroU32,
    /// The most bytes of entries that may be unacknowledged by one follower (one append may exceed it).
    pub window_bytes: NonZeroUsize,
    /// How many bytes of applied entries to keep in memory for followers; older ones are fetched.
    pub tail_bytes: usize,
    /// The most bytes of proposals that may wait to be committed before new ones are refused as busy.
    pub uncommitted_bytes_max: NonZeroUsize,
    /// The most reads that may wait for confirmation before new ones are refused as busy.
    pub reads_waiting_max: NonZeroUsize,
    /// The most bytes of entries handed to the state machine and not yet reported applied (one batch may exceed it).
    pub apply_bytes_max: NonZeroUsize,
    /// How many entries a log may keep behind a snapshot for the sake of the follower that is receiving it.
    pub pinned_entries_max: NonZeroU64,
    /// A mistake to make on purpose; for the simulator only.
    #[cfg(feature = "sabotage")]
    pub sabotage: Option<crate::Sabotage>,
}

impl Config {
    /// Settings for servers on one local network: a lost leader is replaced within about a second.
    pub fn lan(id: NodeId, seed: u64) -> Self {
        const fn nonzero(n: usize) -> NonZeroUsize {
            match NonZeroUsize::new(n) {
                Some(n) => n,
                None => NonZeroUsize::MIN,
            }
        }
        Self {
            id,
            seed,
            election_timeout: Duration::from_millis(800),
            heartbeat_interval: Duration::from_millis(350),
            max_clock_drift_permille: 50,
            disk_stall: Duration::from_secs(2),
            append_bytes_max: nonzero(1 << 20),
            window_messages: NonZeroU32::MIN.saturating_add(2),
            window_bytes: nonzero(8 << 20),
            tail_bytes: 8 << 20,
            uncommitted_bytes_max: nonzero(64 << 20),
            reads_waiting_max: nonzero(100_000),
            apply_bytes_max: nonzero(8 << 20),
            pinned_entries_max: NonZeroU64::MIN.saturating_add(999_999),
            #[cfg(feature = "sabotage")]
            sabotage: None,
        }
    }

    /// Stretches all times by `factor`, for networks or machines that are slower.
    #[must_use]
    pub fn stretched(mut self, factor: u32) -> Self {
        let factor = factor.max(1);
        self.election_timeout *= factor;
        self.heartbeat_interval *= factor;
        self.disk_stall *= factor;
        self
    }

    /// How long after the send of a confirmed heartbeat the leader may trust that nobody else leads: every voter that answered it
    /// refuses to vote for an election timeout by its own clock.
    pub fn lease(&self) -> Duration {
        self.election_timeout * 1000 / (1000 + self.max_clock_drift_permille)
    }

    /// Whether the settings make sense together.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.heartbeat_interval.is_zero() || self.heartbeat_interval * 2 > self.election_timeout {
            return Err(ConfigError(
                "the heartbeat interval must be above zero and at most half the election timeout",
            ));
        }
        if self.election_timeout > Duration::from_hours(1) {
            return Err(ConfigError("the election timeout must be at most an hour"));
        }
        if self.max_clock_drift_permille >= 1000 {
            return Err(ConfigError(
                "the clock drift bound must be below 1000 thousandths",
            ));
        }
        Ok(())
    }
}

/// Why settings were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub &'static str);
