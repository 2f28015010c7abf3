//! Where nodes are.

use super::*;
use crate::{
    Builder, Coordinate, Cursor, InvalidCoordinate, MAX_COORDINATE_UPDATES, NodeCoordinate, Row, RowError,
    Table, Touch, Touched, Watches,
};

fn at(height: f64) -> Coordinate {
    Coordinate::new([0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 1.5, 0.0, height).unwrap()
}

fn of(node: &str, segment: &str, height: f64) -> NodeCoordinate {
    NodeCoordinate {
        node: node.to_owned(),
        segment: segment.to_owned(),
        coordinate: at(height),
    }
}

fn update(bench: &mut Bench, updates: &[NodeCoordinate]) {
    assert_eq!(bench.apply(Action::Coordinates(updates.to_vec())), DONE);
}

fn forget(bench: &mut Bench, nodes: &[&str]) {
    let nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
    assert_eq!(bench.apply(Action::ForgetCoordinates(nodes)), DONE);
}

/// The answer as its index, and the updates with their own indexes.
fn found(bench: &Bench, query: &Query) -> (u64, Vec<(NodeCoordinate, u64)>) {
    match bench.state.query(query) {
        (index, Found::Coordinates(entries)) => (
            index.0,
            entries
                .iter()
                .map(|entry| (entry.update.clone(), entry.modify_index.0))
                .collect(),
        ),
        (_, other) => panic!("not coordinates: {other:?}"),
    }
}

fn node(name: &str) -> Query {
    Query::Coordinate(name.to_owned())
}

#[test]
fn they_are_listed_by_name_and_found_in_any_case() {
    let mut bench = Bench::new();
    assert_eq!(found(&bench, &Query::Coordinates), (0, vec![]));
    update(
        &mut bench,
        &[of("web", "", 1.0), of("Db", "", 2.0), of("web", "x", 3.0)],
    );
    update(&mut bench, &[of("we", "", 4.0), of("DB", "", 2.0)]);
    let db = (of("DB", "", 2.0), 2);
    let we = (of("we", "", 4.0), 2);
    let web = [(of("web", "", 1.0), 1), (of("web", "x", 3.0), 1)];
    assert_eq!(
        found(&bench, &Query::Coordinates),
        (2, vec![db.clone(), we.clone(), web[0].clone(), web[1].clone()])
    );
    assert_eq!(found(&bench, &node("dB")), (2, vec![db]));
    assert_eq!(found(&bench, &node("WE")), (2, vec![we]));
    assert_eq!(found(&bench, &node("web")), (1, web.to_vec()));
    assert_eq!(found(&bench, &node("w")), (2, vec![]), "that of the table");
}

#[test]
fn what_changes_nothing_touches_nobody() {
    let mut bench = Bench::new();
    update(&mut bench, &[of("a", "", 1.0), of("b", "", 1.0)]);
    update(&mut bench, &[of("a", "", 1.0), of("b", "", 1.0)]);
    assert!(bench.changes.is_empty());
    update(
        &mut bench,
        &[of("a", "", 1.0), of("B", "", 2.0), of("b", "", 3.0)],
    );
    assert_eq!(
        bench.changes.touched,
        Touched::These(vec![Touch::Coordinate(bytes("b"))])
    );
    assert_eq!(bench.changes.rows.len(), 2, "the coordinate and the counter");
    assert_eq!(found(&bench, &node("a")).0, 1);
    forget(&mut bench, &["c"]);
    assert!(bench.changes.is_empty());
}

#[test]
fn forgetting_moves_the_table_and_never_back() {
    let mut bench = Bench::new();
    update(
        &mut bench,
        &[of("a", "", 1.0), of("a", "x", 1.0), of("ab", "", 1.0)],
    );
    forget(&mut bench, &["A", "nobody"]);
    assert_eq!(
        bench.changes.touched,
        Touched::These(vec![Touch::Coordinate(bytes("a")), Touch::Coordinate(bytes("a"))])
    );
    assert_eq!(found(&bench, &node("a")), (2, vec![]));
    assert_eq!(
        found(&bench, &Query::Coordinates),
        (2, vec![(of("ab", "", 1.0), 1)])
    );
    assert_eq!(
        bench.index_of(""),
        0,
        "the key-value store has nothing to do with it"
    );
}

#[test]
fn numbers_have_bounds() {
    let nan = f64::NAN;
    let infinite = f64::INFINITY;
    let vector = |number: f64| [0.0, 0.0, 0.0, number, 0.0, 0.0, 0.0, 0.0];
    for good in [0.0, -0.0, 1e6, -1e6, 1e-300] {
        assert!(Coordinate::new(vector(good), 0.0, 0.0, 0.0).is_ok(), "{good}");
        assert!(Coordinate::new(vector(0.0), 1.5, good, 0.0).is_ok(), "{good}");
        assert!(
            Coordinate::new(vector(0.0), 0.0, 0.0, good.abs()).is_ok(),
            "{good}"
        );
    }
    for bad in [nan, infinite, -infinite, 1e6 + 1.0, -1e6 - 1.0, 1e300] {
        assert_eq!(
            Coordinate::new(vector(bad), 0.0, 0.0, 0.0),
            Err(InvalidCoordinate)
        );
        assert_eq!(
            Coordinate::new(vector(0.0), 0.0, bad, 0.0),
            Err(InvalidCoordinate)
        );
        assert_eq!(
            Coordinate::new(vector(0.0), bad, 0.0, 0.0),
            Err(InvalidCoordinate)
        );
        assert_eq!(
            Coordinate::new(vector(0.0), 0.0, 0.0, bad),
            Err(InvalidCoordinate)
        );
    }
    for (error, height) in [(1.6, 0.0), (-0.1, 0.0), (0.0, -0.1)] {
        assert!(Coordinate::new(vector(0.0), error, 0.0, height).is_err());
    }
    let [negative, positive] =
        [-0.0, 0.0].map(|zero| Coordinate::new(vector(zero), zero, zero, zero).unwrap());
    assert_eq!(
        postcard::to_allocvec(&negative).unwrap(),
        postcard::to_allocvec(&positive).unwrap()
    );
    let coordinate = at(0.25);
    assert_eq!((coordinate.vector()[0], coordinate.error()), (0.1, 1.5));
    assert_eq!((coordinate.adjustment(), coordinate.height()), (0.0, 0.25));
}

#[test]
fn no_command_holds_what_is_no_coordinate() {
    let good = command(Action::Coordinates(vec![of("a", "", 0.25)])).encode();
    assert!(Command::decode(&good).is_ok());
    let at = good
        .windows(8)
        .position(|bytes| bytes == 0.25_f64.to_le_bytes())
        .unwrap();
    for bad in [f64::NAN, f64::INFINITY, -1.0] {
        let mut bytes = good.to_vec();
        bytes[at..at + 8].copy_from_slice(&bad.to_le_bytes());
        let error = Command::decode(&bytes).unwrap_err();
        assert!(matches!(error, crate::DecodeError::Malformed { .. }), "{error}");
    }
}

#[test]
fn commands_have_a_bound() {
    let decoded = |action: Action| Command::decode(&command(action).encode()).is_ok();
    for (count, fits) in [
        (MAX_COORDINATE_UPDATES, true),
        (MAX_COORDINATE_UPDATES + 1, false),
    ] {
        assert_eq!(decoded(Action::Coordinates(vec![of("a", "", 0.0); count])), fits);
        assert_eq!(
            decoded(Action::ForgetCoordinates(vec!["a".to_owned(); count])),
            fits
        );
    }
}

#[test]
fn names_have_a_bound_and_one_bad_one_refuses_all() {
    let mut bench = Bench::new();
    let long = "x".repeat(129);
    for (bad, why) in [
        (
            of("", "", 0.0),
            "invalid coordinate: the name of its node has 0 bytes, and must have 1 to 128",
        ),
        (
            of(&long, "", 0.0),
            "invalid coordinate: the name of its node has 129 bytes, and must have 1 to 128",
        ),
        (
            of("a", &long, 0.0),
            "invalid coordinate: the name of its segment has 129 bytes, and must have 0 to 128",
        ),
        (
            of("a\0b", "", 0.0),
            "invalid coordinate: the name of its node has a zero byte in it",
        ),
    ] {
        let updates = vec![of("good", "", 0.0), bad];
        assert_eq!(bench.apply(Action::Coordinates(updates)), refused(why));
        assert!(bench.changes.is_empty());
    }
    update(&mut bench, &[of(&"x".repeat(128), "", 0.0)]);
}

#[test]
fn only_those_who_wait_for_them_wake() {
    let mut bench = Bench::new();
    let mut watches = Watches::new(10);
    for query in [
        node("A"),
        node("a"),
        node("b"),
        node("ab"),
        Query::Coordinates,
        Query::Autopilot,
        Query::KvList(bytes("")),
        Query::KvGet(bytes("a")),
    ] {
        watches.subscribe(query.interest(), query).unwrap();
    }
    update(&mut bench, &[of("A", "", 1.0)]);
    let mut woken = Vec::new();
    watches.take_touched(&bench.changes.touched, &mut woken);
    assert_eq!(woken, [node("A"), node("a"), Query::Coordinates]);
    let id = watches.subscribe(node("b").interest(), node("b")).unwrap();
    assert_eq!(watches.cancel(id), Some(node("b")));
    assert_eq!(watches.len(), 5);
}

#[test]
fn rows_that_are_not_theirs_are_refused() {
    let mut bench = Bench::new();
    update(&mut bench, &[of("web", "x", 1.0)]);
    let rows = bench.state.export().chunk(&Cursor::start(), usize::MAX).0;
    let [counter, coordinate] = &rows[..] else {
        panic!("{rows:?}")
    };
    assert_eq!(
        (&counter.key[..], counter.table),
        (&b"coordinates-index"[..], Table::Meta)
    );
    assert_eq!(
        (&coordinate.key[..], coordinate.table),
        (&b"web\0x"[..], Table::Coordinates)
    );
    let error_of = |rows: &[Row], applied: u64| {
        let mut builder = Builder::new();
        let added = rows.iter().try_for_each(|row| builder.add(row.clone()));
        added
            .and_then(|()| builder.finish(Index(applied)))
            .map(|state| state.index())
    };
    let both = [counter.clone(), coordinate.clone()];
    assert_eq!(error_of(&both, 1), Ok(Index(1)));
    let inconsistent = |highest, table_index, applied| {
        let [highest, table_index, applied] = [highest, table_index, applied].map(Index);
        Err(RowError::Inconsistent {
            highest,
            table_index,
            applied,
        })
    };
    assert_eq!(error_of(&both, 0), inconsistent(1, 1, 0));
    assert_eq!(
        error_of(std::slice::from_ref(coordinate), 1),
        inconsistent(1, 0, 1)
    );
    let moved = Row {
        key: bytes("db\0x"),
        ..coordinate.clone()
    };
    let error = error_of(&[moved], 1).unwrap_err().to_string();
    assert_eq!(
        error,
        "row \"db\\x00x\" of table Coordinates is damaged: it is that of another node, \"web\""
    );
    let again = [both.to_vec(), vec![coordinate.clone()]].concat();
    assert!(matches!(error_of(&again, 1), Err(RowError::Duplicate { .. })));
}
