//! Open connections, and which of them to send on.
//!
//! On a mutual plane either end sends on a connection, whoever made it. If both have made one, because they called
//! each other at the same time, both choose the same: the one that the lower node id made. The other is not used any
//! more and closed by its maker, like every connection that nobody uses.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use lictor_machine::NodeId;
use quinn::Connection;

use crate::budget::Budget;
use crate::error::CODE_DONE;
use crate::identity::PeerIdentity;
use crate::plane::Plane;
use crate::shared::{Shared, lock};
use crate::stats::{Gauge, Held};

/// Connections with one node on one plane that are considered for sending. There are seldom more than two.
const CONSIDERED_MAX: usize = 4;

/// A connection to a peer after both have greeted. One that was made here is closed when nobody holds it any more;
/// one of the peer's is the peer's to close.
pub(crate) struct Session {
    pub(crate) connection: Connection,
    pub(crate) peer: Arc<PeerIdentity>,
    pub(crate) traffic: Arc<Traffic>,
    /// Nanoseconds since the transport was bound.
    opened_at: u64,
    /// Its place among the outgoing ones, if it was made here.
    dialed: Option<Held>,
}

/// What goes on on a connection.
pub(crate) struct Traffic {
    /// Nanoseconds since the transport was bound.
    used_at: AtomicU64,
    /// Calls of either end that wait for an answer.
    pub(crate) calls: Gauge,
    /// Requests of this end that wait for an answer.
    pub(crate) asking: Budget,
    /// Requests of the peer that come in, or wait for an answer: on this connection and others.
    pub(crate) asked: Budget,
    /// Answers to the peer that wait for it to take them: on this connection and others.
    pub(crate) answers: Budget,
    /// Datagrams of the peer that wait for the agent.
    pub(crate) datagrams: Gauge,
}

impl Traffic {
    /// Of a peer with these budgets, for what it asks and for what it is answered.
    fn new((asked, answers): (Budget, Budget), opened_at: u64) -> Self {
        Self {
            used_at: AtomicU64::new(opened_at),
            calls: Gauge::default(),
            asking: Budget::default(),
            asked,
            answers,
            datagrams: Gauge::default(),
        }
    }

    pub(crate) fn touch(&self, now_nanos: u64) {
        self.used_at.store(now_nanos, Ordering::Relaxed);
    }

    pub(crate) fn used_at(&self) -> u64 {
        self.used_at.load(Ordering::Relaxed)
    }

    /// Whether nothing has come or gone for `patience`, and nobody waits for an answer.
    pub(crate) fn is_idle(&self, now_nanos: u64, patience: Duration) -> bool {
        self.calls.get() == 0 && u128::from(now_nanos.saturating_sub(self.used_at())) >= patience.as_nanos()
    }
}

impl Session {
    /// A connection that was made here.
    pub(crate) fn dialed(
        shared: &Shared,
        connection: Connection,
        peer: Arc<PeerIdentity>,
        plane: Plane,
        held: Held,
    ) -> Self {
        Self::new(shared, connection, peer, plane, Some(held))
    }

    /// One that the peer has made.
    pub(crate) fn accepted(
        shared: &Shared,
        connection: Connection,
        peer: Arc<PeerIdentity>,
        plane: Plane,
    ) -> Self {
        Self::new(shared, connection, peer, plane, None)
    }

    fn new(
        shared: &Shared,
        connection: Connection,
        peer: Arc<PeerIdentity>,
        plane: Plane,
        dialed: Option<Held>,
    ) -> Self {
        let opened_at = shared.nanos();
        let budgets = shared.ledger.of(peer.node(), plane);
        Self {
            connection,
            peer,
            traffic: Arc::new(Traffic::new(budgets, opened_at)),
            opened_at,
            dialed,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    /// Who made it.
    fn maker(&self, own: NodeId) -> NodeId {
        if self.dialed.is_some() {
            own
        } else {
            self.peer.node()
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.dialed.is_some() {
            self.connection.close(CODE_DONE, b"not needed any more");
        }
    }
}

type ByPeer = HashMap<(NodeId, Plane), Vec<Weak<Session>>>;

/// The open connections of mutual planes, by whom they lead to. It keeps none of them open.
pub(crate) struct Sessions {
    own: NodeId,
    /// How long the peer leaves a connection open that it made and that nobody uses.
    idle_timeout: Duration,
    /// Two connections that were opened within this time were opened at the same time.
    crossing: Duration,
    open: Mutex<ByPeer>,
}

impl Sessions {
    pub(crate) fn new(own: NodeId, idle_timeout: Duration, crossing: Duration) -> Self {
        Self {
            own,
            idle_timeout,
            crossing,
            open: Mutex::default(),
        }
    }

    /// From now on it may be sent on. If the peer has made it while there was another for some time already, it does
    /// not know the other any more, as after a restart, and that one is not sent on again.
    pub(crate) fn add(&self, session: &Arc<Session>, plane: Plane) {
        let mut open = lock(&self.open);
        let others = open.entry((session.peer.node(), plane)).or_default();
        others.retain(|other| {
            other.upgrade().is_some_and(|other| {
                let apart = session.opened_at.saturating_sub(other.opened_at);
                other.is_open() && u128::from(apart) < self.crossing.as_nanos()
            })
        });
        if others.len() == CONSIDERED_MAX {
            others.remove(0);
        }
        others.push(Arc::downgrade(session));
    }

    /// Forgets a connection that is closed, and others like it.
    pub(crate) fn forget_closed(&self, node: NodeId, plane: Plane) {
        let mut open = lock(&self.open);
        if let Some(sessions) = open.get_mut(&(node, plane)) {
            sessions.retain(|session| session.upgrade().is_some_and(|session| session.is_open()));
            if sessions.is_empty() {
                open.remove(&(node, plane));
            }
        }
    }

    /// The connection to send on to the node that is at `address`. Both ends choose the same one.
    pub(crate) fn best(
        &self,
        node: NodeId,
        plane: Plane,
        address: SocketAddr,
        now_nanos: u64,
    ) -> Option<Arc<Session>> {
        // Who made it closes it when it was idle for the whole time; it must not be used at that very moment.
        let margin = self.idle_timeout * 3 / 4;
        let open = lock(&self.open);
        open.get(&(node, plane))?
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|session| {
                session.is_open()
                    && session.peer.address == address
                    && (session.dialed.is_some() || !session.traffic.is_idle(now_nanos, margin))
            })
            .min_by_key(|session| (session.maker(self.own), Reverse(session.opened_at)))
    }
}
