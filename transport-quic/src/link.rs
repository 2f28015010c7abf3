//! Connections to peers: one [`Link`] for each peer and plane, which dials when there is something to send.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{Connection, SendDatagramError};
use rustls_pki_types::CertificateDer;

use crate::LANES;
use crate::call::read_frame;
use crate::error::{CODE_DONE, ConnectError, Refusal, SendError};
use crate::frame::{Hello, MAX_HELLO_BYTES, encode_one};
use crate::identity::{Certified, Identity, MINTED_DOMAIN, PeerIdentity};
use crate::lane::Lane;
use crate::plane::Plane;
use crate::receive::{Received, receive};
use crate::session::Session;
use crate::shared::{Shared, canonical, lock};
use crate::stats::Gauge;
use crate::transport::Target;

/// Datagrams that may wait for a connection to one peer. Beyond it the oldest is dropped: it is worth least.
const WAITING_DATAGRAMS: usize = 16;

/// What is known of the way to one peer on one plane.
pub(crate) struct Link {
    pub(crate) target: Target,
    pub(crate) plane: Plane,
    state: Mutex<State>,
    /// Held by the one task that dials.
    dialing: async_lock::Mutex<()>,
    /// The lanes that have been used.
    lanes: [OnceLock<Lane>; LANES as usize],
    waiting: Mutex<Waiting>,
    retired: AtomicBool,
    /// Nanoseconds since the transport was bound.
    used_at: AtomicU64,
    /// Calls that wait for an answer.
    pub(crate) calls: Gauge,
}

#[derive(Default)]
struct State {
    /// The connection that was made here.
    session: Option<Arc<Session>>,
    failures: u32,
    backoff: Option<Backoff>,
}

struct Backoff {
    until: Instant,
    last: Arc<ConnectError>,
}

/// Datagrams that wait for a connection.
#[derive(Default)]
struct Waiting {
    /// Each with the time since when it waits, in nanoseconds since the transport was bound. The oldest is in front.
    datagrams: VecDeque<(u64, Bytes)>,
    /// Whether there is a task that will see to them.
    attended: bool,
}

impl Link {
    pub(crate) fn new(target: Target, plane: Plane, now_nanos: u64) -> Self {
        Self {
            target,
            plane,
            state: Mutex::default(),
            dialing: async_lock::Mutex::default(),
            lanes: Default::default(),
            waiting: Mutex::default(),
            retired: AtomicBool::new(false),
            used_at: AtomicU64::new(now_nanos),
            calls: Gauge::default(),
        }
    }

    pub(crate) fn touch(&self, now_nanos: u64) {
        self.used_at.store(now_nanos, Ordering::Relaxed);
    }

    /// When it was last sent on, or its connection heard of.
    pub(crate) fn used_at(&self) -> u64 {
        let asked_for = self.used_at.load(Ordering::Relaxed);
        let session = lock(&self.state).session.clone();
        session.map_or(asked_for, |session| asked_for.max(session.traffic.used_at()))
    }

    /// Whether anything waits on it: frames or datagrams to be sent, or calls of either side to be answered.
    pub(crate) fn is_busy(&self) -> bool {
        let answering = |session: &Arc<Session>| session.traffic.calls.get() > 0;
        self.calls.get() > 0
            || self.lanes().any(Lane::is_busy)
            || lock(&self.waiting).attended
            || lock(&self.state).session.as_ref().is_some_and(answering)
    }

    /// The lane with this number, begun if need be.
    pub(crate) fn lane(self: &Arc<Self>, shared: &Arc<Shared>, number: u8) -> &Lane {
        let lane = self.lanes[usize::from(number)].get_or_init(|| Lane::begin(shared, self, number));
        // It may have been begun after the link was retired, and nobody would close it.
        if self.retired.load(Ordering::SeqCst) {
            lane.close();
        }
        lane
    }

    /// An error while the peer is not to be tried again.
    pub(crate) fn check_backoff(&self) -> Result<(), SendError> {
        lock(&self.state).check_backoff().map_err(SendError::Unreachable)
    }

    /// Sends a datagram: at once if there is a connection, else as soon as there is one, if that is soon.
    pub(crate) fn datagram(self: &Arc<Self>, shared: &Arc<Shared>, datagram: Bytes) -> Result<(), SendError> {
        let found = self.open_session(shared).map_err(SendError::Unreachable);
        if let Some(session) = found? {
            return send_datagram(shared, &session, datagram).map_err(SendError::Unreachable);
        }
        let mut waiting = lock(&self.waiting);
        let mut dial = None;
        if !waiting.attended {
            dial = shared.dials.begin();
            if dial.is_none() {
                shared.counters.datagrams_dropped.add(1);
                return Ok(());
            }
        }
        if waiting.datagrams.len() == WAITING_DATAGRAMS {
            waiting.datagrams.pop_front();
            shared.counters.datagrams_dropped.add(1);
        }
        waiting.datagrams.push_back((shared.nanos(), datagram));
        if let Some(dial) = dial {
            waiting.attended = true;
            let (link, shared) = (Arc::clone(self), Arc::clone(shared));
            let task = shared.runtime.clone().spawn(async move {
                let session = link.session(&shared).await;
                dial.end(session.is_ok());
                lock(&link.waiting).attended = false;
                link.send_waiting(&shared, session.ok().as_deref());
            });
            task.detach();
        }
        Ok(())
    }

    /// Sends the datagrams that wait, those that are still worth it; without a connection there is none.
    fn send_waiting(&self, shared: &Shared, session: Option<&Session>) {
        let datagrams = std::mem::take(&mut lock(&self.waiting).datagrams);
        let patience = self.plane.datagram_patience().as_nanos();
        let now = shared.nanos();
        for (since, datagram) in datagrams {
            let fresh = u128::from(now.saturating_sub(since)) <= patience;
            match session.filter(|_| fresh) {
                // Counted there if it fails.
                Some(session) => drop(send_datagram(shared, session, datagram)),
                None => shared.counters.datagrams_dropped.add(1),
            }
        }
    }

    /// The peer has made a connection, on which this end may send: what waits need not wait for one of its own.
    pub(crate) fn has_called(&self, shared: &Shared) {
        if let Ok(Some(session)) = self.open_session(shared) {
            self.send_waiting(shared, Some(&session));
        }
    }

    /// The connection, made if there is none. Of several tasks that need it, one dials.
    pub(crate) async fn session(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
    ) -> Result<Arc<Session>, ConnectError> {
        if let Some(session) = self.open_session(shared)? {
            return Ok(session);
        }
        let _turn = self.dialing.lock().await;
        if let Some(session) = self.open_session(shared)? {
            return Ok(session);
        }
        // In a box of its own: whoever asked may be remembered by the connection for as long as it lives.
        match Box::pin(dial(shared, self.target, self.plane)).await {
            Ok(session) => {
                let session = Arc::new(session);
                *lock(&self.state) = State {
                    session: Some(session.clone()),
                    failures: 0,
                    backoff: None,
                };
                self.watch(shared, session.connection.clone());
                if self.plane.is_mutual() {
                    shared.sessions.add(&session, self.plane);
                    let receiver = receive(shared.clone(), Received::on(&session), self.plane);
                    shared.runtime.spawn(receiver).detach();
                }
                Ok(session)
            }
            Err(error) => {
                shared.counters.failed_dials.add(1);
                let mut state = lock(&self.state);
                state.failures = state.failures.saturating_add(1);
                let until = Instant::now() + shared.backoff(state.failures);
                state.backoff = Some(Backoff {
                    until,
                    last: Arc::new(error.clone()),
                });
                Err(error)
            }
        }
    }

    /// The connection to send on, if there is one; an error while the peer is not to be tried again.
    fn open_session(&self, shared: &Shared) -> Result<Option<Arc<Session>>, ConnectError> {
        if let Target::Node(node) = self.target
            && self.plane.is_mutual()
        {
            let best = shared
                .address_of(node, self.plane)
                .and_then(|address| shared.sessions.best(node, self.plane, address, shared.nanos()));
            if best.is_some() {
                return Ok(best);
            }
            lock(&self.state).check_backoff()?;
            return Ok(None);
        }
        lock(&self.state).open_session()
    }

    /// Forgets that the peer could not be reached, and gives up its connection: it has a new address.
    pub(crate) fn readdress(&self) {
        let state = std::mem::take(&mut *lock(&self.state));
        if let Some(session) = state.session {
            session.connection.close(CODE_DONE, b"the address has changed");
        }
    }

    /// Gives up the connection that was made here if nobody uses it; then the peer may still use its own. Returns
    /// whether there is one left.
    pub(crate) fn release_idle(&self, now_nanos: u64, patience: Duration) -> bool {
        let mut state = lock(&self.state);
        let idle = state
            .session
            .take_if(|session| session.traffic.is_idle(now_nanos, patience));
        let kept = state.session.is_some();
        // Dropping it closes it.
        drop((state, idle));
        kept
    }

    /// No more is taken. What is queued is still sent; then the connection goes.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
        self.lanes().for_each(Lane::close);
        // Whoever still writes or waits has the session too.
        let session = lock(&self.state).session.take();
        drop(session);
    }

    fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter().filter_map(OnceLock::get)
    }

    /// Notices when a connection is lost, also if nobody is writing on it, and reports it if there are lanes.
    fn watch(self: &Arc<Self>, shared: &Arc<Shared>, connection: Connection) {
        let (link, shared) = (Arc::downgrade(self), shared.clone());
        let task = shared.runtime.clone().spawn(async move {
            let error = connection.closed().await;
            let Some(link) = link.upgrade() else { return };
            lock(&link.state).forget(&connection);
            let reported = link.lanes().any(|lane| !lane.is_closed());
            if reported {
                let reason = ConnectError::from_lost(&error);
                shared.unreachable(link.target, link.plane, reason, 0).await;
            }
        });
        task.detach();
    }
}

/// Hands a datagram to a connection, or counts it as dropped.
fn send_datagram(shared: &Shared, session: &Session, datagram: Bytes) -> Result<(), ConnectError> {
    let length = datagram.len();
    match session.connection.send_datagram(datagram) {
        Ok(()) => {
            session.traffic.touch(shared.nanos());
            shared.counters.frames_sent.add(1);
            shared.counters.bytes_sent.add(length);
            Ok(())
        }
        Err(error) => {
            shared.counters.datagrams_dropped.add(1);
            Err(match error {
                SendDatagramError::ConnectionLost(error) => ConnectError::from_lost(&error),
                SendDatagramError::UnsupportedByPeer
                | SendDatagramError::Disabled
                | SendDatagramError::TooLarge => {
                    ConnectError::Refused(Refusal::Protocol(format!("datagrams: {error}")))
                }
            })
        }
    }
}

impl State {
    fn open_session(&self) -> Result<Option<Arc<Session>>, ConnectError> {
        if let Some(session) = &self.session
            && session.connection.close_reason().is_none()
        {
            return Ok(Some(session.clone()));
        }
        self.check_backoff()?;
        Ok(None)
    }

    fn check_backoff(&self) -> Result<(), ConnectError> {
        let Some(backoff) = &self.backoff else {
            return Ok(());
        };
        let retry_in = backoff.until.saturating_duration_since(Instant::now());
        if retry_in.is_zero() {
            return Ok(());
        }
        Err(ConnectError::BackingOff {
            retry_in,
            last: backoff.last.clone(),
        })
    }

    fn forget(&mut self, connection: &Connection) {
        let same = |session: &Arc<Session>| session.connection.stable_id() == connection.stable_id();
        if self.session.as_ref().is_some_and(same) {
            self.session = None;
        }
    }
}

async fn dial(shared: &Arc<Shared>, target: Target, plane: Plane) -> Result<Session, ConnectError> {
    let address = match target {
        Target::Address(address) => address,
        Target::Node(node) => shared
            .address_of(node, plane)
            .ok_or(ConnectError::NoAddress(node))?,
    };
    let config = shared.current_configs().client(plane);
    let connecting = shared
        .endpoint
        .connect_with(config, address, &session_name(target));
    let connecting = connecting.map_err(|error| {
        if error == quinn::ConnectError::EndpointStopping {
            ConnectError::Closed
        } else {
            ConnectError::Address {
                address,
                reason: error.to_string(),
            }
        }
    })?;
    let limit = shared.limits.handshake_timeout;
    let made = async {
        let connection = connecting
            .await
            .map_err(|error| ConnectError::from_lost(&error))?;
        let found = greet(shared, target, plane, address, &connection).await;
        if let Err(ConnectError::Refused(refusal)) = &found {
            connection.close(refusal.kind().code(), refusal.to_string().as_bytes());
        }
        Ok((found?, connection))
    };
    let made = shared
        .within(limit, made)
        .await
        .unwrap_or(Err(ConnectError::TimedOut(limit)));
    if let Err(error) = &made {
        shared.note_failure(address, error);
    }
    let (identity, connection) = made?;
    shared.counters.handshakes.add(1);
    let peer = Arc::new(PeerIdentity {
        identity,
        address: canonical(connection.remote_address()),
    });
    let held = shared.counters.outgoing.enter();
    Ok(Session::dialed(shared, connection, peer, plane, held))
}

/// Says who we are, hears who the peer is, and checks that it may and that it is whom we called.
async fn greet(
    shared: &Shared,
    target: Target,
    plane: Plane,
    address: SocketAddr,
    connection: &Connection,
) -> Result<Identity, ConnectError> {
    let lost = |error| lost_or(connection, error);
    let (mut send, mut receive) = connection
        .open_bi()
        .await
        .map_err(|error| ConnectError::from_lost(&error))?;
    let hello = Hello(shared.identity.clone()).encode();
    send.write_all_chunks(&mut encode_one(hello))
        .await
        .map_err(|error| lost(error.to_string()))?;
    let answer = read_frame(&mut receive, MAX_HELLO_BYTES)
        .await
        .map_err(|error| lost(error.to_string()))?;
    let refused = |refusal| ConnectError::Refused(refusal);
    let Hello(found) = Hello::decode(&answer).map_err(refused)?;
    vouch(shared, connection, &found).map_err(refused)?;
    plane.admits(&shared.identity, &found).map_err(refused)?;
    match target {
        Target::Node(wanted) if wanted != found.node => Err(refused(Refusal::WrongNode {
            address,
            wanted,
            found: found.to_string(),
        })),
        Target::Node(_) | Target::Address(_) => Ok(found),
    }
}

/// Checks what a peer claims to be against the certificate that it showed on this connection.
pub(crate) fn vouch(shared: &Shared, connection: &Connection, claim: &Identity) -> Result<(), Refusal> {
    let shown = connection
        .peer_identity()
        .and_then(|shown| shown.downcast::<Vec<CertificateDer<'static>>>().ok());
    let leaf = shown.as_ref().and_then(|chain| chain.first());
    let leaf = leaf.ok_or_else(|| Refusal::Certificate("there is none".into()))?;
    let trust = shared.trust.read().unwrap_or_else(PoisonError::into_inner);
    Certified::read(leaf, trust.domain())?.vouch_for(claim)
}

/// Why a connection was lost, or `error` if it was not.
pub(crate) fn lost_or(connection: &Connection, error: String) -> ConnectError {
    match connection.close_reason() {
        Some(reason) => ConnectError::from_lost(&reason),
        None => ConnectError::Refused(Refusal::Protocol(error)),
    }
}

/// Names the session that may be resumed with this peer. It is not sent.
fn session_name(target: Target) -> String {
    match target {
        Target::Node(node) => format!("{:032x}.{MINTED_DOMAIN}", node.0),
        Target::Address(address) => match address.ip() {
            IpAddr::V4(ip) => format!("v4-{:08x}-{}.{MINTED_DOMAIN}", ip.to_bits(), address.port()),
            IpAddr::V6(ip) => format!("v6-{:032x}-{}.{MINTED_DOMAIN}", ip.to_bits(), address.port()),
        },
    }
}
