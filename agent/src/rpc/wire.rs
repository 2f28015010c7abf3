//! Asks and their answers as bytes: a version byte, then postcard. Whatever decodes is well formed; whether it makes sense
//! is checked where it is handled.

use std::time::Duration;

use lictor_catalog::{
    Action, Execute, Found, KvPair, KvTxnOp, KvWrite, MAX_TXN_OPS, NodeCoordinate, Outcome, Query, SessionId,
    TxnError, TxnOp, TxnResult,
};
use lictor_http::{Executed, Failure, ReadMode, ReadOptions, Reading, ServerRef, UserEvent, WriteOptions};
use lictor_machine::{Index, NodeId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::snapshot::passing::ArchiveQuestion;

/// The version of this encoding. An agent refuses others by name.
pub const VERSION: u8 = 1;

/// What one agent asks of another: a request of the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The data center that is to answer. Whoever is in another passes it on, once.
    pub datacenter: String,
    /// What is asked.
    pub question: Question,
}

/// A request of the API. Data centers within the options are not looked at: [`Ask::datacenter`] counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// "Are you there?" Answered with `()` by whoever gets it.
    Ping,
    /// Answered with a `Reading<Found>`.
    Read {
        /// What to read.
        query: Query,
        /// How.
        options: ReadOptions,
    },
    /// Answered with a [`TxnReading`].
    ReadTxn {
        /// Operations that only read.
        #[serde(deserialize_with = "bounded_ops")]
        ops: Vec<TxnOp>,
        /// How.
        options: ReadOptions,
    },
    /// Answered with an `Outcome`.
    Write {
        /// What to change.
        action: Action,
        /// How.
        options: WriteOptions,
    },
    /// Answered with an `Option<SocketAddr>`.
    Leader,
    /// Answered with a `Vec<SocketAddr>`.
    Peers,
    /// Answered with `()`.
    FireEvent {
        /// What to tell.
        event: UserEvent,
        /// How.
        options: WriteOptions,
    },
    /// Answered with a `Vec<String>`.
    Datacenters,
    /// Answered with a `Vec<DatacenterCoordinates>`.
    WanCoordinates,
    /// Answered with `()`.
    UpdateCoordinate {
        /// Where a node is.
        update: NodeCoordinate,
        /// How.
        options: WriteOptions,
    },
    /// Answered with a `Vec<RaftServer>`.
    RaftServers {
        /// How to read.
        options: ReadOptions,
    },
    /// Answered with `()`.
    RemoveRaftServer {
        /// Which.
        server: ServerRef,
        /// How.
        options: WriteOptions,
    },
    /// Answered with a `ServersHealth`.
    ServersHealth {
        /// How to read.
        options: ReadOptions,
    },
    /// About archives: what it says itself.
    Archive(ArchiveQuestion),
    /// Answered with an `Option<Arc<Session>>`.
    RenewSession {
        /// Which.
        session: SessionId,
        /// How.
        options: WriteOptions,
    },
    /// Answered with a `Reading<Option<Executed>>`.
    ExecuteQuery {
        /// Which prepared query.
        execute: Box<Execute>,
        /// How to read.
        options: ReadOptions,
    },
}

impl Question {
    /// The server that alone can answer, if it matters which one does.
    pub const fn server(&self) -> Option<NodeId> {
        if let Self::Archive(question) = self {
            question.server()
        } else {
            None
        }
    }

    /// Whether it may be asked again, of another server, when nobody knows whether the first one has acted.
    pub const fn is_repeatable(&self) -> bool {
        match self {
            Self::Archive(question) => question.is_repeatable(),
            Self::Ping
            | Self::Read { .. }
            | Self::ReadTxn { .. }
            | Self::Leader
            | Self::Peers
            | Self::Datacenters
            | Self::WanCoordinates
            | Self::UpdateCoordinate { .. }
            | Self::RaftServers { .. }
            | Self::ServersHealth { .. }
            | Self::ExecuteQuery { .. }
            | Self::RenewSession { .. } => true,
            // What has an idempotency key is carried out once, however often it is asked for.
            Self::Write { action, .. } => matches!(action, Action::Once(_)),
            Self::FireEvent { .. } | Self::RemoveRaftServer { .. } => false,
        }
    }

    /// Whether the leader is the best one to ask, since whoever else is asked has to ask it, too. Not for what waits for a
    /// change: thousands of those are better off at many servers.
    pub fn is_for_leader(&self) -> bool {
        let fresh = |options: &ReadOptions| !matches!(options.mode, ReadMode::Stale { .. });
        match self {
            Self::Write { .. } | Self::RemoveRaftServer { .. } | Self::RenewSession { .. } => true,
            Self::Read { options, .. } => fresh(options) && options.min_index == Index::ZERO,
            Self::ReadTxn { options, .. }
            | Self::RaftServers { options }
            | Self::ExecuteQuery { options, .. }
            | Self::ServersHealth { options } => fresh(options),
            Self::Archive(_)
            | Self::Ping
            | Self::Leader
            | Self::Peers
            | Self::FireEvent { .. }
            | Self::Datacenters
            | Self::WanCoordinates
            | Self::UpdateCoordinate { .. } => false,
        }
    }

    /// How long an answer may be held back on purpose, because it waits for a change.
    pub fn wait(&self) -> Duration {
        match self {
            Self::Archive(question) => question.wait(),
            Self::Read { options, .. } if options.min_index > Index::ZERO => options.wait,
            Self::Ping
            | Self::Read { .. }
            | Self::ReadTxn { .. }
            | Self::Write { .. }
            | Self::Leader
            | Self::Peers
            | Self::FireEvent { .. }
            | Self::Datacenters
            | Self::WanCoordinates
            | Self::UpdateCoordinate { .. }
            | Self::RaftServers { .. }
            | Self::RemoveRaftServer { .. }
            | Self::ServersHealth { .. }
            | Self::ExecuteQuery { .. }
            | Self::RenewSession { .. } => Duration::ZERO,
        }
    }

    /// Makes it wait for less, when some of the time is over.
    pub fn shorten(&mut self, wait: Duration) {
        if let Self::Read { options, .. } = self {
            options.wait = wait;
        }
    }

    /// How many bytes it takes, about.
    pub fn bytes(&self) -> usize {
        const SMALL: usize = 256;
        SMALL
            + match self {
                Self::Archive(question) => question.bytes(),
                Self::Write { action, .. } => action_bytes(action),
                Self::ReadTxn { ops, .. } => ops.iter().map(op_bytes).sum(),
                Self::FireEvent { event, .. } => event.payload.len(),
                Self::ExecuteQuery { execute, .. } => execute.size(),
                Self::Ping
                | Self::Read { .. }
                | Self::Leader
                | Self::Peers
                | Self::Datacenters
                | Self::WanCoordinates
                | Self::UpdateCoordinate { .. }
                | Self::RaftServers { .. }
                | Self::RemoveRaftServer { .. }
                | Self::ServersHealth { .. }
                | Self::RenewSession { .. } => 0,
            }
    }
}

/// Whatever can be large. All else is small beside what is reserved for anything.
fn action_bytes(action: &Action) -> usize {
    if let Action::Txn(ops) = action {
        return ops.iter().map(op_bytes).sum();
    }
    if let Action::Once(once) = action {
        return once.len();
    }
    let Action::Kv(write) = action else { return 0 };
    match write {
        KvWrite::Set(pair) | KvWrite::Cas(pair, _) | KvWrite::Lock(pair, _) | KvWrite::Unlock(pair, _) => {
            pair_bytes(pair)
        }
        KvWrite::Delete(key) | KvWrite::DeleteCas(key, _) | KvWrite::DeleteTree(key) => key.len(),
    }
}

fn op_bytes(op: &TxnOp) -> usize {
    const PER_OP: usize = 64;
    let TxnOp::Kv(op) = op else { return PER_OP };
    PER_OP
        + match op {
            KvTxnOp::Set(pair)
            | KvTxnOp::Cas(pair, _)
            | KvTxnOp::Lock(pair, _)
            | KvTxnOp::Unlock(pair, _) => pair_bytes(pair),
            KvTxnOp::Get(key)
            | KvTxnOp::GetOrEmpty(key)
            | KvTxnOp::GetTree(key)
            | KvTxnOp::CheckIndex(key, _)
            | KvTxnOp::CheckSession(key, _)
            | KvTxnOp::CheckFence(key, _)
            | KvTxnOp::CheckNotExists(key)
            | KvTxnOp::Delete(key)
            | KvTxnOp::DeleteTree(key)
            | KvTxnOp::DeleteCas(key, _) => key.len(),
        }
}

fn pair_bytes(pair: &KvPair) -> usize {
    pair.key.len() + pair.value.len()
}

/// The answer to a [`Question::ReadTxn`].
pub type TxnReading = Reading<Result<Vec<TxnResult>, Vec<TxnError>>>;

/// Why bytes are no ask, or no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Nothing there.
    #[error("an empty message")]
    Empty,
    /// Another version of the protocol.
    #[error("protocol version {0}, this program speaks {VERSION}")]
    Version(u8),
    /// Not a message.
    #[error("malformed: {0}")]
    Malformed(String),
    /// A message, and something behind it.
    #[error("{0} bytes too many")]
    Trailing(usize),
}

/// Encodes an ask at the end of `bytes`.
pub fn encode_ask(mut bytes: Vec<u8>, datacenter: &str, question: &Question) -> Vec<u8> {
    bytes.push(VERSION);
    postcard::to_extend(&(datacenter, question), bytes)
        .expect("plain data always encode, and a Vec always extends")
}

/// Decodes what [`encode_ask`] made.
pub fn decode_ask(bytes: &[u8]) -> Result<Ask, DecodeError> {
    decode(bytes)
}

/// Encodes an answer, of about `size` bytes.
pub fn encode_answer<T: Serialize>(answer: &Result<T, Failure>, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 64);
    bytes.push(VERSION);
    postcard::to_extend(answer, bytes).expect("plain data always encode, and a Vec always extends")
}

/// Decodes what [`encode_answer`] made of the same type.
pub fn decode_answer<T: DeserializeOwned>(bytes: &[u8]) -> Result<Result<T, Failure>, DecodeError> {
    decode(bytes)
}

/// The failure that an answer of any type is, if it is one.
pub fn failure_in(answer: &[u8]) -> Option<Failure> {
    // The version, and the number of `Err` among the variants of a result.
    let rest = answer.strip_prefix(&[VERSION, 1])?;
    postcard::from_bytes(rest).ok()
}

/// How many bytes a reading takes, about; of what is never large, 0.
pub fn reading_bytes(reading: &Result<Reading<Found>, Failure>) -> usize {
    const PER_ENTRY: usize = 48;
    let Ok(Reading { value, .. }) = reading else {
        return 0;
    };
    if let Found::Entry(Some(entry)) = value {
        PER_ENTRY + entry.key.len() + entry.value.len()
    } else if let Found::Entries(entries) = value {
        let bytes = entries
            .iter()
            .map(|entry| PER_ENTRY + entry.key.len() + entry.value.len());
        bytes.sum()
    } else if let Found::Keys(keys) = value {
        keys.iter().map(|key| key.len() + 4).sum()
    } else if let Found::Coordinates(entries) = value {
        entries.len() * 4 * PER_ENTRY
    } else {
        0
    }
}

/// How many bytes the answer to a transaction takes, about.
pub fn txn_bytes(reading: &Result<TxnReading, Failure>) -> usize {
    let results = reading
        .as_ref()
        .ok()
        .and_then(|reading| reading.value.as_ref().ok());
    results.map_or(0, |results| results_bytes(results))
}

/// How many bytes the outcome of a write takes, about; only transactions have long ones.
pub fn outcome_bytes(outcome: &Result<Outcome, Failure>) -> usize {
    if let Ok(Outcome::Txn(Ok(results))) = outcome {
        results_bytes(results)
    } else {
        0
    }
}

/// How many bytes the instances that a prepared query has found take, about.
pub fn executed_bytes(reading: &Result<Reading<Option<Executed>>, Failure>) -> usize {
    const PER_INSTANCE: usize = 512;
    let executed = reading.as_ref().ok().and_then(|reading| reading.value.as_ref());
    executed.map_or(0, |executed| executed.execution.instances.len() * PER_INSTANCE)
}

fn results_bytes(results: &[TxnResult]) -> usize {
    const PER_RESULT: usize = 48;
    let bytes = |result: &TxnResult| {
        let TxnResult::Kv { entry, .. } = result else {
            return 8 * PER_RESULT;
        };
        PER_RESULT + entry.key.len() + entry.value.len()
    };
    results.iter().map(bytes).sum()
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (version, rest) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if *version != VERSION {
        return Err(DecodeError::Version(*version));
    }
    let (value, rest) =
        postcard::take_from_bytes(rest).map_err(|error| DecodeError::Malformed(error.to_string()))?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(DecodeError::Trailing(rest.len()))
    }
}

/// Reads the operations of a transaction without trusting the number that they claim to be.
fn bounded_ops<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TxnOp>, D::Error> {
    lictor_catalog::bounded(deserializer, MAX_TXN_OPS, "operations")
}
