//! What the server has done so far.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hickory_proto::op::ResponseCode;

/// Counts since the server's start, and how things are now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stats {
    /// Messages that came by UDP.
    pub udp: u64,
    /// Messages that came by TCP.
    pub tcp: u64,
    /// Connections that were let in.
    pub connections: u64,
    /// Connections over a limit, which were closed at once.
    pub refused_connections: u64,
    /// Messages that were no queries and got no answer.
    pub noise: u64,
    /// Answers by response code: no error, no such name, the server failed, refused, and any other.
    pub answers: AnswerStats,
    /// Answers that were encoded before.
    pub hits: u64,
    /// Queries by UDP that were dropped because there were too many, or because they had waited for too long.
    pub dropped: u64,
    /// Queries that were not looked up because too many waited for others.
    pub crowded: u64,
    /// Queries that were passed on to recursors.
    pub forwarded: u64,
    /// Those of them that no recursor answered.
    pub unforwarded: u64,
    /// Answers of other agents that are kept now.
    pub kept: usize,
    /// How old the oldest of those is that nobody vouches for, now that those who would cannot be reached; 0 if there is none.
    pub oldest_kept: Duration,
}

/// Answers by response code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct AnswerStats {
    /// NOERROR.
    pub no_error: u64,
    /// NXDOMAIN.
    pub no_such_name: u64,
    /// SERVFAIL.
    pub failed: u64,
    /// REFUSED.
    pub refused: u64,
    /// Any other: FORMERR and NOTIMP.
    pub other: u64,
}

/// One of [`Counters`].
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn count(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// [`Stats`] in the making.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) udp: Counter,
    pub(crate) tcp: Counter,
    pub(crate) connections: Counter,
    pub(crate) refused_connections: Counter,
    pub(crate) noise: Counter,
    pub(crate) hits: Counter,
    pub(crate) dropped: Counter,
    pub(crate) crowded: Counter,
    pub(crate) forwarded: Counter,
    pub(crate) unforwarded: Counter,
    no_error: Counter,
    no_such_name: Counter,
    failed: Counter,
    refused: Counter,
    other: Counter,
}

impl Counters {
    /// Counts an answer by its response code.
    pub(crate) fn answered(&self, code: u16) {
        let known = [
            (ResponseCode::NoError, &self.no_error),
            (ResponseCode::NXDomain, &self.no_such_name),
            (ResponseCode::ServFail, &self.failed),
            (ResponseCode::Refused, &self.refused),
        ];
        let counter = known.into_iter().find(|(known, _)| u16::from(*known) == code);
        counter.map_or(&self.other, |(_, counter)| counter).count();
    }

    pub(crate) fn read(&self, kept: usize, oldest_kept: Duration) -> Stats {
        Stats {
            udp: self.udp.get(),
            tcp: self.tcp.get(),
            connections: self.connections.get(),
            refused_connections: self.refused_connections.get(),
            noise: self.noise.get(),
            answers: AnswerStats {
                no_error: self.no_error.get(),
                no_such_name: self.no_such_name.get(),
                failed: self.failed.get(),
                refused: self.refused.get(),
                other: self.other.get(),
            },
            hits: self.hits.get(),
            dropped: self.dropped.get(),
            crowded: self.crowded.get(),
            forwarded: self.forwarded.get(),
            unforwarded: self.unforwarded.get(),
            kept,
            oldest_kept,
        }
    }
}
