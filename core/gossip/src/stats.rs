//! What a member counts.

use std::collections::BTreeMap;

use crate::io::Refusal;

/// Counters since the start, and a few sizes as they are now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Datagrams that arrived.
    pub packets_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Datagrams that were sent.
    pub packets_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Calls that were made.
    pub calls_out: u64,
    /// Calls that were answered.
    pub calls_in: u64,
    /// Bytes of requests and replies, both ways.
    pub call_bytes: u64,
    /// Probes that were begun.
    pub probes: u64,
    /// Probes that ended without any answer.
    pub probes_failed: u64,
    /// Requests to others to probe a member.
    pub indirect_probes: u64,
    /// Probes that only a stream answered.
    pub degraded: u64,
    /// Suspicions that this member began.
    pub suspicions: u64,
    /// Members that this member's own suspicion took for failed.
    pub failures: u64,
    /// Statements about this member that it contradicted.
    pub refutations: u64,
    /// Times this member's own clock showed that it had not been running.
    pub pauses: u64,
    /// Exchanges of state that found both sides equal.
    pub syncs_equal: u64,
    /// Exchanges of state in which members were sent.
    pub syncs: u64,
    /// Refused, by reason.
    pub refused: BTreeMap<Refusal, u64>,
    /// User events that were handed out.
    pub user_events: u64,
    /// Of these, those that came so late that a later one had been handed out before.
    pub user_events_late: u64,
    /// User events that had come before.
    pub user_events_known: u64,
    /// User events that came when more later ones were known than are kept.
    pub user_events_too_old: u64,
    /// Calls for user events that were missed.
    pub event_pulls: u64,
    /// User events and queries that wait to be passed on.
    pub payload_queued: usize,
    /// User events and queries of others that had to make room before they were passed on as often as they should.
    pub payload_dropped: u64,
    /// The most transmissions that any user event or query had.
    pub payload_transmissions_max: u32,
    /// Statements that wait to be passed on.
    pub broadcasts_queued: usize,
    /// The most transmissions that any one statement had.
    pub transmissions_max: u32,
    /// Members that are known, in any state, and this one.
    pub members: usize,
    /// Members that are forgotten but remembered not to come back by old news.
    pub tombstones: usize,
}
