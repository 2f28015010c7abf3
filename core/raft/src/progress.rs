//! What a leader knows of one peer, and how much it may send to it.

use std::collections::VecDeque;

use core::time::Duration;

use lictor_machine::{Index, Instant};

use crate::config::Config;
use crate::io::FetchId;
use crate::membership::Leaving;
use crate::types::LogId;

/// The longest patience with a silent peer, in election timeouts.
const PATIENCE_MAX: u32 = 8;

/// How a peer is being served.
///
/// ```text
///            accepted                     log compacted away
///   Probe ------------> Replicate      Probe ------------> Snapshot
///     ^                     |            ^                     |
///     +---------------------+            +---------------------+
///      rejected, unreachable,             installed
///      or silent for too long
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Where the logs meet is not known: one append at a time. `waiting` since the last one was sent.
    Probe { waiting: bool },
    /// The logs meet: appends are pipelined within the window.
    Replicate,
    /// The peer needs what the log no longer holds.
    Snapshot(Sending),
}

/// A snapshot on its way to a peer, one chunk at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sending {
    /// Which snapshot; `None` until the first chunk has been fetched.
    pub(crate) snapshot: Option<LogId>,
    /// The chunk that the peer wants.
    pub(crate) chunk: u64,
    /// It has been sent and not yet answered.
    pub(crate) waiting: bool,
}

#[derive(Debug)]
pub(crate) struct Progress {
    /// Durable at the peer and equal to our log up to here.
    pub(crate) matched: Index,
    /// The next to send. Always above `matched`.
    pub(crate) next: Index,
    /// Where the last probe began: an answer that never came says nothing of the log there, so it is asked for again.
    probed: Index,
    pub(crate) mode: Mode,
    /// When the peer last answered in this leader's term.
    pub(crate) last_heard: Instant,
    /// The latest heartbeat round that the peer answered.
    pub(crate) acked_round: u64,
    /// It is not a member any more, and is served only until it knows.
    pub(crate) leaving: Option<Leaving>,
    /// The commit index that the peer was last told.
    pub(crate) commit_told: Index,
    /// The last index and the size of each unacknowledged append.
    in_flight: VecDeque<(Index, usize)>,
    bytes_in_flight: usize,
    /// A read from storage on the peer's behalf.
    pub(crate) fetch: Option<FetchId>,
    /// When something was last sent or acknowledged while something was unacknowledged.
    pub(crate) moved: Instant,
    /// Messages may have been lost; what was sent is sent again once the peer is heard.
    suspect: bool,
    /// How long without an acknowledgement until what was sent is taken for lost. Doubles each time.
    patience: Duration,
}

impl Progress {
    pub(crate) fn new(next: Index, now: Instant, config: &Config) -> Self {
        Self {
            matched: Index::ZERO,
            next,
            probed: next,
            mode: Mode::Probe { waiting: false },
            last_heard: now,
            acked_round: 0,
            leaving: None,
            commit_told: Index::ZERO,
            in_flight: VecDeque::new(),
            bytes_in_flight: 0,
            fetch: None,
            moved: now,
            suspect: false,
            patience: config.election_timeout / 2,
        }
    }

    pub(crate) const fn bytes_in_flight(&self) -> usize {
        self.bytes_in_flight
    }

    pub(crate) const fn is_receiving_snapshot(&self) -> bool {
        matches!(self.mode, Mode::Snapshot(_))
    }

    /// Whether the peer has been silent for so long that nothing is to be kept for it until it is back.
    pub(crate) fn is_away(&self, now: Instant, config: &Config) -> bool {
        now.since(self.last_heard) > config.election_timeout * PATIENCE_MAX
    }

    /// Whether another append may be sent now.
    pub(crate) fn has_room(&self, config: &Config) -> bool {
        match self.mode {
            Mode::Probe { waiting } => !waiting && self.fetch.is_none(),
            Mode::Replicate => {
                self.fetch.is_none()
                    && self.in_flight.len() < config.window_messages.get() as usize
                    && self.bytes_in_flight < config.window_bytes.get()
            }
            Mode::Snapshot(_) => false,
        }
    }

    /// Notes that entries up to `last` were sent.
    pub(crate) fn sent(&mut self, last: Index, bytes: usize, now: Instant) {
        if self.in_flight.is_empty() {
            self.moved = now;
        }
        self.in_flight.push_back((last, bytes));
        self.bytes_in_flight += bytes;
        self.next = self.next.max(last.next());
        if let Mode::Probe { waiting } = &mut self.mode {
            *waiting = true;
        }
    }

    /// The peer holds everything up to `through`.
    pub(crate) fn accepted(&mut self, through: Index, now: Instant, config: &Config) {
        if through > self.matched {
            self.matched = through;
            self.patience = config.election_timeout / 2;
        }
        while self.in_flight.front().is_some_and(|(last, _)| *last <= through) {
            if let Some((_, bytes)) = self.in_flight.pop_front() {
                self.bytes_in_flight -= bytes;
            }
        }
        self.moved = now;
        if self.next <= self.matched {
            self.next = self.matched.next();
            // Entries that are being read for the peer are not what it needs next any more.
            if !self.is_receiving_snapshot() {
                self.fetch = None;
            }
        }
        match self.mode {
            Mode::Probe { .. } => self.mode = Mode::Replicate,
            // The peer got what it lacked in another way.
            Mode::Snapshot(sending) if sending.snapshot.is_some_and(|last| last.index <= through) => {
                self.mode = Mode::Replicate;
                self.fetch = None;
            }
            Mode::Snapshot(_) | Mode::Replicate => {}
        }
    }

    /// Starts over from `next`, one append at a time.
    pub(crate) fn probe_from(&mut self, next: Index) {
        self.next = next.max(self.matched.next());
        self.probed = self.next;
        self.mode = Mode::Probe { waiting: false };
        self.in_flight.clear();
        self.bytes_in_flight = 0;
        self.fetch = None;
    }

    /// Starts sending a snapshot from its first chunk.
    pub(crate) fn start_snapshot(&mut self) {
        self.in_flight.clear();
        self.bytes_in_flight = 0;
        self.fetch = None;
        self.mode = Mode::Snapshot(Sending {
            snapshot: None,
            chunk: 0,
            waiting: false,
        });
    }

    /// What was sent may be lost: send it again.
    pub(crate) fn lost(&mut self) {
        match &mut self.mode {
            Mode::Probe { .. } => self.probe_from(self.probed),
            Mode::Replicate => self.probe_from(self.matched.next()),
            Mode::Snapshot(sending) => {
                sending.waiting = false;
                self.fetch = None;
            }
        }
    }

    /// The connection broke. Nothing more is sent in bulk until the peer is heard again, or its silence has lasted.
    pub(crate) fn suspect(&mut self) {
        self.suspect = true;
        if self.mode == Mode::Replicate {
            self.probe_from(self.matched.next());
            self.mode = Mode::Probe { waiting: true };
        }
    }

    /// The peer answers heartbeats, so an append that it does not answer was most likely lost on the way: no need to be more patient
    /// than at first. (While appends are pipelined it may also be its disk that is slow.)
    pub(crate) fn answers(&mut self, now: Instant, config: &Config) {
        let first_patience = config.election_timeout / 2;
        if self.mode == (Mode::Probe { waiting: true }) && now.since(self.moved) >= first_patience {
            self.patience = first_patience;
            self.moved = now;
            self.lost();
        }
    }

    /// The peer spoke, whatever it said: it can be reached again.
    pub(crate) fn spoke(&mut self) {
        if std::mem::take(&mut self.suspect) {
            self.lost();
        }
    }

    /// Takes unacknowledged messages for lost if the peer has been silent about them for too long.
    pub(crate) fn check_silence(&mut self, now: Instant, config: &Config) {
        let waiting = match self.mode {
            Mode::Probe { waiting } => waiting,
            Mode::Replicate => !self.in_flight.is_empty(),
            Mode::Snapshot(sending) => sending.waiting,
        };
        if waiting && now.since(self.moved) >= self.patience {
            if self.is_receiving_snapshot() && self.is_away(now, config) {
                // To read chunks for one who is away would hold the snapshot in memory, and the log behind it, until it is back.
                self.suspect = true;
                return;
            }
            self.patience = (self.patience * 2).min(config.election_timeout * PATIENCE_MAX);
            self.moved = now;
            self.lost();
        }
    }
}
