//! Committed entries into the state, its rows into the store, and the log trimmed behind them.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use lictor_catalog::{Action, Changes, Command, Row, Table, Touched};
use lictor_machine::{Index, Instant};
use lictor_raft::{self as raft, Committed, LogId, Payload, Role, SnapshotMeta};

use crate::io::{Effect, Event, Published};
use crate::node::{Node, NodeFault};
use crate::restore::Seen;
use crate::store::StateBatch;

#[derive(Debug)]
pub(crate) struct Applying {
    /// The last entry that the state includes.
    pub(crate) applied: LogId,
    /// Rows on their way to the store, the latest of each object.
    rows: BTreeMap<(Table, Bytes), Option<Bytes>>,
    row_bytes: usize,
    /// When they are due.
    store_at: Option<Instant>,
    /// Batches and replacements handed to the store and not yet reported.
    storing: u32,
    /// Of the replacement among them: how far it goes.
    replacing: Option<Index>,
    /// The last entry whose effects were handed to the store.
    handed: LogId,
    /// The ends and sizes of batches that the log still holds, oldest first.
    log_sizes: VecDeque<(Index, usize)>,
    log_bytes: usize,
    /// While this node leads: how far the state was, and when.
    marks: VecDeque<(Instant, Index)>,
    tombstones_at: Option<Instant>,
    pub(crate) archive: Seen,
}

impl Applying {
    pub(crate) fn new(applied: LogId) -> Self {
        Self {
            applied,
            rows: BTreeMap::new(),
            row_bytes: 0,
            store_at: None,
            storing: 0,
            replacing: None,
            handed: applied,
            log_sizes: VecDeque::new(),
            log_bytes: 0,
            marks: VecDeque::new(),
            tombstones_at: None,
            archive: None,
        }
    }

    /// `None` while a batch is on its way: one at a time is enough, and what comes meanwhile is merged.
    pub(crate) fn store_at(&self) -> Option<Instant> {
        self.store_at.filter(|_| self.storing == 0)
    }

    pub(crate) const fn tombstones_at(&self) -> Option<Instant> {
        self.tombstones_at
    }
}

impl Node {
    /// Applies committed entries, makes the new state visible, and only then answers those who asked for the changes.
    pub(crate) fn apply(&mut self, committed: Vec<Committed>) {
        let mut changes = Changes::default();
        let mut answers = Vec::new();
        let mut size = 0;
        for Committed { entry, token } in committed {
            let index = entry.id.index;
            size += entry.size();
            let applied = match &entry.payload {
                Payload::Noop | Payload::Members(_) => self.state.advance(index).map(|()| None),
                Payload::Command(data) => match Command::decode(data) {
                    Ok(command) => self.state.apply(index, &command, &mut changes).map(Some),
                    Err(error) => {
                        let detail = format!("the log entry {} cannot be read: {error}", entry.id);
                        self.fail(NodeFault::Unreadable(detail));
                        return;
                    }
                },
            };
            match applied {
                Ok(outcome) => {
                    answers.extend(token.zip(outcome).map(|(token, outcome)| (token, index, outcome)));
                }
                Err(error) => {
                    self.fail(NodeFault::State(error.to_string()));
                    return;
                }
            }
            self.applying.applied = entry.id;
            if std::mem::take(&mut changes.replaced) {
                self.store_whole();
                self.drop_terms();
            }
        }
        self.applying
            .log_sizes
            .push_back((self.applying.applied.index, size));
        self.applying.log_bytes += size;
        self.keep_terms(&changes.rows);
        self.keep_rows(changes.rows);
        self.publish(changes.touched);
        let through = self.applying.applied.index;
        self.tell_raft(raft::Input::Applied { through });
        for (token, index, outcome) in answers {
            self.applied_own(token, index, outcome);
        }
    }

    pub(crate) fn publish(&mut self, touched: Touched) {
        let state = self.state.clone();
        self.emit(Effect::Publish(Box::new(Published { state, touched })));
    }

    fn keep_rows(&mut self, rows: Vec<Row>) {
        let due = self.now() + self.config.store_interval;
        let applying = &mut self.applying;
        for row in rows {
            let key_bytes = row.key.len();
            let size = |value: &Option<Bytes>| key_bytes + value.as_ref().map_or(0, Bytes::len);
            applying.row_bytes += size(&row.value);
            if let Some(old) = applying.rows.insert((row.table, row.key), row.value) {
                applying.row_bytes -= size(&old);
            }
        }
        applying.store_at.get_or_insert(due);
        if applying.row_bytes >= self.config.store_bytes {
            let now = self.now();
            self.applying.store_at = Some(now);
        }
    }

    /// The state has become another one: the store gets all of it, and nothing of what waited. What came before and is on its way goes
    /// first.
    fn store_whole(&mut self) {
        let applying = &mut self.applying;
        applying.rows.clear();
        applying.row_bytes = 0;
        applying.store_at = None;
        applying.storing += 1;
        applying.handed = applying.applied;
        let applied = applying.applied;
        let state = Box::new(self.state.export());
        self.emit(Effect::StoreWhole { applied, state });
        self.event(Event::ArchiveRestored(applied));
    }

    /// Whether a snapshot's rows are taking the place of the store's.
    pub(crate) const fn is_replacing(&self) -> bool {
        self.applying.replacing.is_some()
    }

    /// Whether the store has come to `through` and has nothing more to do.
    pub(crate) fn is_stored(&self, through: Index) -> bool {
        self.applying.storing == 0 && self.applying.handed.index >= through
    }

    /// Hands what has gathered to the state store, unless that is busy: then it is handed over when the store reports.
    pub(crate) fn store_rows(&mut self) {
        if self.applying.storing > 0 {
            return;
        }
        self.applying.store_at = None;
        if self.applying.handed == self.applying.applied {
            return;
        }
        let rows = std::mem::take(&mut self.applying.rows);
        self.applying.row_bytes = 0;
        self.applying.handed = self.applying.applied;
        self.applying.storing += 1;
        let rows = rows
            .into_iter()
            .map(|((table, key), value)| Row { table, key, value })
            .collect();
        self.emit(Effect::Store(StateBatch {
            applied: self.applying.applied,
            rows,
        }));
    }

    /// The store has come this far: the log may forget what is behind it, except for what followers may still want.
    pub(crate) fn state_stored(&mut self, applied: Index) {
        self.applying.storing = self.applying.storing.saturating_sub(1);
        if self.applying.replacing.is_some_and(|last| applied >= last) {
            self.applying.replacing = None;
        }
        self.stop_if_stored();
        if self.stores_at_once() {
            self.store_rows();
        }
        if self.applying.handed != self.applying.applied {
            let due = self.now() + self.config.store_interval;
            self.applying.store_at.get_or_insert(due);
        }
        let keep_from = Index(
            self.applying
                .applied
                .index
                .0
                .saturating_sub(self.config.trailing_entries),
        );
        let mut through = applied.min(keep_from);
        // Large entries count by their bytes.
        let mut excess = self.applying.log_bytes.saturating_sub(self.config.trailing_bytes);
        while let Some((index, size)) = self.applying.log_sizes.front().copied() {
            if index > applied || (index > through && excess == 0) {
                break;
            }
            excess = excess.saturating_sub(size);
            through = through.max(index);
            self.applying.log_bytes -= size;
            self.applying.log_sizes.pop_front();
        }
        self.tell_raft(raft::Input::Compact { through });
        self.serving.forget_old(self.now());
    }

    /// The staged snapshot takes the place of the whole state.
    pub(crate) fn restore(&mut self, meta: SnapshotMeta) {
        #[allow(unused_mut, reason = "changed only by sabotage")]
        let Some(mut state) = self.received(&meta) else {
            return;
        };
        #[cfg(feature = "sabotage")]
        state.sabotage(self.state.mistake());
        self.state = state;
        let applying = &mut self.applying;
        applying.applied = meta.last;
        applying.handed = meta.last;
        applying.rows.clear();
        applying.row_bytes = 0;
        applying.store_at = None;
        applying.storing += 1;
        applying.replacing = Some(meta.last.index);
        applying.log_sizes.clear();
        applying.log_bytes = 0;
        let last = meta.last;
        self.emit(Effect::ReplaceState(meta));
        self.publish(Touched::All);
        self.event(Event::Restored(last));
        self.tell_raft(raft::Input::Applied { through: last.index });
    }

    /// The leader reaps tombstones that everybody has had time to see. Others only forget what they noted as leaders.
    pub(crate) fn look_for_tombstones(&mut self) {
        let now = self.now();
        let again = now + self.config.tombstone_interval;
        let leads = self.raft.role() == Role::Leader;
        let applying = &mut self.applying;
        applying.tombstones_at = leads.then_some(again);
        if !leads {
            applying.marks.clear();
            applying.archive = None;
            return;
        }
        applying.marks.push_back((now, self.state.revision()));
        let mut through = None;
        while applying
            .marks
            .front()
            .is_some_and(|(at, _)| now.since(*at) >= self.config.tombstone_ttl)
        {
            through = applying.marks.pop_front().map(|(_, index)| index);
        }
        if let Some(through) = through.filter(|through| self.state.has_tombstones_through(*through)) {
            // Refused when busy: then the next look does it.
            self.do_duty(Action::ReapTombstones(through));
        }
        self.look_for_abandoned_archives();
    }

    /// Proposes a change that nobody waits for, if this node leads.
    pub(crate) fn do_duty(&mut self, action: Action) {
        let token = self.token();
        let data = Command {
            stamp: self.wall,
            action,
        }
        .encode();
        if data.len() <= self.config.command_bytes_max {
            let _ = self.raft_input(raft::Input::Propose { token, data });
        }
    }

    /// Begins to watch over tombstones when this node starts to lead.
    pub(crate) fn watch_tombstones(&mut self) {
        if self.raft.role() == Role::Leader && self.applying.tombstones_at.is_none() {
            self.applying.tombstones_at = Some(self.now() + self.config.tombstone_interval);
        }
    }
}
