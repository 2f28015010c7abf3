//! A server in front of a catalog in memory, and a client that sees every byte.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_io::Timer;
use async_trait::async_trait;
use event_listener::Event;
use futures_lite::{AsyncReadExt as _, FutureExt as _, Stream, StreamExt as _};
use lictor_catalog::{
    Action, Changes, Command, Execute, Found, KvPair, KvWrite, NodeCoordinate, Outcome, Query, Session,
    SessionId, State, TxnError, TxnOp, TxnResult,
};
use lictor_gossip::{self as gossip, Coordinate, Incarnation, LamportTime, Member, MemberState};
use lictor_http::{
    About, Api, Archive, Backend, Config, DatacenterCoordinates, EventLog, Executed, Failure, Host, Limits,
    Listener, LocalService, LogReaders, Pool, RaftServer, ReadMode, ReadOptions, Reading, Server, ServerRef,
    ServersHealth, Settings, ThisAgent, UserEvent, WriteOptions,
};
use lictor_local::LocalView;
use lictor_machine::{Index, NodeId, UnixMillis};

use crate::running::Running;
use lictor_metrics::Registry;

/// Longer than anything takes, shorter than a test run's patience.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A data center of one, in memory.
#[derive(Default)]
pub(crate) struct Memory {
    state: Mutex<State>,
    changed: Event,
    /// How many blocking reads wait right now.
    pub(crate) waiting: AtomicUsize,
    /// What the next call fails with.
    pub(crate) failure: Mutex<Option<Failure>>,
    /// The archive that it makes, and whether that breaks off; and the last one that it was given.
    pub(crate) archive: Mutex<(Vec<u8>, bool)>,
    pub(crate) restored: Mutex<Option<Vec<u8>>>,
    /// What the last read asked for.
    pub(crate) last_read: Mutex<Option<ReadOptions>>,
    /// The prepared query that was carried out last.
    pub(crate) last_execute: Mutex<Option<Execute>>,
    /// What the last write asked for.
    pub(crate) last_write: Mutex<Option<WriteOptions>>,
    /// The user events that arrived.
    pub(crate) events: EventLog,
    /// What was asked for and has no effect here, in order.
    pub(crate) asked: Mutex<Vec<String>>,
    /// What it answers about the servers' health.
    pub(crate) health: Mutex<ServersHealth>,
    /// What it answers about the servers.
    pub(crate) servers: Mutex<Vec<RaftServer>>,
    /// What runs on the agent.
    pub(crate) running: Running,
    /// Whether it is in client mode.
    pub(crate) client: AtomicBool,
    /// What it counts.
    pub(crate) metrics: Registry,
    /// Those who read along what it logs.
    pub(crate) log: Log,
    /// The machine that it runs on.
    pub(crate) host: Mutex<Host>,
}

/// Those who read along what an agent logs.
pub(crate) struct Log(Arc<LogReaders>);

impl Default for Log {
    fn default() -> Self {
        Self(Arc::new(LogReaders::new(|| {})))
    }
}

impl std::ops::Deref for Log {
    type Target = Arc<LogReaders>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// The agent's id.
pub(crate) const ME: NodeId = NodeId(0x603577f4_8b5a_2e6a_ad92_5a6ea4f8c8de);

/// A coordinate whose numbers show how numbers are written.
pub(crate) const POSITION: Coordinate = Coordinate {
    vector: [0.0, 0.1, -2.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    error: 1.5,
    adjustment: 0.0,
    height: 0.00001,
};

/// A member of a pool.
pub(crate) fn member(id: NodeId, name: &str, state: MemberState) -> Arc<Member> {
    let tags = [("role", "consul"), ("dc", "dc1"), ("build", "1.8.7:")];
    Arc::new(Member {
        id,
        name: name.to_owned(),
        address: SocketAddr::from(([127, 0, 0, 1], 8300)),
        tags: tags
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        incarnation: Incarnation(1),
        state,
    })
}

impl Memory {
    fn apply(&self, action: Action) -> Outcome {
        let mut state = self.state.lock().unwrap();
        let index = state.index().next();
        let command = Command {
            stamp: UnixMillis(1),
            action,
        };
        let outcome = state.apply(index, &command, &mut Changes::default()).unwrap();
        drop(state);
        self.changed.notify(usize::MAX);
        outcome
    }

    /// Sets a key, at the next index.
    pub(crate) fn set(&self, key: &'static str, value: &'static str) {
        self.set_bytes(key.as_bytes(), value.as_bytes(), 0);
    }

    /// Sets a key of any bytes.
    pub(crate) fn set_bytes(&self, key: &'static [u8], value: &'static [u8], flags: u64) {
        let pair = KvPair {
            key: key.into(),
            value: value.into(),
            flags,
        };
        assert_eq!(self.apply(Action::Kv(KvWrite::Set(pair))), Outcome::Done(true));
    }

    /// Passes indexes without changing anything.
    pub(crate) fn skip_to(&self, index: u64) {
        self.state.lock().unwrap().advance(Index(index)).unwrap();
    }

    fn ask(&self, what: String) -> Result<(), Failure> {
        self.check()?;
        self.asked.lock().unwrap().push(what);
        Ok(())
    }

    /// What was asked for since the last time.
    pub(crate) fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// Lets an event arrive by gossip, as the node `n1` that has a service `web` with the tag `v1`.
    pub(crate) fn tell(&self, event: &UserEvent, time: u64) -> bool {
        let (name, payload) = event.to_gossip();
        let told = gossip::UserEvent {
            time: LamportTime(time),
            origin: ME,
            name,
            payload,
            coalesce: false,
        };
        let services = [LocalService {
            name: "web",
            tags: &["v1".to_owned()],
        }];
        self.events.receive(&told, "n1", &services).unwrap()
    }

    fn check_datacenter(datacenter: Option<&str>) -> Result<(), Failure> {
        match datacenter {
            None | Some("dc1") => Ok(()),
            Some(_) => Err(Failure::NoPathToDatacenter),
        }
    }

    fn check(&self) -> Result<(), Failure> {
        self.failure.lock().unwrap().take().map_or(Ok(()), Err)
    }

    fn reading<T>(index: Index, value: T) -> Reading<T> {
        Reading {
            index,
            known_leader: true,
            last_contact: Duration::from_millis(0),
            value,
        }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Backend for Memory {
    async fn read(&self, query: Query, options: ReadOptions) -> Result<Reading<Found>, Failure> {
        *self.last_read.lock().unwrap() = Some(options.clone());
        self.check()?;
        if options.datacenter.as_deref().is_some_and(|name| name != "dc1") {
            return Err(Failure::NoPathToDatacenter);
        }
        let deadline = Instant::now() + options.wait;
        loop {
            let changed = self.changed.listen();
            let (index, found) = self.state.lock().unwrap().query(&query);
            if options.min_index == Index::ZERO || index > options.min_index || Instant::now() >= deadline {
                return Ok(Self::reading(index, found));
            }
            let _waiting = Waiting::new(&self.waiting);
            changed
                .or(async {
                    Timer::at(deadline).await;
                })
                .await;
        }
    }

    async fn read_txn(
        &self,
        ops: Vec<TxnOp>,
        options: ReadOptions,
    ) -> Result<Reading<Result<Vec<TxnResult>, Vec<TxnError>>>, Failure> {
        *self.last_read.lock().unwrap() = Some(options);
        self.check()?;
        let state = self.state.lock().unwrap();
        Ok(Self::reading(state.index(), state.txn_read(&ops)))
    }

    async fn write(&self, action: Action, options: WriteOptions) -> Result<Outcome, Failure> {
        *self.last_write.lock().unwrap() = Some(options);
        self.check()?;
        Ok(self.apply(action))
    }

    async fn renew_session(
        &self,
        session: SessionId,
        options: WriteOptions,
    ) -> Result<Option<Arc<Session>>, Failure> {
        *self.last_write.lock().unwrap() = Some(options);
        self.check()?;
        Ok(self.state.lock().unwrap().session(session).cloned())
    }

    async fn execute_query(
        &self,
        execute: Execute,
        options: ReadOptions,
    ) -> Result<Reading<Option<Executed>>, Failure> {
        self.check()?;
        Self::check_datacenter(options.datacenter.as_deref())?;
        *self.last_read.lock().unwrap() = Some(options);
        let executed = self.state.lock().unwrap().execute(&execute);
        *self.last_execute.lock().unwrap() = Some(execute);
        let executed = executed.map_err(Failure::Refused)?.map(|execution| Executed {
            datacenter: "dc1".to_owned(),
            failovers: 0,
            execution,
        });
        Ok(Self::reading(Index(7), executed))
    }

    async fn leader(&self, datacenter: Option<&str>) -> Result<Option<SocketAddr>, Failure> {
        self.check()?;
        match datacenter {
            None => Ok(Some(SocketAddr::from(([127, 0, 0, 1], 8300)))),
            Some("empty") => Ok(None),
            Some(_) => Err(Failure::NoPathToDatacenter),
        }
    }

    async fn peers(&self, datacenter: Option<&str>) -> Result<Vec<SocketAddr>, Failure> {
        let leader = self.leader(datacenter).await?;
        Ok(leader
            .into_iter()
            .chain(leader.map(|_| SocketAddr::from(([127, 0, 0, 2], 8300))))
            .collect())
    }

    async fn fire_event(&self, event: UserEvent, options: WriteOptions) -> Result<(), Failure> {
        self.check()?;
        Self::check_datacenter(options.datacenter.as_deref())?;
        self.tell(&event, 7);
        Ok(())
    }

    async fn snapshot(&self, options: ReadOptions) -> Result<Reading<Archive<'static>>, Failure> {
        self.check()?;
        Self::check_datacenter(options.datacenter.as_deref())?;
        *self.last_read.lock().unwrap() = Some(options);
        let (archive, breaks) = self.archive.lock().unwrap().clone();
        let end = async move {
            if breaks {
                Err(std::io::Error::other("broken off"))
            } else {
                Ok(Vec::new())
            }
        };
        let pieces = futures_lite::stream::iter([Ok(archive)]).chain(futures_lite::stream::once_future(end));
        Ok(Reading {
            index: Index(96),
            known_leader: true,
            last_contact: Duration::from_millis(4),
            value: Archive::new(Pieces {
                pieces: Box::pin(pieces),
                ready: Vec::new(),
            }),
        })
    }

    async fn restore(&self, mut archive: Archive<'_>, options: WriteOptions) -> Result<(), Failure> {
        Self::check_datacenter(options.datacenter.as_deref())?;
        *self.last_write.lock().unwrap() = Some(options);
        let mut content = Vec::new();
        let read = archive.read_to_end(&mut content).await;
        read.map_err(|error| Failure::Refused(error.to_string()))?;
        self.check()?;
        *self.restored.lock().unwrap() = Some(content);
        Ok(())
    }

    async fn datacenters(&self) -> Result<Vec<String>, Failure> {
        self.check()?;
        Ok(["dc1", "mars", "dc2"].map(str::to_owned).into())
    }

    async fn wan_coordinates(&self) -> Result<Vec<DatacenterCoordinates>, Failure> {
        self.check()?;
        Ok(vec![DatacenterCoordinates {
            datacenter: "dc1".to_owned(),
            servers: vec![("n1".to_owned(), POSITION)],
        }])
    }

    async fn update_coordinate(&self, update: NodeCoordinate, options: WriteOptions) -> Result<(), Failure> {
        self.check()?;
        Self::check_datacenter(options.datacenter.as_deref())?;
        *self.last_write.lock().unwrap() = Some(options);
        if update.node.eq_ignore_ascii_case("n1") || update.node == "n2" {
            assert_eq!(self.apply(Action::Coordinates(vec![update])), Outcome::Done(true));
        }
        Ok(())
    }

    async fn raft_servers(&self, options: ReadOptions) -> Result<Vec<RaftServer>, Failure> {
        self.check()?;
        Self::check_datacenter(options.datacenter.as_deref())?;
        let stale = matches!(options.mode, ReadMode::Stale { .. });
        self.ask(format!("raft servers{}", if stale { ", stale" } else { "" }))?;
        Ok(self.servers.lock().unwrap().clone())
    }

    async fn remove_raft_server(&self, server: ServerRef, options: WriteOptions) -> Result<(), Failure> {
        self.check()?;
        Self::check_datacenter(options.datacenter.as_deref())?;
        match server {
            ServerRef::Id(id) if id == ME.to_string() => self.ask(format!("remove {id}")),
            ServerRef::Address(address) if address == "127.0.0.1:8300" => {
                self.ask(format!("remove {address}"))
            }
            ServerRef::Id(_) | ServerRef::Address(_) => Err(Failure::NoSuchServer(server)),
        }
    }

    async fn servers_health(&self, options: ReadOptions) -> Result<ServersHealth, Failure> {
        self.check()?;
        Self::check_datacenter(options.datacenter.as_deref())?;
        Ok(self.health.lock().unwrap().clone())
    }
}

#[async_trait]
impl ThisAgent for Memory {
    fn about(&self) -> Result<About, Failure> {
        self.check()?;
        let address = SocketAddr::from(([127, 0, 0, 1], 8300));
        let stats = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter();
            pairs
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect()
        };
        Ok(About {
            datacenter: "dc1".to_owned(),
            node_name: "n1".to_owned(),
            node_id: ME,
            server: true,
            settings: Settings {
                advertise: Some(address),
                bind: Some(address),
                http: vec![SocketAddr::from(([127, 0, 0, 1], 8500))],
                bootstrap_expect: 3,
                data_dir: Some("/data".into()),
                log_level: "INFO".to_owned(),
                primary_datacenter: "dc1".to_owned(),
                retry_join: vec!["10.0.0.2".to_owned()],
                retry_join_interval: Duration::from_secs(30),
                skip_leave_on_interrupt: true,
                ..Settings::default()
            },
            coordinate: (!self.client.load(Ordering::SeqCst)).then_some(POSITION),
            member: member(ME, "n1", MemberState::Alive),
            stats: [("agent".to_owned(), stats(&[("checks", "0"), ("services", "<1>")]))].into(),
            meta: [("rack".to_owned(), "1".to_owned())].into(),
        })
    }

    fn members(&self, pool: Pool) -> Option<Vec<Arc<Member>>> {
        match pool {
            Pool::Lan => Some(vec![
                member(NodeId(5), "n5", MemberState::Failed),
                member(NodeId(2), "n2", MemberState::Suspect),
                member(ME, "n1", MemberState::Alive),
                member(NodeId(4), "n4", MemberState::Left),
                member(NodeId(3), "n3", MemberState::Leaving),
            ]),
            Pool::Wan if self.client.load(Ordering::SeqCst) => None,
            Pool::Wan => Some(vec![member(ME, "n1.dc1", MemberState::Alive)]),
        }
    }

    async fn join(&self, pool: Pool, address: &str) -> Result<(), Failure> {
        self.ask(format!("join {pool:?} {address}"))
    }

    async fn leave(&self) -> Result<(), Failure> {
        self.ask("leave".to_owned())
    }

    async fn force_leave(&self, pool: Pool, name: &str, prune: bool) -> Result<(), Failure> {
        self.ask(format!("force-leave {pool:?} {name} {prune}"))
    }

    fn events(&self) -> &EventLog {
        &self.events
    }

    fn metrics(&self) -> &Registry {
        &self.metrics
    }

    fn log(&self) -> &Arc<LogReaders> {
        &self.log
    }

    async fn host(&self) -> Host {
        self.host.lock().unwrap().clone()
    }

    fn running(&self) -> Arc<LocalView> {
        self.running.view()
    }

    async fn running_after(&self, seen: &Arc<LocalView>) -> Arc<LocalView> {
        loop {
            let changed = self.changed.listen();
            let now = self.running.view();
            if !Arc::ptr_eq(&now, seen) {
                return now;
            }
            let _waiting = Waiting::new(&self.waiting);
            changed.await;
        }
    }

    async fn change(&self, request: lictor_local::Request) -> Result<(), Failure> {
        self.check()?;
        let changed = self.running.change(request);
        self.changed.notify(usize::MAX);
        changed
    }

    async fn reload(&self) -> Result<(), Failure> {
        self.ask("reload".to_owned())
    }
}

/// Bytes that come in pieces.
struct Pieces {
    pieces: std::pin::Pin<Box<dyn Stream<Item = std::io::Result<Vec<u8>>> + Send>>,
    ready: Vec<u8>,
}

impl futures_lite::AsyncRead for Pieces {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut [u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        if self.ready.is_empty() {
            match std::task::ready!(self.pieces.as_mut().poll_next(cx)) {
                Some(piece) => self.ready = piece?,
                None => return std::task::Poll::Ready(Ok(0)),
            }
        }
        let taken = self.ready.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&self.ready[..taken]);
        self.ready.drain(..taken);
        std::task::Poll::Ready(Ok(taken))
    }
}

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

/// A connection.
pub(crate) struct Client<S>(pub(crate) BufReader<S>);

impl Client<TcpStream> {
    pub(crate) fn tcp(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }
}

impl<S: std::io::Read + std::io::Write> Client<S> {
    /// Sends `METHOD TARGET`, maybe further lines as headers, and, behind an empty line, maybe a body.
    pub(crate) fn ask(&mut self, request: &str) -> Response {
        self.send(request);
        let head = request.starts_with("HEAD ");
        self.receive(head)
    }

    pub(crate) fn send(&mut self, request: &str) {
        let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
        let mut lines: Vec<_> = head.lines().map(str::to_owned).collect();
        lines[0] += " HTTP/1.1";
        lines.push("Host: x".to_owned());
        if !body.is_empty() {
            lines.push(format!("Content-Length: {}", body.len()));
        }
        let text = lines.join("\r\n") + "\r\n\r\n";
        self.send_raw(&(text + body).into_bytes());
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    pub(crate) fn receive(&mut self, head: bool) -> Response {
        let mut line = || {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            let line = line
                .strip_suffix("\r\n")
                .unwrap_or_else(|| panic!("not a line: {line:?}"));
            line.to_owned()
        };
        let first = line();
        let mut headers = Vec::new();
        loop {
            let text = line();
            if text.is_empty() {
                break;
            }
            let (name, value) = text.split_once(": ").unwrap();
            headers.push((name.to_owned(), value.to_owned()));
        }
        let mut response = Response {
            first,
            headers,
            body: Vec::new(),
        };
        let length = response
            .header("Content-Length")
            .expect("all our answers have a length")
            .parse()
            .unwrap();
        if !head {
            response.body.resize(length, 0);
            self.0.read_exact(&mut response.body).unwrap();
        }
        response
    }

    /// Whether the server has closed the connection, without sending anything more.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.0.read(&mut [0]).is_ok_and(|count| count == 0)
    }
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) first: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.first.strip_prefix("HTTP/1.1 ").unwrap()[..3]
            .parse()
            .unwrap()
    }

    /// A header by its exact spelling.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| &**value)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn index(&self) -> u64 {
        self.header("X-Consul-Index").unwrap().parse().unwrap()
    }

    /// Compares everything but the date with an answer as it is written in a book: status line, headers sorted by name,
    /// an empty line, and the body.
    #[track_caller]
    pub(crate) fn assert_is(&self, expected: &str) {
        let mut headers: Vec<String> = self
            .headers
            .iter()
            .filter(|(name, _)| name != "Date")
            .map(|(name, value)| format!("{name}: {value}\n"))
            .collect();
        headers.sort();
        assert!(self.header("Date").is_some());
        assert_eq!(
            format!("{}\n{}\n{}", self.first, headers.concat(), self.text()),
            expected
        );
    }

    #[track_caller]
    pub(crate) fn assert_text(&self, status: u16, body: &str) {
        assert_eq!((self.status(), self.text()), (status, body));
    }
}
