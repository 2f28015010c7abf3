//! Sockets, and the connections that come in on them.
//!
//! Trillium's own servers get their runtime from a type, not from a value, and know neither limits per client nor deadlines.
//! So accepting is done here, and trillium takes over once a connection is let in.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use async_io::Timer;
use async_net::TcpListener;
use async_net::unix::{UnixListener, UnixStream};
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _};
use lictor_metrics::Registry;
use lictor_runtime::Runtime;
use trillium::{Conn, Handler, Info, Transport, Upgrade};
use trillium_http::h1::{H1Connection, H1ConnectionResult};
use trillium_http::{HttpConfig, HttpContext, Swansong};

use crate::admission::{Admission, Place, Refusal};
use crate::transport::{Connection, Patience, Patient, Stream};

/// How long a peer may go on sending after an answer that ends its connection. What it sends is thrown away; a
/// connection closed earlier would be reset, and the answer lost with it.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection over a limit may take to ask something and to hear that.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait before accepting again after that failed, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How many connections from within may wait to be accepted.
const DOOR_QUEUE: usize = 64;

/// What a server puts up with. Limits of how many or how much there may be at once are none if they are 0; who is above one gets a 429
/// that names it, and is counted in the metric `lictor.http.refused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections from one address (`limits.http_max_conns_per_client`).
    pub connections_per_client: usize,
    /// Connections in all (`limits.http_max_conns`).
    pub connections: usize,
    /// Requests that are handled, without those that wait for a change (`limits.http_max_requests`).
    pub requests: usize,
    /// Requests that wait for a change (`limits.http_max_blocking_queries`). Fewer than connections, or there is none left for others.
    pub blocking_queries: usize,
    /// Bytes of requests' bodies (`limits.http_max_body_bytes`).
    pub body_bytes: usize,
    /// Bytes of answers that clients have not taken yet (`limits.http_max_answer_bytes`). Those who only read wait until there are fewer;
    /// answers that are on their way when it is reached go out.
    pub answer_bytes: usize,
    /// Bytes of a request's line and headers.
    pub head_bytes: usize,
    /// How long a request's line and headers may take, from their first byte on.
    pub head_timeout: Duration,
    /// How long a connection may stay without a request.
    pub idle_timeout: Duration,
    /// How long a client may take none of an answer, or next to none: for every 4096 bytes that it takes it gets another second, up to this.
    pub write_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_per_client: 200,
            connections: 16_384,
            requests: 4096,
            blocking_queries: 15_000,
            body_bytes: 256 << 20,
            answer_bytes: 1 << 30,
            head_bytes: 64 << 10,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(5),
            write_timeout: Duration::from_mins(1),
        }
    }
}

/// A bound socket.
#[derive(Debug)]
pub struct Listener(Socket);

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, PathBuf),
    Door(Receiver<UnixStream>),
}

/// A way to a server from within its own process, which needs no address.
#[derive(Clone, Debug)]
pub struct Door(Sender<UnixStream>);

impl Door {
    /// Connects, as soon as the server accepts connections. They count among all connections, and belong to no address. Fails if the server
    /// has stopped, or if there are no file descriptors left.
    pub async fn connect(&self) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        self.0
            .send(theirs)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::ConnectionRefused, "this agent's API has stopped"))?;
        Ok(ours)
    }
}

impl Listener {
    /// Binds a TCP socket. Port 0 takes any that is free. The error names the address.
    pub fn tcp(address: SocketAddr) -> io::Result<Self> {
        let bind = || {
            let listener = std::net::TcpListener::bind(address)?;
            let bound = listener.local_addr()?;
            Ok(Self(Socket::Tcp(TcpListener::try_from(listener)?, bound)))
        };
        bind().map_err(|error| cannot_listen(&address, &error))
    }

    /// Binds a Unix socket at a path where nothing is. It is removed when the server stops. The error names the path.
    pub fn unix(path: &Path) -> io::Result<Self> {
        let bind = || {
            let listener = std::os::unix::net::UnixListener::bind(path)?;
            Ok(Self(Socket::Unix(
                UnixListener::try_from(listener)?,
                path.to_owned(),
            )))
        };
        bind().map_err(|error| cannot_listen(&path.display(), &error))
    }

    /// Listens to nobody but those in this process who have the door.
    pub fn door() -> (Self, Door) {
        let (sender, receiver) = async_channel::bounded(DOOR_QUEUE);
        (Self(Socket::Door(receiver)), Door(sender))
    }

    /// The address of a TCP socket, with its real port.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Socket::Tcp(_, address) => Some(*address),
            Socket::Unix(..) | Socket::Door(_) => None,
        }
    }
}

fn cannot_listen(place: &impl fmt::Display, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("cannot listen for HTTP on {place}: {error}{}", elsewhere(error)),
    )
}

/// What whoever starts the agent may do about a place that cannot be had.
fn elsewhere(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::AddrInUse {
        "; perhaps another agent runs here: -http-port (ports.http) or -client (client_addr) takes another"
    } else if error.kind() == io::ErrorKind::AddrNotAvailable {
        "; this machine has no such address: -client (client_addr) takes one that it has"
    } else {
        ""
    }
}

/// A running server. Dropping it does not stop it.
#[derive(Debug)]
pub struct Server {
    swansong: Swansong,
    abort: Swansong,
}

impl Server {
    /// Serves `handler` on `listeners`, with tasks of `runtime`, and counts in `metrics`.
    pub async fn start(
        runtime: &Runtime,
        listeners: Vec<Listener>,
        limits: Limits,
        metrics: &Registry,
        mut handler: impl Handler,
    ) -> Self {
        // Room for what requests and answers mostly have: trillium's own guess takes some kilobytes of each connection.
        let config = HttpConfig::default()
            .with_head_max_len(limits.head_bytes)
            .with_request_buffer_initial_len(512)
            .with_request_header_initial_capacity(8)
            .with_response_header_initial_capacity(8);
        let mut info = Info::from(HttpContext::new().with_config(config));
        handler.init(&mut info).await;
        let context = HttpContext::from(info);
        let swansong = context.swansong().clone();
        let abort = Swansong::new();
        let shared = Arc::new(Shared {
            runtime: runtime.clone(),
            context: Arc::new(context),
            abort: abort.clone(),
            admission: Admission::new(limits.connections, limits.connections_per_client, metrics),
            patience: Patience {
                idle: limits.idle_timeout,
                head: limits.head_timeout,
                write: limits.write_timeout,
            },
            handler,
        });
        for Listener(socket) in listeners {
            let guard = swansong.guard();
            let shared = Arc::clone(&shared);
            runtime
                .spawn(async move {
                    match socket {
                        Socket::Tcp(listener, _) => shared.accept_tcp(listener).await,
                        Socket::Unix(listener, path) => shared.accept_unix(listener, &path).await,
                        Socket::Door(connections) => shared.accept_inside(connections).await,
                    }
                    drop(guard);
                })
                .detach();
        }
        Self { swansong, abort }
    }

    /// Stops: closes the listeners and the idle connections, ends blocking queries, and lets requests being handled
    /// finish for up to `grace`. Connections that are left then are cut.
    pub async fn shut_down(self, grace: Duration) {
        let stopped = self.swansong.shut_down();
        let in_time = async {
            stopped.await;
            true
        }
        .or(async {
            Timer::after(grace).await;
            false
        })
        .await;
        if !in_time {
            tracing::warn!(
                connections = self.swansong.guard_count(),
                "cutting HTTP connections that did not finish"
            );
        }
        self.abort.shut_down().await;
    }
}

/// What all connections of a server have in common.
struct Shared<H> {
    runtime: Runtime,
    context: Arc<HttpContext>,
    /// Cuts every connection.
    abort: Swansong,
    admission: Arc<Admission>,
    patience: Patience,
    handler: H,
}

impl<H: Handler> Shared<H> {
    async fn accept_tcp(self: &Arc<Self>, listener: TcpListener) {
        while let Some(accepted) = self.context.swansong().interrupt(listener.accept()).await {
            match accepted {
                Ok((stream, peer)) => {
                    // Answers are written whole, so waiting for more would only delay them.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
                    }
                    self.welcome(stream, Some(peer.ip().to_canonical()));
                }
                Err(error) => pause(&error).await,
            }
        }
    }

    async fn accept_unix(self: &Arc<Self>, listener: UnixListener, path: &Path) {
        while let Some(accepted) = self.context.swansong().interrupt(listener.accept()).await {
            match accepted {
                Ok((stream, _)) => self.welcome(stream, None),
                Err(error) => pause(&error).await,
            }
        }
        if let Err(error) = std::fs::remove_file(path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove the HTTP socket");
        }
    }

    async fn accept_inside(self: &Arc<Self>, connections: Receiver<UnixStream>) {
        while let Some(Ok(stream)) = self.context.swansong().interrupt(connections.recv()).await {
            self.welcome(stream, None);
        }
    }

    fn welcome(self: &Arc<Self>, stream: impl Stream, client: Option<IpAddr>) {
        match self.admission.admit(client) {
            Ok(place) => {
                let shared = Arc::clone(self);
                let abort = self.abort.clone();
                let connection = async move {
                    // Cut or served to its end, all the same.
                    let _ = abort
                        .interrupt(pin!(shared.serve(Box::new(stream), client)))
                        .await;
                    drop(place);
                };
                self.runtime.spawn(connection).detach();
            }
            Err((refusal, None)) => tracing::warn!(%refusal, "HTTP connection closed"),
            Err((refusal, Some(place))) => {
                tracing::warn!(%refusal, "HTTP connection refused");
                self.runtime.spawn(refuse(stream, refusal, place)).detach();
            }
        }
    }

    async fn serve(&self, stream: Box<dyn Stream>, client: Option<IpAddr>) {
        // As trillium hands it to handlers, so that it need not be wrapped for each request.
        let transport: Box<dyn Transport> = Box::new(Patient::new(stream, self.patience));
        let handler = &self.handler;
        let result = H1Connection::new(Arc::clone(&self.context), transport)
            .run(|mut conn| async move {
                conn.set_peer_ip(client);
                if let Some(connection) = Connection::of(conn.transport_mut()) {
                    connection.handling();
                }
                let conn = handler.run(Conn::from(conn)).await;
                let conn = handler.before_send(conn).await;
                let mut conn = conn.into_inner::<Box<dyn Transport>>();
                if let Some(connection) = Connection::of(conn.transport_mut()) {
                    connection.handled();
                }
                conn
            })
            .await;
        if let H1ConnectionResult::Close(close) = result {
            close
                .or(async {
                    Timer::after(CLOSE_PATIENCE).await;
                })
                .await;
        } else if let H1ConnectionResult::Upgrade(mut upgrade) = result {
            // The answer goes on for as long as there is something to say, and no request follows.
            if let Some(connection) = Connection::of(upgrade.transport_mut()) {
                connection.handling();
            }
            let upgrade = Upgrade::from(upgrade);
            if handler.has_upgrade(&upgrade) {
                handler.upgrade(upgrade).await;
            }
        } else if let H1ConnectionResult::Error(error) = result {
            tracing::debug!(?client, %error, "HTTP connection ended");
        }
    }
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "cannot accept HTTP connections for a moment");
    Timer::after(ACCEPT_PAUSE).await;
}

/// Tells a connection that it is one too many. Not before it has asked something: clients take an answer without a
/// question for a fault.
async fn refuse(mut stream: impl Stream, refusal: Refusal, place: Place) {
    let text = refusal.to_string();
    let answer = format!(
        "HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nContent-Length: {}\r\nContent-Type: text/plain; \
         charset=utf-8\r\nRetry-After: 1\r\n\r\n{text}",
        text.len()
    );
    let exchange = async {
        let mut scratch = [0; 1024];
        if stream.read(&mut scratch).await? == 0 {
            return Ok(());
        }
        stream.write_all(answer.as_bytes()).await?;
        stream.close().await?;
        while stream.read(&mut scratch).await? > 0 {}
        Ok(())
    };
    let outcome: io::Result<()> = exchange
        .or(async {
            Timer::after(REFUSAL_PATIENCE).await;
            Ok(())
        })
        .await;
    if let Err(error) = outcome {
        tracing::debug!(%error, "a refused HTTP connection did not hear why");
    }
    drop(place);
}
