//! Conversations with a catalog: queries as bytes, answers as bytes.

mod bad;
mod choices;
mod counting;
mod forms;
mod keeping;
mod limits;
mod recursion;
mod sockets;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use event_listener::Event;
use futures_lite::FutureExt as _;
use futures_lite::future::block_on;
use hickory_proto::op::{Edns, Message, Query as Asked};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use lictor_catalog::{
    Action, Changes, CheckDef, Command, ConnectDef, Deregistration, NodeDef, Query, Registration, Removal,
    ServiceDef, State, Status,
};
use lictor_machine::{Index, UnixMillis};
use lictor_metrics::Registry;
use lictor_runtime::Runtime;

use crate::config::Config;
use crate::message::Desk;
use crate::meters::Meters;
use crate::service::{AtOnce, Service, Transport};
use crate::source::{Ask, Execute, Execution, Failure, Freshness, Reading, Snapshot, Source};

/// Who asks, unless a test says otherwise.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Catalogs that tests change, seen by a server or by a client agent.
#[derive(Debug)]
pub(crate) struct World {
    /// By data center.
    states: Mutex<BTreeMap<String, (State, u64)>>,
    changed: Event,
    /// Whether the catalog of dc1 is here.
    is_server: bool,
    /// How long ago the leader was heard.
    age: Mutex<Duration>,
    /// Whether other agents can be reached.
    reachable: AtomicBool,
    /// Whether others take their time.
    stuck: AtomicBool,
    /// How often others were asked.
    asked: AtomicUsize,
    executions: Mutex<BTreeMap<String, Execution>>,
}

impl World {
    pub(crate) fn new(is_server: bool) -> Arc<Self> {
        let states = ["dc1", "dc2"].map(|name| (name.to_owned(), (State::new(), 0)));
        Arc::new(Self {
            states: Mutex::new(states.into()),
            changed: Event::new(),
            is_server,
            age: Mutex::default(),
            reachable: AtomicBool::new(true),
            stuck: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
            executions: Mutex::default(),
        })
    }

    fn apply(&self, datacenter: &str, action: Action) {
        let mut states = self.states.lock().unwrap();
        let (state, _) = states.get_mut(datacenter).unwrap();
        let command = Command {
            stamp: UnixMillis(0),
            action,
        };
        let outcome = state.apply(Index(state.index().0 + 1), &command, &mut Changes::default());
        assert!(!format!("{outcome:?}").contains("Refused"), "{outcome:?}");
        drop(states);
        self.changed.notify(usize::MAX);
    }

    fn register(&self, registration: Registration) {
        self.apply("dc1", Action::Register(Box::new(registration)));
    }

    /// A node alone.
    pub(crate) fn node(&self, name: &str, address: &str, meta: &[(&str, &str)]) {
        self.register(Registration {
            node: node(name, address, meta),
            ..Registration::default()
        });
    }

    /// An instance on a node that may be there already.
    fn service(&self, on: &str, address: &str, service: ServiceDef) {
        self.register(Registration {
            node: node(on, address, &[]),
            service: Some(service),
            ..Registration::default()
        });
    }

    /// Sets what the check of an instance finds; of the node, if the id is empty.
    fn check(&self, on: &str, service_id: &str, status: Status) {
        self.register(Registration {
            node: node(on, "", &[]),
            skip_node_update: true,
            checks: vec![CheckDef {
                id: format!("check:{service_id}").as_str().into(),
                name: "check".into(),
                status,
                service_id: service_id.into(),
                ..CheckDef::default()
            }],
            ..Registration::default()
        });
    }

    fn deregister(&self, on: &str) {
        let deregistration = Deregistration {
            node: on.into(),
            what: Removal::Node,
        };
        self.apply("dc1", Action::Deregister(deregistration));
    }

    fn set_reachable(&self, reachable: bool) {
        self.reachable.store(reachable, Ordering::SeqCst);
        self.changed.notify(usize::MAX);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Source for World {
    fn snapshot(&self) -> Option<Snapshot> {
        let states = self.states.lock().unwrap();
        let (state, generation) = states.get("dc1").filter(|_| self.is_server)?;
        Some(Snapshot {
            state: Arc::new(state.clone()),
            generation: *generation,
            age: *self.age.lock().unwrap(),
        })
    }

    fn has_datacenter(&self, name: &str) -> bool {
        self.states.lock().unwrap().contains_key(name)
    }

    async fn find(&self, ask: Ask) -> Result<Reading, Failure> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let name = ask.datacenter.unwrap_or_else(|| "dc1".to_owned());
        loop {
            let listener = self.changed.listen();
            if self.stuck.load(Ordering::SeqCst) {
                listener.await;
                continue;
            }
            if !self.reachable.load(Ordering::SeqCst) {
                return Err(Failure::Unavailable("cut off".to_owned()));
            }
            let found = {
                let states = self.states.lock().unwrap();
                let Some((state, _)) = states.get(&name) else {
                    return Err(Failure::NoSuchDatacenter(name));
                };
                state.query(&ask.query)
            };
            if ask.after == Index::ZERO || found.0 > ask.after {
                let age = match ask.freshness {
                    Freshness::Stale { .. } => *self.age.lock().unwrap(),
                    Freshness::Leader => Duration::ZERO,
                };
                return Ok(Reading {
                    index: found.0,
                    age,
                    found: Arc::new(found.1),
                });
            }
            listener.await;
        }
    }

    async fn execute(&self, execute: Execute) -> Result<Option<Execution>, Failure> {
        Ok(self.executions.lock().unwrap().get(&execute.name).cloned())
    }
}

fn node(name: &str, address: &str, meta: &[(&str, &str)]) -> NodeDef {
    NodeDef {
        name: name.into(),
        address: address.into(),
        meta: meta.iter().map(|(key, value)| (*key, (*value).into())).collect(),
        ..NodeDef::default()
    }
}

fn service(name: &str, port: u16) -> ServiceDef {
    ServiceDef {
        name: name.into(),
        port,
        ..ServiceDef::default()
    }
}

fn proxy(of: &str, port: u16) -> ServiceDef {
    ServiceDef {
        kind: ServiceDef::CONNECT_PROXY.into(),
        connect: Some(Arc::new(ConnectDef {
            destination: of.into(),
            ..ConnectDef::default()
        })),
        ..service(&format!("{of}-proxy"), port)
    }
}

/// A service that answers from a world.
struct Scene {
    world: Arc<World>,
    service: Service,
    metrics: Registry,
}

/// How a query is asked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct How {
    tcp: bool,
    /// The size in an OPT record, if there is one.
    edns: Option<u16>,
}

pub(crate) const UDP: How = How {
    tcp: false,
    edns: None,
};
const TCP: How = How {
    tcp: true,
    edns: None,
};

const fn edns(size: u16) -> How {
    How {
        tcp: false,
        edns: Some(size),
    }
}

impl Scene {
    fn new() -> Self {
        Self::with(World::new(true), |_| {})
    }

    fn configured(configure: impl FnOnce(&mut Config)) -> Self {
        Self::with(World::new(true), configure)
    }

    fn with(world: Arc<World>, configure: impl FnOnce(&mut Config)) -> Self {
        let runtime = lictor_runtime_smol::runtime();
        let mut config = Config::new("dc1");
        configure(&mut config);
        let source: Arc<dyn Source> = Arc::clone(&world) as _;
        let metrics = Registry::new();
        let service = Service::new(source, config, runtime, Meters::new(&metrics, "n1"), 7);
        Self {
            world,
            service,
            metrics,
        }
    }

    /// The answer to a message; `None` if there is none.
    fn exchange(&self, desk: &mut Desk, packet: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        let begun = Instant::now();
        match self.service.at_once(desk, packet, CLIENT, transport) {
            AtOnce::Silence => return None,
            AtOnce::Written => self.service.note(desk, begun),
            AtOnce::Later(request, place) => {
                let late = self.service.later(request, place, packet.to_vec(), CLIENT, tcp);
                let patience = async {
                    async_io::Timer::after(Duration::from_mins(1)).await;
                    panic!("no answer in a minute");
                };
                let late = block_on(late.or(patience));
                self.service.write_late(desk, &late, transport);
            }
        }
        Some(desk.message.clone())
    }

    fn ask_in(&self, name: &str, kind: RecordType, how: How) -> Message {
        let query = query(name, kind, how);
        let bytes = self.exchange(&mut self.service.desk(), &query, how.tcp).unwrap();
        let answer = Message::from_vec(&bytes).unwrap();
        assert_eq!(answer.metadata.id, 0x1234);
        assert_eq!(answer.queries[0].name(), &Name::from_ascii(name).unwrap());
        answer
    }

    fn ask(&self, name: &str, kind: RecordType) -> Message {
        self.ask_in(name, kind, UDP)
    }

    /// The answer as lines: the code, then each record behind the letter of its section, sorted within it.
    fn said(&self, name: &str, kind: RecordType) -> Vec<String> {
        said(&self.ask(name, kind))
    }

    /// That this is the answer, however often it is asked for: when it is made, and when it was kept.
    #[track_caller]
    fn says(&self, name: &str, kind: RecordType, lines: &[&str]) {
        for _ in 0..2 {
            assert_eq!(self.said(name, kind), lines, "{name} {kind}");
        }
    }
}

/// What nobody looks at.
pub(crate) fn meters() -> Meters {
    Meters::new(&Registry::new(), "n1")
}

pub(crate) fn query(name: &str, kind: RecordType, how: How) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = 0x1234;
    message.metadata.recursion_desired = true;
    message.add_query(Asked::query(Name::from_ascii(name).unwrap(), kind));
    if let Some(size) = how.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(size);
        message.set_edns(edns);
    }
    message.to_vec().unwrap()
}

fn said(message: &Message) -> Vec<String> {
    let mut lines = vec![format!("{:?}", message.metadata.response_code)];
    for (letter, records) in [
        ('=', &message.answers),
        ('^', &message.authorities),
        ('+', &message.additionals),
    ] {
        let mut section: Vec<String> = records.iter().map(|record| line(letter, record)).collect();
        section.sort();
        lines.extend(section);
    }
    lines
}

fn line(letter: char, record: &Record) -> String {
    let data = if let RData::SOA(soa) = &record.data {
        // The serial number is the time.
        format!(
            "{} {} {} {} {} {}",
            soa.mname, soa.rname, soa.refresh, soa.retry, soa.expire, soa.minimum
        )
    } else {
        record.data.to_string()
    };
    format!(
        "{letter} {} {} {} {data}",
        record.name,
        record.ttl,
        record.record_type()
    )
}

/// The SOA record as [`said`] writes it.
const SOA: &str = "^ consul. 0 SOA ns.consul. hostmaster.consul. 3600 600 86400 0";
