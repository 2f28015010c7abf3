//! Connections from peers: who they are, and what they send.

use std::sync::Arc;

use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, Incoming, RecvStream};

use crate::call::read_frame;
use crate::error::{ConnectError, Refusal};
use crate::frame::{Hello, MAX_HELLO_BYTES, encode_one};
use crate::identity::{Identity, PeerIdentity};
use crate::link::{lost_or, vouch};
use crate::plane::Plane;
use crate::receive::{Received, receive};
use crate::session::Session;
use crate::shared::{Shared, canonical, lock};
use crate::stats::Held;
use crate::tls::GOSSIP_WINDOW;
use crate::transport::Target;

/// Takes connections until the endpoint is closed.
pub(crate) async fn accept(shared: Arc<Shared>) {
    while let Some(incoming) = shared.endpoint.accept().await {
        let limits = &shared.limits;
        let open = shared.counters.incoming.enter_below(limits.max_connections);
        let greeting = shared.counters.greeting.enter_below(limits.max_handshakes);
        let (Some(open), Some(greeting)) = (open, greeting) else {
            let refusal = Refusal::TooMany {
                connections: limits.max_connections,
                handshakes: limits.max_handshakes,
            };
            shared.note_refusal(incoming.remote_address(), refusal);
            incoming.refuse();
            continue;
        };
        // Under pressure, spend nothing on a handshake before the address has proved to be real.
        let pressed = shared.counters.greeting.get() > limits.max_handshakes / 2;
        if pressed && incoming.may_retry() && !incoming.remote_address_validated() {
            // Cannot fail: it was asked whether it may.
            let _ = incoming.retry();
            continue;
        }
        shared
            .runtime
            .spawn(serve(shared.clone(), incoming, open, greeting))
            .detach();
    }
}

async fn serve(shared: Arc<Shared>, incoming: Incoming, open: Held, greeting: Held) {
    let address = incoming.remote_address();
    let limit = shared.limits.handshake_timeout;
    let greeted = shared.within(limit, greet(&shared, incoming)).await;
    drop(greeting);
    match greeted {
        Some(Ok((connection, peer, plane))) => {
            shared.counters.handshakes.add(1);
            tracing::debug!(%peer, %plane, "connection from a peer");
            let session = Arc::new(Session::accepted(&shared, connection, peer, plane));
            begin(&shared, session, plane, open);
        }
        Some(Err(error)) => shared.note_failure(address, &error),
        None => tracing::debug!(%address, "a handshake took longer than {limit:?}"),
    }
}

/// Receives from a connection, and sends on it if it is for both. A task of its own, so that for the time of the
/// connection nothing is kept of its beginning.
fn begin(shared: &Arc<Shared>, session: Arc<Session>, plane: Plane, open: Held) {
    if plane.is_mutual() {
        shared.sessions.add(&session, plane);
        let link = (Target::Node(session.peer.node()), plane);
        let link = lock(&shared.links).get(&link).cloned();
        if let Some(link) = link {
            link.has_called(shared);
        }
    }
    let receiving = receive(shared.clone(), Received::on(&session), plane);
    let task = shared.runtime.spawn(async move {
        receiving.await;
        drop((session, open));
    });
    task.detach();
}

/// Finishes the handshake, hears who the peer is, checks that it may be here, and says who we are.
async fn greet(
    shared: &Shared,
    incoming: Incoming,
) -> Result<(Connection, Arc<PeerIdentity>, Plane), ConnectError> {
    let connection = incoming.await.map_err(|error| ConnectError::from_lost(&error))?;
    let (mut send, mut receive) = connection
        .accept_bi()
        .await
        .map_err(|error| ConnectError::from_lost(&error))?;
    let heard = hear(shared, &connection, &mut receive).await;
    if let Err(ConnectError::Refused(refusal)) = &heard {
        // Before the streams are dropped: that would finish them, and the peer might see that first.
        connection.close(refusal.kind().code(), refusal.to_string().as_bytes());
    }
    let (identity, plane) = heard?;
    let own = Hello(shared.identity.clone()).encode();
    send.write_all_chunks(&mut encode_one(own))
        .await
        .map_err(|error| lost_or(&connection, error.to_string()))?;
    // Cannot fail: the stream was neither finished nor reset.
    let _ = send.finish();
    let peer = PeerIdentity {
        identity,
        address: canonical(connection.remote_address()),
    };
    if plane == Plane::Gossip {
        connection.set_receive_window(GOSSIP_WINDOW);
    }
    Ok((connection, Arc::new(peer), plane))
}

/// The peer's greeting, if it may be here.
async fn hear(
    shared: &Shared,
    connection: &Connection,
    receive: &mut RecvStream,
) -> Result<(Identity, Plane), ConnectError> {
    let refused = |refusal| ConnectError::Refused(refusal);
    let data = connection
        .handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok());
    let plane = data
        .and_then(|data| Plane::from_alpn(data.protocol.as_deref()?))
        .ok_or_else(|| refused(Refusal::Protocol("it names no plane".into())))?;
    let hello = read_frame(receive, MAX_HELLO_BYTES)
        .await
        .map_err(|error| lost_or(connection, error.to_string()))?;
    let Hello(identity) = Hello::decode(&hello).map_err(refused)?;
    vouch(shared, connection, &identity).map_err(refused)?;
    plane.admits(&identity, &shared.identity).map_err(refused)?;
    Ok((identity, plane))
}

/// Peers that break the rules: they have a certificate of the cluster, and a QUIC of their own.
#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::{Duration, Instant};

    use bytes::Bytes;
    use lictor_machine::NodeId;
    use quinn::{ConnectionError, SendStream};

    use super::*;
    use crate::LANES;
    use crate::error::RefusalKind;
    use crate::identity::{Role, Trust};
    use crate::limits::Limits;
    use crate::shared::QuicRuntime;
    use crate::tls::Configs;
    use crate::transport::{Options, Transport};

    /// Far longer than anything takes that goes well.
    const PATIENCE: Duration = Duration::from_mins(1);

    fn identity(node: u128, role: Role) -> Identity {
        Identity {
            node: NodeId(node),
            name: "n".into(),
            datacenter: "dc1".into(),
            role,
        }
    }

    fn trust() -> Trust {
        Trust::shared_key(&[7; 32]).unwrap()
    }

    fn start(handshake_timeout: Duration) -> (Transport, crate::transport::Incoming) {
        let limits = Limits {
            handshake_timeout,
            ..Limits::default()
        };
        Transport::bind(Options {
            address: "127.0.0.1:0".parse().unwrap(),
            identity: identity(1, Role::Server),
            trust: trust(),
            runtime: lictor_runtime_smol::runtime(),
            limits,
        })
        .unwrap()
    }

    /// A connection with the certificate of `own`, and its first stream.
    async fn connect(
        transport: &Transport,
        own: &Identity,
        plane: Plane,
    ) -> (Connection, SendStream, RecvStream) {
        let configs = Configs::build(&trust(), own, &Limits::default()).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let runtime = Arc::new(QuicRuntime(lictor_runtime_smol::runtime()));
        let endpoint = quinn::Endpoint::new(configs.endpoint.clone(), None, socket, runtime).unwrap();
        let address = transport.local_address().unwrap();
        let connecting = endpoint
            .connect_with(configs.client(plane), address, "peer.lictor")
            .unwrap();
        let connection = connecting.await.unwrap();
        let (send, receive) = connection.open_bi().await.unwrap();
        (connection, send, receive)
    }

    /// Says `hello`, framed, with the certificate of `own`; returns why the connection was closed, and the words.
    async fn refused(own: &Identity, hello: Bytes) -> (RefusalKind, String) {
        let (transport, mut incoming) = start(PATIENCE);
        let (connection, mut send, _receive) = connect(&transport, own, Plane::Raft).await;
        send.write_all_chunks(&mut encode_one(hello)).await.unwrap();
        // A frame before the answer to the greeting. It fails if the refusal is here already.
        if let Ok(mut early) = connection.open_uni().await {
            let _ = early.write_all(b"\0\0\0\0\x01x").await;
        }
        let closed = why(&connection).await;
        // It is counted after it was sent.
        let begin = Instant::now();
        while transport.stats().refused(closed.0) == 0 {
            assert!(begin.elapsed() < PATIENCE, "the refusal is not counted");
            lictor_runtime_smol::runtime()
                .sleep(Duration::from_millis(1))
                .await;
        }
        assert!(incoming.try_next().is_none(), "nothing was passed on");
        closed
    }

    async fn why(connection: &Connection) -> (RefusalKind, String) {
        let ConnectionError::ApplicationClosed(close) = connection.closed().await else {
            panic!("not closed by the peer")
        };
        let kind = RefusalKind::ALL
            .into_iter()
            .find(|kind| kind.code() == close.error_code);
        (kind.unwrap(), String::from_utf8(close.reason.to_vec()).unwrap())
    }

    #[test]
    fn a_clients_certificate_does_not_make_a_server() {
        lictor_runtime_smol::runtime().block_on(async {
            let client = identity(2, Role::Client);
            let claim = Identity {
                role: Role::Server,
                ..client.clone()
            };
            let (kind, text) = refused(&client, Hello(claim).encode()).await;
            assert_eq!(kind, RefusalKind::Certificate);
            assert!(
                text.contains("claims to be server") && text.contains("is for client"),
                "{text}"
            );
        });
    }

    #[test]
    fn a_node_cannot_claim_to_be_another() {
        lictor_runtime_smol::runtime().block_on(async {
            let own = identity(2, Role::Server);
            let (kind, _) = refused(&own, Hello(identity(3, Role::Server)).encode()).await;
            assert_eq!(kind, RefusalKind::Certificate);
        });
    }

    #[test]
    fn broken_greetings_are_refused() {
        lictor_runtime_smol::runtime().block_on(async {
            let own = identity(2, Role::Server);
            for hello in [vec![], vec![9], vec![1, 0xff], vec![1; MAX_HELLO_BYTES + 1]] {
                let (kind, text) = refused(&own, hello.into()).await;
                assert_eq!(kind, RefusalKind::Protocol, "{text}");
            }
        });
    }

    #[test]
    fn who_does_not_greet_is_let_go() {
        lictor_runtime_smol::runtime().block_on(async {
            let (transport, mut incoming) = start(Duration::from_secs(3));
            let (connection, _send, _receive) =
                connect(&transport, &identity(2, Role::Server), Plane::Raft).await;
            connection.closed().await;
            assert!(incoming.try_next().is_none());
            let stats = transport.stats();
            assert_eq!((stats.handshakes, stats.frames_received), (0, 0));
        });
    }

    #[test]
    fn a_lane_that_does_not_exist_closes_the_connection() {
        lictor_runtime_smol::runtime().block_on(async {
            let (transport, _incoming) = start(PATIENCE);
            let own = identity(2, Role::Server);
            let (connection, mut send, mut receive) = connect(&transport, &own, Plane::Raft).await;
            send.write_all_chunks(&mut encode_one(Hello(own.clone()).encode()))
                .await
                .unwrap();
            read_frame(&mut receive, MAX_HELLO_BYTES).await.unwrap();
            let mut lane = connection.open_uni().await.unwrap();
            lane.write_all(&[LANES]).await.unwrap();
            let (kind, text) = why(&connection).await;
            assert_eq!(kind, RefusalKind::Protocol);
            assert!(text.contains("lane 8"), "{text}");
        });
    }
}
