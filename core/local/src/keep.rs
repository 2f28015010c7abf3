//! What a restart must not forget: registrations, and how each check was.
//!
//! A status that was found a moment before the agent stopped still says more than nothing, so a restart turns nothing critical. Statuses
//! are written when they change; that they still hold is said for all of them at once, by a record of when this agent was up.
//! What a full disk does not take is written once it takes something again.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use lictor_catalog::{Status, Text};
use lictor_machine::{Instant, Token, UnixMillis};
use serde::{Deserialize, Serialize};

use super::io::{Change, Definitions, Effect, Error, Event, RecordKey, Reject, SaveId};
use super::spec::{CheckMethod, CheckSpec, ServiceSpec};
use super::{Local, folded};

/// The format that is written: the first byte of every record.
const VERSION: u8 = 1;

/// How often it is written that this agent is up, and outputs that have changed.
const SEEN_INTERVAL: Duration = Duration::from_secs(30);

/// However short its interval: a status is as good as new for this long.
const GOOD_FOR: Duration = Duration::from_mins(5);

/// What the disk holds of the local part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    services: BTreeMap<Text, ServiceSpec>,
    checks: BTreeMap<Text, CheckSpec>,
    statuses: BTreeMap<Text, StoredStatus>,
    pub(super) seen: UnixMillis,
}

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// There are no bytes.
    #[error("an empty record")]
    Empty,
    /// A newer version of this program wrote it.
    #[error("a record in format {0}, and this program knows none above {VERSION}: start the newer version")]
    NewerFormat(u8),
    /// It does not follow its format.
    #[error("a damaged record: {0}; remove it, and register again what it was")]
    Damaged(String),
}

#[derive(Debug, Serialize, Deserialize)]
enum Record {
    Service(Box<ServiceSpec>),
    Check(Box<CheckSpec>),
    Status(StoredStatus),
    Seen(UnixMillis),
}

/// How a check was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredStatus {
    id: Text,
    pub(super) status: Status,
    pub(super) output: Text,
    /// When that was written down.
    at: UnixMillis,
}

#[derive(Debug)]
pub(super) struct Keeping {
    /// Statuses from the disk, while registrations are restored.
    recalled: BTreeMap<Text, StoredStatus>,
    /// When this agent was last up, before it was started.
    last_up: UnixMillis,
    /// What the disk is to hold.
    kept: BTreeSet<RecordKey>,
    /// What it holds, as far as it has said so.
    stored: BTreeSet<RecordKey>,
    /// Changes of this turn, and who waits for them.
    changes: Vec<Change>,
    askers: Vec<Token>,
    /// Writes that are under way.
    saves: VecDeque<Save>,
    /// What the disk did not take: it goes along with the next write. Of each record the latest.
    unsaved: BTreeMap<RecordKey, Option<Bytes>>,
    /// When that is tried again, if nothing else is written before.
    retry_at: Instant,
    /// Statuses that are to be written, and when.
    statuses: BTreeSet<Text>,
    statuses_at: Option<Instant>,
    seen_at: Instant,
}

/// A write that is under way.
#[derive(Debug)]
struct Save {
    id: SaveId,
    changes: Vec<Change>,
    /// Who waits for it.
    askers: Vec<Token>,
}

impl Memory {
    /// Adds a record, as an [`Effect::Save`] gave it away. On error nothing was added.
    pub fn read(&mut self, record: &[u8]) -> Result<(), RecordError> {
        let damaged = |what: String| RecordError::Damaged(what);
        let (version, body) = record.split_first().ok_or(RecordError::Empty)?;
        match *version {
            VERSION => {}
            0 => return Err(damaged("its format is 0, which never existed".to_owned())),
            newer => return Err(RecordError::NewerFormat(newer)),
        }
        let (record, rest) = postcard::take_from_bytes(body).map_err(|error| damaged(error.to_string()))?;
        if !rest.is_empty() {
            return Err(damaged(format!("{} bytes too many", rest.len())));
        }
        match record {
            Record::Service(spec) => {
                self.services.insert(folded(&spec.def.id), *spec);
            }
            Record::Check(spec) => {
                self.checks.insert(folded(&spec.id), *spec);
            }
            Record::Status(status) => {
                self.statuses.insert(folded(&status.id), status);
            }
            Record::Seen(at) => self.seen = at,
        }
        Ok(())
    }
}

impl Keeping {
    pub(super) const fn new(last_up: UnixMillis) -> Self {
        Self {
            recalled: BTreeMap::new(),
            last_up,
            kept: BTreeSet::new(),
            stored: BTreeSet::new(),
            changes: Vec::new(),
            askers: Vec::new(),
            saves: VecDeque::new(),
            unsaved: BTreeMap::new(),
            retry_at: Instant::ZERO,
            statuses: BTreeSet::new(),
            statuses_at: None,
            seen_at: Instant::ZERO,
        }
    }

    fn put(&mut self, key: RecordKey, record: &Record) {
        let content = postcard::to_extend(record, vec![VERSION]);
        let content = content.expect("plain data always encode, and a Vec always extends");
        self.kept.insert(key.clone());
        self.changes.push(Change {
            key,
            content: Some(Bytes::from(content)),
        });
    }

    fn remove(&mut self, key: RecordKey) {
        if self.kept.remove(&key) {
            self.changes.push(Change { key, content: None });
        }
    }

    fn stored(&mut self, changes: Vec<Change>) {
        for change in changes {
            if change.content.is_some() {
                self.stored.insert(change.key);
            } else {
                self.stored.remove(&change.key);
            }
        }
    }

    /// The disk did not take these changes. They are tried again, unless a later one, which is under way, replaces them; but what never got
    /// to the disk need not be removed from it.
    fn not_stored(&mut self, changes: Vec<Change>, retry_at: Instant) {
        let later = self.saves.iter().flat_map(|save| &save.changes);
        let later: BTreeSet<&RecordKey> = later.map(|change| &change.key).collect();
        for Change { key, content } in changes {
            let moot = content.is_none() && !self.stored.contains(&key);
            if !later.contains(&key) && !moot {
                self.unsaved.insert(key, content);
            }
        }
        self.retry_at = retry_at;
    }
}

impl Local {
    /// Begins with what the files say and what is on the disk.
    pub(super) fn remember(&mut self, memory: Memory, definitions: Definitions) -> Result<(), Error> {
        let Memory {
            services,
            checks,
            statuses,
            seen: _,
        } = memory;
        let kept = &mut self.keeping.kept;
        kept.extend(services.keys().cloned().map(RecordKey::Service));
        kept.extend(checks.keys().cloned().map(RecordKey::Check));
        kept.extend(statuses.keys().cloned().map(RecordKey::Status));
        self.keeping.stored.clone_from(kept);
        self.keeping.recalled = statuses;
        // What the files say may be about what was registered, and counts more.
        for spec in services.into_values() {
            self.restore_service(spec);
        }
        self.set_definitions(definitions)?;
        for spec in checks.into_values() {
            if spec.method.runs_program() && !self.config.programs_from_requests {
                // Its record stays, for when that is allowed again.
                self.event(Event::Trouble(format!(
                    "the check {:?} runs a program and was registered through the API, which is not allowed any more: it is left out",
                    &*spec.id
                )));
                continue;
            }
            self.restore_check(spec);
        }
        for id in std::mem::take(&mut self.keeping.recalled).into_keys() {
            self.keeping.remove(RecordKey::Status(id));
        }
        // All that is in the catalog may be as it is here: the first comparison tells.
        self.sync.services.clear();
        self.sync.checks.clear();
        Ok(())
    }

    /// How a check was before the restart, if that still says something.
    pub(super) fn recall(&mut self, id: &Text, method: &CheckMethod) -> Option<StoredStatus> {
        let known = self.keeping.recalled.remove(id)?;
        #[cfg(feature = "sabotage")]
        if self.sabotaged(crate::Sabotage::ForgetStatuses) {
            return None;
        }
        let good_for = match method {
            CheckMethod::Ttl(ttl) => *ttl,
            CheckMethod::Probe { interval, .. } => interval.saturating_mul(3),
            CheckMethod::Alias { .. } => GOOD_FOR,
            CheckMethod::Maintenance => Duration::ZERO,
        };
        let last_up = known.at.0.max(self.keeping.last_up.0);
        let age = Duration::from_millis(self.wall.0.saturating_sub(last_up));
        (age <= good_for.max(GOOD_FOR)).then_some(known)
    }

    /// Answers a request to register, once what is registered is durable. If it has changed nothing, somebody else may have asked for the
    /// same, and the disk may not have it yet.
    pub(super) fn answer_durably(&mut self, token: Token, result: Result<(), Error>) {
        let waits = result.is_ok() && self.config.keeps;
        #[cfg(feature = "sabotage")]
        let waits = waits && !self.sabotaged(crate::Sabotage::AnswerBeforeSaved);
        let keeping = &mut self.keeping;
        if waits && !(keeping.changes.is_empty() && keeping.unsaved.is_empty()) {
            keeping.askers.push(token);
        } else if let Some(last) = keeping.saves.back_mut().filter(|_| waits) {
            last.askers.push(token);
        } else {
            self.answer(token, result);
        }
    }

    /// Answers a request at the end of this turn.
    pub(super) fn answer(&mut self, token: Token, result: Result<(), Error>) {
        self.answers.push_back(Effect::Answer { token, result });
    }

    pub(super) fn keep_service(&mut self, id: &Text) {
        let Some(service) = self.services.get(id).filter(|_| self.config.keeps) else {
            return;
        };
        let spec = ServiceSpec {
            def: service.shown.def.clone(),
            token: service.token.clone(),
            checks: Vec::new(),
        };
        let record = Record::Service(Box::new(spec));
        self.keeping.put(RecordKey::Service(id.clone()), &record);
    }

    pub(super) fn keep_check(&mut self, id: &Text) {
        let Some(check) = self.checks.get(id).filter(|_| self.config.keeps) else {
            return;
        };
        let record = Record::Check(Box::new(CheckSpec::clone(&check.shown.spec)));
        self.keeping.put(RecordKey::Check(id.clone()), &record);
    }

    /// A status, or only its output, is another.
    pub(super) fn keep_status(&mut self, id: &Text, changed: bool) {
        if !self.config.keeps {
            return;
        }
        // One that has changed is written at once: whoever saw it in the catalog must not see the former one again after a crash.
        let wait = if changed { Duration::ZERO } else { SEEN_INTERVAL };
        let at = self.now() + wait;
        let keeping = &mut self.keeping;
        keeping.statuses.insert(id.clone());
        keeping.statuses_at = Some(keeping.statuses_at.map_or(at, |before| before.min(at)));
    }

    pub(super) fn forget_service(&mut self, id: &Text) {
        #[cfg(feature = "sabotage")]
        if self.sabotaged(crate::Sabotage::KeepRecords) {
            return;
        }
        self.keeping.remove(RecordKey::Service(id.clone()));
    }

    pub(super) fn forget_check(&mut self, id: &Text) {
        self.forget_registration(id);
        self.keeping.remove(RecordKey::Status(id.clone()));
    }

    /// The files say it: the disk need not. How it is must be kept all the same.
    pub(super) fn forget_registration(&mut self, id: &Text) {
        self.keeping.remove(RecordKey::Check(id.clone()));
    }

    pub(super) fn save_at(&self) -> Option<Instant> {
        let keeping = &self.keeping;
        if !self.config.keeps || !keeping.saves.is_empty() {
            return None;
        }
        let seen = (!self.checks.is_empty()).then_some(keeping.seen_at);
        let retry = (!keeping.unsaved.is_empty()).then_some(keeping.retry_at);
        [seen, retry, keeping.statuses_at].into_iter().flatten().min()
    }

    /// Writes what is due. Statuses wait while another write is under way: a slow disk gets fewer of them, not more.
    pub(super) fn save(&mut self) {
        if !self.config.keeps {
            self.keeping.changes.clear();
            return;
        }
        let now = self.now();
        if self.save_at().is_some_and(|at| at <= now) {
            self.put_statuses();
        }
        if self.keeping.changes.is_empty() && self.keeping.askers.is_empty() {
            return;
        }
        let id = SaveId(self.id());
        let keeping = &mut self.keeping;
        let new = std::mem::take(&mut keeping.changes);
        for change in &new {
            keeping.unsaved.remove(&change.key);
        }
        let again = std::mem::take(&mut keeping.unsaved).into_iter();
        let again = again.map(|(key, content)| Change { key, content });
        let changes: Vec<Change> = again.chain(new).collect();
        keeping.saves.push_back(Save {
            id,
            changes: changes.clone(),
            askers: std::mem::take(&mut keeping.askers),
        });
        self.out.push_back(Effect::Save { id, changes });
    }

    fn put_statuses(&mut self) {
        let at = self.wall;
        let keeping = &mut self.keeping;
        keeping.statuses_at = None;
        keeping.seen_at = self.clock.latest() + SEEN_INTERVAL;
        for id in std::mem::take(&mut keeping.statuses) {
            if let Some(check) = self.checks.get(&id) {
                let record = Record::Status(StoredStatus {
                    id: check.shown.def.id.clone(),
                    status: check.shown.def.status,
                    output: check.shown.def.output.clone(),
                    at,
                });
                keeping.put(RecordKey::Status(id), &record);
            }
        }
        keeping.put(RecordKey::Seen, &Record::Seen(at));
    }

    pub(super) fn saved(&mut self, id: SaveId, result: Result<(), String>) -> Result<(), Reject> {
        let first = self.keeping.saves.pop_front_if(|first| first.id == id);
        let Save { changes, askers, .. } = first.ok_or(Reject::Unasked)?;
        match &result {
            Ok(()) => self.keeping.stored(changes),
            Err(reason) => {
                self.keeping
                    .not_stored(changes, self.clock.latest() + SEEN_INTERVAL);
                if askers.is_empty() {
                    self.event(Event::Trouble(format!(
                        "how the checks are could not be written to the data directory: {reason}"
                    )));
                }
            }
        }
        for token in askers {
            let result = result.clone().map_err(Error::NotSaved);
            self.answer(token, result);
        }
        Ok(())
    }
}
