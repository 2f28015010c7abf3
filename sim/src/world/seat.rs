//! Where a server sits: what it keeps through its lives, and what it has of the present one.

use std::collections::{BTreeSet, VecDeque};

use lictor_machine::{Index, Instant, NodeId, Rng};
use lictor_raft::{Role, Term, WriteBatch};

use crate::clock::LocalClock;
use crate::disk::Disk;
use crate::host::{Host, Setup, Stimulus};

pub(super) struct Seat<H> {
    pub(super) id: NodeId,
    pub(super) disk: Disk,
    /// Counts starts.
    pub(super) life: u64,
    pub(super) host: Option<H>,
    pub(super) clock: LocalClock,
    /// Frozen: inputs wait in `inbox`.
    pub(super) asleep: bool,
    pub(super) inbox: VecDeque<Stimulus>,
    /// When the next alarm is scheduled.
    pub(super) wake_at: Instant,
    /// Calls that wait for an end.
    pub(super) calls: BTreeSet<u64>,
    /// How many times as long as usual the disk takes.
    pub(super) slowness: u32,
    /// Until when nothing can be written.
    pub(super) full_until: Instant,
    /// The next write fails.
    pub(super) fails_next: bool,
    /// A write has failed: nothing more is written in this life.
    pub(super) disk_failed: bool,
    /// The role, term, commit index and applied index that were recorded last.
    pub(super) standing: (Role, Term, Index, Index),
}

impl<H: Host> Seat<H> {
    pub(super) fn new(id: NodeId) -> Self {
        Self {
            id,
            disk: Disk::default(),
            life: 0,
            host: None,
            clock: LocalClock::start(Instant::ZERO, 0),
            asleep: false,
            inbox: VecDeque::new(),
            wake_at: Instant::MAX,
            calls: BTreeSet::new(),
            slowness: 1,
            full_until: Instant::ZERO,
            fails_next: false,
            disk_failed: false,
            standing: (Role::Follower, Term::ZERO, Index::ZERO, Index::ZERO),
        }
    }

    /// Starts a new life from what is on the disk.
    pub(super) fn boot(
        &mut self,
        setup: &Setup,
        seed: u64,
        now: Instant,
        drift_permille: u32,
    ) -> Result<(), String> {
        self.life += 1;
        self.clock = LocalClock::start(now, drift_permille);
        self.asleep = false;
        self.wake_at = Instant::MAX;
        self.fails_next = false;
        self.disk_failed = false;
        self.host = Some(H::boot(
            setup,
            self.id,
            seed,
            &mut self.disk,
            self.clock.now(now),
        )?);
        Ok(())
    }

    /// Ends this life. Returns what became durable by it.
    pub(super) fn crash(&mut self, rng: &mut Rng) -> Result<Vec<WriteBatch>, String> {
        self.host = None;
        self.asleep = false;
        self.inbox.clear();
        self.calls.clear();
        self.standing.0 = Role::Follower;
        self.disk.crash(rng)
    }
}
