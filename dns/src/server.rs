//! Sockets, and the tasks that serve them.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Weak};

use async_net::TcpListener;
use futures::channel::oneshot;
use lictor_runtime::{Runtime, Task};

use crate::config::Config;
use crate::meters::Meters;
use crate::service::Service;
use crate::source::Source;
use crate::stats::Stats;
use crate::{tcp, udp};

/// How often a free port is looked for that neither protocol uses.
const ATTEMPTS: usize = 16;

/// Sockets that are bound to one address, one for UDP and one for TCP.
#[derive(Debug)]
pub struct Listener {
    udp: UdpSocket,
    tcp: std::net::TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds both sockets. Port 0 takes any that is free for both. The error names the address.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let attempts = if address.port() == 0 { ATTEMPTS } else { 1 };
        let mut result = Self::bind_once(address);
        for _ in 1..attempts {
            if result.is_ok() {
                break;
            }
            result = Self::bind_once(address);
        }
        result.map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot listen for DNS on {address}: {error}{}", elsewhere(&error)),
            )
        })
    }

    fn bind_once(address: SocketAddr) -> io::Result<Self> {
        let tcp = std::net::TcpListener::bind(address)?;
        let address = tcp.local_addr()?;
        let udp = UdpSocket::bind(address)?;
        Ok(Self { udp, tcp, address })
    }

    /// Where it is, with its real port.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What whoever starts the agent may do about an address that cannot be bound.
fn elsewhere(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::AddrInUse {
        "; perhaps another agent runs here: -dns-port (ports.dns) or -client (client_addr) takes another"
    } else if error.kind() == io::ErrorKind::AddrNotAvailable {
        "; this machine has no such address: -client (client_addr) takes one that it has"
    } else {
        ""
    }
}

/// A handle to a [`Server`], which does not keep it running.
#[derive(Clone, Debug)]
pub struct Handle(Weak<Service>);

impl Handle {
    /// Has the server answer by another configuration from now on. The limits stay as they are. Nothing happens if it has stopped.
    pub fn reconfigure(&self, config: Config) {
        if let Some(service) = self.0.upgrade() {
            service.reconfigure(config);
        }
    }

    /// What it has done so far; `None` if it has stopped.
    pub fn stats(&self) -> Option<Stats> {
        self.0.upgrade().map(|service| service.stats())
    }
}

/// A running server. Dropping it stops it at once.
#[derive(Debug)]
pub struct Server {
    service: Arc<Service>,
    /// Those that answer by UDP.
    tasks: Vec<Task<()>>,
    /// Those that let connections in, and what stops them.
    doors: Vec<(oneshot::Sender<()>, Task<()>)>,
}

impl Server {
    /// Answers on `listeners` from `source`, with tasks of `runtime`: `workers` of them for each UDP socket, at least one; and notes in
    /// `meters` how that goes. `seed` is for the order of records; what must not be guessed is drawn from the system.
    pub fn start(
        runtime: &Runtime,
        listeners: Vec<Listener>,
        source: Arc<dyn Source>,
        config: Config,
        workers: usize,
        meters: Meters,
        seed: u64,
    ) -> io::Result<Self> {
        let limits = config.limits;
        let service = Arc::new(Service::new(source, config, runtime.clone(), meters, seed));
        let (mut tasks, mut doors) = (Vec::new(), Vec::new());
        for listener in listeners {
            let socket = Arc::new(udp::Socket::new(listener.udp)?);
            for _ in 0..workers.max(1) {
                let serving = udp::serve(Arc::clone(&socket), Arc::clone(&service), limits);
                tasks.push(runtime.spawn(serving));
            }
            let tcp = TcpListener::try_from(listener.tcp)?;
            let (stop, stopped) = oneshot::channel();
            let serving = tcp::serve(tcp, Arc::clone(&service), limits, runtime.clone(), stopped);
            doors.push((stop, runtime.spawn(serving)));
        }
        Ok(Self {
            service,
            tasks,
            doors,
        })
    }

    /// A handle for those who look at it or change how it answers, as long as it runs.
    pub fn handle(&self) -> Handle {
        Handle(Arc::downgrade(&self.service))
    }

    /// What it has done so far.
    pub fn stats(&self) -> Stats {
        self.service.stats()
    }

    /// Stops: nothing more is taken in, and when this is done, the sockets are closed and nobody is asked anything any more. Queries that
    /// wait for others are not answered.
    pub async fn shut_down(self) {
        for task in self.tasks {
            task.cancel().await;
        }
        for (stop, serving) in self.doors {
            drop(stop);
            serving.await;
        }
        self.service.close();
    }
}
