//! Seeing whether a port is open.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use async_net::UdpSocket;
use lictor_node::local::ProbeTls;

use super::dial::Target;
use super::text::reason;
use super::tls::{Protocol, Tls};
use super::{Limit, Outcome};

/// What is sent by UDP: a line without anything on it, which most services can bear.
const GREETING: &[u8] = b"\n";

/// Connects, and says no more than is needed for TLS.
pub(super) async fn probe_tcp(address: &str, tls: Option<&ProbeTls>, roots: &Tls, limit: Limit) -> Outcome {
    let connect = async {
        let target = Target::parse(address).map_err(|why| format!("dial tcp: {why}"))?;
        let stream = target.connect().await?;
        if let Some(tls) = tls {
            roots.connect(stream, &target.host, tls, Protocol::Any).await?;
        }
        Ok::<(), String>(())
    };
    match limit.cut(connect).await {
        Some(Ok(())) => Outcome::passing(format!("TCP connect {address}: Success")),
        Some(Err(why)) => Outcome::critical(why),
        None => Outcome::critical(format!("dial tcp {address}: i/o timeout")),
    }
}

/// Sends something, and waits whether it is refused. Most services have nothing to answer, so silence is good.
pub(super) async fn probe_udp(address: &str, limit: Limit) -> Outcome {
    match limit.cut(refused(address)).await {
        Some(Err(why)) => Outcome::critical(why),
        Some(Ok(())) | None => Outcome::passing(format!("UDP connect {address}: Success")),
    }
}

async fn refused(address: &str) -> Result<(), String> {
    let dial = |why: String| format!("dial udp: {why}");
    let target = Target::parse(address).map_err(dial)?;
    let addresses = target.resolve().await.map_err(dial)?;
    let Some(peer) = addresses.first() else {
        return Err(dial("no address to send to".to_owned()));
    };
    let any = match peer {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let failed = |what: &str, error: std::io::Error| format!("{what} udp {peer}: {}", reason(&error));
    let socket = UdpSocket::bind(any)
        .await
        .map_err(|error| failed("dial", error))?;
    socket
        .connect(*peer)
        .await
        .map_err(|error| failed("dial", error))?;
    socket
        .send(GREETING)
        .await
        .map_err(|error| failed("write", error))?;
    socket
        .recv(&mut [0; 1])
        .await
        .map_err(|error| failed("read", error))?;
    Ok(())
}
