//! HTTP/2 connections, and pings on them.
//!
//! The protocol is that of `trillium-http`, which also serves the API: its part for clients has no promise of stability yet, which is why
//! everything that uses it is in this file and in `grpc`.

use std::pin::pin;
use std::sync::Arc;

use futures::future::{Either, select};
use futures_lite::future::poll_once;
use lictor_node::local::ProbeTls;
use trillium_http::HttpContext;
use trillium_http::h2::H2Connection;

use super::dial::{Io, Target};
use super::text::reason;
use super::tls::{Protocol, Tls};
use super::{Limit, Outcome};

/// What a ping carries. Only one is ever under way on a connection.
const PING: [u8; 8] = *b"lictor!!";

/// Connects by HTTP/2, and waits for the answer to a ping.
pub(super) async fn probe_ping(address: &str, tls: Option<&ProbeTls>, roots: &Tls, limit: Limit) -> Outcome {
    let ping = async {
        let stream = open(address, tls, roots)
            .await
            .map_err(|why| format!("Failed to dial to {address}: {why}"))?;
        let ping = |connection: Arc<H2Connection>| async move {
            // Nothing may go out before our settings, and a ping would.
            let settings = connection.peer_settings().await;
            settings.ok_or_else(|| "connection closed".to_owned())?;
            let answer = connection.send_ping(PING).await;
            answer.map(drop).map_err(|error| reason(&error))
        };
        with(stream, ping)
            .await
            .map_err(|why| format!("HTTP2 ping failed: {why}"))
    };
    match limit.cut(Box::pin(ping)).await {
        Some(Ok(())) => Outcome::passing("HTTP2 ping was successful"),
        Some(Err(why)) => Outcome::critical(why),
        None => Outcome::critical("HTTP2 ping failed: context deadline exceeded"),
    }
}

/// Connects to where HTTP/2 is to be spoken.
pub(super) async fn open(address: &str, tls: Option<&ProbeTls>, roots: &Tls) -> Result<Box<dyn Io>, String> {
    let target = Target::parse(address).map_err(|why| format!("dial tcp: {why}"))?;
    let stream = target.connect().await?;
    Ok(match tls {
        None => Box::new(stream),
        Some(tls) => Box::new(roots.connect(stream, &target.host, tls, Protocol::Http2).await?),
    })
}

/// Does something on an HTTP/2 connection, as long as that lasts.
pub(super) async fn with<T, F>(
    stream: Box<dyn Io>,
    act: impl FnOnce(Arc<H2Connection>) -> F,
) -> Result<T, String>
where
    F: Future<Output = Result<T, String>>,
{
    let connection = H2Connection::new(Arc::new(HttpContext::new()));
    let running = connection.clone().run_client(stream);
    let acting = pin!(act(connection));
    match select(acting, running).await {
        Either::Left((done, _)) => done,
        // The answer may have come together with the end.
        Either::Right((ended, acting)) => match poll_once(acting).await {
            Some(Ok(done)) => Ok(done),
            Some(Err(_)) | None => Err(match ended {
                Ok(()) => "connection closed".to_owned(),
                Err(error) => error.to_string(),
            }),
        },
    }
}
