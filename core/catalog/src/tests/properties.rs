//! Random histories, each step held against the model and against what the crate promises.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::model::Model;
use super::*;
use crate::{
    AutopilotConfig, Builder, Coordinate, Cursor, Interest, NodeCoordinate, Row, Table, Touched, Watches,
};

/// Keys that are prefixes of each other in many ways.
const KEYS: [&str; 11] = [
    "",
    "a",
    "a/",
    "a/b",
    "a/b/c",
    "a/b/d",
    "a/bc",
    "ab",
    "b",
    "b/x",
    "\u{1f600}",
];
const SEPARATORS: [&str; 4] = ["", "/", "b", "/b"];

/// What a step asks for, before the history says which indexes make sense.
#[derive(Clone, Debug)]
enum Step {
    Write(RawOp),
    Txn(Vec<RawOp>),
    Reap { back: u64 },
    Autopilot { min_quorum: u64, guess: Option<Guess> },
    Coordinates(Vec<(&'static str, &'static str, f64)>),
    Forget(Vec<&'static str>),
}

/// Names of nodes, of which one is a prefix of another and two are the same.
const NODES: [&str; 4] = ["n", "n1", "N1", "web"];

#[derive(Clone, Debug)]
struct RawOp {
    verb: u8,
    key: usize,
    value: &'static str,
    flags: u64,
    session: &'static str,
    guess: Guess,
}

/// The index that a condition names.
#[derive(Clone, Copy, Debug)]
enum Guess {
    Zero,
    Current,
    Stale,
    /// That of the command itself, which earlier operations of its transaction have given to their keys.
    Own,
}

fn guess() -> impl Strategy<Value = Guess> {
    prop::sample::select(vec![
        Guess::Zero,
        Guess::Current,
        Guess::Current,
        Guess::Stale,
        Guess::Own,
    ])
}

fn node() -> impl Strategy<Value = &'static str> {
    prop::sample::select(NODES.to_vec())
}

fn raw_op() -> impl Strategy<Value = RawOp> {
    let session = prop::sample::select(vec![ALICE, ALICE, BOB, BOB, GHOST, "", "x"]);
    let value = prop::sample::select(vec!["", "v", "w"]);
    let flags = prop::sample::select(vec![0, 0, 7]);
    (0..14_u8, 0..KEYS.len(), value, flags, session, guess()).prop_map(
        |(verb, key, value, flags, session, guess)| RawOp {
            verb,
            key,
            value,
            flags,
            session,
            guess,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => raw_op().prop_map(Step::Write),
        4 => prop::collection::vec(raw_op(), 0..6).prop_map(Step::Txn),
        1 => (0..12_u64).prop_map(|back| Step::Reap { back }),
        1 => (0..3_u64, prop::option::of(guess())).prop_map(|(min_quorum, guess)| Step::Autopilot { min_quorum, guess }),
        2 => prop::collection::vec(
            (node(), prop::sample::select(vec!["", "x"]), prop::sample::select(vec![0.0, 0.5])),
            0..4,
        ).prop_map(Step::Coordinates),
        1 => prop::collection::vec(node(), 0..3).prop_map(Step::Forget),
    ]
}

/// The index that a guess stands for, `current` being that of what it is about, `own` that of the command.
fn guessed(guess: Guess, current: Index, own: Index) -> Index {
    match guess {
        Guess::Zero => Index::ZERO,
        Guess::Current => current,
        Guess::Stale => current.prev(),
        Guess::Own => own,
    }
}

fn resolve(raw: &RawOp, model: &Model, index: Index) -> KvTxnOp {
    let key = bytes(KEYS[raw.key]);
    let pair = KvPair {
        key: key.clone(),
        value: bytes(raw.value),
        flags: raw.flags,
    };
    let by = session(raw.session);
    let current = model
        .entries
        .get(&key)
        .map_or(Index::ZERO, |entry| entry.modify_index);
    let expected = guessed(raw.guess, current, index);
    match raw.verb {
        0 => KvTxnOp::Set(pair),
        1 => KvTxnOp::Cas(pair, expected),
        2 => KvTxnOp::Lock(pair, by),
        3 => KvTxnOp::Unlock(pair, by),
        4 => KvTxnOp::Delete(key),
        5 => KvTxnOp::DeleteCas(key, expected),
        6 => KvTxnOp::DeleteTree(key),
        7 => KvTxnOp::Get(key),
        8 => KvTxnOp::GetOrEmpty(key),
        9 => KvTxnOp::GetTree(key),
        10 => KvTxnOp::CheckIndex(key, expected),
        11 => KvTxnOp::CheckSession(key, by),
        12 => {
            let fence = model.entries.get(&key).map_or(0, KvEntry::fence);
            KvTxnOp::CheckFence(key, guessed(raw.guess, Index(fence), index).0)
        }
        _ => KvTxnOp::CheckNotExists(key),
    }
}

fn action(step: &Step, model: &Model, index: Index) -> Action {
    match step {
        Step::Reap { back } => Action::ReapTombstones(Index(index.0.saturating_sub(*back))),
        Step::Autopilot { min_quorum, guess } => Action::SetAutopilot {
            config: AutopilotConfig {
                min_quorum: *min_quorum,
                ..AutopilotConfig::default()
            },
            cas: guess.map(|guess| guessed(guess, model.query(&Query::Autopilot).0, index)),
        },
        Step::Coordinates(updates) => Action::Coordinates(
            updates
                .iter()
                .map(|(node, segment, height)| NodeCoordinate {
                    node: (*node).to_owned(),
                    segment: (*segment).to_owned(),
                    coordinate: Coordinate::new([0.0; 8], 0.0, 0.0, *height).unwrap(),
                })
                .collect(),
        ),
        Step::Forget(nodes) => {
            Action::ForgetCoordinates(nodes.iter().map(|node| (*node).to_owned()).collect())
        }
        Step::Txn(ops) => Action::Txn(
            ops.iter()
                .map(|raw| TxnOp::Kv(resolve(raw, model, index)))
                .collect(),
        ),
        Step::Write(raw) => Action::Kv(match resolve(raw, model, index) {
            KvTxnOp::Cas(pair, expected) => KvWrite::Cas(pair, expected),
            KvTxnOp::Lock(pair, by) => KvWrite::Lock(pair, by),
            KvTxnOp::Unlock(pair, by) => KvWrite::Unlock(pair, by),
            KvTxnOp::Delete(key) => KvWrite::Delete(key),
            KvTxnOp::DeleteCas(key, expected) => KvWrite::DeleteCas(key, expected),
            KvTxnOp::DeleteTree(key) => KvWrite::DeleteTree(key),
            // Verbs that only transactions have become plain sets.
            KvTxnOp::Set(_)
            | KvTxnOp::Get(_)
            | KvTxnOp::GetOrEmpty(_)
            | KvTxnOp::GetTree(_)
            | KvTxnOp::CheckIndex(..)
            | KvTxnOp::CheckSession(..)
            | KvTxnOp::CheckFence(..)
            | KvTxnOp::CheckNotExists(_) => {
                let key = bytes(KEYS[raw.key]);
                KvWrite::Set(KvPair {
                    key,
                    value: bytes(raw.value),
                    flags: raw.flags,
                })
            }
        }),
    }
}

/// Everything that can be asked.
fn queries() -> Vec<Query> {
    let mut queries = vec![Query::Autopilot, Query::Coordinates];
    queries.extend(NODES.map(|node| Query::Coordinate(node.to_owned())));
    for key in KEYS {
        queries.push(Query::KvGet(bytes(key)));
        queries.push(Query::KvList(bytes(key)));
        for separator in SEPARATORS {
            queries.push(Query::KvKeys {
                prefix: bytes(key),
                separator: bytes(separator),
            });
        }
    }
    queries
}

fn answers(state: &State, queries: &[Query]) -> Vec<(Index, Found)> {
    queries.iter().map(|query| state.query(query)).collect()
}

fn all_rows(state: &State) -> Vec<Row> {
    let (rows, rest) = state.export().chunk(&Cursor::start(), usize::MAX);
    assert_eq!(rest, None);
    rows
}

fn rebuilt(rows: impl IntoIterator<Item = Row>, applied: Index) -> State {
    let mut builder = Builder::new();
    builder.assumed = assumed();
    rows.into_iter().for_each(|row| builder.add(row).unwrap());
    builder.finish(applied).unwrap()
}

/// Rows as a disk keeps them.
#[derive(Default)]
struct Disk(BTreeMap<(Table, Bytes), Bytes>);

impl Disk {
    fn write(&mut self, rows: &[Row]) {
        for Row { table, key, value } in rows.iter().cloned() {
            match value {
                Some(value) => self.0.insert((table, key), value),
                None => self.0.remove(&(table, key)),
            };
        }
    }

    fn rows(&self) -> Vec<Row> {
        let row = |((table, key), value): (&(Table, Bytes), &Bytes)| Row {
            table: *table,
            key: key.clone(),
            value: Some(value.clone()),
        };
        self.0.iter().map(row).collect()
    }
}

/// The interests whose watchers a step woke.
fn wake(watches: &mut Watches<usize>, touched: &Touched) -> Vec<usize> {
    let mut woken = Vec::new();
    watches.take_touched(touched, &mut woken);
    let count = woken.len();
    woken.sort_unstable();
    woken.dedup();
    assert_eq!(woken.len(), count, "a watcher was woken twice");
    woken
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_state_does_what_the_model_does(steps in prop::collection::vec((step(), 1..3_u64), 1..40)) {
        let queries = queries();
        let (mut state, mut model) = (with_sessions(State::new()), Model::default());
        let (mut disk, mut batched) = (Disk::default(), Changes::default());
        let mut before = answers(&state, &queries);
        for (step, gap) in steps {
            let index = Index(state.index().0 + gap);
            let command = command(action(&step, &model, index));
            prop_assert_eq!(Command::decode(&command.encode()), Ok(command.clone()));

            // Its outcome and all answers are the model's.
            let old = state.clone();
            let mut changes = Changes::default();
            let outcome = state.apply(index, &command, &mut changes);
            prop_assert_eq!(outcome, Ok(model.apply(index, &command.action)));
            let after = answers(&state, &queries);
            for (query, answer) in queries.iter().zip(&after) {
                prop_assert_eq!(answer, &model.query(query), "{:?}", query);
            }

            // What changed nothing reports nothing; what changed something keeps one index for it.
            let reap = matches!(command.action, Action::ReapTombstones(_));
            let counters = |state: &State| {
                [state.kv.index, state.coordinates.index, state.autopilot.get().0]
            };
            let same = counters(&old) == counters(&state);
            for (was, is) in counters(&old).into_iter().zip(counters(&state)) {
                prop_assert!(was == is || is == index);
            }
            prop_assert_eq!(changes.touched.is_empty(), same);
            prop_assert!(reap || changes.is_empty() == same);

            // Indexes never go back, but by reaping.
            for ((was, _), (is, _)) in before.iter().zip(&after) {
                prop_assert!(reap || was <= is);
            }

            // Watchers wake if their answer changed, and only if it or its index did.
            let mut watches = Watches::new(queries.len());
            for (number, query) in queries.iter().enumerate() {
                watches.subscribe(query.interest(), number).unwrap();
            }
            let woken = wake(&mut watches, &changes.touched);
            for (number, query) in queries.iter().enumerate() {
                let (was, is) = (&before[number], &after[number]);
                if woken.contains(&number) {
                    prop_assert_ne!(was, is, "{:?} was woken for nothing", query);
                } else {
                    prop_assert_eq!(&was.1, &is.1, "{:?} was not woken", query);
                    // Nothing found, and other keys moved the table's index; or a tombstone was reaped.
                    let nothing = matches!(&is.1, Found::Entry(None))
                        || matches!(&is.1, Found::Entries(found) if found.is_empty())
                        || matches!(&is.1, Found::Keys(found) if found.is_empty())
                        || matches!(&is.1, Found::Coordinates(found) if found.is_empty());
                    prop_assert!(was.0 == is.0 || nothing || reap, "{:?} missed an index", query);
                }
            }

            // Rows of many commands in one batch end up the same as one by one.
            disk.write(&changes.rows);
            state_rows_match(&state, &disk)?;
            old.clone().apply(index, &command, &mut batched).unwrap();
            before = after;
        }
        let mut late = Disk::default();
        late.write(&batched.rows);
        prop_assert_eq!(late.rows(), disk.rows());

        // A restart from these rows, and from an export, is the same state.
        for rows in [disk.rows(), all_rows(&state)] {
            let again = rebuilt(rows, state.index());
            prop_assert_eq!(again.digest(), state.digest());
            prop_assert_eq!(answers(&again, &queries), before.clone());
        }
    }

    #[test]
    fn an_export_can_be_read_in_chunks_from_any_cursor(
        steps in prop::collection::vec(step(), 1..40),
        max_bytes in 0..200_usize,
    ) {
        let (mut state, mut model) = (with_sessions(State::new()), Model::default());
        for step in steps {
            let index = state.index().next();
            let action = action(&step, &model, index);
            model.apply(index, &action);
            apply(&mut state, index.0, action);
        }
        let export = state.export();
        let expected = all_rows(&state);
        let digest = state.digest();
        apply(&mut state, export.index().0 + 1, Action::Kv(KvWrite::DeleteTree(Key::new())));
        let (mut cursors, mut rows) = (vec![Cursor::start()], Vec::new());
        while let Some(from) = cursors.get(rows.len()) {
            let (chunk, next) = export.chunk(from, max_bytes);
            prop_assert!(chunk.len() == 1 || chunk.iter().map(Row::size).sum::<usize>() <= max_bytes || expected.is_empty());
            rows.push(chunk);
            cursors.extend(next);
        }
        prop_assert_eq!(rows.concat(), expected.clone());
        for (at, from) in cursors.iter().enumerate() {
            prop_assert_eq!(&export.chunk(from, max_bytes).0, &rows[at]);
            prop_assert_eq!(export.chunk(from, usize::MAX).0, rows[at..].concat());
        }
        prop_assert_eq!(rebuilt(expected, export.index()).digest(), digest);
    }

    #[test]
    fn hostile_bytes_are_refused_or_a_command(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let versioned = [&[1][..], &bytes].concat();
        if let Ok(command) = Command::decode(&versioned) {
            prop_assert_eq!(Command::decode(&command.encode()), Ok(command));
        }
    }
}

fn state_rows_match(state: &State, disk: &Disk) -> Result<(), TestCaseError> {
    prop_assert_eq!(all_rows(state), disk.rows());
    Ok(())
}

#[test]
fn a_query_says_what_it_depends_on() {
    let keys = |prefix: &str| Query::KvKeys {
        prefix: bytes(prefix),
        separator: bytes("/"),
    };
    assert_eq!(Query::KvGet(bytes("a")).interest(), Interest::KvKey(bytes("a")));
    assert_eq!(Query::KvGet(bytes("")).interest(), Interest::KvKey(bytes("")));
    assert_eq!(
        Query::KvList(bytes("a")).interest(),
        Interest::KvPrefix(bytes("a"))
    );
    assert_eq!(Query::KvList(bytes("")).interest(), Interest::KvTable);
    assert_eq!(keys("a").interest(), Interest::KvPrefix(bytes("a")));
    assert_eq!(keys("").interest(), Interest::KvTable);
    assert_eq!(Query::Autopilot.interest(), Interest::Autopilot);
    assert_eq!(Query::Coordinates.interest(), Interest::Coordinates);
    assert_eq!(
        Query::Coordinate("N1".to_owned()).interest(),
        Interest::Coordinate(bytes("n1"))
    );
}
