//! Bounded queues: what a leader has sent and not seen acknowledged stays within its window, and all of it comes back once
//! nothing happens any more.

use lictor_raft::Status;

use super::{Check, ensure};

const PROPERTY: &str = "bounded queues";

/// What there may be of everything.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes that one follower has not acknowledged: the window, and one append over it.
    pub bytes_in_flight: usize,
    /// Writes that one disk has not finished.
    pub writes_in_flight: usize,
}

#[derive(Debug)]
pub(super) struct BoundedQueues {
    bounds: Bounds,
}

impl BoundedQueues {
    pub(super) const fn new(bounds: Bounds) -> Self {
        Self { bounds }
    }

    pub(super) fn turned(&self, status: &Status) -> Check {
        ensure(
            PROPERTY,
            status.writes_in_flight <= self.bounds.writes_in_flight,
            || {
                format!(
                    "{:?} has {} writes in flight, the bound is {}",
                    status.id, status.writes_in_flight, self.bounds.writes_in_flight
                )
            },
        )?;
        for peer in &status.peers {
            ensure(
                PROPERTY,
                peer.bytes_in_flight <= self.bounds.bytes_in_flight,
                || {
                    format!(
                        "{:?} has {} bytes in flight to {:?}, the bound is {}",
                        status.id, peer.bytes_in_flight, peer.id, self.bounds.bytes_in_flight
                    )
                },
            )?;
            ensure(PROPERTY, peer.next > peer.matched, || {
                format!(
                    "{:?} would send {:?} entries from {} on, and knows that it has {}",
                    status.id, peer.id, peer.next, peer.matched
                )
            })?;
        }
        Ok(())
    }
}

/// At rest nothing is in flight.
pub(super) fn at_rest(status: &Status) -> Check {
    ensure(PROPERTY, status.writes_in_flight == 0, || {
        format!(
            "at rest, {:?} believes that {} writes are in flight",
            status.id, status.writes_in_flight
        )
    })?;
    status.peers.iter().try_for_each(|peer| {
        ensure(PROPERTY, peer.bytes_in_flight == 0 && !peer.snapshot, || {
            format!(
                "at rest, {:?} believes that something is on its way: {peer:?}",
                status.id
            )
        })
    })
}
