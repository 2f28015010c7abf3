//! What one command changes, and how that is told: as rows for storage, as touches for those who wait.

use lictor_machine::Index;

use crate::command::Key;
use crate::coordinate::node_of;
use crate::discovery::Status;
use crate::row::{Row, Table};
use crate::session::SessionId;
use crate::state::{Changes, State};

/// The changes of one command: the index they all get, and where they happened.
#[derive(Debug)]
pub(crate) struct Edit {
    pub(crate) index: Index,
    /// Rows that were written or removed, possibly several times.
    places: Vec<(Table, Key)>,
    /// What rows do not tell about who should wake, possibly several times.
    touches: Vec<Touch>,
    /// What sessions may have depended on and cannot any more, in order.
    lost: Vec<Lost>,
}

/// Something that ends the sessions which depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The node of this name, in lower case, is gone.
    Node(Key),
    /// The check in this place is gone, or has become critical.
    Check(Key),
}

/// A part of the state that has changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touch {
    /// The entry of a key was written or removed.
    Kv(Key),
    /// A coordinate of a node was written or removed; the name is in lower case.
    Coordinate(Key),
    /// The settings of autopilot.
    Autopilot,
    /// A node came, changed or went; its name is in lower case, as are all names here.
    Node(Key),
    /// An instance of a service came to this node, changed or went.
    NodeServices(Key),
    /// A check on this node came, changed or went.
    NodeChecks(Key),
    /// The list of all services and their tags changed.
    ServiceNames,
    /// An instance of a service, or a node with one, came, changed or went.
    Instances {
        /// The service.
        service: Key,
        /// Whether those are meant that take the service's callers in the mesh, instead of its own.
        connect: bool,
    },
    /// The same, or a check of an instance or its node.
    Health {
        /// The service.
        service: Key,
        /// Whether those are meant that take the service's callers in the mesh, instead of its own.
        connect: bool,
    },
    /// A check of an instance of this service came, changed or went.
    ServiceChecks(Key),
    /// A check with this status came, changed or went.
    Status(Status),
    /// A session came or went.
    Session(SessionId),
    /// A session came to this node or went.
    NodeSessions(Key),
    /// A prepared query came, changed or went.
    PreparedQueries,
}

/// Which parts of the state have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched {
    /// Exactly these. One may be named more than once.
    These(Vec<Touch>),
    /// Possibly everything: the state was replaced as a whole.
    All,
}

impl Default for Touched {
    /// Nothing.
    fn default() -> Self {
        Self::These(Vec::new())
    }
}

impl Touched {
    /// Whether nothing was touched.
    pub const fn is_empty(&self) -> bool {
        match self {
            Self::These(touches) => touches.is_empty(),
            Self::All => false,
        }
    }

    fn push(&mut self, touch: Touch) {
        match self {
            Self::These(touches) => touches.push(touch),
            Self::All => {}
        }
    }
}

impl Edit {
    pub(crate) const fn new(index: Index) -> Self {
        Self {
            index,
            places: Vec::new(),
            touches: Vec::new(),
            lost: Vec::new(),
        }
    }

    /// Notes that a row was written or removed.
    pub(crate) fn changed(&mut self, table: Table, key: Key) {
        self.places.push((table, key));
    }

    /// Notes who should wake.
    pub(crate) fn touch(&mut self, touch: Touch) {
        self.touches.push(touch);
    }

    /// Notes that sessions which depend on this must end.
    pub(crate) fn lose(&mut self, lost: Lost) {
        self.lost.push(lost);
    }

    /// Takes out what was noted so.
    pub(crate) fn take_lost(&mut self) -> Vec<Lost> {
        std::mem::take(&mut self.lost)
    }

    /// Adds to `changes` what was done: each object once, as it is in `state` now.
    pub(crate) fn report(mut self, state: &State, changes: &mut Changes) {
        self.places.sort_unstable();
        self.places.dedup();
        let mut counters: Vec<Key> = self
            .places
            .iter()
            .filter_map(|(table, _)| table.counter())
            .map(Key::from_static)
            .collect();
        counters.dedup();
        // Counters go last, where the next command finds them: one such row is enough for many commands.
        while let Some(row) = changes.rows.last()
            && row.table == Table::Meta
            && counters.contains(&row.key)
        {
            changes.rows.pop();
        }
        for (table, key) in self.places {
            if let Some(touch) = touch(table, &key) {
                changes.touched.push(touch);
            }
            let row = state.row(table, &key);
            changes.rows.push(row.unwrap_or_else(|| Row::removal(table, key)));
        }
        self.touches.sort_unstable();
        self.touches.dedup();
        for touch in self.touches {
            changes.touched.push(touch);
        }
        let counters = counters.iter().filter_map(|name| state.row(Table::Meta, name));
        changes.rows.extend(counters);
    }
}

/// What those who wait see of a row that changed.
fn touch(table: Table, key: &Key) -> Option<Touch> {
    match table {
        Table::Kv => Some(Touch::Kv(key.clone())),
        Table::Coordinates => Some(Touch::Coordinate(node_of(key))),
        Table::Settings => Some(Touch::Autopilot),
        Table::PreparedQueries => Some(Touch::PreparedQueries),
        // Of these the row does not tell it: see `Edit::touch`.
        Table::Nodes | Table::Services | Table::Checks | Table::Marks => None,
        Table::Sessions | Table::SessionMarks => None,
        // These nobody can ask for.
        Table::KvTombstones | Table::Meta | Table::LockDelays | Table::Receipts | Table::Staged => None,
    }
}
