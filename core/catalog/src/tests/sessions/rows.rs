//! Sessions, lock delays and fences on disk and back.

use super::*;
use crate::tests::discovery::{rebuilt, rows};
use crate::{RowError, SessionRef};

/// A state that has something in every table that sessions have to do with.
fn filled() -> Bench {
    let mut bench = bench();
    let delayed = |id| SessionDef {
        lock_delay_nanos: seconds(15),
        node_checks: Some(vec!["c".into()]),
        ..def(id)
    };
    let (one, two) = (made(&mut bench, delayed(1)), made(&mut bench, delayed(2)));
    bench.lock("a", "v", &one);
    bench.lock("b", "v", &two);
    end(&mut bench, &[2]);
    bench
}

fn without(all: &[Row], table: Table, key: &[u8]) -> Vec<Row> {
    let others: Vec<Row> = all
        .iter()
        .filter(|row| row.table != table || row.key != key)
        .cloned()
        .collect();
    assert_eq!(others.len() + 1, all.len());
    others
}

#[test]
fn a_restart_keeps_sessions_their_locks_and_delays() {
    let mut bench = filled();
    let state = rebuilt(rows(&bench.state), bench.state.index()).unwrap();
    assert_eq!(state.digest(), bench.state.digest());
    assert_eq!(
        state.query(&Query::NodeSessions("n".to_owned())),
        bench.state.query(&Query::NodeSessions("n".to_owned()))
    );
    bench.state = state;
    let three = made(&mut bench, def(3));
    let fence = bench.get("a").unwrap().fence();
    assert_eq!(bench.lock("b", "v", &three), NOT_DONE, "its delay goes on");
    assert_eq!(bench.lock("a", "v", &three), NOT_DONE, "it is still held");
    // What it depends on is still known.
    register(&mut bench, on("n", None, vec![check("c", "", Status::Critical)]));
    assert_eq!(living(&bench), [3]);
    assert_eq!(bench.lock_of("a").0, None);
    let delay = bench.state.lock_delay(&bytes("a")).unwrap();
    bench.apply(Action::EndLockDelays(vec![(bytes("a"), delay.since)]));
    assert_eq!(bench.lock("a", "v", &three), DONE);
    assert!(bench.get("a").unwrap().fence() > fence);
}

#[test]
fn the_format_stands_still() {
    let mut bench = Bench::new();
    bench.state.advance(Index(299)).unwrap();
    register(&mut bench, of_node(node("n", "a")));
    let by = made(
        &mut bench,
        SessionDef {
            lock_delay_nanos: -1,
            ttl: Duration::from_millis(1_500),
            ttl_text: "1.5s".into(),
            node_checks: Some(vec![]),
            behavior: Behavior::Delete,
            name: "s".into(),
            ..def(5)
        },
    );
    bench.kv(KvWrite::Lock(pair("k", ""), SessionRef(by)));
    let mut delays = bench.state.kv.locks.clone();
    let mut edit = crate::edit::Edit::new(Index(303));
    delays.delay(&mut edit, bytes("d"), Duration::from_secs(2));
    bench.state.kv.locks = delays;
    let mine = rows(&bench.state).into_iter().filter(|row| {
        matches!(
            row.table,
            Table::Sessions | Table::SessionMarks | Table::LockDelays
        )
    });
    let mine: Vec<_> = mine.collect();
    let expected = [
        (
            Table::Sessions,
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5][..],
            &b"\x01\x05\x01s\x01n\x01\x01\x01\x80\xca\xb5\xee\x01\x041.5s\x01\x00\x00\x00\xad\x02"[..],
        ),
        (Table::SessionMarks, b"n", b"\x01\xad\x02"),
        (Table::LockDelays, b"d", b"\x01\xaf\x02\x02\x00"),
    ];
    let expected = expected.map(|(table, key, value)| Row {
        table,
        key: Bytes::copy_from_slice(key),
        value: Some(Bytes::copy_from_slice(value)),
    });
    assert_eq!(mine, expected);
}

#[test]
fn rows_that_do_not_go_together_are_refused() {
    let bench = filled();
    let (all, applied) = (rows(&bench.state), bench.state.index());
    let refused = |rows: Vec<Row>| rebuilt(rows, applied).err();
    let misfit = |error: Option<RowError>, of: Table| {
        assert!(
            matches!(&error, Some(RowError::Misfit { table, .. }) if *table == of),
            "{error:?}"
        );
    };
    assert_eq!(refused(all.clone()), None);
    misfit(refused(without(&all, Table::Checks, b"n\0c")), Table::Sessions);
    misfit(
        refused(without(&all, Table::SessionMarks, b"n")),
        Table::SessionMarks,
    );
    misfit(
        refused(without(&all, Table::Sessions, &SessionId(1).key())),
        Table::Kv,
    );
    misfit(refused(without(&all, Table::Meta, b"fence")), Table::Meta);
    let stale = refused(without(&all, Table::Meta, b"sessions-index"));
    assert!(matches!(stale, Some(RowError::Inconsistent { .. })), "{stale:?}");
    let mut odd = all.clone();
    odd.push(Row {
        table: Table::SessionMarks,
        key: bytes("nobody"),
        value: Some(Bytes::from_static(b"\x01\x05")),
    });
    misfit(refused(odd), Table::SessionMarks);
    for (table, key, value) in [
        (Table::Sessions, &b"short"[..], &b"\x01\x05"[..]),
        (Table::SessionMarks, b"n2", b"\x01\x00"),
        (Table::LockDelays, b"k", b"\x01\x05\x3d\x00"),
        (Table::LockDelays, b"k", b"\x01\x00\x01\x00"),
        (Table::Receipts, b"short", b"\x01\x05"),
        (Table::Receipts, &[7; 16], b"\x01\x00\x00\x00\x01"),
    ] {
        let mut damaged = all.clone();
        damaged.push(Row {
            table,
            key: Bytes::copy_from_slice(key),
            value: Some(Bytes::copy_from_slice(value)),
        });
        let error = refused(damaged);
        assert!(
            matches!(&error, Some(RowError::Damaged { table: of, .. }) if *of == table),
            "{error:?}"
        );
    }
    for row in all.iter().filter(|row| row.table >= Table::Sessions) {
        let mut twice = all.clone();
        twice.push(row.clone());
        assert!(matches!(refused(twice), Some(RowError::Duplicate { .. })));
    }
    // One that is that of another.
    let mut moved = without(&all, Table::Sessions, &SessionId(1).key());
    let row = all.iter().find(|row| row.table == Table::Sessions).unwrap();
    moved.push(Row {
        key: SessionId(9).key(),
        ..row.clone()
    });
    assert!(matches!(refused(moved), Some(RowError::Damaged { .. })));
}
