//! The transport, as an agent uses it.

use std::collections::hash_map::Entry;
use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use lictor_machine::NodeId;
use lictor_runtime::{Runtime, Task};

use crate::accept::accept;
use crate::call::{ReplyHandle, call};
use crate::error::{BindError, CODE_SHUTDOWN, CallError, ConnectError, SendError};
use crate::identity::{Identity, PeerIdentity, Trust, TrustError};
use crate::lane::Rejected;
use crate::link::Link;
use crate::plane::Plane;
use crate::shared::{QuicRuntime, RecentRefusal, Shared, lock};
use crate::stats::Stats;
use crate::tls::Configs;
use crate::{LANES, MAX_DATAGRAM_BYTES};

/// What the socket's buffers are asked to hold. The system may grant less.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// How long closing waits for peers to hear of it.
const FAREWELL: Duration = Duration::from_secs(2);

/// How often a certificate's time is looked at: the clock may be set meanwhile, or the machine suspended.
const RENEWAL_CHECK: Duration = Duration::from_hours(1);

/// Bounds of a transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest frame on the Raft plane, in bytes; below 4 GiB.
    pub raft_frame_bytes: usize,
    /// Longest frame, request and answer on any other plane, in bytes; below 4 GiB.
    pub message_bytes: usize,
    /// Frames that may wait on one lane.
    pub queue_frames: usize,
    /// Bytes that may wait on one lane. A frame is always taken by an empty queue.
    pub queue_bytes: usize,
    /// Events that may wait for the agent. When they are this many, peers are no longer read from.
    pub event_queue: usize,
    /// Peers, counted once for each plane, that a connection is kept to. Beyond it the one that was not used for
    /// longest is closed.
    pub links: usize,
    /// Connections from peers.
    pub max_connections: usize,
    /// Connections from peers that have not yet greeted.
    pub max_handshakes: usize,
    /// Calls that one peer may have open on one connection; more wait.
    pub calls_per_connection: u32,
    /// For a connection to be made, both greetings included.
    pub handshake_timeout: Duration,
    /// A connection that is not of the Raft plane is closed when it was not used for so long.
    pub idle_timeout: Duration,
    /// The pause after the first failed attempt to reach a peer; it doubles with each.
    pub reconnect_min: Duration,
    /// The longest such pause.
    pub reconnect_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            raft_frame_bytes: 8 * 1024 * 1024,
            message_bytes: 16 * 1024 * 1024,
            queue_frames: 4096,
            queue_bytes: 32 * 1024 * 1024,
            event_queue: 1024,
            links: 512,
            max_connections: 8192,
            max_handshakes: 256,
            calls_per_connection: 128,
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            reconnect_min: Duration::from_millis(25),
            reconnect_max: Duration::from_secs(1),
        }
    }
}

impl Limits {
    /// The longest frame on `plane`.
    pub(crate) fn frame_bytes(&self, plane: Plane) -> usize {
        let limit = match plane {
            Plane::Raft => self.raft_frame_bytes,
            Plane::Rpc | Plane::Gossip | Plane::Wan => self.message_bytes,
        };
        limit.min(u32::MAX as usize)
    }
}

/// What a transport is made of.
#[derive(Debug)]
pub struct Options {
    /// Where to be called, and to call from. Port 0 takes any that is free.
    pub address: SocketAddr,
    /// Who the agent is.
    pub identity: Identity,
    /// Whom it believes, and where its certificate comes from.
    pub trust: Trust,
    /// What runs its tasks.
    pub runtime: Runtime,
    /// Its bounds.
    pub limits: Limits,
}

/// Whom to send to, or to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A node, wherever [`Transport::set_address`] says it is. If another node answers there, it gets nothing.
    Node(NodeId),
    /// Whoever answers at an address, as when joining.
    Address(SocketAddr),
}

impl From<NodeId> for Target {
    fn from(node: NodeId) -> Self {
        Self::Node(node)
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => node.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// What has happened at the transport.
#[derive(Debug)]
pub enum Event {
    /// A frame, in the order in which its sender sent them on this lane, as long as the connection lasts.
    Frame {
        /// Who sent it.
        peer: Arc<PeerIdentity>,
        /// On which plane.
        plane: Plane,
        /// On which lane.
        lane: u8,
        /// What it is.
        frame: Bytes,
    },
    /// A datagram.
    Datagram {
        /// Who sent it.
        peer: Arc<PeerIdentity>,
        /// On which plane.
        plane: Plane,
        /// What it is.
        datagram: Bytes,
    },
    /// A call that wants an answer.
    Call {
        /// Who calls.
        peer: Arc<PeerIdentity>,
        /// On which plane.
        plane: Plane,
        /// What is asked.
        request: Bytes,
        /// Where the answer goes.
        reply: ReplyHandle,
    },
    /// Frames that were sent to a peer lately may not have arrived: it could not be reached, or the connection was
    /// lost. More may be sent at any time.
    Unreachable {
        /// Whom they were sent to.
        target: Target,
        /// On which plane.
        plane: Plane,
        /// Why.
        reason: ConnectError,
        /// How many certainly did not arrive, since they never left the queue.
        lost_frames: usize,
    },
}

/// The events of a transport, one after the other. When nobody takes them peers are no longer read from, and hear of
/// it by QUIC's flow control; nothing is dropped but datagrams.
#[derive(Debug)]
pub struct Incoming {
    events: async_channel::Receiver<Event>,
}

impl Incoming {
    /// Waits for the next event; `None` once the transport is closed and all were taken.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await.ok()
    }

    /// The next event if one is waiting.
    pub fn try_next(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }
}

/// One UDP socket at which an agent calls and is called. A clone is another handle to the same one; when the last is
/// dropped, or one is closed, all connections are.
#[derive(Clone)]
pub struct Transport {
    open: Arc<Open>,
}

/// Closes the endpoint when the last handle is dropped.
struct Open {
    shared: Arc<Shared>,
    _tasks: [Task<()>; 3],
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.shut_down();
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.open.shared;
        f.debug_struct("Transport")
            .field("identity", &shared.identity)
            .finish_non_exhaustive()
    }
}

impl Transport {
    /// Binds the socket and begins to listen.
    pub fn bind(options: Options) -> Result<(Self, Incoming), BindError> {
        let Options {
            address,
            identity,
            trust,
            runtime,
            limits,
        } = options;
        let configs = Configs::build(&trust, &identity, &limits)?;
        let failed = |source| BindError::Socket { address, source };
        let socket = bind_socket(address).map_err(failed)?;
        let endpoint = quinn::Endpoint::new(
            configs.endpoint.clone(),
            Some(configs.server.clone()),
            socket,
            Arc::new(QuicRuntime(runtime.clone())),
        )
        .map_err(failed)?;
        let (sender, events) = async_channel::bounded(limits.event_queue.max(1));
        let shared = Shared::new(
            endpoint,
            runtime.clone(),
            identity,
            limits,
            sender,
            trust,
            configs,
        );
        let shared = Arc::new(shared);
        let tasks = [
            runtime.spawn(accept(shared.clone())),
            runtime.spawn(close_idle(Arc::downgrade(&shared), runtime.clone())),
            runtime.spawn(renew(Arc::downgrade(&shared), runtime.clone())),
        ];
        Ok((
            Self {
                open: Arc::new(Open {
                    shared,
                    _tasks: tasks,
                }),
            },
            Incoming { events },
        ))
    }

    /// The address of the socket, with the port that it got.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.open.shared.endpoint.local_addr()
    }

    /// Who this agent is.
    pub fn identity(&self) -> &Identity {
        &self.open.shared.identity
    }

    /// Says where a node is. If it was elsewhere, its connections are given up (which is reported as `Unreachable` if
    /// frames were sent on them), and it is tried at once at the new address.
    pub fn set_address(&self, node: NodeId, address: SocketAddr) {
        let shared = &self.open.shared;
        let mut addresses = shared.addresses.write().unwrap_or_else(PoisonError::into_inner);
        let before = addresses.insert(node, address);
        drop(addresses);
        if before == Some(address) {
            return;
        }
        let links = lock(&shared.links);
        for plane in Plane::ALL {
            if let Some(link) = links.get(&(Target::Node(node), plane)) {
                link.readdress();
            }
        }
    }

    /// Forgets a node that has left: its address and the connections to it. What is queued for it is still sent.
    pub fn forget(&self, node: NodeId) {
        let shared = &self.open.shared;
        shared
            .addresses
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&node);
        let mut links = lock(&shared.links);
        for plane in Plane::ALL {
            if let Some(link) = links.remove(&(Target::Node(node), plane)) {
                link.retire();
            }
        }
    }

    /// Queues a frame. Does not wait; connects if there is no connection. Frames of one lane arrive in order; a lane
    /// of a lower number goes before those of higher ones. An error says that the frame was not queued; if a queued
    /// one may not have arrived, [`Event::Unreachable`] says so.
    pub fn send(
        &self,
        target: impl Into<Target>,
        plane: Plane,
        lane: u8,
        frame: Bytes,
    ) -> Result<(), SendError> {
        let limit = self.open.shared.limits.frame_bytes(plane);
        if lane >= LANES {
            return Err(SendError::Lane(lane));
        }
        self.queue(target.into(), plane, lane, frame, limit)
    }

    /// Queues a datagram of at most [`MAX_DATAGRAM_BYTES`]. Like [`Transport::send`], but once it is sent it may be
    /// lost, or overtake others.
    pub fn datagram(
        &self,
        target: impl Into<Target>,
        plane: Plane,
        datagram: Bytes,
    ) -> Result<(), SendError> {
        self.queue(target.into(), plane, LANES, datagram, MAX_DATAGRAM_BYTES)
    }

    /// Asks a peer and waits for the answer, for at most `deadline` altogether. Dropping the future gives the call up,
    /// of which the peer hears.
    pub async fn call(
        &self,
        target: impl Into<Target>,
        plane: Plane,
        request: Bytes,
        deadline: Duration,
    ) -> Result<(Arc<PeerIdentity>, Bytes), CallError> {
        let shared = self.open.shared.clone();
        let link = shared.link(target.into(), plane);
        call(&shared, &link, request, deadline).await
    }

    /// Gets a certificate anew, from `trust`, for connections to come; those that are open stay. On an error nothing
    /// has changed.
    pub fn reload(&self, trust: Trust) -> Result<(), TrustError> {
        let shared = &self.open.shared;
        let configs = Configs::build(&trust, &shared.identity, &shared.limits)?;
        *shared.trust.write().unwrap_or_else(PoisonError::into_inner) = trust;
        shared.replace_configs(configs);
        Ok(())
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        self.open.shared.counters.snapshot()
    }

    /// The last few connections that this agent or a peer refused, oldest first; one for each address and kind.
    pub fn recent_refusals(&self) -> Vec<RecentRefusal> {
        self.open.shared.recent_refusals()
    }

    /// Closes all connections and waits, for a moment at most, until peers have heard of it. What is queued is not
    /// sent any more.
    pub async fn close(self) {
        let shared = self.open.shared.clone();
        shared.shut_down();
        let _heard_or_not = shared.within(FAREWELL, shared.endpoint.wait_idle()).await;
    }

    fn queue(
        &self,
        target: Target,
        plane: Plane,
        lane: u8,
        mut frame: Bytes,
        limit: usize,
    ) -> Result<(), SendError> {
        let shared = &self.open.shared;
        let length = frame.len();
        if length > limit {
            return Err(SendError::TooLarge { length, limit });
        }
        loop {
            if shared.is_closed() {
                return Err(SendError::Unreachable(ConnectError::Closed));
            }
            let link = shared.link(target, plane);
            link.check_backoff()?;
            match link.lane(shared, lane).push(frame, shared.limits.queue_bytes) {
                Ok(()) => return Ok(()),
                Err(Rejected::Full) => return Err(SendError::Full),
                // Retired since it was looked up: there is a new one now.
                Err(Rejected::Closed(back)) => frame = back,
            }
        }
    }
}

impl Shared {
    /// The link to a peer, made if there is none. If there are too many, the idlest makes room.
    fn link(&self, target: Target, plane: Plane) -> Arc<Link> {
        let now = self.nanos();
        let mut links = lock(&self.links);
        if let Some(link) = links.get(&(target, plane)) {
            link.touch(now);
            return link.clone();
        }
        if links.len() >= self.limits.links.max(1) {
            // Those that others wait on, and those that must stay open, only if there is nothing else.
            let idlest = links
                .iter()
                .min_by_key(|((_, plane), link)| (link.is_busy(), plane.stays_open(), link.used_at()))
                .map(|(key, _)| *key);
            if let Some(link) = idlest.and_then(|key| links.remove(&key)) {
                link.retire();
            }
        }
        let link = Arc::new(Link::new(target, plane, now));
        if self.is_closed() {
            link.retire();
            return link;
        }
        match links.entry((target, plane)) {
            Entry::Occupied(entry) => entry.get().clone(),
            Entry::Vacant(entry) => entry.insert(link).clone(),
        }
    }

    /// Retires every link that nobody has used for too long.
    fn close_idle(&self) {
        let now = self.nanos();
        let patience = u64::try_from(self.limits.idle_timeout.as_nanos()).unwrap_or(u64::MAX);
        lock(&self.links).retain(|(_, plane), link| {
            let kept = plane.stays_open() || link.is_busy() || now.saturating_sub(link.used_at()) < patience;
            if !kept {
                link.retire();
            }
            kept
        });
    }

    fn shut_down(&self) {
        self.set_closed();
        for (_, link) in lock(&self.links).drain() {
            link.retire();
        }
        self.endpoint.close(CODE_SHUTDOWN, b"shutting down");
    }
}

/// Closes connections that nobody uses, now and then.
async fn close_idle(shared: Weak<Shared>, runtime: Runtime) {
    while let Some(interval) = shared.upgrade().map(|shared| shared.limits.idle_timeout / 4) {
        runtime.sleep(interval.max(Duration::from_millis(50))).await;
        if let Some(shared) = shared.upgrade() {
            shared.close_idle();
        }
    }
}

/// Gets a new certificate when two thirds of the old one's time are over.
async fn renew(shared: Weak<Shared>, runtime: Runtime) {
    while let Some(renew_at) = shared.upgrade().map(|shared| shared.current_configs().renew_at) {
        let left = renew_at.duration_since(SystemTime::now()).unwrap_or_default();
        // Also when it is due already: a file that an operator has yet to replace is looked at again in an hour.
        runtime
            .sleep(left.clamp(Duration::from_mins(1), RENEWAL_CHECK))
            .await;
        let Some(shared) = shared.upgrade() else { return };
        if SystemTime::now() < renew_at {
            continue;
        }
        let trust = shared
            .trust
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match Configs::build(&trust, &shared.identity, &shared.limits) {
            Ok(configs) => shared.replace_configs(configs),
            Err(error) => tracing::warn!("the certificate could not be renewed: {error}"),
        }
    }
}

fn bind_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    // Bursts must survive until they are read. The system caps this; what it grants is good enough.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER_BYTES);
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER_BYTES);
    Ok(socket)
}
