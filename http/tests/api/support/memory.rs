//! The data center behind the API: a catalog in memory, and no cluster.

use std::net::SocketAddr;
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
use lictor_gossip::{self as gossip, LamportTime};
use lictor_http::{
    Archive, Backend, DatacenterCoordinates, EventLog, Executed, Failure, Host, LocalService, RaftServer,
    ReadMode, ReadOptions, Reading, ServerRef, ServersHealth, UserEvent, WriteOptions,
};
use lictor_machine::{Index, UnixMillis};
use lictor_metrics::Registry;

use super::agent::{Log, ME, POSITION};
use super::running::Running;

/// A data center of one, in memory.
#[derive(Default)]
pub(crate) struct Memory {
    pub(super) state: Mutex<State>,
    pub(super) changed: Event,
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

    pub(super) fn ask(&self, what: String) -> Result<(), Failure> {
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
        let event = UserEvent::from_gossip(&told).unwrap();
        let mine = event.is_for("n1", &services).unwrap();
        if mine {
            self.events.add(event);
        }
        mine
    }

    fn check_datacenter(datacenter: Option<&str>) -> Result<(), Failure> {
        match datacenter {
            None | Some("dc1") => Ok(()),
            Some(_) => Err(Failure::NoPathToDatacenter),
        }
    }

    pub(super) fn check(&self) -> Result<(), Failure> {
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

/// One who waits, and is counted while it does.
pub(super) struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    pub(super) fn new(count: &'a AtomicUsize) -> Self {
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
