//! What all tasks of one transport share.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures_lite::FutureExt as _;
use lictor_machine::{NodeId, Rng};
use lictor_runtime::Runtime;

use crate::budget::Ledger;
use crate::dials::Dials;
use crate::error::{ConnectError, Refusal};
use crate::identity::{Identity, Trust};
use crate::limits::Limits;
use crate::link::Link;
use crate::plane::{Plane, Reach};
use crate::session::Sessions;
use crate::stats::{Counters, Held};
use crate::tls::Configs;
use crate::transport::{Event, Target};

/// How many refusals are remembered.
const REMEMBERED_REFUSALS: usize = 16;

/// A refusal like one of the last so many seconds is not logged again.
const QUIET: Duration = Duration::from_secs(10);

/// A connection that came to nothing because one side refused the other, for who looks for the reason.
#[derive(Clone, Debug)]
pub struct RecentRefusal {
    /// When it happened last.
    pub at: Instant,
    /// Where the peer was.
    pub address: SocketAddr,
    /// [`ConnectError::Refused`] or [`ConnectError::RefusedByPeer`].
    pub reason: ConnectError,
}

pub(crate) struct Shared {
    pub(crate) endpoint: quinn::Endpoint,
    pub(crate) runtime: Runtime,
    pub(crate) identity: Identity,
    pub(crate) limits: Limits,
    pub(crate) events: async_channel::Sender<Event>,
    /// Datagrams of peers, each with its place among those of its connection.
    pub(crate) datagrams: async_channel::Sender<(Event, Held)>,
    pub(crate) counters: Counters,
    pub(crate) trust: RwLock<Trust>,
    pub(crate) configs: RwLock<Arc<Configs>>,
    pub(crate) addresses: RwLock<HashMap<(NodeId, Reach), SocketAddr>>,
    pub(crate) links: Mutex<HashMap<(Target, Plane), Arc<Link>>>,
    /// Connections of mutual planes, whoever made them.
    pub(crate) sessions: Sessions,
    /// What peers may have open over all their connections.
    pub(crate) ledger: Ledger,
    pub(crate) dials: Arc<Dials>,
    refusals: Mutex<VecDeque<RecentRefusal>>,
    rng: Mutex<Rng>,
    started: Instant,
    closed: AtomicBool,
}

impl Shared {
    pub(crate) fn new(
        endpoint: quinn::Endpoint,
        runtime: Runtime,
        identity: Identity,
        limits: Limits,
        (events, datagrams): (async_channel::Sender<Event>, async_channel::Sender<(Event, Held)>),
        trust: Trust,
        configs: Configs,
    ) -> Self {
        let seed = identity.node.0 as u64 ^ u64::from(std::process::id());
        let sessions = Sessions::new(identity.node, limits.idle_timeout, limits.handshake_timeout);
        let dials = Dials::new(limits.max_dials);
        Self {
            endpoint,
            runtime,
            identity,
            limits,
            events,
            datagrams,
            counters: Counters::default(),
            trust: RwLock::new(trust),
            configs: RwLock::new(Arc::new(configs)),
            addresses: RwLock::default(),
            links: Mutex::default(),
            sessions,
            ledger: Ledger::default(),
            dials,
            refusals: Mutex::default(),
            rng: Mutex::new(Rng::new(seed)),
            started: Instant::now(),
            closed: AtomicBool::new(false),
        }
    }

    /// Nanoseconds since the transport was bound.
    pub(crate) fn nanos(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Where a node is called on `plane`, if somebody has said so.
    pub(crate) fn address_of(&self, node: NodeId, plane: Plane) -> Option<SocketAddr> {
        let addresses = self.addresses.read().unwrap_or_else(PoisonError::into_inner);
        addresses.get(&(node, plane.reach())).copied()
    }

    pub(crate) fn current_configs(&self) -> Arc<Configs> {
        self.configs
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The trust and its configurations are replaced for connections to come; those that are open stay.
    pub(crate) fn replace_configs(&self, configs: Configs) {
        self.endpoint.set_server_config(Some(configs.server.clone()));
        *self.configs.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(configs);
    }

    /// How long to wait before a peer is tried again that `failures` attempts have not reached: doubling, and drawn
    /// from the upper half so that many agents do not come back at once.
    pub(crate) fn backoff(&self, failures: u32) -> Duration {
        let (first, last) = (self.limits.reconnect_min, self.limits.reconnect_max);
        let full = first
            .saturating_mul(1 << failures.saturating_sub(1).min(20))
            .min(last);
        lock(&self.rng).between(full / 2, full)
    }

    /// Runs `future` for at most `limit`; `None` if it took longer.
    pub(crate) async fn within<T>(&self, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
        let late = async {
            self.runtime.sleep(limit).await;
            None
        };
        async { Some(future.await) }.or(late).await
    }

    /// From now on nothing is sent, and there are no more events: who takes them gets what is queued, and the end.
    pub(crate) fn set_closed(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.datagrams.close();
        self.events.close();
    }

    /// Whether the transport was shut down.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Counts a refusal of ours, remembers it, and logs it unless it was logged just now.
    pub(crate) fn note_refusal(&self, address: SocketAddr, refusal: Refusal) {
        self.note_failure(address, &ConnectError::Refused(refusal));
    }

    /// Does the same for any failure to connect, if it is a refusal; one of the peer's is not counted.
    pub(crate) fn note_failure(&self, address: SocketAddr, reason: &ConnectError) {
        let Some(kind) = reason.refusal_kind() else {
            tracing::debug!(%address, "a connection came to nothing: {reason}");
            return;
        };
        if matches!(reason, ConnectError::Refused(_)) {
            self.counters.refused(kind);
        }
        let at = Instant::now();
        let mut refusals = lock(&self.refusals);
        let known = refusals.iter().position(|known| {
            known.address.ip() == address.ip() && known.reason.refusal_kind() == Some(kind)
        });
        let heard = known.and_then(|index| refusals.remove(index));
        if heard.is_none_or(|known| at.duration_since(known.at) > QUIET) {
            tracing::warn!(%address, "no connection: {reason}");
        }
        if refusals.len() == REMEMBERED_REFUSALS {
            refusals.pop_front();
        }
        refusals.push_back(RecentRefusal {
            at,
            address,
            reason: reason.clone(),
        });
    }

    pub(crate) fn recent_refusals(&self) -> Vec<RecentRefusal> {
        lock(&self.refusals).iter().cloned().collect()
    }

    /// Reports that a peer cannot be reached. Waits for room in the queue of events: the report is never dropped.
    pub(crate) async fn unreachable(
        &self,
        target: Target,
        plane: Plane,
        reason: ConnectError,
        lost_frames: usize,
    ) {
        self.counters.frames_lost.add(lost_frames);
        // Nobody listens any more: then nobody misses it.
        let _ = self
            .events
            .send(Event::Unreachable {
                target,
                plane,
                reason,
                lost_frames,
            })
            .await;
    }
}

/// Locks what no panic can leave half-changed: every critical section here is a few assignments.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An address in one spelling: a socket that speaks both versions sees version 4 within version 6.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// quinn's tasks on our executor; its sockets and timers on async-io, as everybody's.
#[derive(Debug)]
pub(crate) struct QuicRuntime(pub(crate) Runtime);

impl quinn::Runtime for QuicRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn quinn::AsyncTimer>> {
        quinn::SmolRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.0.spawn(future).detach();
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> std::io::Result<Arc<dyn quinn::AsyncUdpSocket>> {
        quinn::SmolRuntime.wrap_udp_socket(socket)
    }
}
