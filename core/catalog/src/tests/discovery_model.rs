//! Nodes, services and checks as a naive program, and random histories held against it.
//!
//! The model keeps plain maps, scans all of them for each question, and finds the index of an answer by comparing it with what it was
//! before each single change.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use lictor_machine::NodeId;

use super::*;
use crate::{
    Builder, CatalogChange, CheckDef, CheckRecord, ConnectDef, Cursor, Deregistration, Instance, NodeDef,
    NodeInfo, NodeRecord, NodeServices, Registration, Removal, Row, SERF_HEALTH, ServiceDef, ServiceNode,
    ServiceRecord, ServiceTags, Status, Table, Watches,
};

type OnNode = (String, String);

/// An answer, and whether what it is about exists: since when, if it has a beginning.
type Answer = (Option<Index>, Found);

#[derive(Clone, Debug, Default)]
struct Model {
    /// With the index since when there is a node of this name.
    nodes: BTreeMap<String, (NodeRecord, Index)>,
    services: BTreeMap<OnNode, ServiceRecord>,
    checks: BTreeMap<OnNode, CheckRecord>,
    /// How the names of services were last spelled, and since when there are any of this name.
    groups: BTreeMap<(bool, String), (Text, Index)>,
    vanished: Index,
    answers: BTreeMap<Query, (Answer, Index)>,
}

use crate::Text;

fn fold(text: &str) -> String {
    text.to_lowercase()
}

impl Model {
    fn new(queries: &[Query]) -> Self {
        let mut model = Self::default();
        for query in queries {
            let answer = model.answer(query);
            model.answers.insert(query.clone(), (answer, Index::ZERO));
        }
        model
    }

    fn apply(&mut self, index: Index, action: &Action) -> bool {
        let mut copy = self.clone();
        let fine = match action {
            Action::Register(registration) => copy.register(index, registration),
            Action::Deregister(deregistration) => copy.deregister(index, deregistration),
            Action::RegisterMany(changes) => changes.iter().all(|change| match change {
                CatalogChange::Register(registration) => copy.register(index, registration),
                CatalogChange::Deregister(deregistration) => copy.deregister(index, deregistration),
            }),
            Action::Kv(_)
            | Action::Txn(_)
            | Action::ReapTombstones(_)
            | Action::SetAutopilot { .. }
            | Action::Coordinates(_)
            | Action::ForgetCoordinates(_) => unreachable!("they have a model of their own"),
        };
        if fine {
            *self = copy;
        }
        fine
    }

    /// Notes which answers the change that was just made has changed.
    fn settle(&mut self, index: Index) {
        let mut answers = std::mem::take(&mut self.answers);
        for (query, (old, changed)) in &mut answers {
            let new = self.answer(query);
            if new != *old {
                (*old, *changed) = (new, index);
            }
        }
        self.answers = answers;
    }

    fn query(&self, query: &Query) -> (Index, Found) {
        let of = |query: &Query| self.answers[query].1;
        let ((since, found), changed) = &self.answers[query];
        // Some are only as fine as another question; and what does not exist has no index of its own.
        let index = if let Query::Services { node_meta } | Query::HealthState { node_meta, .. } = query
            && !node_meta.is_empty()
        {
            of(&Query::NodeInfos)
        } else if let Query::HealthChecks { service, node_meta } = query
            && !node_meta.is_empty()
            && since.is_some()
        {
            of(&health(service, false))
        } else if since.is_some() {
            *changed
        } else if matches!(
            query,
            Query::NodeServices(_) | Query::NodeInfo(_) | Query::HealthNode(_)
        ) {
            of(&Query::Nodes)
        } else {
            self.vanished
        };
        (index, found.clone())
    }

    fn register(&mut self, index: Index, registration: &Registration) -> bool {
        let Registration {
            node,
            skip_node_update,
            service,
            checks,
        } = registration;
        let at = fold(&node.name);
        if node.name.is_empty() || (node.address.is_empty() && !skip_node_update) {
            return false;
        }
        if service.as_ref().is_some_and(|service| service.name.is_empty()) {
            return false;
        }
        if !skip_node_update || !self.nodes.contains_key(&at) {
            let same_id = |record: &NodeRecord| node.id.is_some() && record.def.id == node.id;
            let former = self.nodes.iter().find(|(_, (record, _))| same_id(record));
            let former = former.map(|(name, (record, _))| (name.clone(), record.create_index));
            let former = former.filter(|(name, _)| *name != at);
            if let (Some((owner, _)), Some(id)) = (self.nodes.get(&at), node.id) {
                let serf = self.checks.get(&(at.clone(), fold(SERF_HEALTH)));
                let well = serf.is_some_and(|check| check.def.status == Status::Passing);
                let anonymous = owner.def.id.is_none() && former.is_none();
                if owner.def.id != Some(id) && well && !anonymous {
                    return false;
                }
            }
            if let Some((name, _)) = &former {
                self.remove_node(index, name);
            }
            self.put_node(index, node, former.map(|(_, created)| created));
        }
        if let Some(service) = service {
            self.put_service(index, &at, service);
        }
        checks.iter().all(|check| self.put_check(index, &at, check))
    }

    fn deregister(&mut self, index: Index, deregistration: &Deregistration) -> bool {
        let at = fold(&deregistration.node);
        match &deregistration.what {
            Removal::Node => self.remove_node(index, &at),
            Removal::Service(id) => {
                let id = fold(id);
                if self.services.remove(&(at.clone(), id.clone())).is_some() {
                    self.checks
                        .retain(|(node, _), check| *node != at || fold(&check.def.service_id) != id);
                }
            }
            Removal::Check(id) => {
                self.checks.remove(&(at, fold(id)));
            }
        }
        self.regroup(index, None);
        !deregistration.node.is_empty()
    }

    fn put_node(&mut self, index: Index, def: &NodeDef, created: Option<Index>) {
        let at = fold(&def.name);
        let old = self.nodes.get(&at).cloned();
        let create_index = created
            .or(old.as_ref().map(|(old, _)| old.create_index))
            .unwrap_or(index);
        if old
            .as_ref()
            .is_some_and(|(old, _)| old.def == *def && old.create_index == create_index)
        {
            return;
        }
        let record = NodeRecord {
            def: def.clone(),
            create_index,
            modify_index: index,
        };
        self.nodes
            .insert(at.clone(), (record, old.map_or(index, |(_, since)| since)));
        for ((node, _), service) in &mut self.services {
            if *node == at {
                service.node = def.name.clone();
            }
        }
        for ((node, _), check) in &mut self.checks {
            if *node == at {
                check.node = def.name.clone();
            }
        }
        self.settle(index);
    }

    fn remove_node(&mut self, index: Index, at: &str) {
        self.nodes.remove(at);
        self.services.retain(|(node, _), _| node != at);
        self.checks.retain(|(node, _), _| node != at);
        self.regroup(index, None);
    }

    fn put_service(&mut self, index: Index, at: &str, def: &ServiceDef) {
        let mut def = def.clone();
        if def.id.is_empty() {
            def.id = def.name.clone();
        }
        let key = (at.to_owned(), fold(&def.id));
        let old = self.services.get(&key);
        if old.is_some_and(|old| old.def == def) {
            return;
        }
        let record = ServiceRecord {
            node: self.nodes[at].0.def.name.clone(),
            def: def.clone(),
            create_index: old.map_or(index, |old| old.create_index),
            modify_index: index,
        };
        self.services.insert(key.clone(), record);
        for ((node, _), check) in &mut self.checks {
            let stale = check.service_name != def.name || check.service_tags != def.tags;
            if *node == at && fold(&check.def.service_id) == key.1 && stale {
                check.service_name = def.name.clone();
                check.service_tags = def.tags.clone();
                check.modify_index = index;
            }
        }
        self.regroup(index, Some(&def));
    }

    /// Brings `groups` up to date after instances have changed, `put` being the one that was put.
    fn regroup(&mut self, index: Index, put: Option<&ServiceDef>) {
        for connect in [false, true] {
            let names: BTreeSet<String> = self
                .services
                .values()
                .filter_map(|service| found_by(&service.def, connect).map(|name| fold(&name)))
                .collect();
            if let Some(name) = put.and_then(|put| found_by(put, connect)) {
                let entry = self.groups.entry((connect, fold(&name)));
                entry
                    .and_modify(|(spelled, _)| *spelled = name.clone())
                    .or_insert((name, index));
            }
            let before = self.groups.len();
            self.groups
                .retain(|(other, name), _| *other != connect || names.contains(name));
            if self.groups.len() < before {
                self.vanished = index;
            }
        }
        self.settle(index);
    }

    fn put_check(&mut self, index: Index, at: &str, def: &CheckDef) -> bool {
        let mut def = def.clone();
        if def.id.is_empty() {
            def.id = def.name.clone();
        }
        let service = self.services.get(&(at.to_owned(), fold(&def.service_id)));
        if service.is_none() && !def.service_id.is_empty() {
            return false;
        }
        let key = (at.to_owned(), fold(&def.id));
        let old = self.checks.get(&key);
        if old.is_some_and(|old| old.def == def) {
            return true;
        }
        let record = CheckRecord {
            node: self.nodes[at].0.def.name.clone(),
            def,
            service_name: service.map_or("".into(), |service| service.def.name.clone()),
            service_tags: service.map_or([].into(), |service| service.def.tags.clone()),
            create_index: old.map_or(index, |old| old.create_index),
            modify_index: index,
        };
        self.checks.insert(key, record);
        self.settle(index);
        true
    }

    fn answer(&self, query: &Query) -> Answer {
        let begin = Some(Index::ZERO);
        let node = |at: &String| Arc::new(self.nodes[at].0.clone());
        let services = |at: &str| -> Vec<_> {
            let on_node = self.services.iter().filter(|((node, _), _)| node == at);
            on_node.map(|(_, service)| Arc::new(service.clone())).collect()
        };
        let checks = |wanted: &dyn Fn(&str, &CheckRecord) -> bool| -> Vec<Arc<CheckRecord>> {
            let found = self
                .checks
                .iter()
                .filter(|((node, _), check)| wanted(node, check));
            found.map(|(_, check)| Arc::new(check.clone())).collect()
        };
        let info = |at: &String| NodeInfo {
            node: node(at),
            services: services(at),
            checks: checks(&|node, _| node == at),
        };
        let since = |at: &str| self.nodes.get(at).map(|(_, since)| *since);
        let group =
            |connect: bool, name: &str| self.groups.get(&(connect, fold(name))).map(|(_, since)| *since);
        let members = |name: &str, connect: bool| -> Vec<(String, &ServiceRecord)> {
            let found = self.services.iter().filter(|(_, service)| {
                found_by(&service.def, connect).is_some_and(|other| fold(&other) == fold(name))
            });
            found
                .map(|((node, _), service)| (node.clone(), service))
                .collect()
        };
        let has = |at: &str, meta: &[(String, String)]| {
            meta.iter().all(|(name, value)| {
                let found = self.nodes[at].0.def.meta.get(name);
                found.is_some_and(|found| **found == **value)
            })
        };
        match query {
            Query::Nodes => (begin, Found::Nodes(self.nodes.keys().map(node).collect())),
            Query::NodeServices(name) => {
                let at = fold(name);
                let found = since(&at).map(|_| NodeServices {
                    node: node(&at),
                    services: services(&at),
                });
                (since(&at), Found::NodeServices(found))
            }
            Query::NodeInfo(name) => {
                let at = fold(name);
                (
                    since(&at),
                    Found::NodeInfos(since(&at).map(|_| info(&at)).into_iter().collect()),
                )
            }
            Query::NodeInfos => (begin, Found::NodeInfos(self.nodes.keys().map(info).collect())),
            Query::Services { node_meta } => {
                let mut found: BTreeMap<String, BTreeSet<Text>> = BTreeMap::new();
                for (_, service) in self.services.iter().filter(|((at, _), _)| has(at, node_meta)) {
                    let tags = found.entry(fold(&service.def.name)).or_default();
                    tags.extend(service.def.tags.iter().cloned());
                }
                let listed = found.into_iter().map(|(name, tags)| ServiceTags {
                    name: self.groups[&(false, name)].0.clone(),
                    tags: tags.into_iter().collect(),
                });
                (begin, Found::Services(listed.collect()))
            }
            Query::ServiceNodes { service, connect } => {
                let found = members(service, *connect)
                    .into_iter()
                    .map(|(at, service)| ServiceNode {
                        node: node(&at),
                        service: Arc::new(service.clone()),
                    });
                (group(*connect, service), Found::ServiceNodes(found.collect()))
            }
            Query::HealthNode(name) => {
                let at = fold(name);
                (since(&at), Found::Checks(checks(&|node, _| node == at)))
            }
            Query::HealthChecks { service, node_meta } => {
                let wanted = |node: &str, check: &CheckRecord| {
                    fold(&check.service_name) == fold(service) && has(node, node_meta)
                };
                (group(false, service), Found::Checks(checks(&wanted)))
            }
            Query::HealthService { service, connect } => {
                let found = members(service, *connect).into_iter().map(|(at, service)| {
                    let of = |id: &str| {
                        checks(&|node, check| node == at && fold(&check.def.service_id) == fold(id))
                    };
                    Instance {
                        node: node(&at),
                        service: Arc::new(service.clone()),
                        checks: [of(""), of(&service.def.id)].concat(),
                    }
                });
                (group(*connect, service), Found::Instances(found.collect()))
            }
            Query::HealthState { status, node_meta } => {
                let wanted = |node: &str, check: &CheckRecord| {
                    status.is_none_or(|status| check.def.status == status) && has(node, node_meta)
                };
                (begin, Found::Checks(checks(&wanted)))
            }
            Query::KvGet(_)
            | Query::KvList(_)
            | Query::KvKeys { .. }
            | Query::Autopilot
            | Query::Coordinates
            | Query::Coordinate(_) => unreachable!("they have a model of their own"),
        }
    }
}

/// The name by which an instance is found.
fn found_by(def: &ServiceDef, connect: bool) -> Option<Text> {
    if !connect {
        return Some(def.name.clone());
    }
    let part = def.connect.as_ref()?;
    match (&*def.kind, part.native) {
        ("connect-proxy", _) => (!part.destination.is_empty()).then(|| part.destination.clone()),
        (_, native) => native.then(|| def.name.clone()),
    }
}

fn health(service: &str, connect: bool) -> Query {
    Query::HealthService {
        service: service.to_owned(),
        connect,
    }
}

const NODES: [&str; 5] = ["n", "N", "m", "nn", ""];
const SERVICES: [&str; 4] = ["web", "WEB", "db", "we"];

fn queries() -> Vec<Query> {
    let metas = [vec![], vec![("k".to_owned(), "v".to_owned())]];
    let mut queries = vec![Query::Nodes, Query::NodeInfos];
    for name in NODES.map(str::to_owned) {
        queries.extend([
            Query::NodeServices(name.clone()),
            Query::NodeInfo(name.clone()),
            Query::HealthNode(name),
        ]);
    }
    for connect in [false, true] {
        for service in SERVICES.map(str::to_owned) {
            queries.push(health(&service, connect));
            queries.push(Query::ServiceNodes { service, connect });
        }
    }
    for node_meta in metas {
        for service in SERVICES.map(str::to_owned) {
            let node_meta = node_meta.clone();
            queries.push(Query::HealthChecks { service, node_meta });
        }
        for status in [
            None,
            Some(Status::Passing),
            Some(Status::Warning),
            Some(Status::Critical),
        ] {
            let node_meta = node_meta.clone();
            queries.push(Query::HealthState { status, node_meta });
        }
        queries.push(Query::Services { node_meta });
    }
    queries
}

fn one_of(texts: &'static [&'static str]) -> impl Strategy<Value = Text> {
    prop::sample::select(texts).prop_map(Text::from)
}

fn node() -> impl Strategy<Value = NodeDef> {
    let id = prop::option::of((1..3_u128).prop_map(NodeId));
    let address = one_of(&["1", "1", "2", ""]);
    (
        id,
        one_of(&["n", "n", "N", "m", "nn", ""]),
        address,
        any::<bool>(),
    )
        .prop_map(|(id, name, address, meta)| NodeDef {
            id,
            name,
            address,
            meta: meta.then_some(("k", "v".into())).into_iter().collect(),
            ..NodeDef::default()
        })
}

fn service() -> impl Strategy<Value = ServiceDef> {
    let tags = prop::collection::vec(one_of(&["x", "y", "X"]), 0..3);
    let kind = one_of(&["", "", "connect-proxy"]);
    let connect = (any::<bool>(), one_of(&["", "web", "Db"])).prop_map(|(native, destination)| {
        Arc::new(ConnectDef {
            native,
            destination,
            proxy: "".into(),
        })
    });
    (
        one_of(&["", "a", "A", "b"]),
        one_of(&["web", "web", "WEB", "db", ""]),
        kind,
        tags,
        0..2_u16,
        prop::option::of(connect),
    )
        .prop_map(|(id, name, kind, tags, port, connect)| ServiceDef {
            id,
            name,
            kind,
            tags: tags.into(),
            port,
            connect,
            ..ServiceDef::default()
        })
}

fn check() -> impl Strategy<Value = CheckDef> {
    (
        one_of(&["c", "C", "d", "e", "serfHealth", "serfHealth"]),
        prop::sample::select(&Status::ALL[..]),
        one_of(&["", "o"]),
        one_of(&["", "", "a", "B", "web"]),
    )
        .prop_map(|(id, status, output, service_id)| CheckDef {
            id,
            status,
            output,
            service_id,
            ..CheckDef::default()
        })
}

fn registration() -> impl Strategy<Value = Registration> {
    (
        node(),
        any::<bool>(),
        prop::option::of(service()),
        prop::collection::vec(check(), 0..3),
    )
        .prop_map(|(node, skip_node_update, service, checks)| Registration {
            node,
            skip_node_update,
            service,
            checks,
        })
}

fn deregistration() -> impl Strategy<Value = Deregistration> {
    let what = prop_oneof![
        1 => Just(Removal::Node),
        2 => one_of(&["a", "A", "b", "web", "db"]).prop_map(Removal::Service),
        2 => one_of(&["c", "D", "serfhealth"]).prop_map(Removal::Check),
    ];
    (one_of(&["n", "N", "m", "nn", "zz"]), what).prop_map(|(node, what)| Deregistration { node, what })
}

fn action() -> impl Strategy<Value = Action> {
    let change = prop_oneof![
        2 => registration().prop_map(|registration| CatalogChange::Register(Box::new(registration))),
        1 => deregistration().prop_map(CatalogChange::Deregister),
    ];
    prop_oneof![
        6 => registration().prop_map(|registration| Action::Register(Box::new(registration))),
        2 => deregistration().prop_map(Action::Deregister),
        2 => prop::collection::vec(change, 0..4).prop_map(Action::RegisterMany),
    ]
}

fn all_rows(state: &State) -> Vec<Row> {
    let (rows, rest) = state.export().chunk(&Cursor::start(), usize::MAX);
    assert_eq!(rest, None);
    rows
}

fn rebuilt(rows: impl IntoIterator<Item = Row>, applied: Index) -> State {
    let mut builder = Builder::new();
    rows.into_iter().for_each(|row| builder.add(row).unwrap());
    builder.finish(applied).unwrap()
}

/// Whether an answer says that there is nothing.
fn is_empty(found: &Found) -> bool {
    match found {
        Found::NodeServices(found) => found.is_none(),
        Found::NodeInfos(found) => found.is_empty(),
        Found::ServiceNodes(found) => found.is_empty(),
        Found::Checks(found) => found.is_empty(),
        Found::Instances(found) => found.is_empty(),
        Found::Entry(_)
        | Found::Entries(_)
        | Found::Keys(_)
        | Found::Autopilot(_)
        | Found::Coordinates(_)
        | Found::Nodes(_)
        | Found::Services(_) => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nodes_services_and_checks_are_what_the_model_says(actions in prop::collection::vec((action(), 1..3_u64), 1..24)) {
        let queries = queries();
        let (mut state, mut model) = (State::new(), Model::new(&queries));
        let mut disk = BTreeMap::new();
        let answers = |state: &State| -> Vec<_> { queries.iter().map(|query| state.query(query)).collect() };
        let mut before = answers(&state);
        for (action, gap) in actions {
            let index = Index(state.index().0 + gap);
            let command = command(action);
            prop_assert_eq!(Command::decode(&command.encode()), Ok(command.clone()));
            let (old, mut changes) = (state.clone(), Changes::default());
            let outcome = state.apply(index, &command, &mut changes).unwrap();
            let fine = model.apply(index, &command.action);
            prop_assert_eq!(outcome == DONE, fine, "{:?}", outcome);
            let after = answers(&state);
            for (query, answer) in queries.iter().zip(&after) {
                prop_assert_eq!(answer, &model.query(query), "{:?}", query);
                prop_assert_eq!(Some(answer.0), state.index_of(query));
            }
            prop_assert_eq!(changes.is_empty(), before == after);
            prop_assert_eq!(old.query(&Query::NodeInfos), before[1].clone(), "an earlier state has changed");

            // Indexes never go back; who is woken has news, and who is not has none.
            let mut watches = Watches::new(queries.len());
            for (number, query) in queries.iter().enumerate() {
                watches.subscribe(query.interest(), number).unwrap();
            }
            let mut woken = Vec::new();
            watches.take_touched(&changes.touched, &mut woken);
            let unique: BTreeSet<_> = woken.iter().copied().collect();
            prop_assert_eq!(unique.len(), woken.len(), "somebody was woken twice");
            for (number, query) in queries.iter().enumerate() {
                let (was, is) = (&before[number], &after[number]);
                prop_assert!(was.0 <= is.0, "{:?} went back", query);
                if unique.contains(&number) {
                    prop_assert!(was.0 < is.0, "{:?} was woken for nothing", query);
                } else {
                    prop_assert_eq!(&was.1, &is.1, "{:?} was not woken", query);
                    prop_assert!(was.0 == is.0 || is_empty(&is.1), "{:?} missed an index", query);
                }
            }

            // What goes to disk is the state.
            for Row { table, key, value } in changes.rows {
                match value {
                    Some(value) => disk.insert((table, key), value),
                    None => disk.remove(&(table, key)),
                };
            }
            let rows = disk.iter().map(|((table, key), value): (&(Table, Bytes), &Bytes)| Row {
                table: *table,
                key: key.clone(),
                value: Some(value.clone()),
            });
            prop_assert_eq!(all_rows(&state), rows.collect::<Vec<_>>());
            before = after;
        }
        let again = rebuilt(all_rows(&state).into_iter().rev(), state.index());
        prop_assert_eq!(again.digest(), state.digest());
        prop_assert_eq!(answers(&again), before);

        // A snapshot can be read in small pieces from any place.
        let export = state.export();
        let (mut cursor, mut rows) = (Some(Cursor::start()), Vec::new());
        while let Some(from) = cursor {
            let (chunk, next) = export.chunk(&from, 1);
            rows.extend(chunk);
            cursor = next;
        }
        prop_assert_eq!(rows, all_rows(&state));
    }
}
