//! What can be asked of the catalog: commands, which change it through the log, and queries, which read one state.

use std::sync::Arc;

use bytes::Bytes;
use lictor_machine::{Index, NodeId, UnixMillis};
use serde::{Deserialize, Deserializer, Serialize};

use crate::autopilot::{Autopilot, AutopilotConfig};
use crate::codec::{bounded, bounded_ops};
use crate::coordinate::{CoordinateEntry, NodeCoordinate, bounded_names, bounded_updates};
use crate::discovery::{
    CatalogChange, CheckDef, CheckRecord, Deregistration, Instance, NodeDef, NodeInfo, NodeRecord,
    NodeServices, Registration, ServiceDef, ServiceNode, ServiceRecord, ServiceTags, Status, Text,
    bounded_changes,
};
use crate::kv::KvEntry;
use crate::locks::bounded_delays;
use crate::once::Once;
use crate::prepared::{Prepared, PreparedDef, PreparedId};
use crate::restore::RestoreStep;
use crate::session::{Session, SessionDef, SessionId};

/// A key of the key-value store: any bytes, ordered bytewise. HTTP keys are UTF-8, but nothing here needs that.
pub type Key = Bytes;

/// One command in the log. `apply` sees nothing else: no clock, no randomness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The leader's wall clock when it proposed the command; the only time that `apply` knows.
    pub stamp: UnixMillis,
    /// What to do.
    pub action: Action,
}

/// What a command does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// One change of the key-value store.
    Kv(KvWrite),
    /// Several operations, at most [`crate::MAX_TXN_OPS`], that all happen or none does.
    Txn(#[serde(deserialize_with = "bounded_ops")] Vec<TxnOp>),
    /// Forget the tombstones of keys deleted at or before this index.
    ReapTombstones(Index),
    /// Set the settings of autopilot as a whole. The answer is [`Outcome::Done`] with whether they are as asked for now, or
    /// [`Outcome::Refused`].
    SetAutopilot {
        /// The settings.
        config: AutopilotConfig,
        /// Only if their modify index is this, or, for 0, if nobody has set any.
        cas: Option<Index>,
    },
    /// Take over where nodes are, at most [`crate::MAX_COORDINATE_UPDATES`] updates. Later ones win.
    Coordinates(#[serde(deserialize_with = "bounded_updates")] Vec<NodeCoordinate>),
    /// Forget where these nodes, at most [`crate::MAX_COORDINATE_UPDATES`], are.
    ForgetCoordinates(#[serde(deserialize_with = "bounded_names")] Vec<String>),
    /// Register a node, a service or checks. The answer is [`Outcome::Done`], or [`Outcome::Refused`] with nothing changed.
    Register(Box<Registration>),
    /// Remove a node, a service or a check. The answer is [`Outcome::Done`], or [`Outcome::Refused`] with nothing changed.
    Deregister(Deregistration),
    /// Several changes of the catalog in this order, at most [`crate::MAX_CATALOG_CHANGES`], that all happen or none does. The
    /// answer is [`Outcome::Done`], or [`Outcome::Refused`] with what is wrong with the first that is.
    RegisterMany(#[serde(deserialize_with = "bounded_changes")] Vec<CatalogChange>),
    /// Make a session. The answer is [`Outcome::Session`]; or [`Outcome::Done`] with false if there is one of this name, which should be
    /// tried again with another; or [`Outcome::Refused`] with nothing changed.
    CreateSession(Box<SessionDef>),
    /// End these sessions, at most [`MAX_ENDED_SESSIONS`], as far as they live. The answer is [`Outcome::Done`] with true.
    EndSessions(#[serde(deserialize_with = "bounded_sessions")] Vec<SessionId>),
    /// Let the locks of these keys, at most [`crate::MAX_LOCK_DELAYS`], be taken again, if they have been kept from everybody since
    /// these entries of the log. The answer is [`Outcome::Done`] with true. Leaders ask for [`Action::RunOut`] instead; logs may have this.
    EndLockDelays(#[serde(deserialize_with = "bounded_delays")] Vec<(Key, Index)>),
    /// Carry a change out, unless that was done under its idempotency key before. The answer is that of the first time.
    Once(Box<Once>),
    /// Forget the answers to changes that were carried out under idempotency keys at or before this index. Leaders ask for
    /// [`Action::RunOut`] instead; logs may have this.
    ForgetReceipts(Index),
    /// Take in an archive, a part at a time.
    Restore(RestoreStep),
    /// Make a prepared query. The answer is [`Outcome::Prepared`]; or [`Outcome::Done`] with false if there is one of this id, which
    /// should be tried again with another; or [`Outcome::Refused`] with nothing changed. Whether a template can be filled in is not
    /// looked at here: see [`PreparedDef::check_template`].
    CreatePrepared(Box<PreparedDef>),
    /// Put a prepared query in the place of the one that has its id. The answer is [`Outcome::Done`] with true, or [`Outcome::Refused`]
    /// with nothing changed. Templates are taken as they are here, too.
    UpdatePrepared(Box<PreparedDef>),
    /// Remove a prepared query. The answer is [`Outcome::Done`] with true, or, if there is none, [`Outcome::Refused`].
    DeletePrepared(PreparedId),
    /// The time of something is over, by the leader's clock. The answer is [`Outcome::Done`] with whether the state is still the one in
    /// which the leader measured it; if an archive has taken its place since, nothing is changed: all in there has its time anew.
    RunOut {
        /// [`crate::State::era`] of the state in which the time was measured.
        era: Index,
        /// What has run out.
        what: RunOut,
    },
}

/// What has a time that the leader measures, and is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunOut {
    /// These sessions, at most [`MAX_ENDED_SESSIONS`], as far as they live.
    Sessions(#[serde(deserialize_with = "bounded_sessions")] Vec<SessionId>),
    /// The locks of these keys, at most [`crate::MAX_LOCK_DELAYS`], have been kept from everybody for long enough, if it is since these
    /// revisions that they are.
    LockDelays(#[serde(deserialize_with = "bounded_delays")] Vec<(Key, Index)>),
    /// Answers to changes that were carried out under idempotency keys at or before this revision.
    Receipts(Index),
}

/// The most sessions in one command that ends them.
pub const MAX_ENDED_SESSIONS: usize = 1024;

/// Reads a command's sessions without trusting the number that they claim to be.
fn bounded_sessions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SessionId>, D::Error> {
    bounded(deserializer, MAX_ENDED_SESSIONS, "sessions")
}

/// A change of the key-value store. The answer is [`Outcome::Done`] with whether it happened, or [`Outcome::Refused`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvWrite {
    /// Sets the key. A held lock keeps its session, and its lock index goes back to 0.
    Set(KvPair),
    /// Sets the key if its modify index is `index`, or, for 0, if it does not exist.
    Cas(KvPair, Index),
    /// Takes the key's lock for a session.
    Lock(KvPair, SessionRef),
    /// Gives the key's lock back.
    Unlock(KvPair, SessionRef),
    /// Deletes the key. True also if it did not exist.
    Delete(Key),
    /// Deletes the key if its modify index is `index`; true also if it did not exist.
    DeleteCas(Key, Index),
    /// Deletes every key with the prefix; the empty prefix means all.
    DeleteTree(Key),
}

/// The session that a request names: its text as the client sent it, so that errors can repeat it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRef(pub String);

/// What a client sets: key, value and flags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvPair {
    /// The key.
    pub key: Key,
    /// The value.
    pub value: Bytes,
    /// Opaque to the store.
    pub flags: u64,
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TxnOp {
    /// On the key-value store.
    Kv(KvTxnOp),
    /// On the nodes, by name.
    Node(TxnVerb<NodeDef>),
    /// `get` of a node by its id.
    NodeById {
        /// The id.
        id: NodeId,
        /// What to call it if it does not exist.
        name: Text,
    },
    /// On the services of a node, by id.
    Service {
        /// The node's name.
        node: Text,
        /// What.
        verb: TxnVerb<ServiceDef>,
    },
    /// On the checks of a node, by id.
    Check {
        /// The node's name.
        node: Text,
        /// What.
        verb: TxnVerb<CheckDef>,
    },
}

/// A transaction's operation on a kind of object that the catalog has, named as the HTTP API names its verbs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TxnVerb<D> {
    /// `get`
    Get(Text),
    /// `set`
    Set(Box<D>),
    /// `cas`: sets it if its modify index is this, or, for 0, if it does not exist
    Cas(Box<D>, Index),
    /// `delete`
    Delete(Text),
    /// `delete-cas`: deletes it if its modify index is this
    DeleteCas(Text, Index),
}

/// A transaction's operations on the key-value store, named as the HTTP API names its verbs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvTxnOp {
    /// `set`
    Set(KvPair),
    /// `cas`
    Cas(KvPair, Index),
    /// `lock`
    Lock(KvPair, SessionRef),
    /// `unlock`
    Unlock(KvPair, SessionRef),
    /// `get`
    Get(Key),
    /// `get-or-empty`; a key that does not exist is answered as an entry with nothing but its name
    GetOrEmpty(Key),
    /// `get-tree`
    GetTree(Key),
    /// `check-index`
    CheckIndex(Key, Index),
    /// `check-session`
    CheckSession(Key, SessionRef),
    /// `check-not-exists`
    CheckNotExists(Key),
    /// `delete`
    Delete(Key),
    /// `delete-tree`
    DeleteTree(Key),
    /// `delete-cas`
    DeleteCas(Key, Index),
    /// `check-fence`: whether the key is locked, and its fence is this
    CheckFence(Key, u64),
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was carried out; for conditional changes, whether the condition held.
    Done(bool),
    /// It makes no sense, and nothing was changed: the text says why, as the API words it.
    Refused(String),
    /// A transaction: its results in order, or everything that failed. On failure nothing was changed.
    Txn(Result<Vec<TxnResult>, Vec<TxnError>>),
    /// This session was made.
    Session(SessionId),
    /// This prepared query was made.
    Prepared(PreparedId),
}

/// One result of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TxnResult {
    /// An entry; `value` says whether the verb returns the value with it.
    Kv {
        /// The entry as of this point of the transaction.
        entry: Arc<KvEntry>,
        /// Whether the value belongs to the answer (`get`, `get-tree`) or is left out (`set`, `cas`, ...).
        value: bool,
    },
    /// A node.
    Node(Arc<NodeRecord>),
    /// A service.
    Service(Arc<ServiceRecord>),
    /// A check.
    Check(Arc<CheckRecord>),
}

/// One failed operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnError {
    /// Which operation, from 0.
    pub op: u64,
    /// Why, as the API words it.
    pub what: String,
}

/// A question about one state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Query {
    /// One key.
    KvGet(Key),
    /// Every entry with the prefix, in byte order of their keys.
    KvList(Key),
    /// The keys with the prefix, in byte order; with a separator, each cut right behind its first occurrence after
    /// the prefix, and equal ones given once.
    KvKeys {
        /// The prefix.
        prefix: Key,
        /// Where to cut; empty means nowhere.
        separator: Bytes,
    },
    /// The settings of autopilot.
    Autopilot,
    /// Where all nodes are.
    Coordinates,
    /// Where the node of this name is, in any of the network's segments.
    Coordinate(String),
    /// All nodes.
    Nodes,
    /// A node and its services.
    NodeServices(String),
    /// All about a node.
    NodeInfo(String),
    /// All about all nodes.
    NodeInfos,
    /// The names of all services, with their tags.
    Services {
        /// Only those that run on nodes with all these labels.
        node_meta: Vec<(String, String)>,
    },
    /// The instances of a service and where they run.
    ServiceNodes {
        /// Its name.
        service: String,
        /// Those that take its callers in the service mesh, instead of its own.
        connect: bool,
    },
    /// All checks on a node.
    HealthNode(String),
    /// The checks of a service's instances, without those of their nodes.
    HealthChecks {
        /// Its name.
        service: String,
        /// Only those on nodes with all these labels.
        node_meta: Vec<(String, String)>,
    },
    /// The instances of a service, where they run, and how well they are.
    HealthService {
        /// Its name.
        service: String,
        /// Those that take its callers in the service mesh, instead of its own.
        connect: bool,
    },
    /// All checks with a status, or all there are.
    HealthState {
        /// The status.
        status: Option<Status>,
        /// Only those on nodes with all these labels.
        node_meta: Vec<(String, String)>,
    },
    /// All sessions.
    Sessions,
    /// The session of this name.
    Session(SessionId),
    /// The sessions on a node.
    NodeSessions(String),
    /// All prepared queries.
    PreparedQueries,
    /// The prepared query of this id.
    PreparedQuery(PreparedId),
    /// The prepared query that is meant by this id or name, filled in if it is a template.
    Resolve(String),
}

/// The answer to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Found {
    /// To `KvGet`.
    Entry(Option<Arc<KvEntry>>),
    /// To `KvList`.
    Entries(Vec<Arc<KvEntry>>),
    /// To `KvKeys`.
    Keys(Vec<Key>),
    /// To `Autopilot`.
    Autopilot(Arc<Autopilot>),
    /// To `Coordinates` and `Coordinate`: in order of the nodes' names, in lower case, and of the segments'.
    Coordinates(Vec<Arc<CoordinateEntry>>),
    /// To `Nodes`: by name in lower case.
    Nodes(Vec<Arc<NodeRecord>>),
    /// To `NodeServices`.
    NodeServices(Option<NodeServices>),
    /// To `NodeInfo`, of which there is at most one, and `NodeInfos`, by name in lower case.
    NodeInfos(Vec<NodeInfo>),
    /// To `Services`: by name in lower case.
    Services(Vec<ServiceTags>),
    /// To `ServiceNodes`: by the node's name, then by the instance's id, both in lower case.
    ServiceNodes(Vec<ServiceNode>),
    /// To `HealthNode`, `HealthChecks` and `HealthState`: by the node's name, then by the check's id, both in lower case.
    Checks(Vec<Arc<CheckRecord>>),
    /// To `HealthService`: by the node's name, then by the instance's id, both in lower case.
    Instances(Vec<Instance>),
    /// To `Sessions`, `Session` and `NodeSessions`: by id.
    Sessions(Vec<Arc<Session>>),
    /// To `PreparedQueries` and `PreparedQuery`: by id.
    PreparedQueries(Vec<Arc<Prepared>>),
    /// To `Resolve`. The error is a text for whoever asks.
    Resolved(Result<Option<Arc<Prepared>>, String>),
}
