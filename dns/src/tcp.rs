//! Queries by TCP.

use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_io::Timer;
use async_net::{TcpListener, TcpStream};
use futures::channel::oneshot;
use futures::stream::{FuturesUnordered, StreamExt as _};
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _, Future, FutureExt as _};
use lictor_runtime::{Runtime, Task};

use crate::config::Limits;
use crate::message::Desk;
use crate::service::{AtOnce, Late, Service, Transport};
use crate::udp::MAX_QUERY_BYTES;

/// Answers are gathered up to this before they are sent.
const GATHERED_BYTES: usize = 64 << 10;

/// How long to wait before accepting again after that failed, mostly for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Lets connections in, as many as may be.
#[derive(Debug, Default)]
struct Gate {
    clients: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's place. Dropping it gives it back.
#[derive(Debug)]
struct Place {
    gate: Arc<Gate>,
    client: IpAddr,
}

impl Gate {
    /// No foreign code runs under the lock, so a poisoned one still guards a sound state.
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(self: &Arc<Self>, client: IpAddr, limits: Limits) -> Option<Place> {
        let mut clients = self.lock();
        let all: usize = clients.values().sum();
        let own = clients.get(&client).copied().unwrap_or(0);
        if all >= limits.connections || own >= limits.connections_per_client {
            return None;
        }
        clients.insert(client, own + 1);
        Some(Place {
            gate: Arc::clone(self),
            client,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = self.gate.lock();
        if let Some(count) = clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

/// Lets connections in and serves them, until the sender of `stop` is dropped; then closes them all.
pub(crate) async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    limits: Limits,
    runtime: Runtime,
    mut stop: oneshot::Receiver<()>,
) {
    let gate = Arc::new(Gate::default());
    let mut connections: FuturesUnordered<Task<()>> = FuturesUnordered::new();
    loop {
        let ended = async {
            match connections.next().await {
                Some(()) => Happening::Ended,
                None => pending().await,
            }
        };
        let accepted = async { Happening::Accepted(listener.accept().await) };
        let stopped = async {
            // The sender says nothing: it is dropped.
            let _ = (&mut stop).await;
            Happening::Stopped
        };
        let (stream, client) = match stopped.or(accepted).or(ended).await {
            Happening::Stopped => break,
            Happening::Ended => continue,
            Happening::Accepted(Ok((stream, address))) => (stream, address.ip()),
            Happening::Accepted(Err(error)) => {
                tracing::warn!(%error, "a DNS connection cannot be accepted");
                Timer::after(PAUSE).await;
                continue;
            }
        };
        let Some(place) = gate.enter(client, limits) else {
            service.counters.refused_connections.count();
            continue;
        };
        service.counters.connections.count();
        let connection = Connection {
            desk: service.desk(),
            stream,
            client,
            service: Arc::clone(&service),
            limits,
            received: Vec::new(),
            gathered: Vec::new(),
            late: FuturesUnordered::new(),
        };
        connections.push(runtime.spawn(async move {
            let _place = place;
            if let Err(error) = connection.serve().await {
                tracing::debug!(%client, %error, "a DNS connection ends");
            }
        }));
    }
    drop(listener);
    for connection in connections {
        connection.cancel().await;
    }
}

/// What happens to a listener.
enum Happening {
    Accepted(io::Result<(TcpStream, SocketAddr)>),
    /// A connection did.
    Ended,
    Stopped,
}

type Answering = Pin<Box<dyn Future<Output = Late> + Send>>;

struct Connection {
    stream: TcpStream,
    client: IpAddr,
    service: Arc<Service>,
    limits: Limits,
    desk: Desk,
    /// What has been read and not been looked at.
    received: Vec<u8>,
    /// Answers that have not been sent.
    gathered: Vec<u8>,
    /// What others are asked about. Answers go out as they come, in any order.
    late: FuturesUnordered<Answering>,
}

/// What happens next on a connection.
enum Event {
    Read(usize),
    Answered(Late),
    TimedOut,
}

impl Connection {
    /// Serves until the client closes, misbehaves, or takes too long for anything.
    async fn serve(mut self) -> io::Result<()> {
        let mut chunk = vec![0; 4096];
        let mut due = Instant::now() + self.limits.stall;
        loop {
            while self.look()? {
                due = Instant::now() + self.limits.stall;
                self.send().await?;
            }
            self.send().await?;
            let (may_read, waits) = (self.late.len() < self.limits.pipelined, !self.late.is_empty());
            let answered = async {
                match self.late.next().await {
                    Some(late) => Ok(Event::Answered(late)),
                    None => pending().await,
                }
            };
            let stream = &mut self.stream;
            let read = async {
                if !may_read {
                    return pending().await;
                }
                stream.read(&mut chunk).await.map(Event::Read)
            };
            // Who waits for an answer is not the one who takes too long, unless half a query is there.
            let may_time_out = !waits || !self.received.is_empty();
            let timed_out = async {
                if !may_time_out {
                    return pending().await;
                }
                Timer::at(due).await;
                Ok(Event::TimedOut)
            };
            match answered.or(read).or(timed_out).await? {
                Event::Answered(late) => {
                    self.service.write_late(&mut self.desk, &late, Transport::Tcp);
                    self.gather();
                    due = Instant::now() + self.limits.stall;
                }
                Event::Read(0) if self.late.is_empty() => return Ok(()),
                // The client has asked all it wants to, and may still listen.
                Event::Read(0) => return self.finish().await,
                Event::Read(length) => self.received.extend_from_slice(&chunk[..length]),
                Event::TimedOut => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
    }

    /// Looks at whole queries, until there are none, too many are under way, or much is to be sent. Says whether there were any.
    fn look(&mut self) -> io::Result<bool> {
        let begun = Instant::now();
        let looked = self.answer_received();
        self.service.note(&mut self.desk, begun);
        looked
    }

    fn answer_received(&mut self) -> io::Result<bool> {
        let mut used = 0;
        while let Some((head, rest)) = self.received[used..].split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*head));
            if length > MAX_QUERY_BYTES {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a query of {length} bytes is too long"),
                ));
            }
            if rest.len() < length || self.late.len() >= self.limits.pipelined {
                break;
            }
            if self.gathered.len() > GATHERED_BYTES {
                break;
            }
            let query = rest[..length].to_vec();
            used += 2 + length;
            self.service.counters.tcp.count();
            match self
                .service
                .at_once(&mut self.desk, &query, self.client, Transport::Tcp)
            {
                AtOnce::Written => self.gather(),
                AtOnce::Silence => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "that is no query"));
                }
                AtOnce::Later(request, place) => {
                    let (service, client) = (Arc::clone(&self.service), self.client);
                    self.late.push(Box::pin(async move {
                        service.later(request, place, query, client, true).await
                    }));
                }
            }
        }
        self.received.drain(..used);
        Ok(used > 0)
    }

    /// Puts the desk's message to those that will be sent.
    fn gather(&mut self) {
        // Messages are bounded by what a length can say.
        let length = self.desk.message.len() as u16;
        self.gathered.extend_from_slice(&length.to_be_bytes());
        self.gathered.extend_from_slice(&self.desk.message);
    }

    /// Sends what was gathered.
    async fn send(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let stream = &mut self.stream;
        let late = async {
            Timer::after(self.limits.stall).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        stream.write_all(&self.gathered).or(late).await?;
        self.gathered.clear();
        Ok(())
    }

    /// Answers what is under way, and ends.
    async fn finish(mut self) -> io::Result<()> {
        while let Some(late) = self.late.next().await {
            self.service.write_late(&mut self.desk, &late, Transport::Tcp);
            self.gather();
            self.send().await?;
        }
        Ok(())
    }
}
