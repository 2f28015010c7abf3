//! Probes of little servers that behave, and of others that do not.

mod docker;
mod grpc;
mod http;
mod runners;
mod sockets;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use futures_rustls::rustls;
use lictor_catalog::Status;
use lictor_node::local::{Probe, ProbeTls};
use rustls::pki_types::PrivateKeyDer;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::tls::Tls;
use super::{DOCKER_SOCKET, Outcome, Prober};

/// Far longer than anything takes that goes well.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it may take where it is to take too long.
const SOON: Duration = Duration::from_millis(300);

fn passing(output: impl Into<String>) -> Outcome {
    Outcome::passing(output)
}

fn critical(output: impl Into<String>) -> Outcome {
    Outcome::critical(output)
}

fn warning(output: &str) -> Outcome {
    Outcome {
        status: Status::Warning,
        output: output.to_owned(),
    }
}

fn prober() -> Prober {
    Prober::new(Path::new(DOCKER_SOCKET).to_owned())
}

fn probe(what: &Probe) -> Outcome {
    block_on(prober().probe(what, PATIENCE, 4096))
}

fn probe_soon(what: &Probe) -> Outcome {
    block_on(prober().probe(what, SOON, 4096))
}

/// Serves each connection by `serve`, one after the other, for as long as the test runs.
fn serve(serve: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            serve(stream.unwrap());
        }
    });
    address
}

/// An address on which nobody listens.
fn closed() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Reads one HTTP request: its head as text, and its body, if its length is told.
fn read_request(stream: &mut impl Read) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        request.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&request).into_owned();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    head + std::str::from_utf8(&body).unwrap()
}

/// An authority, and what a server needs whose certificate it has signed.
struct Authority {
    roots: RootCertStore,
    server: Arc<ServerConfig>,
}

/// `name` is the server's.
fn authority(name: &str, protocols: &[&[u8]]) -> Authority {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::from_params(&params, &key);
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();

    let server_key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec![name.to_owned()])
        .unwrap()
        .signed_by(&server_key, &issuer)
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(server_key.serialize_der()).unwrap(),
        )
        .unwrap();
    server.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Authority {
        roots,
        server: Arc::new(server),
    }
}

impl Authority {
    /// A prober that trusts it, and nobody else.
    fn prober(&self) -> Prober {
        Prober {
            tls: Tls::trusting(self.roots.clone()),
            docker: Path::new(DOCKER_SOCKET).to_owned(),
        }
    }

    /// Serves HTTPS with one answer to everything.
    fn serve(&self, answer: &'static str) -> SocketAddr {
        let config = Arc::clone(&self.server);
        serve(move |stream| {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(session, stream);
            // Those that do not like the certificate go away.
            if stream.flush().is_ok() && stream.conn.complete_io(&mut stream.sock).is_ok() {
                read_request(&mut stream);
                let _ = stream.write_all(answer.as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        })
    }
}

fn tls(skip_verify: bool, server_name: &str) -> ProbeTls {
    ProbeTls {
        skip_verify,
        server_name: server_name.to_owned(),
    }
}
