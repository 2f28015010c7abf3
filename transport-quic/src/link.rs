//! Connections to peers: one [`Link`] for each peer and plane, which dials when there is something to send.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use quinn::Connection;
use rustls_pki_types::CertificateDer;

use crate::LANES;
use crate::call::read_frame;
use crate::error::{CODE_DONE, ConnectError, Refusal, SendError};
use crate::frame::{Hello, MAX_HELLO_BYTES, encode_one};
use crate::identity::{Certified, Identity, MINTED_DOMAIN, PeerIdentity};
use crate::lane::Lane;
use crate::plane::Plane;
use crate::shared::{Shared, lock};
use crate::stats::{Gauge, Held};
use crate::transport::Target;

/// What is known of the way to one peer on one plane.
pub(crate) struct Link {
    pub(crate) target: Target,
    pub(crate) plane: Plane,
    state: Mutex<State>,
    /// Held by the one task that dials.
    dialing: async_lock::Mutex<()>,
    /// The lanes that have been used, and behind them the one for datagrams.
    lanes: [OnceLock<Lane>; LANES as usize + 1],
    retired: AtomicBool,
    /// Nanoseconds since the transport was bound.
    used_at: AtomicU64,
    /// Calls that wait for an answer.
    pub(crate) calls: Gauge,
}

#[derive(Default)]
struct State {
    session: Option<Arc<Session>>,
    failures: u32,
    backoff: Option<Backoff>,
}

struct Backoff {
    until: Instant,
    last: Arc<ConnectError>,
}

/// A connection to a peer after both have greeted. Closed when nobody needs it any more.
pub(crate) struct Session {
    pub(crate) connection: Connection,
    pub(crate) peer: Arc<PeerIdentity>,
    _held: Held,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.close(CODE_DONE, b"not needed any more");
    }
}

impl Link {
    pub(crate) fn new(target: Target, plane: Plane, now_nanos: u64) -> Self {
        Self {
            target,
            plane,
            state: Mutex::default(),
            dialing: async_lock::Mutex::default(),
            lanes: Default::default(),
            retired: AtomicBool::new(false),
            used_at: AtomicU64::new(now_nanos),
            calls: Gauge::default(),
        }
    }

    pub(crate) fn touch(&self, now_nanos: u64) {
        self.used_at.store(now_nanos, Ordering::Relaxed);
    }

    pub(crate) fn used_at(&self) -> u64 {
        self.used_at.load(Ordering::Relaxed)
    }

    /// Whether anything waits on it: frames to be sent, or calls to be answered.
    pub(crate) fn is_busy(&self) -> bool {
        self.calls.get() > 0 || self.lanes().any(Lane::is_busy)
    }

    /// The lane with this number, begun if need be; [`LANES`] is the one for datagrams.
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

    /// The connection, made if there is none. Of several tasks that need it, one dials.
    pub(crate) async fn session(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
    ) -> Result<Arc<Session>, ConnectError> {
        if let Some(session) = lock(&self.state).open_session()? {
            return Ok(session);
        }
        let _turn = self.dialing.lock().await;
        if let Some(session) = lock(&self.state).open_session()? {
            return Ok(session);
        }
        match dial(shared, self.target, self.plane).await {
            Ok(session) => {
                let session = Arc::new(session);
                *lock(&self.state) = State {
                    session: Some(session.clone()),
                    failures: 0,
                    backoff: None,
                };
                self.watch(shared, session.connection.clone());
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

    /// Forgets that the peer could not be reached, and gives up its connection: it has a new address.
    pub(crate) fn readdress(&self) {
        let state = std::mem::take(&mut *lock(&self.state));
        if let Some(session) = state.session {
            session.connection.close(CODE_DONE, b"the address has changed");
        }
    }

    /// No more is taken. What is queued is still sent; then the connection goes.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
        self.lanes().for_each(Lane::close);
        // Whoever still writes or waits has the session too.
        lock(&self.state).session = None;
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
        Target::Node(node) => {
            let addresses = shared.addresses.read().unwrap_or_else(PoisonError::into_inner);
            *addresses.get(&node).ok_or(ConnectError::NoAddress(node))?
        }
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
        address: connection.remote_address(),
    });
    Ok(Session {
        connection,
        peer,
        _held: shared.counters.outgoing.enter(),
    })
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
