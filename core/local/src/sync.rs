//! Anti-entropy: the catalog becomes what is here.
//!
//! This agent is the authority on its own node. What changes here is written at once, together with all that changed while the last write
//! was under way; and now and then everything is compared, so that a catalog which was wiped, restored or written to by others is mended.
//! There is one question at a time, so an agent never overtakes itself.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lictor_catalog::{
    Action, CatalogChange, CheckDef, Deregistration, NodeInfo, Outcome, Registration, Removal, ServiceRecord,
    Status, Text,
};
use lictor_machine::Instant;

use super::io::{AskId, Effect, Event, LocalService, Question, Reject, Reply};
use super::{Due, Local, SERF_HEALTH, SERVERS, folded, serf_health};

/// Up to this many agents everything is compared once per interval; for twice as many, half as often, and so on.
const SMALL_CLUSTER: usize = 128;

/// From one write to the next, at least.
const WRITE_GAP: Duration = Duration::from_millis(100);

/// After a failure: at first, and at most.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// How long nothing works before people are told: an agent that has just started finds servers, and servers a leader, before that.
const ALARM_AFTER: Duration = Duration::from_secs(10);

/// Once servers are found again, agents come back over this time.
const COMEBACK: Duration = Duration::from_secs(2);

/// How long the catalog is not asked again to take what it has refused.
const REFUSED_FOR: Duration = Duration::from_mins(10);

/// The most changes, and bytes, in one write.
const BATCH_MAX: usize = 256;
const BATCH_BYTES: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Sync {
    /// How many agents there are.
    pub(super) cluster_size: usize,
    /// Nothing is to be written any more.
    pub(super) ceased: bool,
    /// The node itself is to be written.
    pub(super) node: bool,
    /// The catalog does not know how well this node is, since the leader has not written of it yet. Who depends on a node needs to know, so
    /// whoever writes the node first says that too.
    unvouched: bool,
    /// What is to be written, or removed if it is not here.
    pub(super) services: BTreeSet<Text>,
    pub(super) checks: BTreeSet<Text>,
    /// Services that were refused together with checks of theirs: they go alone, to see which of them it is.
    apart: BTreeSet<Text>,
    /// Questions about other nodes, and the aliases that they are for.
    pub(super) lookups: BTreeMap<AskId, Text>,
    flight: Option<(AskId, Flight)>,
    /// When everything is compared next.
    all_at: Instant,
    /// The next write is not before this.
    write_at: Instant,
    /// How many changes go into one write; fewer after a refusal, to find what is refused.
    batch_max: usize,
    failures: u32,
    /// Since when it has done nothing but fail.
    failing: Option<Failing>,
    /// What the catalog does not take, and until when it is not asked to.
    refused: BTreeMap<(Kind, Text), Instant>,
}

/// A time in which nothing worked.
#[derive(Clone, Copy, Debug)]
struct Failing {
    since: Instant,
    /// Whether people were told.
    said: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Service,
    Check,
}

#[derive(Debug)]
enum Flight {
    Compare,
    Write(Batch),
}

/// What one write is about.
#[derive(Debug, Default)]
struct Batch {
    node: bool,
    services: Vec<Text>,
    checks: Vec<Text>,
    changes: usize,
}

impl Sync {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            cluster_size: 1,
            ceased: false,
            node: false,
            unvouched: false,
            services: BTreeSet::new(),
            checks: BTreeSet::new(),
            apart: BTreeSet::new(),
            lookups: BTreeMap::new(),
            flight: None,
            all_at: now,
            write_at: now,
            batch_max: BATCH_MAX,
            failures: 0,
            failing: None,
            refused: BTreeMap::new(),
        }
    }

    fn has_changes(&self) -> bool {
        self.node || !self.services.is_empty() || !self.checks.is_empty()
    }

    /// Servers have answered.
    fn succeeded(&mut self) {
        self.failures = 0;
        self.failing = None;
    }

    /// What was to be written still is.
    fn put_back(&mut self, batch: Batch) {
        self.node |= batch.node;
        self.services.extend(batch.services);
        self.checks.extend(batch.checks);
    }
}

impl Local {
    pub(super) fn sync_at(&self) -> Option<Instant> {
        let sync = &self.sync;
        if sync.ceased || sync.flight.is_some() {
            return None;
        }
        let write = sync.has_changes().then_some(sync.write_at);
        Some(write.map_or(sync.all_at, |write| write.min(sync.all_at)))
    }

    pub(super) fn sync_all_at(&mut self, at: Instant) {
        self.sync.all_at = self.sync.all_at.min(at);
    }

    /// Servers can be reached that could not be before.
    pub(super) fn servers_found(&mut self) {
        if self.sync.failures > 0 {
            let soon = self.now() + self.rng.between(Duration::ZERO, COMEBACK);
            self.sync.write_at = self.sync.write_at.min(soon);
            self.sync_all_at(soon);
        }
    }

    /// Only the output of a check has changed: that can wait.
    pub(super) fn sync_output(&mut self, id: &Text) {
        let interval = self.config.check_update_interval;
        if interval.is_zero() {
            self.sync.checks.insert(id.clone());
        } else if let Some(check) = self.checks.get(id)
            && check.due[Due::Output as usize].is_none()
        {
            let wait = self.rng.between(interval / 2, interval + interval / 2);
            self.set_due(id, Due::Output, Some(self.now() + wait));
        }
    }

    pub(super) fn go_on_syncing(&mut self) {
        let now = self.now();
        let waits = self.sync.flight.is_some();
        #[cfg(feature = "sabotage")]
        let waits = waits && !self.sabotaged(crate::Sabotage::AskTwice);
        if self.sync.ceased || waits {
            return;
        }
        if self.sync.all_at <= now {
            self.ask(Question::Node(self.config.node.name.clone()), Flight::Compare);
        } else if self.sync.has_changes() && self.sync.write_at <= now {
            self.sync.write_at = now + WRITE_GAP;
            let (batch, changes) = self.batch();
            let write = Action::RegisterMany(changes);
            self.ask(Question::Write(write), Flight::Write(batch));
        }
    }

    fn ask(&mut self, question: Question, flight: Flight) {
        let id = AskId(self.id());
        self.sync.flight = Some((id, flight));
        self.out.push_back(Effect::Ask { id, question });
    }

    /// Takes as much of what is to be written as goes into one write.
    fn batch(&mut self) -> (Batch, Vec<CatalogChange>) {
        let max = self.sync.batch_max;
        let mut batch = Batch::default();
        let mut changes = Vec::new();
        let mut bytes = 0;
        if std::mem::take(&mut self.sync.node) {
            batch.node = true;
            let health = self.sync.unvouched.then(|| serf_health(Status::Passing));
            changes.push(CatalogChange::Register(Box::new(Registration {
                node: self.config.node.clone(),
                checks: health.into_iter().collect(),
                ..Registration::default()
            })));
        }
        while changes.len() < max && bytes < BATCH_BYTES {
            let change = if let Some(id) = self.sync.services.pop_first() {
                let change = self.service_change(&id, &mut batch);
                batch.services.push(id);
                change
            } else if let Some(id) = self.sync.checks.pop_first() {
                self.set_due(&id, Due::Output, None);
                let change = self.check_change(&id);
                batch.checks.push(id);
                change
            } else {
                break;
            };
            bytes += change.size();
            changes.push(change);
        }
        batch.changes = changes.len();
        (batch, changes)
    }

    /// A service as it is to be, together with those of its checks that are to be written too.
    fn service_change(&mut self, id: &Text, batch: &mut Batch) -> CatalogChange {
        let Some(service) = self.services.get(id) else {
            return self.removal(Removal::Service(id.clone()));
        };
        let service = service.shown.def.clone();
        let checks = self.checks_of.get(id).into_iter().flatten();
        let together = !self.sync.apart.contains(id);
        let checks: Vec<Text> = checks
            .filter(|check| together && self.sync.checks.contains(*check))
            .take(lictor_catalog::MAX_CHECKS)
            .cloned()
            .collect();
        let mut defs = Vec::with_capacity(checks.len());
        for check in checks {
            self.sync.checks.remove(&check);
            self.set_due(&check, Due::Output, None);
            defs.extend(self.checks.get(&check).map(|check| check.shown.def.clone()));
            batch.checks.push(check);
        }
        self.registration(Some(service), defs)
    }

    fn check_change(&self, id: &Text) -> CatalogChange {
        match self.checks.get(id) {
            Some(check) => self.registration(None, vec![check.shown.def.clone()]),
            None => self.removal(Removal::Check(id.clone())),
        }
    }

    fn registration(
        &self,
        service: Option<lictor_catalog::ServiceDef>,
        checks: Vec<CheckDef>,
    ) -> CatalogChange {
        CatalogChange::Register(Box::new(Registration {
            node: self.config.node.clone(),
            skip_node_update: true,
            service,
            checks,
        }))
    }

    fn removal(&self, what: Removal) -> CatalogChange {
        CatalogChange::Deregister(Deregistration {
            node: self.config.node.name.clone(),
            what,
        })
    }

    pub(super) fn answered(&mut self, id: AskId, result: Result<Reply, String>) -> Result<(), Reject> {
        if let Some(alias) = self.sync.lookups.remove(&id) {
            if let Ok(Reply::Node(info)) = result {
                self.alias_looked_up(&alias, info.as_deref());
            }
            return Ok(());
        }
        let flight = self.sync.flight.take_if(|(asked, _)| *asked == id);
        let (_, flight) = flight.ok_or(Reject::Unasked)?;
        match (flight, result) {
            (Flight::Compare, Ok(Reply::Node(info))) => {
                self.sync.succeeded();
                self.compare(info.as_deref());
                self.compare_later();
                if !self.sync.has_changes() {
                    self.event(Event::InSync);
                }
            }
            (Flight::Write(batch), Ok(Reply::Written(outcome))) => {
                self.sync.succeeded();
                self.written(batch, outcome);
            }
            (flight, Ok(Reply::Node(_) | Reply::Written(_))) => {
                self.failed(flight, "the answer is to another question".to_owned());
            }
            (flight, Err(reason)) => self.failed(flight, reason),
        }
        Ok(())
    }

    fn failed(&mut self, flight: Flight, reason: String) {
        let sync = &mut self.sync;
        let most = RETRY_MIN.saturating_mul(1 << sync.failures.min(8)).min(RETRY_MAX);
        sync.failures = sync.failures.saturating_add(1);
        let again = self.clock.latest() + self.rng.between(most / 2, most);
        sync.write_at = again;
        match flight {
            Flight::Compare => sync.all_at = again,
            Flight::Write(batch) => sync.put_back(batch),
        }
        let now = self.clock.latest();
        let failing = self.sync.failing.get_or_insert(Failing {
            since: now,
            said: false,
        });
        if !failing.said && now.since(failing.since) >= ALARM_AFTER {
            failing.said = true;
            self.event(Event::SyncFailed(reason));
        }
    }

    fn written(&mut self, batch: Batch, outcome: Outcome) {
        let reason = match outcome {
            Outcome::Done(_) => return self.taken(batch),
            Outcome::Refused(reason) => reason,
            Outcome::Txn(_) | Outcome::Session(_) | Outcome::Prepared(_) => {
                "the answer is to another question".to_owned()
            }
        };
        let changes = batch.changes;
        if changes > 1 {
            // One of them is to blame. Fewer at a time find out which.
            self.sync.batch_max = (changes / 2).max(1);
            self.sync.put_back(batch);
        } else if let Some(service) = batch.services.first()
            && !batch.checks.is_empty()
        {
            // So it is with a service and its checks: whichever it is, the others are not to wait for it.
            self.sync.apart.insert(service.clone());
            self.sync.put_back(batch);
        } else {
            self.refused(batch, reason);
        }
    }

    /// The catalog has taken all of it.
    fn taken(&mut self, batch: Batch) {
        let sync = &mut self.sync;
        sync.unvouched &= !batch.node;
        for id in batch.services {
            sync.apart.remove(&id);
            let checks = self.checks_of.get(&id).into_iter().flatten();
            if sync.refused.remove(&(Kind::Service, id)).is_some() {
                sync.checks.extend(checks.cloned());
            }
        }
        for id in batch.checks {
            sync.refused.remove(&(Kind::Check, id));
        }
        sync.batch_max = (sync.batch_max * 2).min(BATCH_MAX);
    }

    /// The catalog does not take a change that stands for itself.
    fn refused(&mut self, batch: Batch, reason: String) {
        let now = self.now();
        let services = batch.services.into_iter().map(|id| (Kind::Service, id));
        let checks = batch.checks.into_iter().map(|id| (Kind::Check, id));
        let Some((kind, id)) = services.chain(checks).next() else {
            let id = self.config.node.name.clone();
            self.event(Event::Refused { id, reason });
            return;
        };
        let service = match kind {
            Kind::Service => {
                self.sync.apart.remove(&id);
                None
            }
            Kind::Check => self.checks.get(&id).map(super::Check::service),
        };
        let service = service.filter(|service| !service.is_empty());
        if service
            .as_ref()
            .is_some_and(|service| self.is_refused(Kind::Service, service))
        {
            // It is not to blame, and comes along as soon as its service is taken.
            return;
        }
        let known = self.sync.refused.insert((kind, id.clone()), now + REFUSED_FOR);
        if let Some(service) = service.filter(|_| known.is_none()) {
            // Its service may be missing there, as when the catalog was wiped.
            self.sync.services.insert(service);
            self.sync.checks.insert(id);
        } else {
            self.event(Event::Refused { id, reason });
        }
    }

    fn compare_later(&mut self) {
        let doublings = (self.sync.cluster_size.max(1).div_ceil(SMALL_CLUSTER)).next_power_of_two();
        let interval = self.config.sync_interval * (doublings.ilog2() + 1);
        let wait = self.rng.between(interval, interval * 2);
        self.sync.all_at = self.now() + wait;
        #[cfg(feature = "sabotage")]
        if self.sabotaged(crate::Sabotage::NeverCompare) {
            self.sync.all_at = Instant::MAX;
        }
    }

    /// Notes what is not in the catalog as it is here.
    fn compare(&mut self, info: Option<&NodeInfo>) {
        let now = self.now();
        self.sync.refused.retain(|_, until| *until > now);
        let of_member = folded(SERF_HEALTH);
        let vouched = |info: &NodeInfo| info.checks.iter().any(|check| folded(&check.def.id) == of_member);
        self.sync.unvouched = !info.is_some_and(vouched);
        self.sync.node |= self.sync.unvouched;
        let Some(info) = info else {
            let sync = &mut self.sync;
            sync.services.extend(self.services.keys().cloned());
            sync.checks.extend(self.checks.keys().cloned());
            return;
        };
        self.sync.node |= info.node.def != self.config.node;
        let mut removed = Vec::new();
        let there: BTreeMap<Text, &Arc<ServiceRecord>> = info
            .services
            .iter()
            .map(|record| (folded(&record.def.id), record))
            .collect();
        for (id, record) in &there {
            let of_leader = self.config.server && **id == *SERVERS;
            #[cfg(feature = "sabotage")]
            let of_leader = of_leader || self.sabotaged(crate::Sabotage::KeepGhosts);
            if !self.services.contains_key(id) && !of_leader {
                self.sync.services.insert(id.clone());
                removed.push(record.def.id.clone());
            }
        }
        let ids: Vec<Text> = self.services.keys().cloned().collect();
        for id in ids {
            let record = there.get(&id).copied();
            if let Some(record) = record {
                self.take_tags(&id, record);
            }
            let same = record.is_some_and(|record| self.services[&id].shown.def == record.def);
            if !same && !self.is_refused(Kind::Service, &id) {
                self.sync.services.insert(id);
            }
        }
        let there: BTreeMap<Text, &CheckDef> = info
            .checks
            .iter()
            .map(|record| (folded(&record.def.id), &record.def))
            .collect();
        for (id, def) in &there {
            let goes_anyway = self.sync.services.contains(&folded(&def.service_id))
                && !self.services.contains_key(&folded(&def.service_id));
            let of_leader = *id == of_member || (self.config.server && *def.service_id == *SERVERS);
            if !self.checks.contains_key(id) && !goes_anyway && !of_leader {
                self.sync.checks.insert(id.clone());
                removed.push(def.id.clone());
            }
        }
        for (id, check) in &self.checks {
            let waits = check.due[Due::Output as usize].is_some();
            let same = there
                .get(id)
                .is_some_and(|there| same_check(&check.shown.def, there, waits));
            let waits = self.is_refused(Kind::Check, id) || self.is_refused(Kind::Service, &check.service());
            if !same && !waits {
                self.sync.checks.insert(id.clone());
            }
        }
        if !removed.is_empty() {
            self.event(Event::Removed { ids: removed });
        }
    }

    fn is_refused(&self, kind: Kind, id: &Text) -> bool {
        self.sync.refused.contains_key(&(kind, id.clone()))
    }

    /// The tags of a service may be set by others, if it says so.
    fn take_tags(&mut self, id: &Text, record: &ServiceRecord) {
        let Some(service) = self.services.get_mut(id) else {
            return;
        };
        let def = &service.shown.def;
        if !def.enable_tag_override || def.tags == record.def.tags {
            return;
        }
        let mut def = def.clone();
        def.tags = record.def.tags.clone();
        service.shown = Arc::new(LocalService::new(def));
        self.stale = true;
        self.name_checks(id);
    }
}

/// Whether the catalog has a check as it is here, but perhaps for its output.
fn same_check(here: &CheckDef, there: &CheckDef, but_output: bool) -> bool {
    let CheckDef {
        id,
        name,
        status,
        notes,
        output,
        service_id,
        kind,
        definition,
    } = here;
    id == &there.id
        && name == &there.name
        && status == &there.status
        && notes == &there.notes
        && (but_output || output == &there.output)
        && service_id == &there.service_id
        && kind == &there.kind
        && definition == &there.definition
}
