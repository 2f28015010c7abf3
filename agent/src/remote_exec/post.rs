//! The keys by which a command comes, and by which its answers go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_io::Timer;
use async_trait::async_trait;
use bytes::Bytes;
use lictor_catalog::{Action, Found, Key, KvPair, KvTxnOp, KvWrite, Outcome, Query, SessionRef, TxnOp};
use lictor_http::{Backend, Failure, ReadMode, ReadOptions, WriteOptions};
use serde::Deserialize;

/// The key of what is to be done, below that of the command.
const JOB: &str = "job";

/// For how long an answer is tried again that cannot be written: as long as sessions of commands live without being renewed.
const RETRY_FOR: Duration = Duration::from_secs(15);

/// How long to wait in between.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The keys of the cluster, as far as commands need them.
#[async_trait]
pub(super) trait Store: Send + Sync {
    /// The value of a key, if it is there.
    async fn read(&self, key: Key, mode: ReadMode) -> Result<Option<Bytes>, Failure>;
    /// Makes a change; see [`Backend::write`].
    async fn write(&self, action: Action) -> Result<Outcome, Failure>;
}

/// The keys of this agent's data center.
pub(super) struct Cluster(pub(super) Arc<dyn Backend>);

#[async_trait]
impl Store for Cluster {
    async fn read(&self, key: Key, mode: ReadMode) -> Result<Option<Bytes>, Failure> {
        let options = ReadOptions {
            mode,
            ..ReadOptions::default()
        };
        let reading = self.0.read(Query::KvGet(key), options).await?;
        Ok(if let Found::Entry(Some(entry)) = reading.value {
            Some(entry.value.clone())
        } else {
            None
        })
    }

    async fn write(&self, action: Action) -> Result<Outcome, Failure> {
        self.0.write(action, WriteOptions::default()).await
    }
}

/// What an event says of a command: where it is.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Notice {
    #[serde(default)]
    prefix: String,
    session: String,
}

/// Why an answer was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Undelivered {
    /// The session has ended, or something else holds the key: nobody waits for the answer.
    #[error("nobody waits for it any more: {0}")]
    Unwanted(String),
    /// It may or may not be there.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// The way between whoever gave a command and the node that carries it out.
pub(super) struct Post<'a> {
    store: &'a dyn Store,
    /// Below this key is all that belongs to the command.
    place: String,
    node: &'a str,
    session: String,
    /// How many pieces of output were delivered.
    pieces: u32,
}

impl<'a> Post<'a> {
    /// Opens the way that an event names to the node that is called `node`. The error is for people.
    pub(super) fn open(payload: &[u8], node: &'a str, store: &'a dyn Store) -> Result<Self, String> {
        let notice: Notice = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
        // It becomes a part of keys, and must not lead to others.
        let hex = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
        if notice.session.len() != 36 || !notice.session.bytes().all(hex) {
            return Err(format!("{:?} is not the id of a session", notice.session));
        }
        Ok(Self {
            store,
            place: join(&notice.prefix, &notice.session),
            node,
            session: notice.session,
            pieces: 0,
        })
    }

    /// The session that holds all that belongs to the command.
    pub(super) fn session(&self) -> &str {
        &self.session
    }

    /// How many pieces of output were delivered.
    pub(super) fn pieces(&self) -> u32 {
        self.pieces
    }

    /// What is to be done; `None`: it is not wanted any more.
    pub(super) async fn job(&self) -> Result<Option<Bytes>, Failure> {
        let key = Key::from(format!("{}/{JOB}", self.place));
        // Hundreds of agents ask at once, so whoever is near answers, unless what was written just now is not there yet.
        let near = ReadMode::Stale { max: None };
        match self.store.read(key.clone(), near).await {
            Ok(Some(job)) => Ok(Some(job)),
            Ok(None) | Err(_) => self.store.read(key, ReadMode::Default).await,
        }
    }

    /// Says that the node begins; `false`: it did so before. Not tried again: a command is carried out once or not at all.
    pub(super) async fn acknowledge(&self) -> Result<bool, Undelivered> {
        let pair = self.pair("ack", Bytes::new());
        let once = TxnOp::Kv(KvTxnOp::CheckNotExists(pair.key.clone()));
        let lock = TxnOp::Kv(KvTxnOp::Lock(pair, SessionRef(self.session.clone())));
        match self.store.write(Action::Txn(vec![once, lock])).await? {
            Outcome::Txn(Ok(_)) => Ok(true),
            Outcome::Txn(Err(errors)) if errors.iter().any(|error| error.op == 0) => Ok(false),
            Outcome::Txn(Err(errors)) => {
                let texts: Vec<String> = errors.into_iter().map(|error| error.what).collect();
                Err(Undelivered::Unwanted(texts.join("; ")))
            }
            Outcome::Done(_) | Outcome::Refused(_) | Outcome::Session(_) | Outcome::Prepared(_) => Err(
                Undelivered::Unwanted("the answer is none to a transaction".to_owned()),
            ),
        }
    }

    /// Delivers a piece of what the program says. An empty one says that it runs.
    pub(super) async fn say(&mut self, output: Bytes) -> Result<(), Undelivered> {
        self.put(&format!("out/{:05x}", self.pieces), output).await?;
        self.pieces += 1;
        Ok(())
    }

    /// Delivers the exit code.
    pub(super) async fn end(&self, code: i32) -> Result<(), Undelivered> {
        self.put("exit", code.to_string().into()).await
    }

    fn pair(&self, name: &str, value: Bytes) -> KvPair {
        KvPair {
            key: format!("{}/{}/{name}", self.place, self.node).into(),
            value,
            flags: 0,
        }
    }

    /// Writes an answer under the session. It is tried again for a while: the same twice does no harm.
    async fn put(&self, name: &str, value: Bytes) -> Result<(), Undelivered> {
        let write = KvWrite::Lock(self.pair(name, value), SessionRef(self.session.clone()));
        let action = Action::Kv(write);
        let begun = Instant::now();
        loop {
            match self.store.write(action.clone()).await {
                Ok(Outcome::Done(true)) => return Ok(()),
                Ok(Outcome::Refused(why)) => return Err(Undelivered::Unwanted(why)),
                Ok(Outcome::Done(false) | Outcome::Txn(_) | Outcome::Session(_) | Outcome::Prepared(_)) => {
                    let why = format!("the session {} does not get the key", self.session);
                    return Err(Undelivered::Unwanted(why));
                }
                Err(failure) if !may_pass(&failure) || begun.elapsed() >= RETRY_FOR => {
                    return Err(failure.into());
                }
                Err(_) => {
                    Timer::after(RETRY_PAUSE).await;
                }
            }
        }
    }
}

/// Whether a failure says something about this moment only.
fn may_pass(failure: &Failure) -> bool {
    match failure {
        Failure::NoLeader
        | Failure::NoPathToDatacenter
        | Failure::NoServers
        | Failure::Busy { .. }
        | Failure::LeadershipLost
        | Failure::Storage(_)
        | Failure::Unreachable(_)
        | Failure::Several(_) => true,
        Failure::Local(_)
        | Failure::Refused(_)
        | Failure::Denied(_)
        | Failure::NoSuchServer(_)
        | Failure::Stopping => false,
    }
}

/// A key below a prefix, whose empty elements do not count.
fn join(prefix: &str, name: &str) -> String {
    let elements = prefix.split('/').filter(|element| !element.is_empty());
    let elements: Vec<&str> = elements.chain([name]).collect();
    elements.join("/")
}
