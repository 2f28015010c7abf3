//! A server in front of a catalog in memory, and a client that sees every byte.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_io::Timer;
use async_trait::async_trait;
use event_listener::Event;
use futures_lite::FutureExt as _;
use lictor_catalog::{
    Action, Changes, Command, Found, KvPair, KvWrite, Outcome, Query, State, TxnError, TxnOp, TxnResult,
};
use lictor_http::{
    Api, Backend, Config, Failure, Limits, Listener, ReadOptions, Reading, Server, WriteOptions,
};
use lictor_machine::{Index, UnixMillis};

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
    /// What the last read asked for.
    pub(crate) last_read: Mutex<Option<ReadOptions>>,
    /// What the last write asked for.
    pub(crate) last_write: Mutex<Option<WriteOptions>>,
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
    let api = Api::new(Arc::clone(memory) as Arc<dyn Backend>, config);
    runtime.block_on(Server::start(&runtime, listeners, limits, api))
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
