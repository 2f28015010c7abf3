//! A backend that does what it is told, and counts what it is asked.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_lite::AsyncReadExt as _;
use futures_lite::io::Cursor;
use lictor_catalog::{
    Action, Execute, Found, KvEntry, NodeCoordinate, Outcome, Query, Session, SessionId, Target, TxnError,
    TxnOp, TxnResult,
};
use lictor_http::{
    Archive, Backend, DatacenterCoordinates, Executed, Failure, RaftServer, ReadOptions, Reading, ServerRef,
    ServersHealth, UserEvent, WriteOptions,
};
use lictor_machine::{Index, NodeId};

/// What a backend does with a request.
#[derive(Clone, Debug)]
pub(super) enum Does {
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
pub(super) struct Fake {
    does: Mutex<VecDeque<Does>>,
    asked: AtomicUsize,
    /// Of those, how many are over.
    pub(super) over: Arc<AtomicUsize>,
    pub(super) seen: Mutex<Vec<(Query, ReadOptions)>>,
    value: Bytes,
    /// The archives that it was given.
    pub(super) restored: Mutex<Vec<Vec<u8>>>,
    /// Whom it takes for the leader. Agents ask that beside, so it is not counted.
    pub(super) leader: Mutex<Option<SocketAddr>>,
}

struct Count(Arc<AtomicUsize>);

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Fake {
    pub(super) fn new(does: &[Does]) -> Arc<Self> {
        Self::with_value(does, Bytes::from_static(b"v"))
    }

    pub(super) fn with_value(does: &[Does], value: Bytes) -> Arc<Self> {
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

    pub(super) fn asked(&self) -> usize {
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

pub(super) fn reading<T>(value: T) -> Reading<T> {
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

pub(super) fn address() -> SocketAddr {
    "10.0.0.1:8300".parse().unwrap()
}
