//! Who waits for which part of the state.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::{Key, Query};
use crate::coordinate::folded;
use crate::discovery::Status;
use crate::edit::{Touch, Touched};
use crate::session::SessionId;

/// The part of the state that an answer depends on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interest {
    /// One key.
    KvKey(Key),
    /// Every key with this prefix.
    KvPrefix(Key),
    /// Every key.
    KvTable,
    /// The settings of autopilot.
    Autopilot,
    /// Where one node is; its name in lower case.
    Coordinate(Key),
    /// Where all nodes are.
    Coordinates,
    /// The list of nodes.
    Nodes,
    /// A node and the services on it; its name in lower case, as are all names here.
    NodeServices(Key),
    /// The checks on a node.
    NodeChecks(Key),
    /// All about a node.
    NodeInfo(Key),
    /// The list of services and their tags.
    ServiceNames,
    /// The instances of a service.
    Instances {
        /// The service.
        service: Key,
        /// Whether those are meant that take the service's callers in the mesh, instead of its own.
        connect: bool,
    },
    /// The instances of a service and how well they are.
    Health {
        /// The service.
        service: Key,
        /// Whether those are meant that take the service's callers in the mesh, instead of its own.
        connect: bool,
    },
    /// The checks of a service's instances.
    ServiceChecks(Key),
    /// The checks with a status.
    Status(Status),
    /// All checks.
    Checks,
    /// All nodes, services and checks.
    Catalog,
    /// All sessions.
    Sessions,
    /// One session.
    Session(SessionId),
    /// The sessions on a node.
    NodeSessions(Key),
    /// All prepared queries.
    PreparedQueries,
}

impl Query {
    /// What its answer depends on. The index of an answer that found nothing may move without this being touched, as it is that of the
    /// table.
    pub fn interest(&self) -> Interest {
        match self {
            Self::KvGet(key) => Interest::KvKey(key.clone()),
            Self::KvList(prefix) | Self::KvKeys { prefix, .. } if prefix.is_empty() => Interest::KvTable,
            Self::KvList(prefix) | Self::KvKeys { prefix, .. } => Interest::KvPrefix(prefix.clone()),
            Self::Autopilot => Interest::Autopilot,
            Self::Coordinates => Interest::Coordinates,
            Self::Coordinate(node) => Interest::Coordinate(folded(node).into()),
            Self::Nodes => Interest::Nodes,
            Self::NodeServices(node) => Interest::NodeServices(folded(node).into()),
            Self::NodeInfo(node) => Interest::NodeInfo(folded(node).into()),
            Self::HealthNode(node) => Interest::NodeChecks(folded(node).into()),
            Self::Services { node_meta } if node_meta.is_empty() => Interest::ServiceNames,
            Self::ServiceNodes { service, connect } => Interest::Instances {
                service: folded(service).into(),
                connect: *connect,
            },
            Self::HealthChecks { service, node_meta } if node_meta.is_empty() => {
                Interest::ServiceChecks(folded(service).into())
            }
            Self::HealthChecks { service, .. } => Interest::Health {
                service: folded(service).into(),
                connect: false,
            },
            Self::HealthService { service, connect } => Interest::Health {
                service: folded(service).into(),
                connect: *connect,
            },
            Self::HealthState { status, node_meta } if node_meta.is_empty() => {
                status.map_or(Interest::Checks, Interest::Status)
            }
            Self::NodeInfos | Self::Services { .. } | Self::HealthState { .. } => Interest::Catalog,
            Self::Sessions => Interest::Sessions,
            Self::Session(id) => Interest::Session(*id),
            Self::NodeSessions(node) => Interest::NodeSessions(folded(node).into()),
            Self::PreparedQueries | Self::PreparedQuery(_) | Self::Resolve(_) => Interest::PreparedQueries,
        }
    }
}

/// Names one subscription; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(u64);

/// There are as many watchers as there may be. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {limit} watches are taken: try again later, or raise the limit")]
pub struct WatchesFull {
    /// How many there may be.
    pub limit: usize,
}

/// Watchers by what they wait for. A watcher is any value `W`; it is handed out once, when its interest is touched.
///
/// What a change costs depends on the watchers that it wakes and on how many different lengths of watched prefixes there are, not on
/// the number of other watchers. A watch takes about 400 bytes with a short key; one on a key that others watch too, about 130.
#[derive(Debug)]
pub struct Watches<W> {
    limit: usize,
    next: u64,
    watchers: BTreeMap<WatchId, Watcher<W>>,
    /// By what they wait for, but for prefixes of keys.
    plain: Group<Interest>,
    /// By length of the prefix, so that a changed key is looked up once per length.
    prefixes: BTreeMap<usize, Group<Key>>,
}

#[derive(Debug)]
struct Watcher<W> {
    interest: Interest,
    value: W,
}

type Group<K> = BTreeMap<K, BTreeSet<WatchId>>;

impl<W> Watches<W> {
    /// Nobody waits yet, and never more than `limit` will at once.
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            next: 0,
            watchers: BTreeMap::new(),
            plain: Group::new(),
            prefixes: BTreeMap::new(),
        }
    }

    /// How many watchers wait.
    pub fn len(&self) -> usize {
        self.watchers.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    /// Adds a watcher. To miss nothing, subscribe and query in the same turn, before the next command is applied.
    pub fn subscribe(&mut self, interest: Interest, watcher: W) -> Result<WatchId, WatchesFull> {
        if self.watchers.len() >= self.limit {
            return Err(WatchesFull { limit: self.limit });
        }
        let id = WatchId(self.next);
        self.next += 1;
        let interest = if let Interest::KvPrefix(prefix) = interest {
            if prefix.is_empty() {
                join(&mut self.plain, Interest::KvTable, id, Interest::clone)
            } else {
                let group = self.prefixes.entry(prefix.len()).or_default();
                Interest::KvPrefix(join(group, prefix, id, |prefix| Key::copy_from_slice(prefix)))
            }
        } else {
            join(&mut self.plain, interest, id, detached)
        };
        self.watchers.insert(
            id,
            Watcher {
                interest,
                value: watcher,
            },
        );
        Ok(id)
    }

    /// Removes a watcher and returns it; `None` if it was woken or cancelled before.
    pub fn cancel(&mut self, id: WatchId) -> Option<W> {
        let Watcher { interest, value } = self.watchers.remove(&id)?;
        if let Interest::KvPrefix(prefix) = &interest {
            if let Some(group) = self.prefixes.get_mut(&prefix.len()) {
                leave(group, prefix, id);
                if group.is_empty() {
                    self.prefixes.remove(&prefix.len());
                }
            }
        } else {
            leave(&mut self.plain, &interest, id);
        }
        Some(value)
    }

    /// Removes every watcher whose interest was touched, and appends each once to `woken`.
    pub fn take_touched(&mut self, touched: &Touched, woken: &mut Vec<W>) {
        match touched {
            Touched::These(touches) => touches.iter().for_each(|touch| self.take(touch, woken)),
            Touched::All => {
                self.plain.clear();
                self.prefixes.clear();
                woken.extend(
                    std::mem::take(&mut self.watchers)
                        .into_values()
                        .map(|watcher| watcher.value),
                );
            }
        }
    }

    fn take(&mut self, touch: &Touch, woken: &mut Vec<W>) {
        if self.watchers.is_empty() {
            return;
        }
        let ids = match touch {
            Touch::Kv(key) => {
                let mut ids = self.take_plain([Interest::KvKey(key.clone()), Interest::KvTable]);
                ids.append(&mut self.take_prefixes(key));
                ids
            }
            Touch::Coordinate(node) => {
                self.take_plain([Interest::Coordinate(node.clone()), Interest::Coordinates])
            }
            Touch::Autopilot => self.take_plain([Interest::Autopilot]),
            Touch::Node(node) => self.take_plain([
                Interest::Nodes,
                Interest::NodeServices(node.clone()),
                Interest::NodeInfo(node.clone()),
                Interest::Catalog,
            ]),
            Touch::NodeServices(node) => self.take_plain([
                Interest::NodeServices(node.clone()),
                Interest::NodeInfo(node.clone()),
                Interest::Catalog,
            ]),
            Touch::NodeChecks(node) => self.take_plain([
                Interest::NodeChecks(node.clone()),
                Interest::NodeInfo(node.clone()),
                Interest::Catalog,
            ]),
            Touch::ServiceNames => self.take_plain([Interest::ServiceNames]),
            Touch::Instances { service, connect } => self.take_plain([Interest::Instances {
                service: service.clone(),
                connect: *connect,
            }]),
            Touch::Health { service, connect } => self.take_plain([Interest::Health {
                service: service.clone(),
                connect: *connect,
            }]),
            Touch::ServiceChecks(service) => self.take_plain([Interest::ServiceChecks(service.clone())]),
            Touch::Status(status) => self.take_plain([Interest::Status(*status), Interest::Checks]),
            Touch::Session(id) => self.take_plain([Interest::Session(*id), Interest::Sessions]),
            Touch::NodeSessions(node) => self.take_plain([Interest::NodeSessions(node.clone())]),
            Touch::PreparedQueries => self.take_plain([Interest::PreparedQueries]),
        };
        woken.extend(
            ids.iter()
                .filter_map(|id| self.watchers.remove(id))
                .map(|watcher| watcher.value),
        );
    }

    fn take_plain<const N: usize>(&mut self, interests: [Interest; N]) -> BTreeSet<WatchId> {
        let mut ids = BTreeSet::new();
        for interest in interests {
            ids.append(&mut self.plain.remove(&interest).unwrap_or_default());
        }
        ids
    }

    fn take_prefixes(&mut self, key: &Key) -> BTreeSet<WatchId> {
        let mut ids = BTreeSet::new();
        let mut emptied = Vec::new();
        for (length, group) in self.prefixes.range_mut(..=key.len()) {
            if let Some(mut found) = group.remove(&key[..*length]) {
                ids.append(&mut found);
                if group.is_empty() {
                    emptied.push(*length);
                }
            }
        }
        for length in emptied {
            self.prefixes.remove(&length);
        }
        ids
    }
}

/// Adds a watcher of `what` to its group. Returns the group's own copy of that, made by `detach` where it is the first: the one given
/// may be a slice of a large request, which must not live as long as the watch.
fn join<K: Ord + Clone>(group: &mut Group<K>, what: K, id: WatchId, detach: impl FnOnce(&K) -> K) -> K {
    let own = group
        .get_key_value(&what)
        .map_or_else(|| detach(&what), |(own, _)| own.clone());
    group.entry(own.clone()).or_default().insert(id);
    own
}

/// A copy that shares no memory.
fn detached(interest: &Interest) -> Interest {
    match interest {
        Interest::KvKey(key) => Interest::KvKey(Key::copy_from_slice(key)),
        Interest::KvPrefix(prefix) => Interest::KvPrefix(Key::copy_from_slice(prefix)),
        Interest::Coordinate(node) => Interest::Coordinate(Key::copy_from_slice(node)),
        Interest::KvTable => Interest::KvTable,
        Interest::Autopilot => Interest::Autopilot,
        Interest::Coordinates => Interest::Coordinates,
        Interest::Nodes => Interest::Nodes,
        Interest::NodeServices(node) => Interest::NodeServices(Key::copy_from_slice(node)),
        Interest::NodeChecks(node) => Interest::NodeChecks(Key::copy_from_slice(node)),
        Interest::NodeInfo(node) => Interest::NodeInfo(Key::copy_from_slice(node)),
        Interest::ServiceNames => Interest::ServiceNames,
        Interest::Instances { service, connect } => Interest::Instances {
            service: Key::copy_from_slice(service),
            connect: *connect,
        },
        Interest::Health { service, connect } => Interest::Health {
            service: Key::copy_from_slice(service),
            connect: *connect,
        },
        Interest::ServiceChecks(service) => Interest::ServiceChecks(Key::copy_from_slice(service)),
        Interest::Status(status) => Interest::Status(*status),
        Interest::Checks => Interest::Checks,
        Interest::Catalog => Interest::Catalog,
        Interest::Sessions => Interest::Sessions,
        Interest::Session(id) => Interest::Session(*id),
        Interest::NodeSessions(node) => Interest::NodeSessions(Key::copy_from_slice(node)),
        Interest::PreparedQueries => Interest::PreparedQueries,
    }
}

fn leave<K: Ord>(group: &mut Group<K>, what: &K, id: WatchId) {
    if let Some(ids) = group.get_mut(what) {
        ids.remove(&id);
        if ids.is_empty() {
            group.remove(what);
        }
    }
}
