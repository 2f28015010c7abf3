//! The transport, as an agent uses it.

use std::collections::hash_map::Entry;
use std::fmt;
use std::future::{Future, pending};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_lite::FutureExt as _;
use lictor_machine::NodeId;
use lictor_runtime::{Runtime, Task};

use crate::accept::accept;
use crate::call::{ReplyHandle, call};
use crate::error::{BindError, CODE_SHUTDOWN, CallError, CallFailure, ConnectError, SendError};
use crate::identity::{Identity, PeerIdentity, Trust, TrustError};
use crate::lane::Rejected;
use crate::limits::Limits;
use crate::link::Link;
use crate::plane::{Plane, Reach};
use crate::shared::{QuicRuntime, RecentRefusal, Shared, canonical, lock};
use crate::stats::{Held, Stats};
use crate::tls::Configs;
use crate::{LANES, MAX_DATAGRAM_BYTES};

/// What the socket's buffers are asked to hold. The system may grant less.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// How long closing waits for peers to hear of it.
const FAREWELL: Duration = Duration::from_secs(2);

/// How often a certificate's time is looked at: the clock may be set meanwhile, or the machine suspended.
const RENEWAL_CHECK: Duration = Duration::from_hours(1);

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
    /// A node, wherever [`Transport::set_address`] says it is, or [`Transport::set_wan_address`]. If another node answers there, it gets nothing.
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
/// it by QUIC's flow control; nothing is dropped but datagrams, which have a queue of their own so that a flood of
/// them does not hold up the rest.
#[derive(Debug)]
pub struct Incoming {
    events: async_channel::Receiver<Event>,
    datagrams: async_channel::Receiver<(Event, Held)>,
    /// Whose turn it is.
    datagrams_first: bool,
}

impl Incoming {
    /// Waits for the next event; `None` once the transport is closed and all were taken.
    pub async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.try_next() {
            return Some(event);
        }
        let event = async { self.events.recv().await };
        let datagram = async { self.datagrams.recv().await.map(|(event, _place)| event) };
        match event.or(datagram).await {
            Ok(event) => Some(event),
            // Both queues are closed together.
            Err(async_channel::RecvError) => self.try_next(),
        }
    }

    /// The next event if one is waiting.
    pub fn try_next(&mut self) -> Option<Event> {
        self.datagrams_first = !self.datagrams_first;
        let event = || self.events.try_recv().ok();
        let datagram = || self.datagrams.try_recv().ok().map(|(event, _place)| event);
        if self.datagrams_first {
            datagram().or_else(event)
        } else {
            event().or_else(datagram)
        }
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
        let (event_sender, events) = async_channel::bounded(limits.event_queue.max(1));
        let (datagram_sender, datagrams) = async_channel::bounded(limits.datagram_queue.max(1));
        let shared = Shared::new(
            endpoint,
            runtime.clone(),
            identity,
            limits,
            (event_sender, datagram_sender),
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
            Incoming {
                events,
                datagrams,
                datagrams_first: false,
            },
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

    /// Says where a node of this data center is. If it was elsewhere, its connections are given up (which is reported
    /// as `Unreachable` if frames were sent on them), and it is tried at once at the new address.
    pub fn set_address(&self, node: NodeId, address: SocketAddr) {
        self.place(node, Reach::Near, address);
    }

    /// The same for the WAN plane, on which a server may have another address, also one of this data center.
    pub fn set_wan_address(&self, node: NodeId, address: SocketAddr) {
        self.place(node, Reach::Far, address);
    }

    /// Forgets a node that has left this data center: its address and the connections to it. What is queued for it is
    /// still sent.
    pub fn forget(&self, node: NodeId) {
        self.displace(node, Reach::Near);
    }

    /// The same for the WAN plane.
    pub fn forget_wan(&self, node: NodeId) {
        self.displace(node, Reach::Far);
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
        let shared = &self.open.shared;
        if lane >= LANES {
            return Err(SendError::Lane(lane));
        }
        let target = target.into();
        check_length(&frame, shared.limits.frame_bytes(plane))?;
        let mut frame = frame;
        loop {
            if shared.is_closed() {
                return Err(SendError::Unreachable(ConnectError::Closed));
            }
            let link = shared.link(target, plane);
            link.check_backoff()?;
            match link.lane(shared, lane).push(frame, shared.limits.queue_bytes) {
                Ok(()) => return Ok(()),
                Err(Rejected::Full) => return Err(SendError::Full),
                // Retired since it was looked up, or its task is gone: there has to be a new one.
                Err(Rejected::Closed(back)) => frame = back,
            }
            shared.discard(&link);
        }
    }

    /// Sends a datagram of at most [`MAX_DATAGRAM_BYTES`]. Does not wait; connects if there is no connection, and if
    /// that takes too long, or fails, drops it without a word. An error says that it was not sent. Once it is sent it
    /// may be lost, or overtake others.
    pub fn datagram(
        &self,
        target: impl Into<Target>,
        plane: Plane,
        datagram: Bytes,
    ) -> Result<(), SendError> {
        let shared = &self.open.shared;
        check_length(&datagram, MAX_DATAGRAM_BYTES)?;
        if shared.is_closed() {
            return Err(SendError::Unreachable(ConnectError::Closed));
        }
        shared.link(target.into(), plane).datagram(shared, datagram)
    }

    /// Asks a peer and waits for the answer, for at most `deadline` altogether; [`Duration::MAX`] is for ever, and costs no timer. Dropping
    /// the future gives the call up, of which the peer hears.
    pub async fn call(
        &self,
        target: impl Into<Target>,
        plane: Plane,
        request: Bytes,
        deadline: Duration,
    ) -> Result<(Arc<PeerIdentity>, Bytes), CallError> {
        let late = async {
            if deadline == Duration::MAX {
                return pending().await;
            }
            self.open.shared.runtime.sleep(deadline).await;
            CallFailure::Deadline
        };
        self.call_until(target, plane, request, late).await
    }

    /// Asks a peer and waits for the answer until `given_up` is done and says why: with [`CallFailure::GivenUp`] for a reason of the
    /// caller's own. So the caller hears whether the peer may have got the request, which it does not when it drops the future.
    pub async fn call_until(
        &self,
        target: impl Into<Target>,
        plane: Plane,
        request: Bytes,
        given_up: impl Future<Output = CallFailure>,
    ) -> Result<(Arc<PeerIdentity>, Bytes), CallError> {
        let shared = self.open.shared.clone();
        let link = shared.link(target.into(), plane);
        call(&shared, &link, request, given_up).await
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
}

impl Transport {
    fn place(&self, node: NodeId, reach: Reach, address: SocketAddr) {
        let shared = &self.open.shared;
        let address = canonical(address);
        let mut addresses = shared.addresses.write().unwrap_or_else(PoisonError::into_inner);
        let before = addresses.insert((node, reach), address);
        drop(addresses);
        if before == Some(address) {
            return;
        }
        let links = lock(&shared.links);
        for plane in Plane::ALL.into_iter().filter(|plane| plane.reach() == reach) {
            if let Some(link) = links.get(&(Target::Node(node), plane)) {
                link.readdress();
            }
        }
    }

    fn displace(&self, node: NodeId, reach: Reach) {
        let shared = &self.open.shared;
        let mut addresses = shared.addresses.write().unwrap_or_else(PoisonError::into_inner);
        addresses.remove(&(node, reach));
        drop(addresses);
        let mut links = lock(&shared.links);
        for plane in Plane::ALL.into_iter().filter(|plane| plane.reach() == reach) {
            if let Some(link) = links.remove(&(Target::Node(node), plane)) {
                link.retire();
            }
        }
    }
}

fn check_length(frame: &Bytes, limit: usize) -> Result<(), SendError> {
    let length = frame.len();
    if length > limit {
        return Err(SendError::TooLarge { length, limit });
    }
    Ok(())
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

    /// Gives up a link that takes no more frames, so that the next look finds another.
    fn discard(&self, link: &Arc<Link>) {
        let key = (link.target, link.plane);
        let mut links = lock(&self.links);
        if links.get(&key).is_some_and(|known| Arc::ptr_eq(known, link)) {
            links.remove(&key);
        }
        drop(links);
        link.retire();
    }

    /// Closes every connection that nobody has used for too long, and retires every link.
    fn close_idle(&self) {
        let now = self.nanos();
        let patience = self.limits.idle_timeout;
        lock(&self.links).retain(|(_, plane), link| {
            if plane.stays_open() {
                return true;
            }
            // The peer may use it though this end does not, or this end use the peer's.
            let connected = plane.is_mutual() && link.release_idle(now, patience);
            let idle = u128::from(now.saturating_sub(link.used_at())) >= patience.as_nanos();
            let kept = connected || link.is_busy() || !idle;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Role;

    fn start(node: u128) -> (Transport, Incoming) {
        Transport::bind(Options {
            address: "127.0.0.1:0".parse().unwrap(),
            identity: Identity {
                node: NodeId(node),
                name: "n".into(),
                datacenter: "dc1".into(),
                role: Role::Server,
            },
            trust: Trust::shared_key(&[7; 32]).unwrap(),
            runtime: lictor_runtime_smol::runtime(),
            limits: Limits::default(),
        })
        .unwrap()
    }

    #[test]
    fn a_lane_whose_task_is_gone_is_replaced() {
        lictor_runtime_smol::runtime().block_on(async {
            let (sender, _events) = start(1);
            let (receiver, mut events) = start(2);
            sender.set_address(NodeId(2), receiver.local_address().unwrap());
            let shared = &sender.open.shared;
            let link = shared.link(Target::Node(NodeId(2)), Plane::Raft);
            // What is left when the task has panicked: nobody retired the link, and nobody takes its frames.
            link.lane(shared, 0).close();
            let frame = Bytes::from_static(b"frame");
            sender.send(NodeId(2), Plane::Raft, 0, frame.clone()).unwrap();
            let Some(Event::Frame { frame: arrived, .. }) = events.next().await else {
                panic!("a frame was sent")
            };
            assert_eq!(arrived, frame);
            let now = shared.link(Target::Node(NodeId(2)), Plane::Raft);
            assert!(!Arc::ptr_eq(&link, &now));
        });
    }
}
