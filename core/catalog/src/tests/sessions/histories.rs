//! Long histories of sessions, locks and what they depend on, beside a naive program.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::tests::discovery::{rebuilt, rows};
use crate::{CatalogChange, Deregistration};

const NODES: [&str; 2] = ["n", "m"];
const CHECKS: [&str; 3] = ["c", "d", "e"];
const KEYS: [&str; 4] = ["a", "a/b", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    Node(usize),
    RemoveNode(usize),
    Check(usize, usize, Status),
    RemoveCheck(usize, usize),
    Create {
        id: u128,
        node: usize,
        checks: Vec<usize>,
        delete: bool,
        delay: bool,
    },
    End(Vec<u128>),
    Lock(usize, u128),
    Unlock(usize, u128),
    Set(usize),
    Delete(usize),
    DeleteTree(usize),
    EndDelays(bool),
    Many(Vec<Step>),
}

fn small_step() -> impl Strategy<Value = Step> {
    let status = prop::sample::select(vec![Status::Passing, Status::Warning, Status::Critical]);
    prop_oneof![
        2 => (0..2_usize).prop_map(Step::Node),
        1 => (0..2_usize).prop_map(Step::RemoveNode),
        4 => (0..2_usize, 0..3_usize, status).prop_map(|(node, check, status)| Step::Check(node, check, status)),
        1 => (0..2_usize, 0..3_usize).prop_map(|(node, check)| Step::RemoveCheck(node, check)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let create = (
        1..6_u128,
        0..2_usize,
        prop::collection::vec(0..3_usize, 0..3),
        any::<bool>(),
        any::<bool>(),
    );
    prop_oneof![
        6 => small_step(),
        1 => prop::collection::vec(small_step(), 0..4).prop_map(Step::Many),
        6 => create.prop_map(|(id, node, checks, delete, delay)| Step::Create { id, node, checks, delete, delay }),
        1 => prop::collection::vec(1..6_u128, 0..3).prop_map(Step::End),
        8 => (0..4_usize, 1..6_u128).prop_map(|(key, id)| Step::Lock(key, id)),
        2 => (0..4_usize, 1..6_u128).prop_map(|(key, id)| Step::Unlock(key, id)),
        1 => (0..4_usize).prop_map(Step::Set),
        1 => (0..4_usize).prop_map(Step::Delete),
        1 => (0..4_usize).prop_map(Step::DeleteTree),
        3 => any::<bool>().prop_map(Step::EndDelays),
    ]
}

/// What a naive program knows: who lives, on what, who holds which key, and what is kept from all.
#[derive(Clone, Debug, Default)]
struct Model {
    /// Checks and how well they are, by node.
    nodes: BTreeMap<usize, BTreeMap<usize, Status>>,
    sessions: BTreeMap<u128, Living>,
    /// Keys that exist, and who holds them.
    keys: BTreeMap<usize, Option<u128>>,
    delayed: BTreeSet<usize>,
    fences: BTreeMap<usize, u64>,
    highest: u64,
}

#[derive(Clone, Debug)]
struct Living {
    node: usize,
    checks: Vec<usize>,
    delete: bool,
    delay: bool,
}

impl Model {
    fn apply(&mut self, index: u64, step: &Step) -> bool {
        match step {
            Step::Node(node) => {
                self.nodes.entry(*node).or_default();
            }
            Step::RemoveNode(node) => {
                self.nodes.remove(node);
            }
            Step::Check(node, check, status) => {
                let Some(checks) = self.nodes.get_mut(node) else {
                    // Registering a check brings its node along.
                    self.nodes.entry(*node).or_default().insert(*check, *status);
                    self.settle();
                    return true;
                };
                checks.insert(*check, *status);
            }
            Step::RemoveCheck(node, check) => {
                if let Some(checks) = self.nodes.get_mut(node) {
                    checks.remove(check);
                }
            }
            Step::Create {
                id,
                node,
                checks,
                delete,
                delay,
            } => {
                let living = Living {
                    node: *node,
                    checks: checks.clone(),
                    delete: *delete,
                    delay: *delay,
                };
                if !self.is_grounded(&living) || self.sessions.contains_key(id) {
                    return false;
                }
                self.sessions.insert(*id, living);
            }
            Step::End(ids) => ids.iter().for_each(|id| self.end(*id)),
            Step::Lock(key, id) => {
                if self.delayed.contains(key) || !self.sessions.contains_key(id) {
                    return false;
                }
                match self.keys.get(key).copied().flatten() {
                    Some(holder) if holder == *id => {}
                    Some(_) => return false,
                    None => {
                        self.highest = index.max(self.highest + 1);
                        self.fences.insert(*key, self.highest);
                        self.keys.insert(*key, Some(*id));
                    }
                }
            }
            Step::Unlock(key, id) => {
                if self.keys.get(key) != Some(&Some(*id)) {
                    return false;
                }
                self.keys.insert(*key, None);
            }
            Step::Set(key) => {
                self.keys.entry(*key).or_default();
            }
            Step::Delete(key) => {
                self.keys.remove(key);
            }
            Step::DeleteTree(key) => self.keys.retain(|other, _| !KEYS[*other].starts_with(KEYS[*key])),
            Step::EndDelays(all) => {
                let first = self.delayed.first().copied();
                self.delayed.retain(|key| !all && Some(*key) != first);
            }
            Step::Many(steps) => {
                for step in steps {
                    self.apply(index, step);
                }
            }
        }
        self.settle();
        true
    }

    fn is_grounded(&self, living: &Living) -> bool {
        let Some(checks) = self.nodes.get(&living.node) else {
            return false;
        };
        let well = |check: &usize| {
            checks
                .get(check)
                .is_some_and(|status| *status != Status::Critical)
        };
        living.checks.iter().all(well)
    }

    fn settle(&mut self) {
        let lost: Vec<u128> = self
            .sessions
            .iter()
            .filter(|(_, living)| !self.is_grounded(living))
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            self.end(id);
        }
    }

    fn end(&mut self, id: u128) {
        let Some(living) = self.sessions.remove(&id) else {
            return;
        };
        for (key, holder) in self.keys.clone() {
            if holder == Some(id) {
                if living.delete {
                    self.keys.remove(&key);
                } else {
                    self.keys.insert(key, None);
                }
                if living.delay {
                    self.delayed.insert(key);
                }
            }
        }
    }
}

fn change(step: &Step) -> CatalogChange {
    let removal = |node: usize, what| {
        CatalogChange::Deregister(Deregistration {
            node: NODES[node].into(),
            what,
        })
    };
    match step {
        Step::Node(at) => CatalogChange::Register(Box::new(of_node(node(NODES[*at], "1.1.1.1")))),
        Step::RemoveNode(node) => removal(*node, Removal::Node),
        Step::Check(at, which, status) => {
            let mut registration = of_node(node(NODES[*at], "1.1.1.1"));
            registration.checks = vec![check(CHECKS[*which], "", *status)];
            CatalogChange::Register(Box::new(registration))
        }
        Step::RemoveCheck(node, check) => removal(*node, Removal::Check(CHECKS[*check].into())),
        Step::Create { .. }
        | Step::End(_)
        | Step::Lock(..)
        | Step::Unlock(..)
        | Step::Set(_)
        | Step::Delete(_)
        | Step::DeleteTree(_)
        | Step::EndDelays(_)
        | Step::Many(_) => unreachable!("{step:?} is no change of the catalog"),
    }
}

fn action(step: &Step, state: &State) -> Action {
    let key = |key: &usize| bytes(KEYS[*key]);
    let by = |id: &u128| SessionRef(SessionId(*id).to_string());
    match step {
        Step::Node(_) | Step::RemoveNode(_) | Step::Check(..) | Step::RemoveCheck(..) => match change(step) {
            CatalogChange::Register(registration) => Action::Register(registration),
            CatalogChange::Deregister(deregistration) => Action::Deregister(deregistration),
        },
        Step::Many(steps) => Action::RegisterMany(steps.iter().map(change).collect()),
        Step::Create {
            id,
            node,
            checks,
            delete,
            delay,
        } => Action::CreateSession(Box::new(SessionDef {
            node: NODES[*node].to_uppercase().into(),
            node_checks: Some(checks.iter().map(|check| CHECKS[*check].into()).collect()),
            behavior: if *delete {
                Behavior::Delete
            } else {
                Behavior::Release
            },
            lock_delay_nanos: if *delay { seconds(15) } else { 0 },
            ..def(*id)
        })),
        Step::End(ids) => Action::EndSessions(ids.iter().map(|id| SessionId(*id)).collect()),
        Step::Lock(at, id) => Action::Kv(KvWrite::Lock(pair(KEYS[*at], "v"), by(id))),
        Step::Unlock(at, id) => Action::Kv(KvWrite::Unlock(pair(KEYS[*at], "w"), by(id))),
        Step::Set(at) => Action::Kv(KvWrite::Set(pair(KEYS[*at], "x"))),
        Step::Delete(at) => Action::Kv(KvWrite::Delete(key(at))),
        Step::DeleteTree(at) => Action::Kv(KvWrite::DeleteTree(key(at))),
        Step::EndDelays(all) => {
            let delays = state.lock_delays().map(|(key, delay)| (key.clone(), delay.since));
            Action::EndLockDelays(delays.take(if *all { usize::MAX } else { 1 }).collect())
        }
    }
}

fn happened(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Done(done) => *done,
        Outcome::Session(_) | Outcome::Prepared(_) => true,
        Outcome::Refused(_) | Outcome::Txn(_) => false,
    }
}

/// Every session, key and delay as the state has them.
fn compare(state: &State, model: &Model) -> Result<(), TestCaseError> {
    let sessions: Vec<u128> = state.sessions().map(|session| session.def.id.0).collect();
    prop_assert_eq!(&sessions, &model.sessions.keys().copied().collect::<Vec<_>>());
    for (at, name) in NODES.iter().enumerate() {
        let (_, found) = state.query(&Query::NodeSessions((*name).to_owned()));
        let here = model.sessions.iter().filter(|(_, living)| living.node == at);
        let Found::Sessions(found) = found else {
            panic!("not sessions")
        };
        let found: Vec<u128> = found.iter().map(|session| session.def.id.0).collect();
        prop_assert_eq!(found, here.map(|(id, _)| *id).collect::<Vec<_>>());
    }
    for (at, name) in KEYS.iter().enumerate() {
        let (_, found) = state.query(&Query::KvGet(bytes(name)));
        let Found::Entry(entry) = found else {
            panic!("not an entry")
        };
        let holder = entry.as_ref().map(|entry| entry.session().map(str::to_owned));
        let expected = model.keys.get(&at);
        let expected = expected.map(|holder| holder.map(|id| SessionId(id).to_string()));
        prop_assert_eq!(&holder, &expected, "{}", name);
        if let Some(Some(_)) = expected {
            prop_assert_eq!(entry.map(|entry| entry.fence()), model.fences.get(&at).copied());
        }
        prop_assert_eq!(
            state.lock_delay(&bytes(name)).is_some(),
            model.delayed.contains(&at)
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn sessions_do_what_the_model_does(steps in prop::collection::vec(step(), 1..80)) {
        let (mut state, mut model) = (State::new(), Model::default());
        let mut disk = BTreeMap::new();
        let mut queries = vec![Query::Sessions];
        queries.extend((1..6).map(|id| Query::Session(SessionId(id))));
        queries.extend(NODES.map(|node| Query::NodeSessions(node.to_owned())));
        for step in steps {
            let index = state.index().next();
            let command = command(action(&step, &state));
            prop_assert_eq!(Command::decode(&command.encode()), Ok(command.clone()));
            let before: Vec<_> = queries.iter().map(|query| state.query(query)).collect();
            let mut changes = Changes::default();
            let outcome = state.apply(index, &command, &mut changes).unwrap();
            let expected = model.apply(index.0, &step);
            prop_assert_eq!(happened(&outcome), expected, "{:?}: {:?}", step, outcome);
            compare(&state, &model)?;

            // Whoever waits is woken when the answer changed, and only then; no index goes back.
            let mut watches = Watches::new(queries.len());
            for (number, query) in queries.iter().enumerate() {
                watches.subscribe(query.interest(), number).unwrap();
            }
            let mut woken = Vec::new();
            watches.take_touched(&changes.touched, &mut woken);
            for (number, query) in queries.iter().enumerate() {
                let (was, is) = (&before[number], state.query(query));
                prop_assert!(was.0 <= is.0, "{:?} went back", query);
                // A session may come and go within one command, or go and come.
                prop_assert!(was.1 == is.1 || woken.contains(&number), "{:?} was not woken", query);
                prop_assert!(was.0 < is.0 || !woken.contains(&number), "{:?} was woken for nothing", query);
            }

            // The rows tell it all.
            for Row { table, key, value } in changes.rows {
                match value {
                    Some(value) => disk.insert((table, key), value),
                    None => disk.remove(&(table, key)),
                };
            }
            let stored: Vec<Row> = disk
                .iter()
                .map(|((table, key), value)| Row { table: *table, key: key.clone(), value: Some(value.clone()) })
                .collect();
            prop_assert_eq!(&stored, &rows(&state));
            let again = rebuilt(stored, state.index());
            let again = again.map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(again.digest(), state.digest());
            compare(&again, &model)?;
            // What was rebuilt goes on as the other does.
            state = again;
        }
    }
}
