//! Agents that ask each other, over real connections, with a backend that is told what to answer.

mod archives;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_lite::io::Cursor;
use futures_lite::{AsyncReadExt as _, FutureExt as _};
use lictor_catalog::{
    Action, Execute, Found, KvEntry, KvPair, KvTxnOp, KvWrite, MAX_TXN_OPS, NodeCoordinate, Outcome, Query,
    Session, SessionId, Target, TxnError, TxnOp, TxnResult,
};
use lictor_gossip::{Incarnation, Member, MemberEvent, MemberState, Tags};
use lictor_http::{
    Archive, Backend, DatacenterCoordinates, Executed, Failure, RaftServer, ReadMode, ReadOptions, Reading,
    ServerRef, ServersHealth, UserEvent, WriteOptions,
};
use lictor_machine::{Index, NodeId};
use lictor_node::agent::{DATACENTER, Pool as CorePool, ROLE, SERVER};
use lictor_runtime::Runtime;
use lictor_transport_quic::{Event, Identity, Incoming, Limits, Options, Plane, Role, Transport, Trust};

use super::caller::Caller;
use super::service::Service;
use super::wire::{self, DecodeError, Question};
use crate::network::Purpose;
use crate::routes::Routes;

/// Far longer than anything takes that goes well.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a backend does with a request.
#[derive(Clone, Debug)]
enum Does {
    /// Answers it with an entry of this key.
    Answers(&'static str),
    /// Says that it failed.
    Fails(Failure),
    /// Takes that long first.
    Takes(Duration),
    /// Never answers.
    Hangs,
}

/// Does what it is told, in order, and counts.
#[derive(Debug)]
struct Fake {
    does: Mutex<VecDeque<Does>>,
    asked: AtomicUsize,
    /// Of those, how many are over.
    over: Arc<AtomicUsize>,
    seen: Mutex<Vec<(Query, ReadOptions)>>,
    value: Bytes,
    /// The archives that it was given.
    restored: Mutex<Vec<Vec<u8>>>,
    /// Whom it takes for the leader. Agents ask that beside, so it is not counted.
    leader: Mutex<Option<SocketAddr>>,
}

struct Count(Arc<AtomicUsize>);

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Fake {
    fn new(does: &[Does]) -> Arc<Self> {
        Self::with_value(does, Bytes::from_static(b"v"))
    }

    fn with_value(does: &[Does], value: Bytes) -> Arc<Self> {
        Arc::new(Self {
            does: Mutex::new(does.iter().cloned().collect()),
            asked: AtomicUsize::new(0),
            over: Arc::default(),
            seen: Mutex::default(),
            value,
            restored: Mutex::default(),
            leader: Mutex::new(None),
        })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    async fn act(&self) -> Result<&'static str, Failure> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let _over = Count(Arc::clone(&self.over));
        loop {
            let next = self.does.lock().unwrap().pop_front();
            match next.expect("it is not asked more often than it is told what to do") {
                Does::Answers(key) => return Ok(key),
                Does::Fails(failure) => return Err(failure),
                Does::Takes(time) => {
                    async_io::Timer::after(time).await;
                }
                Does::Hangs => std::future::pending().await,
            }
        }
    }

    fn entry(&self, key: &'static str) -> Arc<KvEntry> {
        Arc::new(KvEntry {
            key: key.into(),
            value: self.value.clone(),
            flags: 7,
            holder: None,
            lock_index: 0,
            create_index: Index(3),
            modify_index: Index(4),
        })
    }
}

fn reading<T>(value: T) -> Reading<T> {
    Reading {
        index: Index(4),
        known_leader: true,
        last_contact: Duration::from_millis(3),
        value,
    }
}

#[async_trait]
impl Backend for Fake {
    async fn read(&self, query: Query, options: ReadOptions) -> Result<Reading<Found>, Failure> {
        self.seen.lock().unwrap().push((query, options));
        let key = self.act().await?;
        Ok(reading(Found::Entry(Some(self.entry(key)))))
    }

    async fn read_txn(
        &self,
        ops: Vec<TxnOp>,
        _: ReadOptions,
    ) -> Result<Reading<Result<Vec<TxnResult>, Vec<TxnError>>>, Failure> {
        let key = self.act().await?;
        let result = TxnResult::Kv {
            entry: self.entry(key),
            value: true,
        };
        Ok(reading(Ok(vec![result; ops.len()])))
    }

    async fn write(&self, _: Action, _: WriteOptions) -> Result<Outcome, Failure> {
        self.act().await.map(|_| Outcome::Done(true))
    }

    async fn renew_session(&self, _: SessionId, _: WriteOptions) -> Result<Option<Arc<Session>>, Failure> {
        self.act().await.map(|_| None)
    }

    async fn execute_query(
        &self,
        execute: Execute,
        options: ReadOptions,
    ) -> Result<Reading<Option<Executed>>, Failure> {
        let Target::Named(name) = execute.target else {
            panic!("not a name: {execute:?}")
        };
        self.seen.lock().unwrap().push((Query::Resolve(name), options));
        self.act().await.map(|_| reading(None))
    }

    async fn leader(&self, datacenter: Option<&str>) -> Result<Option<SocketAddr>, Failure> {
        assert_eq!(datacenter, None);
        Ok(*self.leader.lock().unwrap())
    }

    async fn peers(&self, datacenter: Option<&str>) -> Result<Vec<SocketAddr>, Failure> {
        assert_eq!(datacenter, None);
        self.act().await.map(|_| vec![address(), address()])
    }

    async fn fire_event(&self, _: UserEvent, _: WriteOptions) -> Result<(), Failure> {
        self.act().await.map(drop)
    }

    async fn snapshot(&self, _: ReadOptions) -> Result<Reading<Archive<'static>>, Failure> {
        self.act().await?;
        Ok(reading(Archive::new(Cursor::new(self.value.clone()))))
    }

    async fn restore(&self, mut archive: Archive<'_>, _: WriteOptions) -> Result<(), Failure> {
        self.act().await?;
        let mut content = Vec::new();
        let read = archive.read_to_end(&mut content).await;
        read.map_err(|error| Failure::Refused(error.to_string()))?;
        if content.len() < 9 {
            return Err(Failure::Refused("too short".into()));
        }
        self.restored.lock().unwrap().push(content);
        Ok(())
    }

    async fn datacenters(&self) -> Result<Vec<String>, Failure> {
        self.act().await.map(|key| vec![key.to_owned()])
    }

    async fn wan_coordinates(&self) -> Result<Vec<DatacenterCoordinates>, Failure> {
        self.act().await.map(|key| {
            vec![DatacenterCoordinates {
                datacenter: key.to_owned(),
                servers: Vec::new(),
            }]
        })
    }

    async fn update_coordinate(&self, _: NodeCoordinate, _: WriteOptions) -> Result<(), Failure> {
        self.act().await.map(drop)
    }

    async fn raft_servers(&self, _: ReadOptions) -> Result<Vec<RaftServer>, Failure> {
        self.act().await.map(|key| {
            vec![RaftServer {
                id: NodeId(1),
                name: Some(key.to_owned()),
                address: Some(address()),
                leader: true,
                voter: false,
            }]
        })
    }

    async fn remove_raft_server(&self, server: ServerRef, _: WriteOptions) -> Result<(), Failure> {
        self.act().await?;
        Err(Failure::NoSuchServer(server))
    }

    async fn servers_health(&self, _: ReadOptions) -> Result<ServersHealth, Failure> {
        self.act().await.map(|_| ServersHealth {
            failure_tolerance: 2,
            ..ServersHealth::default()
        })
    }
}

fn address() -> SocketAddr {
    "10.0.0.1:8300".parse().unwrap()
}

/// An agent: its transport, and what it takes of it.
struct Agent {
    id: u128,
    datacenter: &'static str,
    transport: Transport,
    incoming: Option<Incoming>,
    routes: Arc<Routes>,
}

impl Agent {
    fn start(id: u128, role: Role, datacenter: &'static str) -> Self {
        let (transport, incoming) = Transport::bind(Options {
            address: "127.0.0.1:0".parse().unwrap(),
            identity: Identity {
                node: NodeId(id),
                name: format!("n{id}"),
                datacenter: datacenter.into(),
                role,
            },
            trust: Trust::shared_key(&[7; 32]).unwrap(),
            runtime: runtime(),
            limits: Limits::default(),
        })
        .unwrap();
        Self {
            id,
            datacenter,
            transport,
            incoming: Some(incoming),
            routes: Arc::new(Routes::new(datacenter.into(), 1)),
        }
    }

    /// A server that answers by `backend`.
    fn serving(id: u128, datacenter: &'static str, backend: &Arc<Fake>) -> Self {
        let mut agent = Self::start(id, Role::Server, datacenter);
        let service = Service::new(
            Arc::clone(backend) as Arc<dyn Backend>,
            agent.caller(Plane::Wan),
            datacenter.into(),
            NodeId(id),
            runtime(),
        );
        let mut incoming = agent.incoming.take().unwrap();
        let task = async move {
            while let Some(event) = incoming.next().await {
                if let Event::Call {
                    plane,
                    request,
                    reply,
                    ..
                } = event
                {
                    let (purpose, ask) = Purpose::unwrap(request).unwrap();
                    assert_eq!(purpose, Purpose::Agent);
                    service.answer(plane, ask, reply).unwrap();
                }
            }
        };
        runtime().spawn(task).detach();
        agent
    }

    /// A server that takes calls and drops them: whoever made them cannot know what became of them.
    fn dropping(id: u128) -> (Self, Arc<AtomicUsize>) {
        let mut agent = Self::start(id, Role::Server, "dc1");
        let mut incoming = agent.incoming.take().unwrap();
        let dropped = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&dropped);
        let task = async move {
            while let Some(event) = incoming.next().await {
                let Event::Call { request, reply, .. } = event else {
                    continue;
                };
                let (_, ask) = Purpose::unwrap(request).unwrap();
                let question = wire::decode_ask(&ask).unwrap().question;
                if question == Question::Ping {
                    reply.send(wire::encode_answer(&Ok(()), 0).into());
                } else if question == Question::Leader {
                    reply.send(wire::encode_answer(&Ok(None::<SocketAddr>), 0).into());
                } else {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
        };
        runtime().spawn(task).detach();
        (agent, dropped)
    }

    fn client() -> Self {
        Self::start(99, Role::Client, "dc1")
    }

    /// Learns of another agent, which is asked first if it is the first.
    fn knows(&self, other: &Self) {
        let at = other.transport.local_address().unwrap();
        self.knows_at(other.id, other.datacenter, at);
    }

    fn knows_at(&self, id: u128, datacenter: &str, at: SocketAddr) {
        self.transport.set_address(NodeId(id), at);
        self.transport.set_wan_address(NodeId(id), at);
        let tag = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let member = Arc::new(Member {
            id: NodeId(id),
            name: format!("n{id}"),
            address: at,
            tags: Tags::from([tag(ROLE, SERVER), tag(DATACENTER, datacenter)]),
            incarnation: Incarnation(1),
            state: MemberState::Alive,
        });
        let pool = if datacenter == self.datacenter {
            CorePool::Lan
        } else {
            CorePool::Wan
        };
        self.routes.observe(pool, &MemberEvent::Joined(member));
    }

    fn caller(&self, plane: Plane) -> Caller {
        Caller::new(
            self.transport.clone(),
            Arc::clone(&self.routes),
            plane,
            Duration::from_secs(7),
            runtime(),
            crate::metrics::CallCounts::new(&lictor_metrics::Registry::new()),
        )
    }
}

/// An address where nobody is.
fn nowhere() -> SocketAddr {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

fn runtime() -> Runtime {
    lictor_runtime_smol::runtime()
}

fn run(test: impl Future<Output = ()>) {
    runtime().block_on(async {
        let late = async {
            async_io::Timer::after(PATIENCE).await;
            panic!("this takes far too long");
        };
        test.or(late).await;
    });
}

fn get(key: &'static str) -> Question {
    Question::Read {
        query: Query::KvGet(key.into()),
        options: ReadOptions::default(),
    }
}

fn set() -> Question {
    let pair = KvPair {
        key: "k".into(),
        value: "v".into(),
        flags: 0,
    };
    Question::Write {
        action: Action::Kv(KvWrite::Set(pair)),
        options: WriteOptions::default(),
    }
}

async fn read(caller: &Caller, datacenter: Option<&str>) -> Result<String, Failure> {
    let reading: Reading<Found> = caller.ask(datacenter, get("k")).await?;
    let Found::Entry(Some(entry)) = reading.value else {
        panic!("{reading:?}")
    };
    Ok(String::from_utf8(entry.key.to_vec()).unwrap())
}

async fn write(caller: &Caller) -> Result<Outcome, Failure> {
    caller.ask(None, set()).await
}

#[test]
fn every_question_gets_its_answer() {
    run(async {
        let answers = vec![Does::Answers("a"); 12];
        let backend = Fake::new(&answers);
        *backend.leader.lock().unwrap() = Some(address());
        let server = Agent::serving(1, "dc1", &backend);
        let client = Agent::client();
        client.knows(&server);
        let caller = client.caller(Plane::Rpc);
        assert_eq!(read(&caller, None).await, Ok("a".into()));
        assert_eq!(read(&caller, Some("DC1")).await, Ok("a".into()));
        assert_eq!(write(&caller).await, Ok(Outcome::Done(true)));
        let ops = vec![TxnOp::Kv(KvTxnOp::Get("k".into())); 3];
        let options = ReadOptions::default();
        let txn: wire::TxnReading = caller
            .ask(None, Question::ReadTxn { ops, options })
            .await
            .unwrap();
        assert_eq!(txn.value.unwrap().len(), 3);
        let leader: Result<Option<SocketAddr>, _> = caller.ask(None, Question::Leader).await;
        assert_eq!(leader, Ok(Some(address())));
        let peers: Result<Vec<SocketAddr>, _> = caller.ask(None, Question::Peers).await;
        assert_eq!(peers, Ok(vec![address(); 2]));
        let datacenters: Result<Vec<String>, _> = caller.ask(None, Question::Datacenters).await;
        assert_eq!(datacenters, Ok(vec!["a".to_owned()]));
        let places: Vec<DatacenterCoordinates> = caller.ask(None, Question::WanCoordinates).await.unwrap();
        assert_eq!(places[0].datacenter, "a");
        let options = ReadOptions::default();
        let servers: Vec<RaftServer> = caller.ask(None, Question::RaftServers { options }).await.unwrap();
        assert_eq!((servers[0].name.as_deref(), servers[0].leader), (Some("a"), true));
        let options = ReadOptions::default();
        let health: ServersHealth = caller
            .ask(None, Question::ServersHealth { options })
            .await
            .unwrap();
        assert_eq!(health.failure_tolerance, 2);
        let server = ServerRef::Id("x".into());
        let remove = Question::RemoveRaftServer {
            server: server.clone(),
            options: WriteOptions::default(),
        };
        let removed: Result<(), _> = caller.ask(None, remove).await;
        assert_eq!(removed, Err(Failure::NoSuchServer(server)));
        let event = UserEvent {
            id: uuid(),
            name: "deploy".into(),
            payload: Bytes::from_static(b"x"),
            node_filter: String::new(),
            service_filter: String::new(),
            tag_filter: String::new(),
            time: 0,
        };
        let fire = Question::FireEvent {
            event,
            options: WriteOptions::default(),
        };
        let fired: Result<(), _> = caller.ask(None, fire).await;
        assert_eq!(fired, Ok(()));
        let question = Question::ExecuteQuery {
            execute: Box::new(execute("geo")),
            options: ReadOptions::default(),
        };
        let executed: Reading<Option<Executed>> = caller.ask(None, question).await.unwrap();
        assert_eq!(executed, reading(None));
        let seen = backend.seen.lock().unwrap().pop().unwrap();
        assert_eq!(seen.0, Query::Resolve("geo".to_owned()));
        assert_eq!(backend.asked(), 12);
    });
}

fn execute(name: &str) -> Execute {
    Execute {
        target: Target::Named(name.to_owned()),
        near: "_agent".to_owned(),
        agent: "n1".to_owned(),
        client: Some([10, 0, 0, 1].into()),
        connect: false,
        limit: 3,
        seed: 7,
    }
}

fn uuid() -> uuid::Uuid {
    uuid::Uuid::from_u128(5)
}

#[test]
fn what_the_leader_has_to_answer_it_is_asked_itself() {
    run(async {
        let (one, two) = (
            Fake::new(&vec![Does::Answers("one"); 10_000]),
            Fake::new(&vec![Does::Answers("two"); 10_000]),
        );
        let servers = [Agent::serving(1, "dc1", &one), Agent::serving(2, "dc1", &two)];
        let leads = |at: &Agent| {
            for fake in [&one, &two] {
                *fake.leader.lock().unwrap() = Some(at.transport.local_address().unwrap());
            }
        };
        let client = Agent::client();
        for server in &servers {
            client.knows(server);
        }
        let caller = client.caller(Plane::Rpc);
        leads(&servers[1]);
        // At first it does not know, and is in no hurry.
        while read(&caller, None).await != Ok("two".into()) {}
        let before = (one.asked(), two.asked());
        assert_eq!(write(&caller).await, Ok(Outcome::Done(true)));
        assert_eq!(
            (one.asked(), two.asked()),
            (before.0, before.1 + 1),
            "the leader is asked"
        );
        // What may be stale, or waits, is for whoever was asked before.
        for options in [
            ReadOptions {
                mode: ReadMode::Stale { max: None },
                ..ReadOptions::default()
            },
            ReadOptions {
                min_index: Index(1),
                wait: Duration::from_secs(9),
                ..ReadOptions::default()
            },
        ] {
            let query = Query::KvGet("k".into());
            let question = Question::Read { query, options };
            let _: Reading<Found> = caller.ask(None, question).await.unwrap();
        }
        assert_eq!((one.asked(), two.asked()), (before.0 + 2, before.1 + 1));
        // A leader that is not the leader any more is noticed after a while.
        leads(&servers[0]);
        while read(&caller, None).await != Ok("one".into()) {
            async_io::Timer::after(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn failures_come_back_as_they_are_and_are_not_tried_again() {
    run(async {
        let busy = Failure::Busy {
            limit: "patience".into(),
            retry_after: Duration::from_secs(2),
        };
        let failures = [
            Failure::NoLeader,
            busy,
            Failure::LeadershipLost,
            Failure::Storage("full".into()),
            Failure::Several(vec!["a".into(), "b".into()]),
        ];
        let does: Vec<_> = failures.iter().cloned().map(Does::Fails).collect();
        let backend = Fake::new(&does);
        let other = Fake::new(&[]);
        let servers = [
            Agent::serving(1, "dc1", &backend),
            Agent::serving(2, "dc1", &other),
        ];
        let client = Agent::client();
        for server in &servers {
            client.knows(server);
        }
        let caller = client.caller(Plane::Rpc);
        for failure in failures {
            assert_eq!(read(&caller, None).await, Err(failure));
        }
        assert_eq!(other.asked(), 0);
    });
}

#[test]
fn without_servers_there_is_no_answer_at_once() {
    run(async {
        let client = Agent::client();
        let caller = client.caller(Plane::Rpc);
        assert_eq!(read(&caller, None).await, Err(Failure::NoServers));
        assert_eq!(read(&caller, Some("dc9")).await, Err(Failure::NoServers));
        assert_eq!(write(&caller).await, Err(Failure::NoServers));
        let server = Agent::start(1, Role::Server, "dc1");
        let caller = server.caller(Plane::Wan);
        assert_eq!(read(&caller, Some("dc9")).await, Err(Failure::NoPathToDatacenter));
    });
}

#[test]
fn a_server_that_is_gone_is_passed_over() {
    run(async {
        let backend = Fake::new(&[Does::Answers("a"), Does::Answers("b"), Does::Answers("c")]);
        let server = Agent::serving(2, "dc1", &backend);
        let client = Agent::client();
        client.knows_at(1, "dc1", nowhere());
        client.knows(&server);
        let caller = client.caller(Plane::Rpc);
        // A write that nobody can have got is tried again as well.
        assert_eq!(write(&caller).await, Ok(Outcome::Done(true)));
        assert_eq!(read(&caller, None).await, Ok("b".into()));
        let begun = Instant::now();
        assert_eq!(read(&caller, None).await, Ok("c".into()));
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "the one that answered is asked first"
        );
    });
}

#[test]
fn a_silent_server_is_told_from_a_slow_one() {
    run(async {
        let slow = Fake::new(&[Does::Takes(Duration::from_secs(6)), Does::Answers("at last")]);
        // It accepts connections, and nobody is behind it.
        let silent = Agent::start(1, Role::Server, "dc1");
        let server = Agent::serving(2, "dc1", &slow);
        let client = Agent::client();
        client.knows(&silent);
        client.knows(&server);
        let caller = client.caller(Plane::Rpc);
        assert_eq!(read(&caller, None).await, Ok("at last".into()));
        assert_eq!(slow.asked(), 1);
    });
}

#[test]
fn servers_that_are_all_silent_cost_less_than_five_seconds() {
    run(async {
        let servers: Vec<_> = (1..=3).map(|id| Agent::start(id, Role::Server, "dc2")).collect();
        let near = Agent::start(9, Role::Server, "dc1");
        for server in &servers {
            near.knows(server);
        }
        let caller = near.caller(Plane::Wan);
        let begun = Instant::now();
        assert_eq!(read(&caller, Some("dc2")).await, Err(Failure::NoPathToDatacenter));
        let question: Result<Outcome, _> = caller.ask(Some("dc2"), set()).await;
        assert_eq!(question, Err(Failure::NoPathToDatacenter));
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    });
}

#[test]
fn a_write_that_may_have_happened_is_not_tried_again() {
    run(async {
        let (dropping, dropped) = Agent::dropping(1);
        let backend = Fake::new(&[Does::Answers("a")]);
        let server = Agent::serving(2, "dc1", &backend);
        let client = Agent::client();
        client.knows(&dropping);
        client.knows(&server);
        let caller = client.caller(Plane::Rpc);
        let lost = write(&caller).await.unwrap_err();
        assert!(
            matches!(&lost, Failure::Unreachable(text) if text.starts_with("rpc error making call: n1: ")),
            "{lost:?}"
        );
        assert_eq!((dropped.load(Ordering::SeqCst), backend.asked()), (1, 0));
        // A read is.
        let (again, dropped) = Agent::dropping(3);
        let client = Agent::client();
        client.knows(&again);
        client.knows(&server);
        assert_eq!(read(&client.caller(Plane::Rpc), None).await, Ok("a".into()));
        assert_eq!((dropped.load(Ordering::SeqCst), backend.asked()), (1, 1));
    });
}

#[test]
fn a_server_that_stops_has_done_nothing_and_the_next_one_is_asked() {
    run(async {
        let stopping = Fake::new(&[Does::Fails(Failure::Stopping), Does::Fails(Failure::Stopping)]);
        let backend = Fake::new(&[Does::Answers("a"), Does::Answers("b")]);
        let servers = [
            Agent::serving(1, "dc1", &stopping),
            Agent::serving(2, "dc1", &backend),
        ];
        for ask_write in [true, false] {
            let client = Agent::client();
            for server in &servers {
                client.knows(server);
            }
            let caller = client.caller(Plane::Rpc);
            if ask_write {
                assert_eq!(write(&caller).await, Ok(Outcome::Done(true)));
            } else {
                assert_eq!(read(&caller, None).await, Ok("b".into()));
            }
        }
        assert_eq!((stopping.asked(), backend.asked()), (2, 2));
    });
}

#[test]
fn who_gives_up_is_not_worked_for() {
    run(async {
        let backend = Fake::new(&[Does::Hangs]);
        let server = Agent::serving(1, "dc1", &backend);
        let client = Agent::client();
        client.knows(&server);
        let caller = client.caller(Plane::Rpc);
        let asking = read(&caller, None);
        let begun = async {
            while backend.asked() == 0 {
                async_io::Timer::after(Duration::from_millis(5)).await;
            }
            Err(Failure::Stopping)
        };
        assert_eq!(asking.or(begun).await, Err(Failure::Stopping));
        while backend.over.load(Ordering::SeqCst) == 0 {
            async_io::Timer::after(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn requests_for_another_data_center_take_two_steps_and_no_more() {
    run(async {
        let (here, there) = (Fake::new(&[]), Fake::new(&[Does::Answers("there")]));
        let near = Agent::serving(1, "dc1", &here);
        let far = Agent::serving(2, "dc2", &there);
        near.knows(&far);
        // Whoever is far does not send it on.
        far.knows_at(1, "dc1", near.transport.local_address().unwrap());
        near.knows_at(2, "dc3", far.transport.local_address().unwrap());
        let client = Agent::client();
        client.knows(&near);
        let caller = client.caller(Plane::Rpc);
        assert_eq!(read(&caller, Some("dc2")).await, Ok("there".into()));
        assert_eq!(
            read(&caller, Some("dc3")).await,
            Err(Failure::NoPathToDatacenter),
            "the one that is asked is in dc2"
        );
        assert_eq!(read(&caller, Some("dc4")).await, Err(Failure::NoPathToDatacenter));
        assert_eq!((here.asked(), there.asked()), (0, 1));
    });
}

#[test]
fn a_blocking_query_waits_at_another_server_for_what_is_left() {
    run(async {
        let gone = Fake::new(&[
            Does::Takes(Duration::from_millis(1500)),
            Does::Fails(Failure::Stopping),
        ]);
        let backend = Fake::new(&[Does::Answers("a")]);
        let servers = [
            Agent::serving(1, "dc1", &gone),
            Agent::serving(2, "dc1", &backend),
        ];
        let client = Agent::client();
        for server in &servers {
            client.knows(server);
        }
        let question = Question::Read {
            query: Query::KvGet("k".into()),
            options: ReadOptions {
                min_index: Index(9),
                wait: Duration::from_secs(30),
                ..ReadOptions::default()
            },
        };
        let answer: Result<Reading<Found>, _> = client.caller(Plane::Rpc).ask(None, question).await;
        assert_eq!(answer.unwrap().index, Index(4));
        let waited = |fake: &Fake| fake.seen.lock().unwrap()[0].1.wait;
        assert_eq!(waited(&gone), Duration::from_secs(30));
        assert!(
            waited(&backend) <= Duration::from_millis(28_500),
            "{:?}",
            waited(&backend)
        );
    });
}

#[test]
fn answers_may_be_large() {
    run(async {
        let value = Bytes::from(vec![7; 24 << 20]);
        let backend = Fake::with_value(&[Does::Answers("a")], value.clone());
        let server = Agent::serving(1, "dc1", &backend);
        let client = Agent::client();
        client.knows(&server);
        let answer: Reading<Found> = client.caller(Plane::Rpc).ask(None, get("k")).await.unwrap();
        let Found::Entry(Some(entry)) = answer.value else {
            panic!("an entry")
        };
        assert!(entry.value == value);
    });
}

#[test]
fn asks_and_answers_survive_the_way() {
    let ops = vec![TxnOp::Kv(KvTxnOp::GetTree("a".into())); 64];
    for question in [
        Question::Ping,
        get("k"),
        set(),
        Question::ReadTxn {
            ops,
            options: ReadOptions::default(),
        },
        Question::Leader,
        Question::RemoveRaftServer {
            server: ServerRef::Address("a:1".into()),
            options: WriteOptions::default(),
        },
        Question::ExecuteQuery {
            execute: Box::new(execute("geo")),
            options: ReadOptions::default(),
        },
        Question::ExecuteQuery {
            execute: Box::new(Execute {
                target: Target::Ready(Arc::default()),
                ..execute("")
            }),
            options: ReadOptions::default(),
        },
    ] {
        let bytes = wire::encode_ask(Vec::new(), "dc1", &question);
        let ask = wire::decode_ask(&bytes).unwrap();
        assert_eq!((ask.datacenter.as_str(), &ask.question), ("dc1", &question));
        assert!(question.bytes() + 64 >= bytes.len(), "{question:?}");
        for length in 0..bytes.len() {
            assert!(wire::decode_ask(&bytes[..length]).is_err());
        }
        let mut more = bytes;
        more.push(0);
        assert_eq!(wire::decode_ask(&more), Err(DecodeError::Trailing(1)));
        more[0] = 9;
        assert_eq!(wire::decode_ask(&more), Err(DecodeError::Version(9)));
    }
    assert_eq!(wire::decode_ask(&[]), Err(DecodeError::Empty));
    let failed = wire::encode_answer(&Err::<Outcome, _>(Failure::NoLeader), 0);
    assert_eq!(wire::failure_in(&failed), Some(Failure::NoLeader));
    assert_eq!(
        wire::decode_answer::<Outcome>(&failed),
        Ok(Err(Failure::NoLeader))
    );
    let done = wire::encode_answer(&Ok(Outcome::Done(true)), 0);
    assert_eq!(wire::failure_in(&done), None);
    assert_eq!(wire::decode_answer(&done), Ok(Ok(Outcome::Done(true))));
}

/// The bytes of an ask are fixed: agents of different builds exchange them.
#[test]
fn an_ask_has_these_bytes() {
    let ask = wire::encode_ask(Purpose::Agent.begin(), "dc1", &get("k"));
    assert_eq!(ask, b"\x02\x01\x03dc1\x01\x00\x01k\x00\x00\x00\x00\x00\x00");
    let ping = wire::encode_ask(Purpose::Agent.begin(), "", &Question::Ping);
    assert_eq!(ping, b"\x02\x01\x00\x00");
    assert_eq!(wire::encode_answer(&Ok(()), 0), b"\x01\x00");
}

/// A number of operations that is a lie must not cost memory.
#[test]
fn a_transaction_of_too_many_operations_is_refused() {
    let ops = vec![TxnOp::Kv(KvTxnOp::Get("k".into())); MAX_TXN_OPS + 1];
    let options = ReadOptions::default();
    let bytes = wire::encode_ask(Vec::new(), "dc1", &Question::ReadTxn { ops, options });
    assert!(matches!(wire::decode_ask(&bytes), Err(DecodeError::Malformed(_))));
}

#[test]
fn no_bytes_make_the_decoders_panic() {
    let mut rng = lictor_machine::Rng::new(11);
    let samples: BTreeMap<usize, Vec<u8>> = [get("k"), set(), Question::Peers]
        .iter()
        .map(|question| wire::encode_ask(Vec::new(), "dc1", question))
        .enumerate()
        .collect();
    for _ in 0..20_000 {
        let mut bytes = samples[&(rng.below(3) as usize)].clone();
        for _ in 0..=rng.below(4) {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] = rng.next_u64() as u8;
        }
        let _ = wire::decode_ask(&bytes);
        let _ = wire::decode_answer::<Reading<Found>>(&bytes);
        let _ = wire::failure_in(&bytes);
    }
}
