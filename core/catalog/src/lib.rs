//! The replicated state of a Lictor data center: what commands do to it, what queries read from it, and who waits
//! for which part of it.
//!
//! [`State::apply`] is pure and deterministic: it sees the state, an index and a [`Command`], and nothing else. A clone of a
//! [`State`] is O(1) and never changes, so readers work on clones while the owner goes on. Each command reports what it
//! changed twice over in [`Changes`]: as [`Row`]s for storage, and as [`Touched`], which [`Watches`] turns into the watchers to
//! wake. [`State::export`] and [`Builder`] carry a whole state to another server or back from disk.
//!
//! # Indexes
//!
//! Every answer comes with an index, which goes up when the answer changes:
//!
//! | Query | Index |
//! |---|---|
//! | one key that exists | its modify index |
//! | one key that does not | that of the whole table |
//! | a prefix | the highest of its entries and tombstones; without any, that of the whole table |
//! | the empty prefix | that of the whole table |
//! | the settings of autopilot | their modify index; 0 while nobody has set any |
//! | all coordinates | that of the whole table, in which removals count |
//! | one node's coordinates | the highest of its modify indexes; without any, that of the whole table |
//! | all nodes | when a node last came, changed or went |
//! | a node and its services, its checks, or all about it | when that last changed; without such a node, that of all nodes |
//! | all services | when their names or tags last changed |
//! | a service's instances | when one of them, or the node of one, last came, changed or went |
//! | the same with health | the same, or when a check of an instance or of its node did |
//! | a service's checks | when one last came, changed or went, or the service came |
//! | a service that does not exist | when the last instance of any service went |
//! | checks by status | when a check with this status last came, changed or went |
//! | all sessions | when one last came or went |
//! | one session | its create index; without it, that of all sessions |
//! | a node's sessions | when one of them last came or went; for a node that never had any, that of all sessions |
//! | prepared queries, all or one | when one last came, changed or went |
//! | any of these by labels of nodes, and all about all nodes | when any node, service or check did; for a service's checks, that of its health |
//!
//! These indexes are finer than those of the system that the HTTP API comes from, which has one for all checks, and moves those of a node
//! with every other node. None of them ever goes back, not even when a state is restored from an archive: then they all leap forward.
//!
//! An empty table has index 0. The HTTP API never says 0; it answers 1 in its place.

#![forbid(unsafe_code)]

mod autopilot;
mod chunk;
mod codec;
mod command;
mod coordinate;
mod counts;
mod discovery;
mod edit;
mod export;
mod fnv;
mod graveyard;
mod import;
mod kv;
mod locks;
mod max_tree;
mod once;
mod prepared;
mod query;
mod quote;
mod restore;
mod row;
#[cfg(feature = "sabotage")]
mod sabotage;
mod session;
mod size;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod txn;
mod uuid;
mod watch;

pub use autopilot::{Autopilot, AutopilotConfig, MAX_AUTOPILOT_TAG_BYTES};
pub use chunk::{CHUNK_FORMAT, ChunkError, MAX_CHUNK_BYTES, decode_chunk, encode_chunk};
pub use codec::{DecodeError, MAX_TXN_OPS, bounded};
pub use command::{
    Action, Command, Found, Key, KvPair, KvTxnOp, KvWrite, MAX_ENDED_SESSIONS, Outcome, Query, RunOut,
    SessionRef, TxnError, TxnOp, TxnResult, TxnVerb,
};
pub use coordinate::{
    COORDINATE_DIMENSIONS, Coordinate, CoordinateEntry, InvalidCoordinate, MAX_COORDINATE_NAME_BYTES,
    MAX_COORDINATE_UPDATES, NodeCoordinate,
};
pub use counts::Counts;
pub use discovery::{
    CatalogChange, CheckDef, CheckDefinition, CheckRecord, ConnectDef, Deregistration, Instance, Labels,
    MAX_CATALOG_CHANGES, MAX_CHECKS, MAX_LABELS, MAX_NAME_BYTES, MAX_OUTPUT_BYTES, MAX_PROXY_BYTES, MAX_TAGS,
    MAX_TEXT_BYTES, NodeDef, NodeInfo, NodeRecord, NodeServices, Registration, Removal, SERF_HEALTH,
    ServiceAddress, ServiceDef, ServiceNode, ServiceRecord, ServiceTags, Status, Tags, Text, UnknownStatus,
    Weights,
};
pub use edit::{Touch, Touched};
pub use export::{Cursor, Export};
pub use import::{Builder, RowError};
pub use kv::{Holder, KvEntry};
pub use locks::{LockDelay, MAX_LOCK_DELAYS};
pub use once::{IdempotencyKey, KEY_REUSED, MAX_IDEMPOTENCY_KEY_BYTES, MAX_RECEIPT_BYTES, Once};
pub use prepared::{
    Execute, Execution, Failover, MAX_PATTERN_BYTES, MAX_PATTERN_GROUPS, MAX_PATTERNS, MAX_PREPARED_BYTES,
    MAX_PREPARED_LIST, MAX_PREPARED_QUERIES, MAX_RENDERED_BYTES, MalformedPreparedId, Prepared, PreparedDef,
    PreparedId, PreparedService, PreparedToken, Target, TemplateDef, TemplateError,
};
pub use quote::{is_printable, quote};
pub use restore::{MAX_ARCHIVE_INDEX, RestoreId, RestoreStep};
pub use row::{Row, Table};
#[cfg(feature = "sabotage")]
pub use sabotage::Sabotage;
pub use session::{
    Behavior, MAX_LOCK_DELAY, MAX_SESSION_CHECKS, MAX_SESSION_TTL, MalformedSessionId, ServiceCheck, Session,
    SessionDef, SessionId,
};
pub use state::{ApplyError, Changes, State};
pub use watch::{Interest, WatchId, Watches, WatchesFull};
