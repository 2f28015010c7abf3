//! Counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::error::RefusalKind;

/// What a transport has done since it was bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections to peers that are open.
    pub outgoing: usize,
    /// Connections from peers that are open, those that have not yet greeted among them.
    pub incoming: usize,
    /// Handshakes that came to a connection, either way.
    pub handshakes: u64,
    /// Attempts to reach a peer that came to nothing.
    pub failed_dials: u64,
    /// Frames and datagrams handed to connections.
    pub frames_sent: u64,
    /// Bytes of those.
    pub bytes_sent: u64,
    /// Frames and datagrams passed on to the agent.
    pub frames_received: u64,
    /// Bytes of those.
    pub bytes_received: u64,
    /// Frames that were queued and could not be handed to a connection.
    pub frames_lost: u64,
    /// Datagrams that were dropped instead of sent: there was no connection, or it came too late.
    pub datagrams_dropped: u64,
    /// Datagrams of peers that were dropped because the agent did not take them as fast as they came.
    pub datagrams_overrun: u64,
    /// Calls made.
    pub calls_made: u64,
    /// Calls passed on to the agent.
    pub calls_taken: u64,
    refused: [u64; RefusalKind::ALL.len()],
}

impl Stats {
    /// How many connections this agent refused, or closed for a breach, for a reason of `kind`.
    pub const fn refused(&self, kind: RefusalKind) -> u64 {
        self.refused[kind as usize]
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: usize) {
        self.0.fetch_add(amount as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts what is there now: one for each [`Held`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauge(Arc<AtomicUsize>);

impl Gauge {
    pub(crate) fn enter(&self) -> Held {
        self.0.fetch_add(1, Ordering::Relaxed);
        Held(self.clone())
    }

    /// Like [`Gauge::enter`], unless there are `limit` already.
    pub(crate) fn enter_below(&self, limit: usize) -> Option<Held> {
        let held = self.enter();
        (self.get() <= limit).then_some(held)
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// One of what a [`Gauge`] counts, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held(Gauge);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) outgoing: Gauge,
    pub(crate) incoming: Gauge,
    /// Connections from peers that have not yet greeted.
    pub(crate) greeting: Gauge,
    pub(crate) handshakes: Counter,
    pub(crate) failed_dials: Counter,
    pub(crate) frames_sent: Counter,
    pub(crate) bytes_sent: Counter,
    pub(crate) frames_received: Counter,
    pub(crate) bytes_received: Counter,
    pub(crate) frames_lost: Counter,
    pub(crate) datagrams_dropped: Counter,
    pub(crate) datagrams_overrun: Counter,
    pub(crate) calls_made: Counter,
    pub(crate) calls_taken: Counter,
    refused: [Counter; RefusalKind::ALL.len()],
}

impl Counters {
    pub(crate) fn refused(&self, kind: RefusalKind) {
        self.refused[kind as usize].add(1);
    }

    pub(crate) fn snapshot(&self) -> Stats {
        Stats {
            outgoing: self.outgoing.get(),
            incoming: self.incoming.get(),
            handshakes: self.handshakes.get(),
            failed_dials: self.failed_dials.get(),
            frames_sent: self.frames_sent.get(),
            bytes_sent: self.bytes_sent.get(),
            frames_received: self.frames_received.get(),
            bytes_received: self.bytes_received.get(),
            frames_lost: self.frames_lost.get(),
            datagrams_dropped: self.datagrams_dropped.get(),
            datagrams_overrun: self.datagrams_overrun.get(),
            calls_made: self.calls_made.get(),
            calls_taken: self.calls_taken.get(),
            refused: RefusalKind::ALL.map(|kind| self.refused[kind as usize].get()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_counts_what_is_held() {
        let gauge = Gauge::default();
        let first = gauge.enter_below(2).unwrap();
        let second = gauge.enter_below(2).unwrap();
        assert!(gauge.enter_below(2).is_none());
        assert_eq!(gauge.get(), 2);
        drop(first);
        assert!(gauge.enter_below(2).is_some());
        drop(second);
        assert_eq!(gauge.get(), 0);
    }
}
