//! A state that gives way to one from an archive.

use super::discovery::{node, of_node, register};
use super::*;
use crate::{
    ApplyError, Builder, Cursor, Export, IdempotencyKey, MAX_ARCHIVE_INDEX, Once, Query, RestoreId,
    RestoreStep, Row, RunOut, SessionDef, Table, Touched, encode_chunk,
};

const ID: RestoreId = RestoreId(7);

/// An archive: its index, and its chunks.
#[derive(Clone)]
struct Archive {
    index: Index,
    chunks: Vec<Bytes>,
}

impl Archive {
    fn of(state: &State) -> Self {
        let state = state.for_archive();
        Self {
            index: state.index(),
            chunks: chunks(&state.export()),
        }
    }

    fn of_rows(index: u64, rows: &[Row]) -> Self {
        Self {
            index: Index(index),
            chunks: vec![encode_chunk(rows).unwrap()],
        }
    }

    fn begin(&self, id: RestoreId) -> Action {
        let index = self.index;
        Action::Restore(RestoreStep::Begin { id, index })
    }

    fn chunk(&self, id: RestoreId, number: usize) -> Action {
        Action::Restore(RestoreStep::Chunk {
            id,
            number: number as u64,
            rows: self.chunks[number].clone(),
        })
    }

    fn finish(&self, id: RestoreId) -> Action {
        let chunks = self.chunks.len() as u64;
        Action::Restore(RestoreStep::Finish { id, chunks })
    }

    fn steps(&self, id: RestoreId) -> Vec<Action> {
        let chunks = (0..self.chunks.len()).map(|number| self.chunk(id, number));
        [self.begin(id)]
            .into_iter()
            .chain(chunks)
            .chain([self.finish(id)])
            .collect()
    }
}

fn chunks(export: &Export) -> Vec<Bytes> {
    let (mut from, mut chunks) = (Cursor::start(), Vec::new());
    loop {
        let (rows, next) = export.chunk(&from, 60);
        chunks.push(encode_chunk(&rows).unwrap());
        match next {
            Some(next) => from = next,
            None => return chunks,
        }
    }
}

/// The rows of a state, as an archive has them.
fn all_rows(state: &State) -> Vec<Row> {
    state.for_archive().export().chunk(&Cursor::start(), usize::MAX).0
}

/// The same state after it was written to disk and read again.
fn restarted(state: &State) -> State {
    let (rows, _) = state.export().chunk(&Cursor::start(), usize::MAX);
    let mut builder = Builder::new();
    for row in rows {
        builder.add(row).unwrap();
    }
    builder.finish(state.index()).unwrap()
}

/// A state without the sessions that tests assume, which no archive has.
fn bench() -> Bench {
    Bench {
        state: State::new(),
        changes: Changes::default(),
    }
}

fn filled(keys: std::ops::Range<u32>) -> Bench {
    let mut bench = bench();
    for key in keys {
        bench.set(&format!("key-{key:03}"), "a value");
    }
    bench
}

#[test]
fn an_archive_takes_the_place_of_everything() {
    let mut source = filled(0..50);
    source.apply(Action::Register(Box::new(commands::registration())));
    source.delete("key-007");
    let archive = Archive::of(&source.state);
    assert!(archive.chunks.len() > 10);

    let mut bench = filled(40..45);
    bench.set("other", "value");
    for step in archive.steps(ID) {
        assert_eq!(
            bench.get("key-001"),
            None,
            "nothing of it is there before its end"
        );
        assert!(bench.get("other").is_some());
        assert!(!bench.changes.replaced);
        assert_eq!(bench.apply(step), DONE);
    }
    assert_eq!(
        bench.changes,
        Changes {
            rows: Vec::new(),
            touched: Touched::All,
            replaced: true
        }
    );
    assert_eq!(bench.get("other"), None);
    assert_eq!(bench.get("key-007"), None);
    assert_eq!(all_rows(&bench.state), all_rows(&source.state));
    assert_eq!(bench.state.restoring(), None);
    let nodes = |bench: &Bench| bench.state.query(&Query::Nodes).1;
    assert_eq!(nodes(&bench), nodes(&source));
}

#[test]
fn what_is_written_meanwhile_is_done_and_then_gone() {
    let archive = Archive::of(&filled(0..5).state);
    let mut bench = filled(0..3);
    for (number, step) in archive.steps(ID).into_iter().enumerate() {
        bench.set("meanwhile", &number.to_string());
        assert_eq!(bench.apply(step), DONE);
    }
    assert_eq!(bench.get("meanwhile"), None);
    bench.set("afterwards", "");
    assert!(bench.get("afterwards").is_some());
}

#[test]
fn indexes_never_go_back_wherever_the_archive_is_from() {
    let (few, many) = (filled(0..3), filled(0..200));
    for (mut bench, source) in [(filled(0..200), &few), (filled(0..3), &many)] {
        bench.set("key-001", "now");
        bench.delete("key-002");
        let archive = Archive::of(&source.state);
        let before = |bench: &Bench| {
            let keys = ["key-001", "key-002", "nothing"].map(|key| bench.index_of_key(key));
            let prefixes = ["", "key", "no"].map(|prefix| bench.index_of(prefix));
            let others = [Query::Nodes, Query::Autopilot, Query::Coordinates].map(|query| {
                let index = bench.state.query(&query).0;
                assert_eq!(bench.state.index_of(&query), Some(index));
                index.0
            });
            [keys, prefixes, others].concat()
        };
        let old = before(&bench);
        for step in archive.steps(ID) {
            bench.apply(step);
        }
        let restored = bench.state.revision().0;
        assert!(restored > old.iter().copied().max().unwrap() && restored > archive.index.0);
        assert_eq!(
            before(&bench),
            vec![restored; old.len()],
            "whoever waits gets an answer"
        );
        // What it had, it has as it was.
        let original = source.get("key-001").unwrap();
        assert_eq!(bench.get("key-001").unwrap(), original);
        // And what is written now is newer than everything.
        bench.set("key-001", "then");
        assert_eq!(bench.get("key-001").unwrap().modify_index.0, restored + 1);
        assert_eq!(bench.index_of_key("key-001"), restored + 1);
        assert_eq!(bench.index_of("key"), restored + 1);
        assert_eq!(bench.index_of_key("key-000"), restored);
        // A restart changes nothing of that.
        let again = restarted(&bench.state);
        assert_eq!(again.digest(), bench.state.digest());
        assert_eq!(again.revision(), bench.state.revision());
    }
}

#[test]
fn a_state_that_was_restored_is_restored_again() {
    let mut bench = filled(0..3);
    let first = Archive::of(&filled(0..100).state);
    first
        .steps(ID)
        .into_iter()
        .for_each(|step| assert_eq!(bench.apply(step), DONE));
    let once = bench.state.revision();
    let second = Archive::of(&bench.state);
    assert_eq!(second.index, once);
    bench.set("lost", "");
    let expected = all_rows(&bench.state);
    let steps = second.steps(RestoreId(8));
    for step in steps {
        assert_eq!(bench.apply(step), DONE);
    }
    assert_ne!(all_rows(&bench.state), expected);
    assert!(bench.state.revision() > once);
    assert_eq!(bench.get("lost"), None);
    assert!(bench.get("key-099").is_some());
}

#[test]
fn a_step_that_comes_twice_does_nothing_the_second_time() {
    let archive = Archive::of(&filled(0..20).state);
    let mut bench = filled(0..3);
    for step in archive.steps(ID) {
        assert_eq!(bench.apply(step.clone()), DONE);
        let digest = (bench.state.restoring(), all_rows(&bench.state));
        assert_eq!(bench.apply(step), DONE);
        assert!(!bench.changes.replaced, "once is enough");
        assert_eq!((bench.state.restoring(), all_rows(&bench.state)), digest);
    }
    bench.set("since", "");
    assert_eq!(bench.apply(archive.finish(ID)), DONE);
    assert!(bench.get("since").is_some());
}

#[test]
fn steps_out_of_order_are_refused() {
    let archive = Archive::of(&filled(0..20).state);
    let mut bench = filled(0..3);
    let superseded =
        refused("another archive is being restored, or this one was given up; nothing was changed");
    assert_eq!(bench.apply(archive.chunk(ID, 0)), superseded);
    assert_eq!(bench.apply(archive.finish(ID)), superseded);
    bench.apply(archive.begin(ID));
    assert_eq!(
        bench.apply(archive.chunk(ID, 1)),
        refused("a part of the archive is missing before this one")
    );
    bench.apply(archive.chunk(ID, 0));
    assert_eq!(
        bench.apply(archive.finish(ID)),
        refused("a part of the archive is missing")
    );
    let high = Action::Restore(RestoreStep::Begin {
        id: RestoreId(8),
        index: MAX_ARCHIVE_INDEX.next(),
    });
    assert!(matches!(bench.apply(high), Outcome::Refused(_)));
    assert_eq!(bench.state.restoring(), Some((ID, 1)), "nothing has changed");
}

#[test]
fn the_archive_that_begins_last_wins() {
    let first = Archive::of(&filled(0..20).state);
    let second = Archive::of(&filled(50..60).state);
    let mut bench = filled(0..3);
    bench.apply(first.begin(ID));
    (0..3).for_each(|number| assert_eq!(bench.apply(first.chunk(ID, number)), DONE));
    assert_eq!(bench.apply(second.begin(RestoreId(8))), DONE);
    assert!(matches!(bench.apply(first.chunk(ID, 3)), Outcome::Refused(_)));
    assert!(matches!(bench.apply(first.finish(ID)), Outcome::Refused(_)));
    for number in 0..second.chunks.len() {
        assert_eq!(bench.apply(second.chunk(RestoreId(8), number)), DONE);
    }
    assert_eq!(bench.apply(second.finish(RestoreId(8))), DONE);
    assert!(bench.get("key-055").is_some() && bench.get("key-001").is_none());
}

#[test]
fn an_archive_that_is_given_up_leaves_nothing_behind() {
    let archive = Archive::of(&filled(0..20).state);
    let mut bench = filled(0..3);
    let before = all_rows(&bench.state);
    bench.apply(archive.begin(ID));
    (0..3).for_each(|number| assert_eq!(bench.apply(archive.chunk(ID, number)), DONE));
    assert_eq!(
        bench.apply(Action::Restore(RestoreStep::Abandon(RestoreId(8)))),
        DONE
    );
    assert_eq!(bench.state.restoring(), Some((ID, 3)), "it was another one");
    assert_eq!(bench.apply(Action::Restore(RestoreStep::Abandon(ID))), DONE);
    let removed = |row: &Row| row.table == Table::Staged && row.value.is_none();
    assert_eq!(bench.changes.rows.len(), 4);
    assert!(bench.changes.rows.iter().all(removed));
    assert_eq!(bench.state.restoring(), None);
    assert_eq!(all_rows(&bench.state), before);
    let all = bench.state.export().chunk(&Cursor::start(), usize::MAX).0;
    assert_eq!(all, before);
}

#[test]
fn a_server_that_starts_again_in_the_middle_comes_to_the_same_state() {
    let archive = Archive::of(&filled(0..30).state);
    let mut whole = filled(0..3);
    let steps = archive.steps(ID);
    let mut broken = filled(0..3);
    for step in &steps {
        whole.apply(step.clone());
        broken.apply(step.clone());
        // A row of every chunk goes to disk, and all of them come back.
        let state = restarted(&broken.state);
        assert_eq!(state.digest(), broken.state.digest());
        assert_eq!(state.restoring(), broken.state.restoring());
        broken.state = state;
    }
    assert_eq!(broken.state.digest(), whole.state.digest());
    // Any place in the rows can be read on from.
    let mut middle = filled(0..3);
    steps[..4]
        .iter()
        .for_each(|step| assert_eq!(middle.apply(step.clone()), DONE));
    let export = middle.state.export();
    let all = export.chunk(&Cursor::start(), usize::MAX).0;
    let (mut from, mut one_by_one) = (Cursor::start(), Vec::new());
    loop {
        let (rows, next) = export.chunk(&from, 1);
        assert_eq!(rows.len(), 1);
        one_by_one.extend(rows);
        let Some(next) = next else { break };
        from = next;
    }
    assert_eq!(one_by_one, all);
    assert_eq!(all.iter().filter(|row| row.table == Table::Staged).count(), 4);
}

#[test]
fn other_changes_in_between_cost_no_rebuilding() {
    let archive = Archive::of(&filled(0..20).state);
    let mut bench = filled(0..3);
    bench.apply(archive.begin(ID));
    bench.apply(archive.chunk(ID, 0));
    bench.txn(vec![KvTxnOp::Set(pair("a", ""))]);
    bench.apply(Action::RegisterMany(Vec::new()));
    assert!(bench.state.staging.as_mut().unwrap().take_building().is_there());
    assert!(!bench.state.clone().staging.unwrap().take_building().is_there());
}

#[test]
fn what_no_version_can_read_is_refused_by_all() {
    let row = |table, key: &str, value: &'static [u8]| Row {
        table,
        key: bytes(key),
        value: Some(Bytes::from_static(value)),
    };
    let lineage = {
        let mut bench = filled(0..3);
        let archive = Archive::of(&filled(0..2).state);
        archive
            .steps(ID)
            .into_iter()
            .for_each(|step| assert_eq!(bench.apply(step), DONE));
        bench.state.export().chunk(&Cursor::start(), usize::MAX).0
    };
    for (rows, index) in [
        (vec![row(Table::Kv, "k", b"")], 9),
        (vec![row(Table::Kv, "k", b"\x01\xff")], 9),
        (vec![Row::removal(Table::Kv, bytes("k"))], 9),
        (
            [all_rows(&filled(0..3).state), all_rows(&filled(0..3).state)].concat(),
            9,
        ),
        // From after its own index.
        (all_rows(&filled(0..20).state), 9),
        // What is another cluster's own affair.
        (lineage, 100),
        (vec![row(Table::Staged, "head", b"\x01\x07\x07")], 9),
        (
            vec![row(
                Table::Meta,
                "fence",
                b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            )],
            9,
        ),
    ] {
        let archive = Archive::of_rows(index, &rows);
        let mut bench = filled(0..3);
        let before = all_rows(&bench.state);
        bench.apply(archive.begin(ID));
        // And the same where the chunks were read back from disk.
        let mut again = Bench {
            state: restarted(&bench.state),
            changes: Changes::default(),
        };
        for bench in [&mut bench, &mut again] {
            let staged = bench.apply(archive.chunk(ID, 0));
            assert_eq!(staged, DONE, "it is looked at in the end");
        }
        assert_eq!(again.state.digest(), bench.state.digest());
        let finished = bench.apply(archive.finish(ID));
        assert!(matches!(finished, Outcome::Refused(_)), "{rows:?}: {finished:?}");
        assert_eq!(again.apply(archive.finish(ID)), finished);
        assert_eq!(all_rows(&bench.state), before);
        assert_eq!(again.state.digest(), bench.state.digest());
    }
}

#[test]
fn a_chunk_counts_the_same_whether_or_not_the_state_is_built_along() {
    let mut damaged = Archive::of(&filled(0..20).state);
    let good = damaged.clone();
    damaged.chunks[1] = encode_chunk(&[Row::removal(Table::Kv, bytes("k"))]).unwrap();
    let mut builds = filled(0..3);
    builds.apply(good.begin(ID));
    builds.apply(good.chunk(ID, 0));
    let mut builds_nothing = Bench {
        state: restarted(&builds.state),
        changes: Changes::default(),
    };
    assert!(
        !builds_nothing
            .state
            .staging
            .as_mut()
            .unwrap()
            .take_building()
            .is_there()
    );
    // The second that comes under this number is one too many, and what follows is good.
    let steps = [damaged.chunk(ID, 1), good.chunk(ID, 1)].into_iter();
    let rest = (2..good.chunks.len()).map(|number| good.chunk(ID, number));
    for step in steps
        .chain(rest)
        .chain([good.finish(ID), good.begin(RestoreId(8))])
    {
        let outcome = builds.apply(step.clone());
        assert_eq!(builds_nothing.apply(step), outcome);
        assert_eq!(builds_nothing.state.digest(), builds.state.digest());
    }
    assert_eq!(builds.get("key-005"), None, "it was not restored");
}

#[test]
fn what_a_newer_version_may_read_stops_an_older_one() {
    let newer = Row {
        table: Table::Kv,
        key: bytes("k"),
        value: Some(Bytes::from_static(b"\x02")),
    };
    let unknown = Row {
        table: Table::Settings,
        key: bytes("unheard-of"),
        value: Some(Bytes::from_static(b"\x01")),
    };
    let of = |row| encode_chunk(&[row]).unwrap();
    for chunk in [
        of(newer),
        of(unknown),
        Bytes::from_static(b"\x02"),
        Bytes::from_static(b"\x01\xc8\x00\x00"),
    ] {
        let archive = Archive {
            index: Index(9),
            chunks: vec![chunk],
        };
        let mut bench = filled(0..3);
        bench.apply(archive.begin(ID));
        assert_eq!(bench.apply(archive.chunk(ID, 0)), DONE);
        let (before, index) = (bench.state.digest(), bench.state.index());
        for mut state in [bench.state.clone(), restarted(&bench.state), bench.state] {
            let mut changes = Changes::default();
            let stopped = state.apply(index.next(), &command(archive.finish(ID)), &mut changes);
            assert!(matches!(stopped, Err(ApplyError::Archive(_))), "{stopped:?}");
            assert_eq!((state.digest(), changes), (before, Changes::default()));
        }
    }
}

#[test]
fn what_ran_out_before_a_restore_is_not_over_after_it() {
    let mut bench = bench();
    register(&mut bench, of_node(node("n", "1.1.1.1")));
    let kept = |id: u128| SessionDef {
        id: SessionId(id),
        node: "n".into(),
        lock_delay_nanos: 5_000_000_000,
        ..SessionDef::default()
    };
    for id in [1, 2] {
        let made = bench.apply(Action::CreateSession(Box::new(kept(id))));
        assert_eq!(made, Outcome::Session(SessionId(id)));
    }
    assert_eq!(bench.lock("key", "", &SessionId(2).to_string()), DONE);
    let change = Action::Kv(KvWrite::Cas(pair("once", ""), Index(0)));
    let once = Once::new(IdempotencyKey(7), &change).unwrap();
    assert_eq!(bench.apply(Action::Once(Box::new(once))), DONE);
    let second = vec![SessionId(2)];
    assert_eq!(bench.apply(Action::EndSessions(second)), DONE);
    let delay = bench.state.lock_delay(&bytes("key")).unwrap();
    let over = |era: Index| {
        [
            RunOut::Sessions(vec![SessionId(1)]),
            RunOut::LockDelays(vec![(bytes("key"), delay.since)]),
            RunOut::Receipts(delay.since),
        ]
        .map(|what| Action::RunOut { era, what })
    };
    let archive = Archive::of(&bench.state);
    let before = bench.state.era();
    assert_eq!(before, Index::ZERO);
    for step in archive.steps(ID) {
        assert_eq!(bench.apply(step), DONE);
    }
    let left = |bench: &Bench| {
        (
            bench.state.session(SessionId(1)).is_some(),
            bench.state.lock_delay(&bytes("key")).is_some(),
            bench.state.has_receipts_through(delay.since),
        )
    };
    for late in over(before) {
        assert_eq!(bench.apply(late), NOT_DONE);
        assert!(bench.changes.is_empty());
    }
    assert_eq!(left(&bench), (true, true, true));
    // Nor does a second restore of the same archive bring what was measured after the first to bear.
    let first = bench.state.era();
    assert!(first > before);
    for step in archive.steps(RestoreId(8)) {
        assert_eq!(bench.apply(step), DONE);
    }
    let second = bench.state.era();
    assert!(second > first);
    for late in over(first) {
        assert_eq!(bench.apply(late), NOT_DONE);
    }
    assert_eq!(left(&bench), (true, true, true));
    bench.state = restarted(&bench.state);
    for due in over(second) {
        assert_eq!(bench.apply(due), DONE);
    }
    assert_eq!(left(&bench), (false, false, false));
}

#[test]
fn fences_go_on_rising() {
    let archive = Archive::of(&filled(0..3).state);
    let mut bench = Bench::new();
    bench.txn(
        (0..9)
            .map(|key| KvTxnOp::Lock(pair(&key.to_string(), ""), session(ALICE)))
            .collect(),
    );
    let highest = bench.get("8").unwrap().fence();
    assert!(highest > bench.state.index().0);
    archive
        .steps(ID)
        .into_iter()
        .for_each(|step| assert_eq!(bench.apply(step), DONE));
    bench.state = with_sessions(bench.state);
    assert_eq!(bench.lock("0", "", BOB), DONE);
    assert!(bench.get("0").unwrap().fence() > highest);
}
