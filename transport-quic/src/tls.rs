//! From trust to TLS and QUIC configurations.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    AckFrequencyConfig, NoneTokenLog, NoneTokenStore, TransportConfig, ValidationTokenConfig, VarInt,
    congestion,
};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring as ring_provider, verify_tls13_signature,
};
use rustls::server::{ParsedCertificate, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::LANES;
use crate::identity::{Credentials, Identity, Trust, TrustError};
use crate::limits::Limits;
use crate::plane::Plane;

/// How many TLS sessions are kept to be resumed with those who called. A resumed handshake spares both ends the
/// certificates.
const RESUMABLE_CALLERS: usize = 1024;

/// How many are kept with those who were called on the gossip plane, where connections come and go: a member is
/// probed once in a round of the pool, so it takes as many as there are members to find any of use.
const RESUMABLE_MEMBERS: usize = 1024;

/// How many are kept with those who were called on any other plane.
const RESUMABLE_PEERS: usize = 64;

/// What is assumed of the way to a peer before it is measured. Agents that form a cluster are near each other; with
/// quinn's 333 ms a lost first packet would cost an election.
const INITIAL_RTT: Duration = Duration::from_millis(10);

/// Bytes that may be on the way at once before the way's capacity is known.
const INITIAL_WINDOW: u64 = 128 * 1024;

/// How many packets a peer may take before it acknowledges. A heartbeat's acknowledgement still comes in 25 ms.
const ACK_THRESHOLD: VarInt = VarInt::from_u32(10);

const STREAM_WINDOW: VarInt = VarInt::from_u32(2 * 1024 * 1024);
const CONNECTION_WINDOW: VarInt = VarInt::from_u32(16 * 1024 * 1024);
/// Datagrams of one connection that wait to be sent, or to be taken, in bytes. Beyond it the oldest are dropped.
const DATAGRAM_BUFFER: usize = 128 * 1024;

/// The windows of a gossip connection: it carries a member's whole view of the pool now and then, and nothing else.
const GOSSIP_STREAM_WINDOW: VarInt = VarInt::from_u32(256 * 1024);
pub(crate) const GOSSIP_WINDOW: VarInt = VarInt::from_u32(1024 * 1024);

/// Twice the lanes: a lane may begin anew before its old stream is forgotten.
const LANE_STREAMS: VarInt = VarInt::from_u32(2 * LANES as u32);

/// What the endpoint needs to speak and to listen with one set of credentials.
pub(crate) struct Configs {
    pub(crate) server: quinn::ServerConfig,
    clients: [quinn::ClientConfig; Plane::ALL.len()],
    pub(crate) endpoint: quinn::EndpointConfig,
    pub(crate) renew_at: SystemTime,
}

impl Configs {
    /// Gets credentials for `identity` and builds everything from them.
    pub(crate) fn build(trust: &Trust, identity: &Identity, limits: &Limits) -> Result<Self, TrustError> {
        let credentials = trust.credentials(identity, SystemTime::now())?;
        let provider = Arc::new(provider());
        let server = server_config(&credentials, &provider, limits)?;
        let [raft, rpc, gossip, wan] =
            Plane::ALL.map(|plane| client_config(&credentials, &provider, plane, limits));
        let clients = [raft?, rpc?, gossip?, wan?];
        let endpoint = endpoint_config(&credentials.reset_secret);
        Ok(Self {
            server,
            clients,
            endpoint,
            renew_at: credentials.renew_at,
        })
    }

    pub(crate) fn client(&self, plane: Plane) -> quinn::ClientConfig {
        self.clients[plane.index()].clone()
    }
}

/// ring, with the cipher that common hardware has instructions for in front.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            ring_provider::cipher_suite::TLS13_AES_128_GCM_SHA256,
            ring_provider::cipher_suite::TLS13_AES_256_GCM_SHA384,
            ring_provider::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..ring_provider::default_provider()
    }
}

fn server_config(
    credentials: &Credentials,
    provider: &Arc<CryptoProvider>,
    limits: &Limits,
) -> Result<quinn::ServerConfig, TrustError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(credentials.roots.clone(), provider.clone())
        .build()
        .map_err(|error| TrustError::Authority(rustls::Error::General(error.to_string())))?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(credentials.chain.clone(), credentials.key.clone_key())?;
    tls.alpn_protocols = Plane::ALL.map(|plane| plane.alpn().into()).into();
    tls.session_storage = ServerSessionMemoryCache::new(RESUMABLE_CALLERS);
    // Whoever comes back brings it, and gets a new one.
    tls.send_tls13_tickets = 1;
    let crypto = QuicServerConfig::try_from(tls).expect("the provider has QUIC's initial cipher suite");
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    // The dialer, who knows the plane, keeps alive and decides how much silence is too much.
    let patience = Plane::ALL.map(Plane::patience).into_iter().max();
    let mut transport = transport(patience.expect("there are planes"));
    transport.max_concurrent_bidi_streams(VarInt::from_u32(limits.first_calls()));
    transport.max_concurrent_uni_streams(LANE_STREAMS);
    config.transport_config(Arc::new(transport));
    config.max_incoming(limits.max_handshakes);
    // Tokens by which a caller proves its address beforehand: they would cost memory for each, and spare a round trip
    // only where calls come so thick that addresses must be proved at all.
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0).log(Arc::new(NoneTokenLog));
    config.validation_token_config(tokens);
    Ok(config)
}

fn client_config(
    credentials: &Credentials,
    provider: &Arc<CryptoProvider>,
    plane: Plane,
    limits: &Limits,
) -> Result<quinn::ClientConfig, TrustError> {
    let verifier = ClusterVerifier {
        roots: credentials.roots.clone(),
        algorithms: provider.signature_verification_algorithms,
    };
    let mut tls = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(credentials.chain.clone(), credentials.key.clone_key())?;
    tls.alpn_protocols = vec![plane.alpn().into()];
    tls.resumption = Resumption::in_memory_sessions(match plane {
        Plane::Gossip => RESUMABLE_MEMBERS,
        Plane::Raft | Plane::Rpc | Plane::Wan => RESUMABLE_PEERS,
    });
    // The name only tells sessions apart; it is nobody's business on the way.
    tls.enable_sni = false;
    let crypto = QuicClientConfig::try_from(tls).expect("the provider has QUIC's initial cipher suite");
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = transport(plane.patience());
    transport.keep_alive_interval(plane.keep_alive());
    config.token_store(Arc::new(NoneTokenStore));
    let (calls, lanes) = if plane.is_mutual() {
        (VarInt::from_u32(limits.first_calls()), LANE_STREAMS)
    } else {
        // Who was called answers calls and opens nothing.
        (VarInt::from_u32(0), VarInt::from_u32(0))
    };
    transport.max_concurrent_bidi_streams(calls);
    transport.max_concurrent_uni_streams(lanes);
    if plane == Plane::Gossip {
        // Packets are small, and few: larger ones are not worth being searched for.
        transport.mtu_discovery_config(None);
        transport.stream_receive_window(GOSSIP_STREAM_WINDOW);
        transport.receive_window(GOSSIP_WINDOW);
    }
    config.transport_config(Arc::new(transport));
    Ok(config)
}

fn transport(patience: Duration) -> TransportConfig {
    let mut config = TransportConfig::default();
    let mut cubic = congestion::CubicConfig::default();
    cubic.initial_window(INITIAL_WINDOW);
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(ACK_THRESHOLD);
    config
        .max_idle_timeout(Some(
            patience
                .try_into()
                .expect("seconds fit a variable-length integer"),
        ))
        .initial_rtt(INITIAL_RTT)
        .congestion_controller_factory(Arc::new(cubic))
        .ack_frequency_config(Some(acks))
        .stream_receive_window(STREAM_WINDOW)
        .receive_window(CONNECTION_WINDOW)
        .send_window(CONNECTION_WINDOW.into_inner())
        // Calls of one connection share it evenly, so that a long answer does not hold up short ones.
        .send_fairness(true)
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
        .datagram_send_buffer_size(DATAGRAM_BUFFER);
    config
}

/// With a reset key that survives a restart, a restarted agent can tell its peers at once that their connections are
/// gone; otherwise they would find out by silence.
fn endpoint_config(reset_secret: &[u8; 32]) -> quinn::EndpointConfig {
    let key = hmac::Key::new(hmac::HMAC_SHA256, reset_secret);
    let tag = hmac::sign(&key, b"connection ids");
    let id_key = u64::from_be_bytes(*tag.as_ref().first_chunk().expect("a tag has 32 bytes"));
    let mut config = quinn::EndpointConfig::new(Arc::new(key));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id_key)));
    config
}

/// Believes a certificate for whose authority signed it. What it says of its bearer is checked with the peer's
/// greeting; an agent has no host name that would be worth a check.
#[derive(Debug)]
struct ClusterVerifier {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ClusterVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("QUIC has no TLS 1.2".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
