//! Rows: what they look like, and what is not a state.

use super::*;
use crate::row::KV_INDEX;
use crate::{
    AutopilotConfig, Builder, Coordinate, Cursor, Holder, NodeCoordinate, Row, RowError, Table, Touch,
    Touched,
};

fn row(table: Table, key: &str, value: &[u8]) -> Row {
    Row {
        table,
        key: bytes(key),
        value: Some(Bytes::copy_from_slice(value)),
    }
}

fn entry() -> KvEntry {
    KvEntry {
        create_index: Index(2),
        modify_index: Index(3),
        ..KvEntry::empty(bytes("k"))
    }
}

fn error_of(rows: impl IntoIterator<Item = Row>) -> Option<RowError> {
    let mut builder = Builder::new();
    rows.into_iter().find_map(|row| builder.add(row).err())
}

#[test]
fn the_format_stands_still() {
    let mut bench = Bench::new();
    bench.state.advance(Index(299)).unwrap();
    bench.set("gone", "");
    bench.kv(KvWrite::Lock(
        KvPair {
            flags: 7,
            ..pair("key", "value")
        },
        session(ALICE),
    ));
    bench.delete("gone");
    let (rows, rest) = bench.state.export().chunk(&Cursor::start(), usize::MAX);
    assert_eq!(rest, None);
    let locked = [
        &b"\x01\x07\x01\x01\x24"[..],
        ALICE.as_bytes(),
        b"\xad\x02\xad\x02\xad\x02\x05value",
    ]
    .concat();
    let expected = [
        row(Table::Kv, "key", &locked),
        row(Table::KvTombstones, "gone", b"\x01\xae\x02"),
        row(Table::Meta, "fence", b"\x01\xad\x02"),
        row(Table::Meta, "kv-index", b"\x01\xae\x02"),
    ];
    assert_eq!(rows, expected);
    assert_eq!(
        Table::ALL.map(|table| table as u8),
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 32]
    );
    assert_eq!(
        Table::ALL.map(|table| Table::from_number(table as u8)),
        Table::ALL.map(Some)
    );
    assert_eq!((Table::from_number(0), Table::from_number(15)), (None, None));
}

#[test]
fn the_format_of_settings_and_coordinates_stands_still() {
    let mut bench = Bench::new();
    bench.state.advance(Index(299)).unwrap();
    let config = AutopilotConfig {
        redundancy_zone_tag: "z".to_owned(),
        ..AutopilotConfig::default()
    };
    bench.apply(Action::SetAutopilot { config, cas: None });
    bench.apply(Action::Coordinates(vec![NodeCoordinate {
        node: "N".to_owned(),
        segment: "s".to_owned(),
        coordinate: Coordinate::new([0.0; 8], 1.5, -1.0, 2.0).unwrap(),
    }]));
    let (rows, _) = bench.state.export().chunk(&Cursor::start(), usize::MAX);
    let coordinate = [
        &b"\x01\x01N\x01s"[..],
        &[0; 64],
        &1.5_f64.to_le_bytes(),
        &(-1.0_f64).to_le_bytes(),
        &2.0_f64.to_le_bytes(),
        b"\xad\x02",
    ]
    .concat();
    let autopilot = b"\x01\x01\x00\x80\x84\xaf\x5f\xfa\x01\x00\x0a\x00\x01z\x00\x00\xac\x02\xac\x02";
    let expected = [
        row(Table::Meta, "coordinates-index", b"\x01\xad\x02"),
        row(Table::Settings, "autopilot", autopilot),
        row(Table::Coordinates, "n\0s", &coordinate),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn the_format_of_nodes_services_and_checks_stands_still() {
    let mut bench = Bench::new();
    bench.state.advance(Index(299)).unwrap();
    bench.apply(Action::Register(Box::new(commands::registration())));
    let (rows, _) = bench.state.export().chunk(&Cursor::start(), usize::MAX);
    let of = |bytes: &[&str]| -> Vec<u8> {
        let digits = bytes.concat();
        (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
            .collect()
    };
    // What was said of it, then both indexes, which are 300.
    let node = of(&["0101ac02016e016101036c616e016c01016b0176ac02ac02"]);
    let service = of(&[
        "01016901730d636f6e6e6563742d70726f787902017401750161ac0201036c616e016c0801016b01760a0201",
        "01000164027b7dac02ac02",
    ]);
    let check = of(&[
        "010163014301014e016f016904687474700101750347455401620101680101760101740a000200901c00ac02",
        "ac02",
    ]);
    // Nodes, services, names, vanished, checks, passing, warning, critical.
    let indexes = b"\x01\xac\x02\xac\x02\xac\x02\x00\xac\x02\x00\xac\x02\x00";
    let expected = [
        row(Table::Meta, "discovery-indexes", indexes),
        row(Table::Nodes, "n", &node),
        row(Table::Services, "n\0i", &service),
        row(Table::Checks, "n\0c", &check),
        row(Table::Marks, "cd", b"\x01\x01d\xac\x02\xac\x02\xac\x02"),
        row(Table::Marks, "nn", b"\x01\xac\x02\xac\x02"),
        row(Table::Marks, "ss", b"\x01\x01s\xac\x02\xac\x02\xac\x02"),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn a_command_reports_its_rows_and_keys() {
    let mut bench = Bench::new();
    bench.txn(vec![
        KvTxnOp::Set(pair("b", "1")),
        KvTxnOp::Set(pair("a", "1")),
        KvTxnOp::Set(pair("b", "2")),
        KvTxnOp::Set(pair("c", "2")),
        KvTxnOp::Delete(bytes("c")),
    ]);
    let names: Vec<_> = bench
        .changes
        .rows
        .iter()
        .map(|row| (row.table, &row.key[..], row.value.is_some()))
        .collect();
    let expected: [(Table, &[u8], bool); 5] = [
        (Table::Kv, b"a", true),
        (Table::Kv, b"b", true),
        (Table::Kv, b"c", false),
        (Table::KvTombstones, b"c", true),
        (Table::Meta, b"kv-index", true),
    ];
    assert_eq!(names, expected);
    assert_eq!(
        bench.changes.touched,
        Touched::These(["a", "b", "c"].map(|key| Touch::Kv(bytes(key))).to_vec())
    );
}

#[test]
fn a_batch_of_commands_has_one_row_for_the_index() {
    let mut state = State::new();
    let mut changes = Changes::default();
    for (index, key) in [(1, "a"), (2, "b"), (3, "c")] {
        state
            .apply(
                Index(index),
                &command(Action::Kv(KvWrite::Set(pair(key, "")))),
                &mut changes,
            )
            .unwrap();
    }
    let tables: Vec<_> = changes.rows.iter().map(|row| row.table).collect();
    assert_eq!(tables, [Table::Kv, Table::Kv, Table::Kv, Table::Meta]);
    assert_eq!(
        changes.touched,
        Touched::These(["a", "b", "c"].map(|key| Touch::Kv(bytes(key))).to_vec())
    );
}

#[test]
fn an_empty_state_has_no_rows() {
    assert_eq!(
        State::new().export().chunk(&Cursor::start(), 100),
        (Vec::new(), None)
    );
    let state = Builder::new().finish(Index(9)).unwrap();
    assert_eq!(
        (state.index(), state.query(&Query::KvList(Key::new())).0),
        (Index(9), Index(0))
    );
}

#[test]
fn rows_that_are_not_a_state_are_refused_by_name() {
    let good = Row::of_entry(&entry());
    let value = good.value.clone().unwrap();
    let name = "\"k\"".to_owned();
    let table = Table::Kv;
    let damaged = |detail: &str| {
        Some(RowError::Damaged {
            table,
            name: name.clone(),
            detail: detail.to_owned(),
        })
    };

    assert_eq!(error_of([good.clone()]), None);
    assert_eq!(
        error_of([good.clone(), good.clone()]),
        Some(RowError::Duplicate {
            table,
            name: name.clone()
        })
    );
    assert_eq!(
        error_of([Row::removal(table, bytes("k"))]),
        Some(RowError::NoValue {
            table,
            name: name.clone()
        })
    );
    assert_eq!(error_of([row(table, "k", b"")]), damaged("it is empty"));
    assert_eq!(
        error_of([row(table, "k", b"\x00")]),
        damaged("its format is 0, which never existed")
    );
    let newer = RowError::NewerFormat {
        table,
        name: name.clone(),
        found: 2,
    };
    assert_eq!(error_of([row(table, "k", b"\x02")]), Some(newer));
    assert_eq!(
        error_of([row(table, "k", &[&value[..], b"x"].concat())]),
        damaged("1 bytes are left over at its end")
    );
    for cut in 1..value.len() {
        let error = error_of([row(table, "k", &value[..cut])]);
        assert!(
            matches!(error, Some(RowError::Damaged { .. })),
            "{cut}: {error:?}"
        );
    }
    let bad = KvEntry {
        create_index: Index(4),
        ..entry()
    };
    assert_eq!(
        error_of([Row::of_entry(&bad)]),
        damaged("created at index 4 and changed at 3")
    );
    let bad = KvEntry {
        create_index: Index(0),
        ..entry()
    };
    assert_eq!(
        error_of([Row::of_entry(&bad)]),
        damaged("created at index 0 and changed at 3")
    );
    let bad = KvEntry {
        holder: Some(Holder {
            session: String::new(),
            fence: 0,
        }),
        ..entry()
    };
    assert_eq!(
        error_of([Row::of_entry(&bad)]),
        damaged("locked by the session \"\" with the fence 0")
    );

    let index = b"\x01\x05";
    let twice = |table, key: &str| error_of([row(table, key, index), row(table, key, index)]);
    for (table, key) in [(Table::KvTombstones, "k"), (Table::Meta, "kv-index")] {
        assert_eq!(
            twice(table, key),
            Some(RowError::Duplicate {
                table,
                name: format!("\"{key}\"")
            })
        );
        let detail = "its index is 0".to_owned();
        assert_eq!(
            error_of([row(table, key, b"\x01\x00")]),
            Some(RowError::Damaged {
                table,
                name: format!("\"{key}\""),
                detail
            })
        );
    }
    let unknown = RowError::Unknown {
        table: Table::Meta,
        name: "\"other\"".to_owned(),
    };
    assert_eq!(error_of([row(Table::Meta, "other", index)]), Some(unknown));
    for table in [Table::Kv, Table::KvTombstones] {
        let detail = "it has no key".to_owned();
        assert_eq!(
            error_of([row(table, "", index)]),
            Some(RowError::Damaged {
                table,
                name: "\"\"".to_owned(),
                detail
            })
        );
    }
    let long = error_of([row(table, &"x".repeat(100), b"")]).unwrap().to_string();
    assert_eq!(
        long,
        format!(
            "row \"{}\"... of table Kv is damaged: it is empty",
            "x".repeat(64)
        )
    );
}

#[test]
fn rows_that_do_not_belong_together_are_refused() {
    let finish = |rows: &[Row], applied: u64| {
        let mut builder = Builder::new();
        for row in rows {
            builder.add(row.clone()).unwrap();
        }
        builder.finish(Index(applied)).map(|state| state.index())
    };
    let inconsistent = |highest, table_index, applied| {
        let [highest, table_index, applied] = [highest, table_index, applied].map(Index);
        Err(RowError::Inconsistent {
            highest,
            table_index,
            applied,
        })
    };
    let entry = Row::of_entry(&entry());
    let stone = Row::of_tombstone(bytes("t"), Index(6));
    assert_eq!(
        finish(&[entry.clone(), Row::of_counter(KV_INDEX, Index(3))], 3),
        Ok(Index(3))
    );
    assert_eq!(finish(std::slice::from_ref(&entry), 9), inconsistent(3, 0, 9));
    assert_eq!(
        finish(&[entry.clone(), Row::of_counter(KV_INDEX, Index(2))], 9),
        inconsistent(3, 2, 9)
    );
    assert_eq!(
        finish(&[entry.clone(), stone, Row::of_counter(KV_INDEX, Index(5))], 9),
        inconsistent(6, 5, 9)
    );
    assert_eq!(
        finish(&[entry, Row::of_counter(KV_INDEX, Index(5))], 4),
        inconsistent(3, 5, 4)
    );
}
