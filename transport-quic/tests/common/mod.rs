//! Agents on loopback for the tests of the transport.
#![allow(dead_code, reason = "every test file uses its own part of it")]

use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::FutureExt as _;
use lictor_machine::NodeId;
use lictor_runtime::Runtime;
use lictor_transport_quic::{
    BindError, Event, Identity, Incoming, Limits, Options, Role, Target, Transport, Trust,
};

/// Far longer than anything takes that goes well.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn runtimes() -> [Runtime; 2] {
    [
        lictor_runtime_smol::runtime(),
        lictor_runtime_async_std::runtime(),
    ]
}

/// Runs a test on the default runtime.
pub(crate) fn run(test: impl Future<Output = ()>) {
    lictor_runtime_smol::runtime().block_on(test);
}

/// What `future` yields, or a failed test.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let late = async {
        lictor_runtime_smol::runtime().sleep(PATIENCE).await;
        panic!("{what} did not happen");
    };
    future.or(late).await
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "{what} did not happen");
        lictor_runtime_smol::runtime()
            .sleep(Duration::from_millis(5))
            .await;
    }
}

pub(crate) fn key(byte: u8) -> Trust {
    Trust::shared_key(&[byte; 32]).unwrap()
}

pub(crate) fn identity(node: u128, role: Role, datacenter: &str) -> Identity {
    Identity {
        node: NodeId(node),
        name: format!("node-{node}"),
        datacenter: datacenter.into(),
        role,
    }
}

pub(crate) fn server(node: u128) -> Options {
    options(identity(node, Role::Server, "dc1"), key(7))
}

pub(crate) fn client(node: u128) -> Options {
    options(identity(node, Role::Client, "dc1"), key(7))
}

pub(crate) fn options(identity: Identity, trust: Trust) -> Options {
    Options {
        address: "127.0.0.1:0".parse().unwrap(),
        identity,
        trust,
        runtime: lictor_runtime_smol::runtime(),
        limits: Limits::default(),
    }
}

pub(crate) struct Agent {
    pub(crate) transport: Transport,
    pub(crate) incoming: Incoming,
}

impl Agent {
    pub(crate) fn start(options: Options) -> Self {
        let (transport, incoming) = Transport::bind(options).unwrap();
        Self { transport, incoming }
    }

    /// Starts at an address that was another agent's until now: the system may still be about to free it.
    pub(crate) async fn take_over(address: SocketAddr, options: impl Fn() -> Options) -> Self {
        let mut agent = None;
        until("the address is free", || {
            let options = Options { address, ..options() };
            match Transport::bind(options) {
                Ok((transport, incoming)) => agent = Some(Self { transport, incoming }),
                Err(error) => assert!(matches!(error, BindError::Socket { .. }), "{error}"),
            }
            agent.is_some()
        })
        .await;
        agent.unwrap()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.transport.local_address().unwrap()
    }

    pub(crate) fn node(&self) -> NodeId {
        self.transport.identity().node
    }

    pub(crate) fn knows(&self, other: &Self) {
        self.transport.set_address(other.node(), other.address());
        self.transport.set_wan_address(other.node(), other.address());
    }

    pub(crate) async fn next(&mut self) -> Event {
        soon("an event", self.incoming.next())
            .await
            .expect("the transport is open")
    }

    /// The next event, which must be a frame: its lane and content.
    pub(crate) async fn frame(&mut self) -> (u8, Bytes) {
        match self.next().await {
            Event::Frame { lane, frame, .. } => (lane, frame),
            other => panic!("expected a frame, got {other:?}"),
        }
    }

    /// Waits for a report that `target` cannot be reached; returns its reason as text. Frames before it are skipped.
    pub(crate) async fn unreachable(&mut self, expected: impl Into<Target>) -> String {
        let expected = expected.into();
        loop {
            if let Event::Unreachable { target, reason, .. } = self.next().await {
                assert_eq!(target, expected);
                return reason.to_string();
            }
        }
    }
}

/// Answers every call with its own request, for as long as the agent lives.
pub(crate) fn echo(mut agent: Agent) -> Transport {
    let transport = agent.transport.clone();
    let task = lictor_runtime_smol::runtime().spawn(async move {
        while let Some(event) = agent.incoming.next().await {
            if let Event::Call { request, reply, .. } = event {
                reply.send(request);
            }
        }
    });
    task.detach();
    transport
}
