//! Queries by UDP.
//!
//! A task takes in all that has arrived before it answers anything, and then answers what came last first: when there is more than can be
//! answered, whoever has waited for long has given up, and an answer to a new query is worth more than one to an old one.

use std::collections::VecDeque;
use std::future::pending;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_io::{Async, Timer};
use futures::stream::{FuturesUnordered, StreamExt as _};
use futures_lite::{Future, FutureExt as _, future};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};

use crate::config::Limits;
use crate::message::Desk;
use crate::service::{AtOnce, Late, Service, Transport};

/// What one read may bring: the system may hand over several datagrams of one sender as one.
const BUFFER_BYTES: usize = 65_536;

/// How many queries are answered before the socket is looked at again.
const TURN: usize = 64;

/// The longest query that is looked at.
pub(crate) const MAX_QUERY_BYTES: usize = 4096;

/// How long to wait after a socket failed.
const PAUSE: Duration = Duration::from_millis(100);

/// A socket that several tasks may use.
#[derive(Debug)]
pub(crate) struct Socket {
    io: Async<UdpSocket>,
    state: UdpSocketState,
}

/// Where an answer goes.
#[derive(Clone, Copy, Debug)]
struct Peer {
    client: SocketAddr,
    /// Which of this machine's addresses was asked.
    asked: Option<IpAddr>,
}

/// A query that nobody has looked at.
#[derive(Debug)]
struct Arrived {
    bytes: Vec<u8>,
    peer: Peer,
    at: Instant,
}

type Answering = Pin<Box<dyn Future<Output = (Late, Peer)> + Send>>;

impl Socket {
    pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
        let io = Async::new(socket)?;
        let state = UdpSocketState::new((&io).into())?;
        Ok(Self { io, state })
    }

    async fn send(&self, message: &[u8], peer: Peer) -> io::Result<()> {
        let transmit = Transmit {
            destination: peer.client,
            ecn: None,
            contents: message,
            segment_size: None,
            src_ip: peer.asked,
        };
        loop {
            match self.state.try_send((&self.io).into(), &transmit) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.io.writable().await?,
                sent => return sent,
            }
        }
    }
}

/// Answers what comes in on a socket until it is dropped.
pub(crate) async fn serve(socket: Arc<Socket>, service: Arc<Service>, limits: Limits) {
    let mut worker = Worker {
        desk: service.desk(),
        socket,
        service,
        limits,
        queue: VecDeque::new(),
        late: FuturesUnordered::new(),
        buffer: vec![0; BUFFER_BYTES * BATCH_SIZE],
    };
    loop {
        if let Err(error) = worker.take_in() {
            tracing::warn!(%error, "a DNS socket fails");
            Timer::after(PAUSE).await;
        }
        worker.turn().await;
        if worker.queue.is_empty() {
            worker.wait().await;
        } else {
            future::yield_now().await;
        }
    }
}

struct Worker {
    socket: Arc<Socket>,
    service: Arc<Service>,
    limits: Limits,
    desk: Desk,
    /// The newest at the end.
    queue: VecDeque<Arrived>,
    /// What others are asked about.
    late: FuturesUnordered<Answering>,
    buffer: Vec<u8>,
}

impl Worker {
    /// Takes in what has arrived, as far as it can be kept.
    fn take_in(&mut self) -> io::Result<()> {
        let mut taken = 0;
        while taken < self.limits.queue {
            let mut parts = self.buffer.chunks_exact_mut(BUFFER_BYTES);
            let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
                std::array::from_fn(|_| IoSliceMut::new(parts.next().unwrap_or_default()));
            let mut metas = [RecvMeta::default(); BATCH_SIZE];
            let socket = &self.socket;
            let count = match socket.state.recv((&socket.io).into(), &mut slices, &mut metas) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let at = Instant::now();
            for (bytes, meta) in self.buffer.chunks_exact(BUFFER_BYTES).zip(&metas[..count]) {
                let peer = Peer {
                    client: meta.addr,
                    asked: meta.dst_ip,
                };
                for bytes in bytes[..meta.len].chunks(meta.stride.max(1)) {
                    taken += 1;
                    self.service.counters.udp.count();
                    if self.queue.len() >= self.limits.queue {
                        self.queue.pop_front();
                        self.service.counters.dropped.count();
                    }
                    let bytes = bytes[..bytes.len().min(MAX_QUERY_BYTES)].to_vec();
                    self.queue.push_back(Arrived { bytes, peer, at });
                }
            }
            if count < BATCH_SIZE {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Answers a few of those that came last, and of those that others were asked about, which would else wait for as long as queries keep
    /// coming.
    async fn turn(&mut self) {
        let begun = Instant::now();
        self.answer_newest(begun).await;
        self.service.note(&mut self.desk, begun);
        for _ in 0..TURN {
            let Some(Some((late, peer))) = future::poll_once(self.late.next()).await else {
                return;
            };
            self.send_late(&late, peer).await;
        }
    }

    /// Answers a few of those that came last.
    async fn answer_newest(&mut self, now: Instant) {
        for _ in 0..TURN {
            let Some(arrived) = self.queue.pop_back() else {
                return;
            };
            if now.saturating_duration_since(arrived.at) > self.limits.patience {
                // All others are older still.
                self.service.counters.dropped.add(self.queue.len() as u64 + 1);
                self.queue.clear();
                return;
            }
            let Arrived { bytes, peer, .. } = arrived;
            let client = peer.client.ip();
            match self
                .service
                .at_once(&mut self.desk, &bytes, client, Transport::Udp)
            {
                AtOnce::Silence => {}
                AtOnce::Written => {
                    if send(&self.socket, &self.desk.message, peer).await == Sent::TooLong {
                        let narrow = Transport::NarrowUdp;
                        if let AtOnce::Written = self.service.at_once(&mut self.desk, &bytes, client, narrow)
                        {
                            send(&self.socket, &self.desk.message, peer).await;
                        }
                    }
                }
                AtOnce::Later(request, place) => {
                    let service = Arc::clone(&self.service);
                    self.late.push(Box::pin(async move {
                        (service.later(request, place, bytes, client, false).await, peer)
                    }));
                }
            }
        }
    }

    /// Waits for a query, and answers those meanwhile that others were asked about.
    async fn wait(&mut self) {
        let arrives = async {
            // An error comes up again when the socket is read.
            let _ = self.socket.io.readable().await;
            None
        };
        let answered = async {
            match self.late.next().await {
                Some(answered) => Some(answered),
                None => pending().await,
            }
        };
        let Some((late, peer)) = answered.or(arrives).await else {
            return;
        };
        self.send_late(&late, peer).await;
    }

    /// Sends an answer that took others.
    async fn send_late(&mut self, late: &Late, peer: Peer) {
        self.service.write_late(&mut self.desk, late, Transport::Udp);
        if send(&self.socket, &self.desk.message, peer).await == Sent::TooLong {
            self.service
                .write_late(&mut self.desk, late, Transport::NarrowUdp);
            send(&self.socket, &self.desk.message, peer).await;
        }
    }
}

/// Sends an answer, and says what became of that.
async fn send(socket: &Socket, message: &[u8], peer: Peer) -> Sent {
    match socket.send(message, peer).await {
        Ok(()) => Sent::Whole,
        Err(error) if is_too_long(&error) => Sent::TooLong,
        Err(error) => {
            tracing::debug!(client = %peer.client, %error, "an answer cannot be sent");
            Sent::Failed
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Whole,
    /// The way to the client takes only shorter ones. Answers are never cut into pieces on their way, which could be forged one by one.
    TooLong,
    Failed,
}

fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error())
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;
    use hickory_proto::rr::RecordType;

    use super::*;
    use crate::config::Config;
    use crate::tests::{UDP, World, meters, query};

    #[test]
    fn who_waits_for_others_is_answered_while_queries_keep_coming() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        let mut config = Config::new("dc1");
        config.limits.patience = Duration::from_hours(1);
        let limits = config.limits;
        let runtime = lictor_runtime_smol::runtime();
        let service = Arc::new(Service::new(World::new(false), config, runtime, meters(), 7));
        let peer = Peer {
            client: client.local_addr().unwrap(),
            asked: None,
        };
        let arrived = |name| Arrived {
            bytes: query(name, RecordType::A, UDP),
            peer,
            at: Instant::now(),
        };
        // More than one turn can answer at once; the newest takes others.
        let mut queue: VecDeque<Arrived> = (0..TURN).map(|_| arrived("consul.")).collect();
        queue.push_back(arrived("nobody.node.consul."));
        let mut worker = Worker {
            desk: service.desk(),
            socket: Arc::new(Socket::new(socket).unwrap()),
            service,
            limits,
            queue,
            late: FuturesUnordered::new(),
            buffer: Vec::new(),
        };
        block_on(worker.turn());
        assert_eq!(worker.queue.len(), 1);
        assert!(worker.late.is_empty());
        // All but the last were answered at once.
        let mut bytes = [0; 512];
        let mut codes = Vec::new();
        for _ in 0..TURN {
            client.recv(&mut bytes).unwrap();
            codes.push(bytes[3] & 0xf);
        }
        let (last, before) = codes.split_last().unwrap();
        assert!(before.iter().all(|code| *code == 0), "{codes:?}");
        assert_eq!(*last, 3, "there is no such node");
    }
}
