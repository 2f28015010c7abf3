//! A server in front of a catalog in memory, and a client that sees every byte.

pub(crate) mod agent;
mod client;
mod memory;
mod running;

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lictor_http::{Api, Backend, Config, Limits, Listener, Server, ThisAgent};

pub(crate) use self::client::{Client, Response};
pub(crate) use self::memory::Memory;

/// Longer than anything takes, shorter than a test run's patience.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A server of the API.
pub(crate) struct Site {
    pub(crate) memory: Arc<Memory>,
    pub(crate) address: SocketAddr,
    pub(crate) server: Server,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::with(Config::default(), Limits::default())
    }

    pub(crate) fn with(config: Config, limits: Limits) -> Self {
        let memory = Arc::new(Memory::default());
        let listener = Listener::tcp(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.address().unwrap();
        let server = start(vec![listener], &memory, config, limits);
        Self {
            memory,
            address,
            server,
        }
    }

    pub(crate) fn connect(&self) -> Client<TcpStream> {
        Client::tcp(self.address)
    }

    /// Asks on a connection of its own.
    pub(crate) fn ask(&self, request: &str) -> Response {
        self.connect().ask(request)
    }
}

pub(crate) fn start(
    listeners: Vec<Listener>,
    memory: &Arc<Memory>,
    config: Config,
    limits: Limits,
) -> Server {
    let runtime = lictor_runtime_smol::runtime();
    let config = Config { limits, ..config };
    let metrics = memory.metrics.clone();
    let (backend, agent): (Arc<dyn Backend>, Arc<dyn ThisAgent>) = (memory.clone(), memory.clone());
    let api = Api::new(backend, agent, config);
    runtime.block_on(Server::start(&runtime, listeners, limits, &metrics, api))
}

/// Waits until something is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let give_up = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < give_up, "never came true: {what}");
        std::thread::yield_now();
    }
}
